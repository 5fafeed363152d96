// What a run is told by its environment. The names are contract: scripts written for such a server run here, and ours there.
//
// k6 takes K6_VUS and K6_DURATION for options of its own, however they are given, and then forgets the scenarios of a script for
// one that it calls `default`. So LOADTEST_DURATION is the name by which every script here is told how long it lasts.

/** The seconds of a duration such as `5m`, `90s` or `1m30s`. */
export function seconds(text) {
  const parts = [...String(text).matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g)];
  if (parts.length === 0 || parts.map((part) => part[0]).join('') !== String(text)) {
    throw new Error(`${text} is no duration`);
  }
  const worth = { ms: 0.001, s: 1, m: 60, h: 3600 };
  return parts.reduce((sum, [, number, unit]) => sum + Number(number) * worth[unit], 0);
}

/** A variable, or what holds without it. */
export function given(name, otherwise) {
  const value = __ENV[name];
  return value === undefined || value === '' ? otherwise : value;
}

export const BASE = given('CERTCTL_BASE', 'https://localhost:8443').replace(/\/$/, '');
export const TOKEN = given('CERTCTL_TOKEN', 'load-test-token');
export const DIRECTORY = given(
  'CERTCTL_ACME_DIRECTORY',
  'https://certctl-server:8443/acme/profile/prof-test/directory',
);
/** What every rate and number of VUs is multiplied by. */
export const SCALE = Number(given('LOADTEST_RATE_SCALE', '1'));
/** How long each scenario lasts, in seconds. */
export const DURATION = seconds(given('LOADTEST_DURATION', given('K6_DURATION', '5m')));
/** Where the summary goes. */
export const RESULTS = given('LOADTEST_RESULTS', 'results').replace(/\/$/, '');

/** Headers of a call to the API with a JSON body. */
export const HEADERS = {
  Authorization: `Bearer ${TOKEN}`,
  'Content-Type': 'application/json',
};

/** A number with zeros before it. */
export function padded(number, width) {
  return String(number).padStart(width, '0');
}
