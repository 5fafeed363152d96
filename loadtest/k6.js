// API tier and connector tier: certificates are asked for and listed, and four kinds of servers are visited, each visit with a
// handshake of its own.

import http from 'k6/http';
import exec from 'k6/execution';
import { Counter, Trend } from 'k6/metrics';
import { BASE, HEADERS, given } from './k6/lib/env.js';
import { Plan, begin, judged, lengths } from './k6/lib/plan.js';
import { summaryOf } from './k6/lib/summary.js';

const TARGETS = [
  { type: 'nginx', url: given('NGINX_TARGET_URL', 'https://nginx-target:443'), path: '/', p95: 1000, p99: 3000 },
  { type: 'apache', url: given('APACHE_TARGET_URL', 'https://apache-target:443'), path: '/', p95: 1000, p99: 3000 },
  { type: 'haproxy', url: given('HAPROXY_TARGET_URL', 'https://haproxy-target:443'), path: '/', p95: 1000, p99: 3000 },
  { type: 'f5', url: given('F5_TARGET_URL', 'https://f5-mock-target:443'), path: '/healthz', p95: 1500, p99: 5000 },
].filter(({ url }) => url !== 'none');
const PER_PAGE = 50;

const plan = new Plan(given('LOADTEST_SUMMARY', ''));
plan.limit('http_req_failed', 'rate<0.01');
plan.arrival('issuance_acceptance', { rate: 50, vus: 50, max: 200, exec: 'issue', p95: 2000, p99: 5000 });
plan.arrival('list_certificates', { rate: 50, start: 5, vus: 50, max: 200, exec: 'list', p95: 800, p99: 2000 });
for (const { type, url, path, p95, p99 } of TARGETS) {
  plan.arrival(`${type}_handshake`, {
    rate: 100, unit: '1m', start: 10, vus: 10, max: 50, exec: 'handshake', p95, p99, drawn: 'handshake_duration',
    tags: { target_type: type },
    env: { TARGET: `${url.replace(/\/$/, '')}${path}` },
  });
  const own = `{target_type:${type}}`;
  plan.limit(`http_req_duration${own}`, `p(95)<${p95}`);
  plan.limit(`handshake_duration${own}`, `p(95)<${p95}`, `p(99)<${p99}`);
  plan.limit(`http_req_failed${own}`, 'rate<0.01');
  plan.limit(`iterations${own}`, 'count>0');
  // A connection that was used before would have no handshake: zero.
  plan.limit(`http_req_tls_handshaking${own}`, 'min>0');
}
lengths(plan);

export const options = plan.options();
export const handleSummary = summaryOf(plan);

/** Certificates that the server said it has made; the run compares it with the rows. */
const created = new Counter('certificates_created');

/** From the first packet to the last: what k6 calls the duration of a request begins after the handshake. */
const handshakeDuration = new Trend('handshake_duration', true);

function create(name) {
  const body = {
    name,
    common_name: name,
    sans: [name],
    issuer_id: 'iss-local',
    owner_id: 'o-alice',
    team_id: 't-platform',
    renewal_policy_id: 'rp-standard',
    environment: 'production',
  };
  const response = http.post(`${BASE}/api/v1/certificates`, JSON.stringify(body), { headers: HEADERS });
  if (response.status === 201) created.add(1);
  return response;
}

/** A page must be full from the first second on. */
export function setup() {
  const listed = http.get(`${BASE}/api/v1/certificates?per_page=1`, { headers: HEADERS });
  if (listed.status !== 200) throw new Error(`the list answers ${listed.status}: ${listed.body}`);
  for (let missing = PER_PAGE - listed.json('total'), number = 0; number < missing; number += 1) {
    const response = create(`loadtest-0-${number}-${Date.now()}.example.test`);
    if (response.status !== 201) throw new Error(`a certificate is refused with ${response.status}: ${response.body}`);
  }
}

export function issue() {
  begin();
  const { idInTest, iterationInScenario } = exec.vu;
  const response = create(`loadtest-${idInTest}-${iterationInScenario}-${Date.now()}.example.test`);
  judged(response, 'issue', [201], { 'has an id': (got) => Boolean(got.json('id')) });
}

export function list() {
  begin();
  const response = http.get(`${BASE}/api/v1/certificates?per_page=${PER_PAGE}`, { headers: HEADERS });
  judged(response, 'list', [200], {
    'a whole page': (got) => got.json('data.#') === PER_PAGE,
    'a total': (got) => got.json('total') >= PER_PAGE,
  });
}

export function handshake() {
  begin();
  const response = http.get(__ENV.TARGET, { headers: { Connection: 'close' } });
  const { connecting, tls_handshaking: handshaking, duration } = response.timings;
  if (response.status === 200) handshakeDuration.add(connecting + handshaking + duration);
  judged(response, exec.scenario.name, [200]);
}
