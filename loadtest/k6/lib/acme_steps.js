// The three steps that need no signature: directory, nonce, and when to renew. Every answer that the protocol knows is declared,
// so that a refusal that is right does not count as a failure.

import http from 'k6/http';
import { check } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import { DIRECTORY } from './env.js';
import { serverErrors } from './plan.js';

const RATE_LIMITED = 'urn:ietf:params:acme:error:rateLimited';
const DECLARED = http.expectedStatuses(200, 204, 400, 404, 429);
const KEYS = ['newNonce', 'newAccount', 'newOrder', 'revokeCert', 'keyChange'];
// Valid base64url, so it is looked up and not found; and what is refused before anything is looked up.
const UNKNOWN = 'aaaa.bbbb';
const MALFORMED = '!!!.bbbb';

const nonces = new Counter('acme_nonces');
const limited = new Counter('acme_rate_limited_count');
const wellShaped = new Counter('acme_rate_limit_shape_ok');
const misshapen = new Counter('acme_rate_limit_shape_bad');

/** The trends of a scenario, each name with what stands before it. */
export function trends(prefix) {
  const trend = (name) => new Trend(`${prefix}${name}_duration`, true);
  return {
    directory: trend('directory'),
    newNonce: trend('new_nonce'),
    renewalInfo: trend('renewal_info'),
    malformed: trend('renewal_info_malformed'),
  };
}

/** The thresholds on them. */
export function limits(plan, prefix) {
  plan.limit(`${prefix}directory_duration`, 'p(95)<500');
  plan.limit(`${prefix}new_nonce_duration`, 'p(95)<300');
  plan.limit(`${prefix}renewal_info_duration`, 'p(95)<800');
  plan.limit(`${prefix}renewal_info_malformed_duration`, 'p(95)<800');
  plan.limit('acme_nonces', 'count>0');
  plan.limit('acme_rate_limit_shape_bad', 'count==0');
}

/** Whether the answer is a refusal for its rate; such an answer has a shape of its own. */
function refused(response) {
  serverErrors.add(response.status >= 500);
  if (response.status !== 429) return false;
  limited.add(1);
  const isProblem = (response.headers['Content-Type'] || '').startsWith('application/problem+json');
  let type = '';
  try {
    type = response.json('type');
  } catch (_) {
    // No JSON is a wrong shape, too.
  }
  if (isProblem && type === RATE_LIMITED) wellShaped.add(1);
  else misshapen.add(1);
  return true;
}

function ask(method, url, name) {
  return http.request(method, url, null, { responseCallback: DECLARED, tags: { name } });
}

/** The steps, one after the other; a refusal for the rate ends them. */
export function steps(trend) {
  const directory = ask('GET', DIRECTORY, 'directory');
  if (refused(directory)) return;
  trend.directory.add(directory.timings.duration);
  const said = directory.status === 200 ? directory.json() : {};
  const whole = check(directory, {
    'directory: status': (got) => got.status === 200,
    'directory: keys': () => KEYS.every((key) => typeof said[key] === 'string'),
  });
  if (!whole) return;

  const nonce = ask('HEAD', said.newNonce, 'new-nonce');
  if (refused(nonce)) return;
  trend.newNonce.add(nonce.timings.duration);
  const isNonce = check(nonce, {
    'nonce: status': (got) => got.status === 200,
    'nonce: header': (got) => Boolean(got.headers['Replay-Nonce']),
  });
  if (isNonce) nonces.add(1);

  const base = said.renewalInfo || DIRECTORY.replace(/directory$/, 'renewal-info');
  const unknown = ask('GET', `${base}/${UNKNOWN}`, 'renewal-info unknown');
  if (refused(unknown)) return;
  trend.renewalInfo.add(unknown.timings.duration);
  check(unknown, { 'renewal info: unknown': (got) => got.status === 404 || got.status === 400 });

  const malformed = ask('GET', `${base}/${MALFORMED}`, 'renewal-info malformed');
  if (refused(malformed)) return;
  trend.malformed.add(malformed.timings.duration);
  check(malformed, { 'renewal info: malformed': (got) => got.status === 400 });
}
