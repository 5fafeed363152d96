//! The other end: what a client signs. For whoever tests or loads an ACME server.

use certctl_domain::{acme::Problem, key::KeySpec};
use certctl_pki::{Error, key::PrivateKey};
use ring::hmac;
use serde_json::{Value, json};

use crate::{base64url, jwk::Jwk, jws::Algorithm};

/// A key that signs requests.
#[derive(Debug)]
pub struct Signer {
    key: PrivateKey,
    jwk: Jwk,
}

impl Signer {
    /// Signs with a key.
    ///
    /// # Errors
    /// `badPublicKey` when no server may take it.
    pub fn new(key: PrivateKey) -> Result<Self, Problem> {
        let jwk = Jwk::of(key.public_key().clone())?;
        Ok(Self { key, jwk })
    }

    /// The public half.
    #[must_use]
    pub const fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// How it signs.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self.key.spec() {
            KeySpec::EcdsaP256 => Algorithm::Es256,
            KeySpec::EcdsaP384 => Algorithm::Es384,
            KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => Algorithm::Rs256,
            KeySpec::Ed25519 => Algorithm::EdDsa,
        }
    }

    /// Signs as an account. An empty payload makes it POST-as-GET.
    ///
    /// # Errors
    /// [`Error::Signing`].
    pub fn sign(&self, kid: &str, url: &str, nonce: &str, payload: &str) -> Result<String, Error> {
        let alg = self.algorithm().as_str();
        let header = json!({ "alg": alg, "kid": kid, "nonce": nonce, "url": url });
        self.sign_header(&header, payload)
    }

    /// Signs as the holder of the key, for requests that no account makes. The inner JWS of a key change has no nonce.
    ///
    /// # Errors
    /// [`Error::Signing`].
    pub fn sign_with_jwk(
        &self,
        url: &str,
        nonce: Option<&str>,
        payload: &str,
    ) -> Result<String, Error> {
        let alg = self.algorithm().as_str();
        let mut header = json!({ "alg": alg, "jwk": jwk_value(&self.jwk), "url": url });
        if let Some(nonce) = nonce {
            header["nonce"] = nonce.into();
        }
        self.sign_header(&header, payload)
    }

    /// Signs whatever header, be it one that no server should take.
    ///
    /// # Errors
    /// [`Error::Signing`].
    pub fn sign_header(&self, header: &Value, payload: &str) -> Result<String, Error> {
        let (header, payload) = (
            base64url::encode(header.to_string()),
            base64url::encode(payload),
        );
        let signature = self
            .key
            .sign_fixed([&*header, ".", &payload].concat().as_bytes())?;
        Ok(flattened(&header, &payload, &signature))
    }

    /// The member `externalAccountBinding` of a new account (RFC 8555 §7.3.4).
    #[must_use]
    pub fn bind(&self, kid: &str, mac_key: &[u8], url: &str) -> Value {
        let header = json!({ "alg": "HS256", "kid": kid, "url": url }).to_string();
        let (header, payload) = (
            base64url::encode(header),
            base64url::encode(self.jwk.to_json()),
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, mac_key);
        let tag = hmac::sign(&key, [&*header, ".", &payload].concat().as_bytes());
        json!({ "protected": header, "payload": payload, "signature": base64url::encode(tag) })
    }

    /// The payload of a key change: a request of the new key that names account and old key (RFC 8555 §7.3.5).
    ///
    /// # Errors
    /// [`Error::Signing`].
    pub fn change_from(&self, old: &Jwk, account: &str, url: &str) -> Result<String, Error> {
        let payload = json!({ "account": account, "oldKey": jwk_value(old) }).to_string();
        self.sign_with_jwk(url, None, &payload)
    }
}

fn jwk_value(jwk: &Jwk) -> Value {
    serde_json::from_str(&jwk.to_json()).expect("a key is written as good JSON")
}

fn flattened(header: &str, payload: &str, signature: &[u8]) -> String {
    let signature = base64url::encode(signature);
    // base64url needs no escapes.
    format!(r#"{{"protected":"{header}","payload":"{payload}","signature":"{signature}"}}"#)
}
