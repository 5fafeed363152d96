//! `dns-01` (RFC 8555 §8.4): a digest in a TXT record.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use certctl_domain::{acme::Identifier, ports::challenge::ProofRequest};
use ring::digest;
use subtle::ConstantTimeEq as _;

use super::{
    dns::{self, Resolver},
    error::Error,
};

#[derive(Debug)]
pub(crate) struct Dns01 {
    resolver: Resolver,
}

impl Dns01 {
    pub(crate) const fn new(resolver: Resolver) -> Self {
        Self { resolver }
    }

    pub(crate) async fn prove(&self, request: &ProofRequest) -> Result<(), Error> {
        let Identifier::Dns(name) = request.identifier.without_wildcard() else {
            // RFC 8738 §7: not for addresses.
            return Err(Error::Unfit(request.identifier.to_string()));
        };
        let owner = format!("_acme-challenge.{name}");
        let texts = match self.resolver.texts(&owner).await {
            Ok(texts) if !texts.is_empty() => texts,
            // A name that is not there has no record either; to whoever set it that is the same.
            Ok(_) | Err(dns::Error::NoSuchName(_)) => return Err(Error::NoText(owner)),
            Err(error) => return Err(error.into()),
        };
        let digest = digest::digest(&digest::SHA256, request.key_authorization.as_bytes());
        let expected = URL_SAFE_NO_PAD.encode(digest);
        // Other clients' records for the same name stand beside ours, so any may be the one.
        let found = texts.iter().fold(0, |found, text| {
            found | text.ct_eq(expected.as_bytes()).unwrap_u8()
        });
        if found == 1 {
            Ok(())
        } else {
            Err(Error::Wrong(
                "none of the TXT records is the one of this challenge",
            ))
        }
    }
}
