//! Public keys as JSON (RFC 7517, RFC 7518 §6, RFC 8037 §2).

use certctl_domain::{
    acme::{AcmeAccountId, Problem, ProblemType},
    id::ProfileId,
};
use certctl_pki::{
    Error as PkiError,
    key::{KeyNumbers, PublicKey},
    pem,
};
use ring::digest::{Context, SHA256, digest};

use crate::{base64url, json::Object};

/// The label of the PEM block that keeps an account's key.
pub const PEM_LABEL: &str = "ACME ACCOUNT JWK";

/// Members of private keys (RFC 7518 §6.2.2, §6.3.2, §6.4.1). Whoever sends one of them has shown the key to the world.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A public key that may sign requests: RSA of 2048 to 8192 bits, ECDSA on P-256 or P-384, Ed25519.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwk {
    key: PublicKey,
}

/// The text that was kept is no key that this program wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a PEM block of type {PEM_LABEL} around a public JWK")]
pub struct CorruptJwk;

impl Jwk {
    /// Reads a key.
    ///
    /// # Errors
    /// `malformed` when it is no JSON object, `badPublicKey` (RFC 8555 §6.2) for a private key, for a kind, curve or size
    /// that is not taken, and for what is no key at all.
    pub fn parse(json: &[u8]) -> Result<Self, Problem> {
        Self::from_object(&Object::parse(json, "the key")?)
    }

    pub(crate) fn from_object(jwk: &Object<'_>) -> Result<Self, Problem> {
        if PRIVATE.iter().any(|name| jwk.has(name)) {
            return Err(bad("the key is not public"));
        }
        if jwk
            .text("use")
            .map_err(as_bad_key)?
            .is_some_and(|use_| use_ != "sig")
        {
            return Err(bad("the key is not meant for signatures"));
        }
        let text = |name| jwk.required_text(name).map_err(as_bad_key);
        let octets = |name| jwk.octets(name).map_err(as_bad_key);
        let key = match text("kty")? {
            "EC" => {
                let (x, y) = (octets("x")?, octets("y")?);
                match text("crv")? {
                    "P-256" => numbers(KeyNumbers::P256 { x: &x, y: &y })?,
                    "P-384" => numbers(KeyNumbers::P384 { x: &x, y: &y })?,
                    _ => return Err(bad("the curve is neither P-256 nor P-384")),
                }
            }
            "RSA" => numbers(KeyNumbers::Rsa {
                modulus: &octets("n")?,
                exponent: &octets("e")?,
            })?,
            "OKP" if text("crv")? == "Ed25519" => {
                numbers(KeyNumbers::Ed25519 { x: &octets("x")? })?
            }
            "OKP" => return Err(bad("the curve is not Ed25519")),
            _ => return Err(bad("the key is none of RSA, EC and OKP")),
        };
        Self::of(key)
    }

    /// Takes a key that was read from elsewhere.
    ///
    /// # Errors
    /// `badPublicKey` when it is too weak.
    pub fn of(key: PublicKey) -> Result<Self, Problem> {
        key.check_strength().map_err(|reason| refused(&reason))?;
        Ok(Self { key })
    }

    /// The key.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// The key as DER `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        self.key.spki_der()
    }

    /// The key as JSON: its required members, sorted, without white space (RFC 7638 §3).
    #[must_use]
    pub fn to_json(&self) -> String {
        let b64 = |octets: &[u8]| base64url::encode(octets);
        match self.key.numbers() {
            KeyNumbers::P256 { x, y } => elliptic("P-256", x, y),
            KeyNumbers::P384 { x, y } => elliptic("P-384", x, y),
            KeyNumbers::Rsa { modulus, exponent } => {
                format!(
                    r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#,
                    b64(exponent),
                    b64(modulus)
                )
            }
            KeyNumbers::Ed25519 { x } => {
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, b64(x))
            }
        }
    }

    /// The thumbprint: SHA-256 as base64url, 43 characters (RFC 7638).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        base64url::encode(digest(&SHA256, self.to_json().as_bytes()))
    }

    /// The key as it is kept: [`PEM_LABEL`] around base64 of the JSON.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode(PEM_LABEL, self.to_json().as_bytes())
    }

    /// Reads a key that was kept.
    ///
    /// # Errors
    /// [`CorruptJwk`].
    pub fn from_pem(text: &str) -> Result<Self, CorruptJwk> {
        let blocks = pem::decode_all(text).map_err(|_| CorruptJwk)?;
        match &blocks[..] {
            [block] if block.label == PEM_LABEL => Self::parse(&block.der).map_err(|_| CorruptJwk),
            _ => Err(CorruptJwk),
        }
    }

    /// Whether it is the key of a DER `SubjectPublicKeyInfo`, however that is encoded.
    #[must_use]
    pub fn is_key_of(&self, spki_der: &[u8]) -> bool {
        PublicKey::from_spki_der(spki_der).is_ok_and(|other| other.is_same_key(&self.key))
    }
}

/// The id of the account that a key has under a profile.
#[must_use]
pub fn account_id(profile: &ProfileId, thumbprint: &str) -> AcmeAccountId {
    let mut context = Context::new(&SHA256);
    context.update(profile.as_str().as_bytes());
    // No id of a profile has a zero octet, so no two pairs run together to the same text.
    context.update(&[0]);
    context.update(thumbprint.as_bytes());
    AcmeAccountId::from_digest(&base64url::encode(context.finish()))
}

fn elliptic(curve: &str, x: &[u8], y: &[u8]) -> String {
    let (x, y) = (base64url::encode(x), base64url::encode(y));
    format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#)
}

fn numbers(numbers: KeyNumbers<'_>) -> Result<PublicKey, Problem> {
    PublicKey::from_numbers(numbers).map_err(|reason| refused(&reason))
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemType::BadPublicKey, detail)
}

/// What is wrong inside of a key is wrong with the key.
fn as_bad_key(problem: Problem) -> Problem {
    Problem {
        kind: ProblemType::BadPublicKey,
        detail: format!("the key cannot be used: {}", problem.detail),
        ..problem
    }
}

fn refused(reason: &PkiError) -> Problem {
    bad(format!("the key cannot be used: {reason}"))
}

#[cfg(test)]
mod tests;
