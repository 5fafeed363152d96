// How long a server takes over ten thousand renewals with an issuer that answers at once: one call enqueues them, then the number of
// those that are not done is looked at until there is none.

import http from 'k6/http';
import { sleep } from 'k6';
import { Counter, Gauge, Trend } from 'k6/metrics';
import { BASE, HEADERS, given } from './lib/env.js';
import { Plan, begin, judged, lengths } from './lib/plan.js';
import { summaryOf } from './lib/summary.js';

const EXPECTED = Number(given('K6_BULK_EXPECTED', '10000'));
const PATIENCE_MS = 300 * 1000;

const enqueued = new Counter('bulk_enqueued');
const left = new Gauge('drain_jobs_left');
const timeToEmpty = new Trend('drain_time_to_empty', true);
const rate = new Gauge('drain_jobs_per_second');

const plan = new Plan(given('LOADTEST_SUMMARY', 'drain'));
plan.times('drain', { iterations: 1, exec: 'drain', undrawn: true, drawn: 'drain_time_to_empty' });
plan.limit('bulk_enqueued', `count>=${EXPECTED}`);
plan.limit('drain_jobs_left', 'value==0');
lengths(plan);

export const options = plan.options();
export const handleSummary = summaryOf(plan);

function waiting() {
  let total = 0;
  for (const status of ['Pending', 'Running']) {
    const url = `${BASE}/api/v1/jobs?status=${status}&type=Renewal&per_page=1`;
    const response = http.get(url, { headers: HEADERS, tags: { name: '/api/v1/jobs' } });
    judged(response, 'jobs', [200]);
    total += response.json('total');
  }
  return total;
}

export function drain() {
  begin();
  const before = waiting();
  const begun = Date.now();
  const body = { team_id: 't-platform', issuer_id: 'iss-local' };
  const response = http.post(`${BASE}/api/v1/certificates/bulk-renew`, JSON.stringify(body), { headers: HEADERS });
  judged(response, 'bulk renew', [200, 202]);
  const jobs = response.json('total_enqueued');
  enqueued.add(jobs);
  let still = waiting();
  while (still > before && Date.now() - begun < PATIENCE_MS) {
    left.add(still);
    sleep(0.1);
    still = waiting();
  }
  // From before they were enqueued, so that nothing of the work is left out.
  const took = Date.now() - begun;
  left.add(Math.max(0, still - before));
  timeToEmpty.add(took);
  rate.add((1000 * jobs) / took);
}
