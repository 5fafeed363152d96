// Not load: of 2,000 keys, some have a coordinate or a part of a signature that begins with zeros, and none may be written shorter for it.

import { check } from 'k6';
import { Counter } from 'k6/metrics';
import { jwkOf } from './lib/acme.js';

const KEYS = 2000;
const made = new Counter('keys_made');
/** Of 32 bytes in base64url without padding. */
const LENGTH = 43;
const P256 = { name: 'ECDSA', namedCurve: 'P-256' };

export const options = { iterations: 1, vus: 1, thresholds: { checks: ['rate==1'], keys_made: [`count==${KEYS}`] } };

export default async function keys() {
  for (let number = 0; number < KEYS; number += 1) {
    const { privateKey, publicKey } = await crypto.subtle.generateKey(P256, true, ['sign', 'verify']);
    const { x, y } = await jwkOf(publicKey);
    const signature = await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, privateKey, new Uint8Array([number % 256]));
    check(x, { 'x is as long as its field': (text) => text.length === LENGTH });
    check(y, { 'y is as long as its field': (text) => text.length === LENGTH });
    check(signature, { 'r and s are as long as the order': (bytes) => bytes.byteLength === 64 });
    made.add(1);
  }
}
