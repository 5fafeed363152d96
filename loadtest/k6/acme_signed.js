// Whole signed orders: new-order, finalize, download. Signing requests were made before the run, each for a name and a key of its own.

import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { SharedArray } from 'k6/data';
import { Counter, Rate, Trend } from 'k6/metrics';
import { DIRECTORY, given } from './lib/env.js';
import { Client } from './lib/acme.js';
import { Plan, begin, lengths } from './lib/plan.js';
import { summaryOf } from './lib/summary.js';

const requests = new SharedArray('requests', () => JSON.parse(open(given('LOADTEST_REQUESTS', 'requests.json'))));
/** Every so many orders a request is sent twice. */
const REPEAT_EVERY = 25;

const orderToCertificate = new Trend('order_to_certificate', true);
const newAccount = new Trend('acme_new_account_duration', true);
const issued = new Counter('acme_issued');
/** Orders that did not end with a certificate, for whatever reason. */
const lost = new Rate('acme_orders_lost');
const repeatedSent = new Counter('acme_repeated_sent');
const repeatedTaken = new Counter('acme_repeated_taken');

const plan = new Plan('acme-signed');
plan.arrival('acme_signed', {
  rate: Number(given('K6_ACME_ORDER_RATE', '50')), vus: 50, max: 200, exec: 'order',
  drawn: 'order_to_certificate', p95: 1000, p99: 2500, failed: 0.001,
});
plan.limit('acme_issued', 'count>0');
plan.limit('acme_orders_lost', 'rate<0.001');
plan.limit('acme_repeated_sent', 'count>0');
plan.limit('acme_repeated_taken', 'count==0');
lengths(plan);

export const options = plan.options();
export const handleSummary = summaryOf(plan);

/** Of this VU. */
let client = null;

export async function order() {
  begin();
  let isIssued = false;
  try {
    isIssued = await whole();
  } finally {
    lost.add(!isIssued);
  }
}

/** One order from its beginning to its certificate; whether there was one. */
async function whole() {
  if (!client) {
    const begun = Date.now();
    client = await Client.join(DIRECTORY);
    newAccount.add(Date.now() - begun);
  }
  const number = exec.scenario.iterationInTest;
  if (number >= requests.length) throw new Error(`there are only ${requests.length} signing requests`);
  const { name, csr } = requests[number];
  const begun = Date.now();
  const made = await client.post(client.directory.newOrder, { identifiers: [{ type: 'dns', value: name }] }, 'new-order');
  if (!check(made, { 'new-order: 201': (got) => got.status === 201 })) return false;
  const url = made.headers.Location;
  let state = made.json();
  if (!check(state, { 'new-order: ready': (got) => got.status === 'ready' })) return false;
  const asked = await client.post(state.finalize, { csr }, 'finalize');
  if (!check(asked, { 'finalize: 200': (got) => got.status === 200 })) return false;
  state = asked.json();
  for (let look = 0; look < 100 && state.status === 'processing'; look += 1) {
    sleep(0.05);
    state = (await client.post(url, null, 'order')).json();
  }
  if (!check(state, { 'order: valid': (got) => got.status === 'valid' })) return false;
  const chain = await client.post(state.certificate, null, 'certificate');
  const isChain = check(chain, {
    'certificate: 200': (got) => got.status === 200,
    'certificate: PEM': (got) => got.body.startsWith('-----BEGIN CERTIFICATE-----'),
  });
  if (!isChain) return false;
  orderToCertificate.add(Date.now() - begun);
  issued.add(1);
  if (number % REPEAT_EVERY === 0) {
    repeatedSent.add(1);
    if (client.repeated()) repeatedTaken.add(1);
  }
  return true;
}
