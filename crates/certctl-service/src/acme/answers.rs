//! What is asked and what is answered.

use std::net::IpAddr;

use certctl_acme::{
    resource::{AccountBody, ChallengeBody, OrderBody, OrdersBody, RenewalInfoBody},
    urls::Urls,
};
use certctl_domain::{
    acme::{AcmeAccountId, AcmeAuthorizationId, AcmeOrderId, Problem, ProblemType},
    id::{CertificateId, ProfileId},
};
use certctl_telemetry::ErrorChain;

use crate::Error;

/// A signed request as it arrived.
#[derive(Debug, Clone)]
pub struct SignedRequest {
    /// The URLs of the family that the client uses.
    pub urls: Urls,
    /// The profile of that family.
    pub profile: ProfileId,
    /// The URL that was asked, as the client must have signed it.
    pub url: String,
    /// The body.
    pub body: Vec<u8>,
    /// Where it came from, if that is known.
    pub client: Option<IpAddr>,
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub problem: Problem,
    /// Seconds until it is worth trying again.
    pub retry_after: Option<u64>,
    /// The account that is in the way (RFC 8555 §7.3.5).
    pub location: Option<String>,
    /// Whether the terms of service are to be linked (RFC 8555 §7.3.3).
    pub link_terms: bool,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            retry_after: None,
            location: None,
            link_terms: false,
        }
    }
}

impl From<Error> for Refusal {
    /// A fault of the server: what broke is for the log.
    fn from(error: Error) -> Self {
        tracing::error!(error = %ErrorChain(&error), "an ACME request failed");
        Problem::new(
            ProblemType::ServerInternal,
            "the server failed; try again later",
        )
        .into()
    }
}

impl From<certctl_repository::Error> for Refusal {
    fn from(error: certctl_repository::Error) -> Self {
        Error::from(error).into()
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountAnswer {
    /// Whether it was made just now.
    pub created: bool,
    /// Its id.
    pub id: AcmeAccountId,
    /// What it says.
    pub account: AccountBody,
}

/// A page of orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrdersAnswer {
    /// The page.
    pub orders: OrdersBody,
    /// Where the next one begins; none when this was the last.
    pub next_cursor: Option<String>,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderAnswer {
    /// Its id.
    pub id: AcmeOrderId,
    /// What it says.
    pub order: OrderBody,
    /// Seconds until it is worth looking again; none when it waits for the client, or has ended.
    pub retry_after: Option<u64>,
}

/// A challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChallengeAnswer {
    /// What it says.
    pub challenge: ChallengeBody,
    /// What it proves.
    pub authorization: AcmeAuthorizationId,
    /// Seconds until it is worth looking again; none when it waits for the client, or has ended.
    pub retry_after: Option<u64>,
}

/// A certificate with its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// Its id.
    pub id: CertificateId,
    /// PEM, the leaf first.
    pub chain_pem: String,
    /// How many further chains there are for it; the issuers that certctl knows have one each.
    pub alternates: usize,
}

/// When to renew a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalInfoAnswer {
    /// The window.
    pub body: RenewalInfoBody,
    /// Seconds until it is worth asking again.
    pub retry_after: u64,
}
