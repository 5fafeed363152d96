//! Signed requests: flattened JSON JWS (RFC 7515 §7.2.2) as RFC 8555 §6.2 narrows it.
//!
//! The order in which a request is checked is part of the protocol: a client that is told `badNonce` tries again, so whatever
//! else is wrong must not hide that. Each check is therefore its own step, to be taken in this order:
//!
//! | Step | What is checked | Problem |
//! |---|---|---|
//! | [`FlatJws::parse`] | size, shape, one signature, no unprotected header; `alg`; `typ`, `crit`, `b64` | `malformed`, `badSignatureAlgorithm` |
//! | [`FlatJws::check_url`] | `url` is where the request went | `unauthorized` |
//! | [`FlatJws::nonce`] | there is a nonce; the caller redeems it, once | `badNonce`, `malformed` |
//! | [`FlatJws::key`], [`FlatJws::kid`], [`FlatJws::jwk`] | exactly one of `kid` and `jwk`, the one that is wanted; a key that is taken | `malformed`, `badPublicKey` |
//! | the caller | the account is there and valid | `accountDoesNotExist`, `unauthorized` |
//! | [`FlatJws::verify`] | the signature | `unauthorized` |
//! | [`crate::payload`] | the payload | `malformed` and others |

use certctl_domain::acme::{Problem, ProblemType};
use certctl_pki::key::SignatureAlgorithm;

use crate::{
    base64url,
    json::Object,
    jwk::Jwk,
    refuse::{malformed, unauthorized},
};

/// The media type of signed requests (RFC 8555 §6.2).
pub const MEDIA_TYPE: &str = "application/jose+json";
/// The greatest request that is read, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// The longest `kid` and `url` that is kept, in bytes.
const MAX_URL: usize = 2048;

/// A signature algorithm that clients may use (RFC 7518 §3.1, RFC 8037 §3.1). `none` and the MACs are none of them (RFC 8555
/// §6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rs256, Self::Es256, Self::Es384, Self::EdDsa];

    /// The name in a header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Reads the name; JOSE tells capitals from small letters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }

    pub(crate) const fn signature_algorithm(self) -> SignatureAlgorithm {
        match self {
            Self::Rs256 => SignatureAlgorithm::RsaSha256,
            Self::Es256 => SignatureAlgorithm::EcdsaSha256,
            Self::Es384 => SignatureAlgorithm::EcdsaSha384,
            Self::EdDsa => SignatureAlgorithm::Ed25519,
        }
    }
}

/// Who signed, by what the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRef {
    /// Whoever holds this key.
    Jwk(Jwk),
    /// The account of this URL.
    Kid(String),
}

/// A signed request whose signature is still to be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlatJws {
    algorithm: Algorithm,
    url: Option<String>,
    nonce: Result<String, Problem>,
    key: Result<KeyRef, Problem>,
    parts: Parts,
}

impl FlatJws {
    /// Reads a request.
    ///
    /// # Errors
    /// `malformed` above [`MAX_BODY`], and unless it is one JSON object with one signature and a protected header only;
    /// `badSignatureAlgorithm` for another algorithm than those of [`Algorithm`].
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        if body.len() > MAX_BODY {
            return Err(malformed("the request is longer than 64 KiB"));
        }
        Self::from_parts(Parts::parse(&Object::parse(body, "the request")?)?)
    }

    fn from_parts(parts: Parts) -> Result<Self, Problem> {
        let header = parts.header()?;
        let algorithm = Algorithm::parse(header.required_text("alg")?).ok_or_else(|| {
            Problem::new(
                ProblemType::BadSignatureAlgorithm,
                "the signature algorithm is none of RS256, ES256, ES384 and EdDSA",
            )
        })?;
        check_type(&header)?;
        check_extensions(&header)?;
        let (url, nonce, key) = (url_of(&header), nonce_of(&header), key_of(&header));
        Ok(Self {
            algorithm,
            url,
            nonce,
            key,
            parts,
        })
    }

    /// How it is signed.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Where the header says that the request goes.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// Checks that the header names the URL that was asked (RFC 8555 §6.4).
    ///
    /// # Errors
    /// `unauthorized`.
    pub fn check_url(&self, asked: &str) -> Result<(), Problem> {
        if self.url.as_deref() == Some(asked) {
            Ok(())
        } else {
            Err(unauthorized(
                "the url in the protected header is not the URL of the request",
            ))
        }
    }

    /// The nonce as it stands in the header.
    ///
    /// # Errors
    /// `badNonce` when there is none; `malformed` when it is not base64url (RFC 8555 §6.5.2).
    pub fn nonce(&self) -> Result<&str, Problem> {
        self.nonce.as_deref().map_err(Clone::clone)
    }

    /// Who signed.
    ///
    /// # Errors
    /// `malformed` unless there is exactly one of `kid` and `jwk`; `badPublicKey` for a key that is not taken.
    pub fn key(&self) -> Result<&KeyRef, Problem> {
        self.key.as_ref().map_err(Clone::clone)
    }

    /// The URL of the account that signed, where only an account may.
    ///
    /// # Errors
    /// As [`FlatJws::key`]; `malformed` when there is a `jwk`.
    pub fn kid(&self) -> Result<&str, Problem> {
        match self.key()? {
            KeyRef::Kid(kid) => Ok(kid),
            KeyRef::Jwk(_) => Err(malformed("this request must be signed with kid, not jwk")),
        }
    }

    /// The key that signed, where no account may.
    ///
    /// # Errors
    /// As [`FlatJws::key`]; `malformed` when there is a `kid`.
    pub fn jwk(&self) -> Result<&Jwk, Problem> {
        match self.key()? {
            KeyRef::Jwk(jwk) => Ok(jwk),
            KeyRef::Kid(_) => Err(malformed("this request must be signed with jwk, not kid")),
        }
    }

    /// Verifies the signature.
    ///
    /// # Errors
    /// `unauthorized`, also when the algorithm is none for this kind of key.
    pub fn verify(&self, key: &Jwk) -> Result<(), Problem> {
        key.public_key()
            .verify_fixed(
                self.algorithm.signature_algorithm(),
                self.parts.signing_input(),
                self.parts.signature(),
            )
            .map_err(|_| unauthorized("the signature does not verify"))
    }

    /// What was signed. It is empty for POST-as-GET (RFC 8555 §6.3).
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.parts.payload()
    }
}

/// What every JWS consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Header, dot, payload, both as they were sent.
    signing_input: Vec<u8>,
    header: Vec<u8>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Parts {
    pub(crate) fn parse(jws: &Object<'_>) -> Result<Self, Problem> {
        // RFC 8555 §6.2: no unprotected header; RFC 7515 §7.2.1: `signatures` is the general form, which may have several.
        if jws.has("header") {
            return Err(malformed("the JWS has an unprotected header"));
        }
        if jws.has("signatures") {
            return Err(malformed("the JWS is not in the flattened form"));
        }
        let (header, payload) = (
            jws.required_text("protected")?,
            jws.required_text("payload")?,
        );
        Ok(Self {
            signing_input: [header, ".", payload].concat().into_bytes(),
            header: jws.octets("protected")?,
            payload: jws.octets("payload")?,
            signature: jws.octets("signature")?,
        })
    }

    pub(crate) fn header(&self) -> Result<Object<'_>, Problem> {
        Object::parse(&self.header, "the protected header")
    }

    pub(crate) fn signing_input(&self) -> &[u8] {
        &self.signing_input
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(crate) fn signature(&self) -> &[u8] {
        &self.signature
    }
}

/// RFC 7515 §4.1.9: `application/` may be left out, and case does not count.
fn check_type(header: &Object<'_>) -> Result<(), Problem> {
    match header.text("typ")? {
        None => Ok(()),
        Some(typ) if typ.eq_ignore_ascii_case(MEDIA_TYPE) => Ok(()),
        Some(typ) if typ.eq_ignore_ascii_case("jose+json") => Ok(()),
        Some(_) => Err(malformed("typ is not application/jose+json")),
    }
}

/// RFC 7515 §4.1.11: no extension is understood here, so none may be critical. RFC 7797 §3: `b64` changes what is signed.
pub(crate) fn check_extensions(header: &Object<'_>) -> Result<(), Problem> {
    for name in ["crit", "b64"] {
        if header.has(name) {
            return Err(malformed(format!("the protected header has {name}")));
        }
    }
    Ok(())
}

fn url_of(header: &Object<'_>) -> Option<String> {
    let url = header.text("url").ok()??;
    (url.len() <= MAX_URL).then(|| url.to_owned())
}

fn nonce_of(header: &Object<'_>) -> Result<String, Problem> {
    let nonce = header
        .text("nonce")?
        .ok_or_else(|| Problem::new(ProblemType::BadNonce, "the protected header has no nonce"))?;
    base64url::decode(nonce).map_err(|reason| malformed(format!("the nonce is {reason}")))?;
    Ok(nonce.to_owned())
}

fn key_of(header: &Object<'_>) -> Result<KeyRef, Problem> {
    match (header.has("kid"), header.has("jwk")) {
        (true, false) => {
            let kid = header.required_text("kid")?;
            if kid.len() > MAX_URL {
                return Err(malformed("kid is too long"));
            }
            Ok(KeyRef::Kid(kid.to_owned()))
        }
        (false, true) => {
            let jwk = header.object("jwk")?;
            Jwk::from_object(jwk.ok_or_else(|| malformed("jwk is null"))?).map(KeyRef::Jwk)
        }
        (true, true) => Err(malformed("the protected header has both kid and jwk")),
        (false, false) => Err(malformed("the protected header has neither kid nor jwk")),
    }
}

#[cfg(test)]
mod tests;
