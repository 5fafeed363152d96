// The heartbeats of a fleet.
//
// Agents take turns by the number of the iteration in the whole test, so that a run reaches all of the fleet within its first
// FLEET requests; counting by VU would repeat a few for most of it.

import http from 'k6/http';
import exec from 'k6/execution';
import { BASE, TOKEN, given, padded } from './lib/env.js';
import { Plan, WARM, begin, judged, lengths } from './lib/plan.js';
import { summaryOf } from './lib/summary.js';

const RATE = Number(given('K6_AGENT_RATE', '167'));
const FLEET = Number(given('K6_AGENT_FLEET', '5000'));
// Where agents have tokens of their own: what stands before the number in each.
const OWN_TOKEN = given('K6_AGENT_TOKEN_PREFIX', '');
const NAME = given('LOADTEST_SUMMARY', 'agent-storm');

// A flood is one of heartbeats: 800 handshakes in its first second would be measured in their place.
const WARM_VUS = Number(given('K6_AGENT_WARM_VUS', '0'));

const plan = new Plan(NAME);
if (WARM_VUS) plan.warm(WARM_VUS, 'open');
plan.arrival('agent_storm', {
  rate: RATE,
  vus: Number(given('K6_AGENT_VUS', '50')),
  max: Number(given('K6_AGENT_MAX_VUS', '200')),
  exec: 'heartbeat', at: WARM_VUS ? WARM : 0, p95: 500, p99: 1000, failed: 0.001,
});
lengths(plan);

export const options = plan.options();
export const handleSummary = summaryOf(plan);

export function open() {
  judged(http.get(`${BASE}/health`), 'health', [200]);
}

export function heartbeat() {
  begin();
  const number = padded((exec.scenario.iterationInTest % FLEET) + 1, 5);
  const body = {
    version: '2.1.0',
    hostname: `loadtest-${number}.fleet.example.test`,
    os: 'linux',
    architecture: 'amd64',
  };
  const token = OWN_TOKEN ? `${OWN_TOKEN}${number}` : TOKEN;
  const response = http.post(`${BASE}/api/v1/agents/ag-loadtest-${number}/heartbeat`, JSON.stringify(body), {
    headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
    tags: { name: '/api/v1/agents/{id}/heartbeat' },
  });
  judged(response, 'heartbeat', [200]);
}
