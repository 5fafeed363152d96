//! Changing the key of an account (RFC 8555 §7.3.5): a request of the old key that carries one of the new.

use certctl_domain::acme::Problem;

use crate::{
    json::Object,
    jwk::Jwk,
    jws::FlatJws,
    refuse::{malformed, unauthorized},
};

/// What the outer request said and who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer<'a> {
    /// Its payload, which is the inner request.
    pub payload: &'a [u8],
    /// Its URL.
    pub url: &'a str,
    /// Its `kid`: the URL of the account.
    pub kid: &'a str,
    /// The thumbprint of the account's key, with which the outer signature was verified.
    pub thumbprint: &'a str,
}

/// Checks the inner request and gives the new key. Whether another account has it already, and whether the account still has
/// the old one, is for whoever writes it to see.
///
/// # Errors
/// `malformed` for an inner request that is none, is signed with a `kid`, or names another account;
/// `badSignatureAlgorithm`, `badPublicKey`; `unauthorized` when it is for another URL, is not signed by the new key, or names
/// another old key.
pub fn verify(outer: Outer<'_>) -> Result<Jwk, Problem> {
    let inner = FlatJws::parse(outer.payload)?;
    // RFC 8555 §7.3.5 wants no nonce in there; one that is there guards nothing and is passed over.
    let new_key = inner.jwk()?;
    if inner.url() != Some(outer.url) {
        return Err(unauthorized(
            "the url of the inner JWS is not that of the outer",
        ));
    }
    inner.verify(new_key)?;
    let payload = Object::parse(inner.payload(), "the payload of the inner JWS")?;
    if payload.text("account")? != Some(outer.kid) {
        return Err(malformed("the inner JWS names another account"));
    }
    let old_key = payload
        .object("oldKey")?
        .ok_or_else(|| malformed("oldKey is missing"))?;
    let named = Jwk::from_object(old_key)
        .map_err(|problem| malformed(problem.detail))?
        .thumbprint();
    if !is_equal(named.as_bytes(), outer.thumbprint.as_bytes()) {
        return Err(unauthorized("oldKey is not the key of the account"));
    }
    Ok(new_key.clone())
}

/// Takes as long whatever differs. Thumbprints are no secrets, but that of an account is nobody else's business.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    let differing = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests;
