//! What an ACME server keeps (RFC 8555 §7.1): accounts, orders, authorisations and challenges, and which of their states may
//! follow which.
//!
//! The protocol that speaks of them is the crate `certctl-acme`; here is what storage, use cases and protocol share.

mod account;
mod challenge;
mod id;
mod identifier;
mod order;
mod problem;

pub use account::{Account, AccountStatus, EabKey};
pub use challenge::{
    Authorization, AuthorizationStatus, Challenge, ChallengeStatus, ChallengeType,
};
pub use id::{
    AcmeAccountId, AcmeAuthorizationId, AcmeChallengeId, AcmeOrderId, EabKeyId, SUFFIX_BYTES,
    managed_certificate_id,
};
pub use identifier::{Identifier, IdentifierType, InvalidIdentifier};
pub use order::{Order, OrderStatus};
pub use problem::{Problem, ProblemType, Subproblem};
