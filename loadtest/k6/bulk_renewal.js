// Bulk renewal by team and issuer. The first call enqueues the whole fixture; those after it find everything under way, which is
// counted, so that calls that did nothing cannot be taken for fast ones.

import http from 'k6/http';
import exec from 'k6/execution';
import { Counter, Gauge, Trend } from 'k6/metrics';
import { BASE, HEADERS, given } from './lib/env.js';
import { Plan, begin, judged, lengths } from './lib/plan.js';
import { summaryOf } from './lib/summary.js';

const EXPECTED = Number(given('K6_BULK_EXPECTED', '10000'));

const matched = new Counter('bulk_matched');
const enqueued = new Counter('bulk_enqueued');
const skipped = new Counter('bulk_skipped');
const failed = new Counter('bulk_failed');
const firstMatched = new Gauge('bulk_first_matched');
const firstCall = new Trend('bulk_first_call_duration', true);

const plan = new Plan('bulk-renewal');
plan.arrival('bulk_renewal', { rate: 5, vus: 10, max: 30, exec: 'renew', p95: 2000, p99: 5000 });
plan.limit('bulk_enqueued', `count>=${EXPECTED}`);
plan.limit('bulk_first_matched', `value>=${EXPECTED}`);
plan.limit('bulk_first_call_duration', 'max<5000', 'min>0');
plan.limit('bulk_failed', 'count==0');
lengths(plan);

export const options = plan.options();
export const handleSummary = summaryOf(plan);

export function renew() {
  begin();
  const isFirst = exec.scenario.iterationInTest === 0;
  const body = { team_id: 't-platform', issuer_id: 'iss-local' };
  const response = http.post(`${BASE}/api/v1/certificates/bulk-renew`, JSON.stringify(body), { headers: HEADERS });
  const counts = response.status < 300 ? response.json() : {};
  judged(response, 'bulk renew', [200, 202], {
    'all are accounted for': () =>
      counts.total_matched === counts.total_enqueued + counts.total_skipped + counts.total_failed,
    'every certificate matches': () => counts.total_matched >= EXPECTED,
  });
  if (response.status >= 300) return;
  matched.add(counts.total_matched);
  enqueued.add(counts.total_enqueued);
  skipped.add(counts.total_skipped);
  failed.add(counts.total_failed);
  if (isFirst) {
    firstMatched.add(counts.total_matched);
    firstCall.add(response.timings.duration);
  }
}
