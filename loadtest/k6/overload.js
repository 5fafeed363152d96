// Ten times the usual rate of lists on a server with its usual limits: it says no to what is too much, stays ready all the time,
// and answers as before once the rush is over.

import http from 'k6/http';
import { Counter } from 'k6/metrics';
import { BASE, DURATION, HEADERS, given } from './lib/env.js';
import { Plan, begin, judged, lengths } from './lib/plan.js';
import { summaryOf } from './lib/summary.js';

const DECLARED = http.expectedStatuses(200, 429, 503);
/** How long the server may take to be itself again. */
const RECOVERY = 10;
/** How long is looked at before and after. */
const CALM = Math.max(5, Math.round(DURATION / 5));
const RUSH_AT = CALM + 1;
const AFTER_AT = RUSH_AT + DURATION + RECOVERY;

const answered = new Counter('rush_answered');
const shed = new Counter('rush_shed');
const unexplained = new Counter('rush_shed_without_a_time');

const plan = new Plan('overload');
const calm = { rate: 25, vus: 20, max: 100, exec: 'list', p95: 800, p99: 2000, seconds: CALM };
plan.arrival('before', { ...calm, at: 0 });
plan.arrival('rush', { rate: Number(given('K6_RUSH_RATE', '500')), vus: 300, max: 800, exec: 'rush', at: RUSH_AT, p99: 5000 });
plan.arrival('after', { ...calm, at: AFTER_AT });
plan.arrival('ready', { rate: 1, vus: 2, max: 10, exec: 'ready', at: 0, p99: 1000, seconds: AFTER_AT + CALM });
plan.limit('rush_answered', 'count>0');
plan.limit('rush_shed', 'count>0');
plan.limit('rush_shed_without_a_time', 'count==0');
lengths(plan);

export const options = plan.options();
export const handleSummary = summaryOf(plan);

const URL = `${BASE}/api/v1/certificates?per_page=50`;

export function list() {
  begin();
  judged(http.get(URL, { headers: HEADERS }), 'list', [200]);
}

export function rush() {
  begin();
  const response = http.get(URL, { headers: HEADERS, responseCallback: DECLARED });
  // 503 is how a server sheds; any other status of that kind is a fault.
  const isShed = response.status === 429 || response.status === 503;
  if (response.status === 200) answered.add(1);
  if (isShed) {
    shed.add(1);
    if (!response.headers['Retry-After']) unexplained.add(1);
  } else {
    judged(response, 'rush', [200]);
  }
}

export function ready() {
  begin();
  judged(http.get(`${BASE}/ready`), 'ready', [200]);
}
