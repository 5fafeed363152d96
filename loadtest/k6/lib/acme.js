// An ACME client (RFC 8555) with keys of k6's own WebCrypto: an account, and requests signed with ES256.

import http from 'k6/http';
import encoding from 'k6/encoding';
import { Counter } from 'k6/metrics';
import { serverErrors } from './plan.js';

const badNonces = new Counter('acme_bad_nonces');
const P256 = { name: 'ECDSA', namedCurve: 'P-256' };
const SIGNATURE = { name: 'ECDSA', hash: 'SHA-256' };
const JOSE = { 'Content-Type': 'application/jose+json' };
const BAD_NONCE = 'urn:ietf:params:acme:error:badNonce';

/** What may come back without being a failure of the server or the driver. */
const DECLARED = http.expectedStatuses(200, 201, 400, 429);

const url64 = (text) => encoding.b64encode(text, 'rawurl');

/** The bytes of a text that is nothing but ASCII, as everything that is signed here is. */
function bytes(text) {
  const all = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index += 1) all[index] = text.charCodeAt(index);
  return all;
}

/**
 * The public key as a JWK. It is taken from the uncompressed point, because k6 1.1.0 leaves out leading zeros where it makes a JWK
 * itself: one key in 128 then has a coordinate shorter than its field, which RFC 7518 section 6.2.1.2 does not allow.
 */
export async function jwkOf(publicKey) {
  const point = await crypto.subtle.exportKey('raw', publicKey);
  return { crv: 'P-256', kty: 'EC', x: url64(point.slice(1, 33)), y: url64(point.slice(33, 65)) };
}

export class Client {
  /** Makes a key and an account. */
  static async join(directoryUrl) {
    const client = new Client();
    client.directory = http.get(directoryUrl, { tags: { name: 'directory' } }).json();
    client.keys = await crypto.subtle.generateKey(P256, true, ['sign', 'verify']);
    client.jwk = await jwkOf(client.keys.publicKey);
    const answer = await client.post(client.directory.newAccount, { termsOfServiceAgreed: true }, 'new-account');
    if (answer.status !== 201) throw new Error(`no account: ${answer.status} ${answer.body}`);
    client.kid = answer.headers.Location;
    return client;
  }

  /** A nonce that was not used yet. */
  nonce() {
    if (this.next) {
      const { next } = this;
      this.next = null;
      return next;
    }
    return http.head(this.directory.newNonce, { tags: { name: 'new-nonce' } }).headers['Replay-Nonce'];
  }

  /** The signed request; `payload` null for POST-as-GET (section 6.3). */
  async signed(url, payload, nonce) {
    const who = this.kid ? { kid: this.kid } : { jwk: this.jwk };
    const head = url64(JSON.stringify({ alg: 'ES256', ...who, nonce, url }));
    const body = payload === null ? '' : url64(JSON.stringify(payload));
    // The raw signature, r and s one after the other, is what JWS wants (RFC 7518 section 3.4).
    const signature = await crypto.subtle.sign(SIGNATURE, this.keys.privateKey, bytes(`${head}.${body}`));
    return JSON.stringify({ protected: head, payload: body, signature: url64(signature) });
  }

  /** Sends a signed request; one whose nonce is refused is signed again with the nonce that came with the refusal. */
  async post(url, payload, name) {
    let answer;
    for (let attempt = 0; attempt < 5; attempt += 1) {
      const nonce = this.nonce();
      const body = await this.signed(url, payload, nonce);
      this.last = { url, body, name };
      answer = http.post(url, body, { headers: JOSE, responseCallback: DECLARED, tags: { name } });
      serverErrors.add(answer.status >= 500);
      this.next = answer.headers['Replay-Nonce'] || null;
      if (answer.status !== 400 || answer.json('type') !== BAD_NONCE) return answer;
      badNonces.add(1);
    }
    return answer;
  }

  /** Sends the last request once more, whose nonce has been used. Whether the server took it. */
  repeated() {
    const { url, body } = this.last;
    const answer = http.post(url, body, { headers: JOSE, responseCallback: DECLARED, tags: { name: 'repeated' } });
    serverErrors.add(answer.status >= 500);
    this.next = answer.headers['Replay-Nonce'] || null;
    return !(answer.status === 400 && answer.json('type') === BAD_NONCE);
  }
}
