// A server that does nothing but answer, asked as often as the API tier is: what k6, TLS and the machine cost by themselves.

import http from 'k6/http';
import { given } from './lib/env.js';
import { Plan, begin, judged, lengths } from './lib/plan.js';
import { summaryOf } from './lib/summary.js';

const URL = given('LOADTEST_BARE_URL', 'https://localhost:8443/');

const plan = new Plan('bare');
plan.arrival('bare', { rate: 100, vus: 50, max: 200, exec: 'ask', undrawn: true });
lengths(plan);

export const options = plan.options();
export const handleSummary = summaryOf(plan);

export function ask() {
  begin();
  judged(http.get(URL), 'bare', [200]);
}
