// A hundred ACME clients, each once a second: directory, nonce, when to renew.

import { sleep } from 'k6';
import { given } from './lib/env.js';
import { Plan, begin, lengths } from './lib/plan.js';
import { limits, steps, trends } from './lib/acme_steps.js';
import { summaryOf } from './lib/summary.js';

// Where K6_VUS or K6_DURATION is given, k6 itself makes a scenario of that name of them.
const NAME = given('K6_VUS', '') || given('K6_DURATION', '') ? 'default' : 'acme_directory_and_nonce';
const trend = trends('');

const plan = new Plan('acme-flow');
plan.limit('http_req_failed', 'rate<0.01');
plan.loop(NAME, { vus: 100, exec: 'default' });
limits(plan, '');
lengths(plan);

export const options = plan.options();
export const handleSummary = summaryOf(plan);

export default function flow() {
  begin();
  steps(trend);
  sleep(1);
}
