// A fleet of agents at work: renewals are asked for at a steady rate, the agents poll, send signing requests, fetch what was issued
// and report its deployment.
//
// Each VU is one agent with a key of its own. Agents, targets, certificates and signing requests were made before the run; certificate
// number n belongs to agent n mod the number of agents.

import http from 'k6/http';
import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { SharedArray } from 'k6/data';
import { Counter, Trend } from 'k6/metrics';
import { BASE, DURATION, HEADERS, SCALE, given, padded } from './lib/env.js';
import { Plan, begin, judged, lengths } from './lib/plan.js';
import { summaryOf } from './lib/summary.js';

const agents = new SharedArray('agents', () => JSON.parse(open(given('LOADTEST_AGENTS', 'agents.json'))));
const requests = new SharedArray('requests', () => JSON.parse(open(given('LOADTEST_REQUESTS', 'requests.json'))));
/** Seconds between two polls of an agent that has nothing to do. */
const POLL = Number(given('K6_POLL_SECONDS', '30'));
/** Seconds until an agent that expects something looks again, and how often it does, as the real agent does. */
const SOON = 1;
const LOOKS = 5;

const pollDuration = new Trend('work_poll_duration', true);
const deployed = new Counter('deployments_reported');
const submitted = new Counter('requests_submitted');
const strange = new Counter('work_of_others');

const plan = new Plan('agent-loop');
plan.arrival('renewals', { rate: 20, vus: 10, max: 50, exec: 'renew', p95: 1000, p99: 2000 });
plan.loop('agents', {
  // The rate is in the number of agents already.
  vus: agents.length / SCALE, seconds: DURATION + 2 * POLL + 5, exec: 'agent', drawn: 'work_poll_duration', p99: 200,
});
plan.limit('deployments_reported', 'count>0');
plan.limit('requests_submitted', 'count>0');
plan.limit('work_of_others', 'count==0');
lengths(plan);

export const options = plan.options();
export const handleSummary = summaryOf(plan);

export function renew() {
  begin();
  const number = exec.scenario.iterationInTest;
  const response = http.post(`${BASE}/api/v1/certificates/cert-loadtest-loop-${padded(number, 6)}/renew`, '{}', {
    headers: HEADERS,
    tags: { name: '/api/v1/certificates/{id}/renew' },
  });
  judged(response, 'renew', [200, 202]);
}

/** Which agent this VU is; numbers of VUs have gaps where there are several scenarios. */
let mine = null;
/** Looks that are left of those soon after a signing request. */
let looks = 0;

export function agent() {
  begin();
  if (mine === null) {
    // All begin at once, and none begins a second time before it has slept: these are the first numbers, each once.
    mine = exec.scenario.iterationInTest;
    sleep(0.5 + Math.random() * POLL);
  }
  const { id, key } = agents[mine % agents.length];
  const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' };
  const call = (method, path, body, name) =>
    http.request(method, `${BASE}/api/v1/agents/${id}${path}`, body ? JSON.stringify(body) : null, {
      headers,
      tags: { name: `/api/v1/agents/{id}${name}` },
    });
  const poll = call('GET', '/work', null, '/work');
  pollDuration.add(poll.timings.duration);
  if (!judged(poll, 'work', [200])) {
    sleep(POLL);
    return;
  }
  const jobs = poll.json('jobs');
  for (const job of jobs) {
    const number = Number(job.certificate_id.slice(-6));
    if (agents[number % agents.length].id !== id) strange.add(1);
    if (job.status === 'AwaitingCSR') {
      const body = { csr_pem: requests[number].pem, certificate_id: job.certificate_id, job_id: job.id };
      const sent = call('POST', '/csr', body, '/csr');
      if (judged(sent, 'csr', [202])) submitted.add(1);
      looks = LOOKS;
    } else if (job.type === 'Deployment') {
      const fetched = call('GET', `/certificates/${job.certificate_id}`, null, '/certificates/{id}');
      judged(fetched, 'certificate', [200], {
        'is a chain': (got) => got.json('certificate_pem').startsWith('-----BEGIN CERTIFICATE-----'),
      });
      const told = call('POST', `/jobs/${job.id}/status`, { status: 'Completed' }, '/jobs/{id}/status');
      if (judged(told, 'report', [200])) deployed.add(1);
    }
  }
  check(jobs, { 'work: a list': (list) => Array.isArray(list) });
  const isSoon = looks > 0 || jobs.length > 0;
  looks = Math.max(0, looks - 1);
  sleep(isSoon ? SOON : POLL);
}
