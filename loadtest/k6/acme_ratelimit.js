// What a refusal for the rate looks like: 150 orders of one account, of which a server with its usual limits takes 100.

import { check } from 'k6';
import exec from 'k6/execution';
import { SharedArray } from 'k6/data';
import { Counter } from 'k6/metrics';
import { DIRECTORY, given } from './lib/env.js';
import { Client } from './lib/acme.js';
import { Plan, begin, lengths } from './lib/plan.js';
import { summaryOf } from './lib/summary.js';

const requests = new SharedArray('requests', () => JSON.parse(open(given('LOADTEST_REQUESTS', 'requests.json'))));
const ORDERS = 150;
const LIMIT = Number(given('K6_ACME_ORDER_LIMIT', '100'));
const RATE_LIMITED = 'urn:ietf:params:acme:error:rateLimited';

const accepted = new Counter('acme_orders_accepted');
const limited = new Counter('acme_rate_limited_count');
const wellShaped = new Counter('acme_rate_limit_shape_ok');
const misshapen = new Counter('acme_rate_limit_shape_bad');

const plan = new Plan('acme-ratelimit');
plan.times('acme_ratelimit', { iterations: ORDERS, exec: 'order', undrawn: true });
plan.limit('acme_orders_accepted', `count==${LIMIT}`);
plan.limit('acme_rate_limited_count', `count==${ORDERS - LIMIT}`);
plan.limit('acme_rate_limit_shape_ok', `count==${ORDERS - LIMIT}`);
plan.limit('acme_rate_limit_shape_bad', 'count==0');
lengths(plan);

export const options = plan.options();
export const handleSummary = summaryOf(plan);

let client = null;

export async function order() {
  begin();
  client = client || (await Client.join(DIRECTORY));
  const { name, csr } = requests[exec.scenario.iterationInTest];
  const made = await client.post(client.directory.newOrder, { identifiers: [{ type: 'dns', value: name }] }, 'new-order');
  check(made, { 'new-order: 201 or 429': (got) => got.status === 201 || got.status === 429 });
  if (made.status === 201) {
    accepted.add(1);
    // An order that stays open would count against how many may be open at a time.
    const asked = await client.post(made.json('finalize'), { csr }, 'finalize');
    check(asked, { 'finalize: 200': (got) => got.status === 200 });
    return;
  }
  if (made.status !== 429) return;
  limited.add(1);
  const isProblem = (made.headers['Content-Type'] || '').startsWith('application/problem+json');
  const isTimed = /^[1-9]\d*$/.test(made.headers['Retry-After'] || '');
  if (isProblem && isTimed && made.json('type') === RATE_LIMITED) wellShaped.add(1);
  else misshapen.add(1);
}
