// Bulk renewals that always have something to do: each call names seven certificates that no call before it named; at the end one
// call renews the ten thousand of the fixture.

import http from 'k6/http';
import exec from 'k6/execution';
import { Counter } from 'k6/metrics';
import { BASE, DURATION, HEADERS, given, padded } from './lib/env.js';
import { Plan, begin, judged, lengths } from './lib/plan.js';
import { summaryOf } from './lib/summary.js';

const SLICE = 7;
const EXPECTED = Number(given('K6_BULK_EXPECTED', '10000'));

const sliced = new Counter('bulk_sliced');
const whole = new Counter('bulk_whole');

const plan = new Plan('bulk-renewal-sustained');
plan.arrival('bulk_slices', { rate: 5, vus: 10, max: 30, exec: 'slice', p99: 250 });
plan.times('bulk_whole', { iterations: 1, at: DURATION + 2, exec: 'all', p99: 5000, undrawn: true });
plan.limit('bulk_sliced', `count>=${SLICE}`);
plan.limit('bulk_whole', `count>=${EXPECTED}`);
lengths(plan);

export const options = plan.options();
export const handleSummary = summaryOf(plan);

function renew(body) {
  return http.post(`${BASE}/api/v1/certificates/bulk-renew`, JSON.stringify(body), { headers: HEADERS });
}

export function slice() {
  begin();
  const first = exec.scenario.iterationInTest * SLICE + 1;
  const ids = Array.from({ length: SLICE }, (_, index) => `cert-loadtest-large-${padded(first + index, 6)}`);
  const response = renew({ certificate_ids: ids });
  judged(response, 'slice', [200, 202], { 'all are enqueued': (got) => got.json('total_enqueued') === SLICE });
  if (response.status < 300) sliced.add(response.json('total_enqueued'));
}

export function all() {
  begin();
  const response = renew({ team_id: 't-platform', issuer_id: 'iss-local' });
  judged(response, 'all', [200, 202]);
  if (response.status < 300) whole.add(response.json('total_enqueued'));
}
