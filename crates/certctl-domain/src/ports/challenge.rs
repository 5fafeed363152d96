//! The port through which control of identifiers is looked at: files, records and handshakes out in the network.

use super::BoxFuture;
use crate::acme::{ChallengeType, Identifier, Problem};

/// What is to be found where the identifier leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofRequest {
    /// Where to look.
    pub challenge_type: ChallengeType,
    /// For what, without a star.
    pub identifier: Identifier,
    /// The challenge's token.
    pub token: String,
    /// Token, dot, thumbprint of the account's key (RFC 8555 §8.1).
    pub key_authorization: String,
}

/// Looks once; whoever calls counts, waits and tries again.
pub trait ChallengeValidator: Send + Sync + 'static {
    /// Whether the proof is there.
    ///
    /// # Errors
    /// The problem that the challenge is to carry: `connection`, `dns`, `tls` or `incorrectResponse`.
    fn prove<'a>(&'a self, request: &'a ProofRequest) -> BoxFuture<'a, Result<(), Problem>>;
}

/// Which CA a name's owner allows (RFC 8659).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaaRequest {
    /// The host name, without a star.
    pub name: String,
    /// Whether a wildcard is asked for; then `issuewild` counts first (RFC 8659 §4.3).
    pub wildcard: bool,
    /// The account's URL, for the parameter `accounturi` (RFC 8657 §3).
    pub account_uri: String,
    /// How the name was proved, for `validationmethods` (RFC 8657 §4).
    pub method: ChallengeType,
}

/// Looks CAA records up.
pub trait CaaChecker: Send + Sync + 'static {
    /// Whether the records allow one of this server's identities to issue.
    ///
    /// # Errors
    /// `caa` where they forbid it, `dns` where they cannot be read: no answer is no permission (RFC 8659 §3).
    fn check<'a>(&'a self, request: &'a CaaRequest) -> BoxFuture<'a, Result<(), Problem>>;
}
