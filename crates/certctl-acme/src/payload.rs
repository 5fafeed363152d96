//! What signed requests carry (RFC 8555 §7). Members that are not known are passed over.

mod account;
mod order;
mod revocation;

use certctl_domain::acme::Problem;

pub use self::{
    account::{AccountUpdate, MAX_CONTACTS, NewAccount},
    order::{AuthorizationUpdate, ChallengeResponse, Finalize, MAX_IDENTIFIERS, NewOrder},
    revocation::Revocation,
};
use crate::{json::Object, refuse::malformed};

/// Checks that a request only reads: POST-as-GET has the empty payload and nothing else (RFC 8555 §6.3).
///
/// # Errors
/// `malformed`.
pub fn post_as_get(payload: &[u8]) -> Result<(), Problem> {
    if payload.is_empty() {
        Ok(())
    } else {
        Err(malformed("the payload of a POST-as-GET request is empty"))
    }
}

/// The object that every other payload is.
fn object(payload: &[u8]) -> Result<Object<'_>, Problem> {
    Object::parse(payload, "the payload")
}

#[cfg(test)]
mod tests;
