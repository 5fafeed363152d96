// Two hundred ACME clients without a pause.

import { given, seconds, DURATION } from './lib/env.js';
import { Plan, begin, lengths } from './lib/plan.js';
import { limits, steps, trends } from './lib/acme_steps.js';
import { summaryOf } from './lib/summary.js';

const trend = trends('acme_');

const plan = new Plan('acme-burst');
plan.loop('acme_burst', {
  vus: Number(given('K6_ACME_VUS', '200')),
  seconds: seconds(given('K6_ACME_DURATION', `${DURATION}s`)),
  exec: 'burst',
});
limits(plan, 'acme_');
lengths(plan);

export const options = plan.options();
export const handleSummary = summaryOf(plan);

export function burst() {
  begin();
  steps(trend);
}
