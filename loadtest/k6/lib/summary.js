// The summary of a run. Only this writes it (k6's own export would be a second writer of the same file).

import { RESULTS } from './env.js';
import { sliceOf } from './plan.js';

const SLICE = /,slice:\d+\}$/;
const EXPRESSION = /^(.+?)\s*(<=|>=|==|!=|<|>)\s*(.+)$/;

/** The `handleSummary` of a plan. */
export function summaryOf(plan) {
  return (data) => {
    const summary = {
      name: plan.name,
      metrics: metrics(data),
      scenarios: scenarios(plan, data),
      connector_tier: connectorTier(data),
      thresholds: thresholds(data),
      timeline: timeline(plan, data),
    };
    const shown = text(summary);
    const file = `${RESULTS}/summary${plan.name ? `-${plan.name}` : ''}`;
    return {
      stdout: shown,
      [`${file}.json`]: `${JSON.stringify(summary, null, 1)}\n`,
      [`${file}.txt`]: shown,
    };
  };
}

function metrics(data) {
  const all = {};
  for (const [name, metric] of Object.entries(data.metrics)) {
    if (!SLICE.test(name)) all[name] = { type: metric.type, ...metric.values };
  }
  return all;
}

function scenarios(plan, data) {
  const value = (metric, field) => ((data.metrics[metric] || {}).values || {})[field] || 0;
  return Object.entries(plan.about).map(([name, about]) => {
    const iterations = value(`iterations{scenario:${name}}`, 'count');
    return {
      name,
      ...about,
      iterations,
      achieved_per_second: iterations / about.seconds,
      dropped_iterations: value(`dropped_iterations{scenario:${name}}`, 'count'),
      errors: value(`http_req_failed{scenario:${name}}`, 'rate'),
      latency_ms: latency(data, `${about.drawn}{scenario:${name}}`),
    };
  });
}

function latency(data, metric) {
  const values = (data.metrics[metric] || {}).values || {};
  return {
    avg: values.avg,
    min: values.min,
    p50: values.med,
    p95: values['p(95)'],
    p99: values['p(99)'],
    max: values.max,
    count: values.count,
  };
}

function connectorTier(data) {
  const tier = {};
  for (const type of ['nginx', 'apache', 'haproxy', 'f5']) {
    const of = (metric) => (data.metrics[`${metric}{target_type:${type}}`] || {}).values;
    if (of('handshake_duration')) {
      const { p50, p95, p99, max, avg } = latency(data, `handshake_duration{target_type:${type}}`);
      tier[type] = {
        p50, p95, p99, max, avg,
        error_rate: of('http_req_failed').rate,
        iterations: of('iterations').count,
      };
    }
  }
  return tier;
}

function thresholds(data) {
  const list = [];
  for (const [name, metric] of Object.entries(data.metrics)) {
    if (SLICE.test(name)) continue;
    for (const [limit, { ok }] of Object.entries(metric.thresholds || {})) {
      const expression = EXPRESSION.exec(limit);
      const key = expression ? expression[1].trim() : limit;
      list.push({ metric: name, limit, value: metric.values[key], ok });
    }
  }
  return list;
}

function timeline(plan, data) {
  const lines = {};
  for (const [name, about] of Object.entries(plan.about)) {
    lines[name] = [];
    for (let slice = 0; slice < about.slices; slice += 1) {
      const point = latency(data, sliceOf(about.drawn, name, slice));
      if (point.count > 0) lines[name].push({ at: ((slice + 0.5) * about.seconds) / about.slices, ...point });
    }
  }
  return lines;
}

function text(summary) {
  const row = (cells) => `${cells.map((cell, i) => (i ? String(cell).padStart(10) : cell.padEnd(28))).join(' ')}\n`;
  let out = row(['scenario', 'offered', 'p50 ms', 'p95 ms', 'p99 ms', 'max ms', 'errors', 'iterations', 'dropped']);
  const ms = (number) => (number === undefined ? '-' : number.toFixed(2));
  for (const one of summary.scenarios) {
    const { p50, p95, p99, max } = one.latency_ms;
    const errors = `${(100 * one.errors).toFixed(2)} %`;
    out += row([one.name, one.offered, ms(p50), ms(p95), ms(p99), ms(max), errors, one.iterations, one.dropped_iterations]);
  }
  const broken = summary.thresholds.filter((one) => !one.ok);
  for (const one of broken) out += `BREACHED ${one.metric}: ${one.limit}, was ${one.value}\n`;
  out += `${summary.thresholds.length} thresholds, ${broken.length} breached\n`;
  return out;
}
