//! External account binding: the proof that the holder of an account key is somebody known (RFC 8555 §7.3.4).

use certctl_domain::acme::{EabKeyId, Problem};
use ring::hmac;

use crate::{
    json::Object,
    jwk::Jwk,
    jws::{Parts, check_extensions},
    refuse::unauthorized,
};

/// A binding as it was sent. Nothing about it is proved before [`Binding::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    kid: EabKeyId,
    url: Option<String>,
    parts: Parts,
}

impl Binding {
    /// Reads the inner JWS.
    pub(crate) fn parse(jws: &Object<'_>) -> Result<Self, Problem> {
        let parts = Parts::parse(jws)?;
        let header = parts.header()?;
        // HS256 only: it is what all clients use, and a choice would be the attacker's.
        if header.text("alg")? != Some("HS256") {
            return Err(unauthorized("the account binding is not signed with HS256"));
        }
        check_extensions(&header)?;
        if header.has("nonce") {
            return Err(unauthorized("the account binding has a nonce"));
        }
        if header.has("jwk") {
            return Err(unauthorized("the account binding has a jwk"));
        }
        let kid = header
            .text("kid")?
            .and_then(EabKeyId::parse)
            .ok_or_else(|| unauthorized("the account binding names no key"))?;
        let url = header.text("url")?.map(str::to_owned);
        Ok(Self { kid, url, parts })
    }

    /// Which key it claims to be made with.
    #[must_use]
    pub const fn kid(&self) -> &EabKeyId {
        &self.kid
    }

    /// Checks that the binding is for this request (its URL), binds this account key, and was made with this MAC key.
    ///
    /// # Errors
    /// `unauthorized`. Which check failed is not said where that would tell something about the MAC key.
    pub fn verify(&self, mac_key: &[u8], url: &str, account_key: &Jwk) -> Result<(), Problem> {
        if self.url.as_deref() != Some(url) {
            return Err(unauthorized(
                "the url of the account binding is not the URL of the request",
            ));
        }
        // An empty key would let anybody bind; no operator means that.
        let key = hmac::Key::new(hmac::HMAC_SHA256, mac_key);
        let is_made_with =
            hmac::verify(&key, self.parts.signing_input(), self.parts.signature()).is_ok();
        if mac_key.is_empty() || !is_made_with {
            return Err(unauthorized("the account binding does not verify"));
        }
        match Jwk::parse(self.parts.payload()) {
            Ok(bound) if bound == *account_key => Ok(()),
            _ => Err(unauthorized("the account binding is for another key")),
        }
    }
}

#[cfg(test)]
mod tests;
