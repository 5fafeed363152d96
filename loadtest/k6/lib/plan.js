// Scenarios and the thresholds that belong to them, in one place, so that none can be measured without being judged.
//
// Every scenario gets thresholds on its own samples: latency, failures, checks, server errors, dropped iterations and the rate
// that was achieved. The time line is made of thresholds, too, for k6 keeps samples apart only where a threshold asks for it:
// each scenario is cut into slices, every sample bears the slice it belongs to, and a threshold that always holds has k6 keep
// its percentiles. That costs no file of samples.

import exec from 'k6/execution';
import { check } from 'k6';
import { Rate } from 'k6/metrics';
import { DURATION, SCALE } from './env.js';

export const serverErrors = new Rate('server_errors');

const SLICES = Math.max(5, Math.min(30, Math.floor(DURATION)));
/** The length for which the offsets of the contract are meant, in seconds. */
const FULL = 300;
/** How long connections may take to be opened, in seconds. */
export const WARM = 10;

export class Plan {
  /** `name` becomes part of the name of the summary: `summary-<name>.json`. */
  constructor(name) {
    this.name = name;
    this.scenarios = {};
    this.thresholds = { server_errors: ['rate<0.001'] };
    this.about = {};
  }

  /**
   * So many iterations a `unit`, whatever the server does (open loop).
   *
   * p95 and p99 in milliseconds, `failed` the greatest share of failed requests; `start` in seconds of a run of five minutes.
   */
  arrival(name, spec) {
    const unit = spec.unit === '1m' ? 60 : 1;
    const rate = Math.max(1, Math.round(spec.rate * SCALE));
    const length = spec.seconds || DURATION;
    this.scenarios[name] = {
      executor: 'constant-arrival-rate',
      exec: spec.exec,
      rate,
      timeUnit: spec.unit || '1s',
      duration: `${length}s`,
      preAllocatedVUs: spec.vus,
      maxVUs: spec.max,
      startTime: `${spec.at === undefined ? ((spec.start || 0) * Math.min(DURATION, FULL)) / FULL : spec.at}s`,
      gracefulStop: '30s',
      tags: spec.tags || {},
      env: spec.env || {},
    };
    const due = (rate / unit) * length;
    this.limit(`iterations{scenario:${name}}`, `count>=${Math.floor(0.99 * due)}`);
    this.limit(`dropped_iterations{scenario:${name}}`, 'count==0');
    return this.judge(name, { ...spec, length }, `${rate}/${unit === 60 ? 'min' : 's'}`);
  }

  /** So many VUs, each starting over when it is done (closed loop). */
  loop(name, spec) {
    const vus = Math.max(1, Math.round(spec.vus * SCALE));
    const length = spec.seconds || DURATION;
    this.scenarios[name] = {
      executor: 'constant-vus',
      exec: spec.exec,
      vus,
      duration: `${length}s`,
      gracefulStop: '30s',
      tags: spec.tags || {},
      env: spec.env || {},
    };
    // Each VU gets round at least once, or nothing was measured.
    this.limit(`iterations{scenario:${name}}`, `count>=${vus}`);
    return this.judge(name, { ...spec, length }, `${vus} VUs`);
  }

  /** So many iterations in all, by so many VUs. */
  times(name, spec) {
    this.scenarios[name] = {
      executor: 'shared-iterations',
      exec: spec.exec,
      vus: spec.vus || 1,
      iterations: spec.iterations,
      maxDuration: `${spec.seconds || 600}s`,
      startTime: `${spec.at || 0}s`,
      gracefulStop: '30s',
      tags: spec.tags || {},
    };
    this.limit(`iterations{scenario:${name}}`, `count==${spec.iterations}`);
    return this.judge(name, { ...spec, length: spec.seconds || DURATION }, `${spec.iterations} times`);
  }

  /**
   * Has so many VUs open their connections before anything is measured; what is measured starts at the second `WARM`. A VU keeps its
   * connection from one scenario to the next.
   */
  warm(vus, exec) {
    this.scenarios.warm = {
      executor: 'per-vu-iterations', exec, vus, iterations: 1, maxDuration: `${WARM}s`, gracefulStop: '0s',
    };
    this.limit('iterations{scenario:warm}', `count==${vus}`);
    return this.limit('checks{scenario:warm}', 'rate==1');
  }

  /** A further threshold. */
  limit(metric, ...expressions) {
    this.thresholds[metric] = [...(this.thresholds[metric] || []), ...expressions];
    return this;
  }

  judge(name, spec, offered) {
    const drawn = spec.drawn || 'http_req_duration';
    if (spec.p95) this.limit(`${drawn}{scenario:${name}}`, `p(95)<${spec.p95}`);
    if (spec.p99) this.limit(`${drawn}{scenario:${name}}`, `p(99)<${spec.p99}`);
    if (!spec.p95 && !spec.p99) this.limit(`${drawn}{scenario:${name}}`, 'max>=0');
    this.limit(`http_req_failed{scenario:${name}}`, `rate<${spec.failed || 0.01}`);
    this.limit(`checks{scenario:${name}}`, 'rate>0.999');
    this.limit(`server_errors{scenario:${name}}`, 'rate<0.001');
    if (!spec.undrawn) {
      for (let slice = 0; slice < SLICES; slice += 1) this.limit(sliceOf(drawn, name, slice), 'max>=0');
    }
    this.about[name] = { offered, seconds: spec.length, drawn, slices: spec.undrawn ? 0 : SLICES };
    return this;
  }

  options(more) {
    return {
      scenarios: this.scenarios,
      thresholds: this.thresholds,
      summaryTrendStats: ['avg', 'min', 'med', 'p(95)', 'p(99)', 'max', 'count'],
      insecureSkipTLSVerify: (__ENV.K6_INSECURE_SKIP_TLS_VERIFY || 'true') !== 'false',
      setupTimeout: '120s',
      ...more,
    };
  }
}

/** The name of the samples of a slice. */
export function sliceOf(metric, scenario, slice) {
  return `${metric}{scenario:${scenario},slice:${slice}}`;
}

/** Says to which slice what follows belongs; the first line of every iteration. */
export function begin() {
  const { name, startTime } = exec.scenario;
  const length = LENGTHS[name] || DURATION;
  const share = (Date.now() - startTime) / 1000 / length;
  exec.vu.metrics.tags.slice = String(Math.max(0, Math.min(SLICES - 1, Math.floor(share * SLICES))));
}

const LENGTHS = {};

/** Tells `begin` how long the scenarios are. */
export function lengths(plan) {
  for (const [name, about] of Object.entries(plan.about)) LENGTHS[name] = about.seconds;
}

/** Counts a response and checks its status, and what else is to hold. */
export function judged(response, name, expected, further) {
  serverErrors.add(response.status >= 500);
  const rules = { [`${name}: status`]: (got) => expected.includes(got.status) };
  for (const [what, rule] of Object.entries(further || {})) rules[`${name}: ${what}`] = rule;
  return check(response, rules);
}
