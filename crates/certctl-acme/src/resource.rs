//! What is answered: the objects of RFC 8555 §7.1 as JSON.

use std::{borrow::Cow, collections::BTreeMap};

use certctl_domain::{
    acme::{
        Account, AcmeAuthorizationId, AcmeOrderId, Authorization, Challenge, Identifier, Order,
        OrderStatus, Problem, ProblemType, Subproblem,
    },
    time::Timestamp,
};
use serde::Serialize;

use crate::{ari::Window, jws::Algorithm, urls::Urls};

/// The media type of problem documents (RFC 9457 §3).
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";
/// The media type of certificates with their chain (RFC 8555 §9.1).
pub const CHAIN_MEDIA_TYPE: &str = "application/pem-certificate-chain";
/// What the kinds of problems start with (RFC 8555 §6.7).
pub const ERROR_NAMESPACE: &str = "urn:ietf:params:acme:error:";

/// What the server says about itself (RFC 8555 §7.1.1). Members that are empty or false are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryMeta {
    /// Where the terms of service are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terms_of_service: Option<String>,
    /// Where more is said about the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub website: Option<String>,
    /// What CAA records call the server.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caa_identities: Vec<String>,
    /// Whether accounts must be bound.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub external_account_required: bool,
    /// The profiles that an order may choose, each with what it is (draft-ietf-acme-profiles §3).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub profiles: BTreeMap<String, String>,
}

/// The directory (RFC 8555 §7.1.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryBody {
    new_nonce: String,
    new_account: String,
    new_order: String,
    revoke_cert: String,
    key_change: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewal_info: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<DirectoryMeta>,
}

impl DirectoryBody {
    /// The directory of a family; with ARI or without.
    #[must_use]
    pub fn new(urls: &Urls, has_renewal_info: bool, meta: DirectoryMeta) -> Self {
        Self {
            new_nonce: urls.new_nonce(),
            new_account: urls.new_account(),
            new_order: urls.new_order(),
            revoke_cert: urls.revoke_cert(),
            key_change: urls.key_change(),
            renewal_info: has_renewal_info.then(|| urls.renewal_info()),
            meta: (meta != DirectoryMeta::default()).then_some(meta),
        }
    }
}

/// An account (RFC 8555 §7.1.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountBody {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contact: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    terms_of_service_agreed: bool,
    orders: String,
}

impl AccountBody {
    /// An account.
    #[must_use]
    pub fn new(account: &Account, urls: &Urls) -> Self {
        Self {
            status: account.status.as_str(),
            contact: account.contact.clone(),
            terms_of_service_agreed: account.terms_agreed,
            orders: urls.orders(&account.id),
        }
    }
}

/// A page of the orders of an account (RFC 8555 §7.1.2.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrdersBody {
    orders: Vec<String>,
}

impl OrdersBody {
    /// A page.
    #[must_use]
    pub fn new<'a>(orders: impl IntoIterator<Item = &'a AcmeOrderId>, urls: &Urls) -> Self {
        Self {
            orders: orders.into_iter().map(|id| urls.order(id)).collect(),
        }
    }
}

/// An order (RFC 8555 §7.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderBody {
    status: &'static str,
    expires: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    identifiers: Vec<IdentifierBody>,
    authorizations: Vec<String>,
    finalize: String,
    profile: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ProblemBody>,
}

impl OrderBody {
    /// An order with its authorisations.
    #[must_use]
    pub fn new<'a>(
        order: &Order,
        authorizations: impl IntoIterator<Item = &'a AcmeAuthorizationId>,
        urls: &Urls,
    ) -> Self {
        let certificate = order
            .certificate_id
            .as_ref()
            // It has an id from when it is finalised, and something to download only when the order is valid.
            .filter(|_| order.status == OrderStatus::Valid);
        Self {
            status: order.status.as_str(),
            expires: time(order.expires_at),
            not_before: order.not_before.map(time),
            not_after: order.not_after.map(time),
            identifiers: order.identifiers.iter().map(IdentifierBody::new).collect(),
            authorizations: authorizations
                .into_iter()
                .map(|id| urls.authorization(id))
                .collect(),
            finalize: urls.finalize(&order.id),
            profile: order.profile_id.to_string(),
            replaces: order.replaces.clone(),
            certificate: certificate.map(|id| urls.certificate(id)),
            error: order.error.as_ref().map(ProblemBody::new),
        }
    }
}

/// An identifier (RFC 8555 §9.7.7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdentifierBody {
    #[serde(rename = "type")]
    kind: Cow<'static, str>,
    value: String,
}

impl IdentifierBody {
    fn new(identifier: &Identifier) -> Self {
        Self {
            kind: Cow::Borrowed(identifier.identifier_type().as_str()),
            value: identifier.to_string(),
        }
    }
}

/// An authorisation (RFC 8555 §7.1.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuthorizationBody {
    identifier: IdentifierBody,
    status: &'static str,
    expires: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    wildcard: bool,
    challenges: Vec<ChallengeBody>,
}

impl AuthorizationBody {
    /// An authorisation with its challenges.
    #[must_use]
    pub fn new<'a>(
        authorization: &Authorization,
        challenges: impl IntoIterator<Item = &'a Challenge>,
        urls: &Urls,
    ) -> Self {
        Self {
            identifier: IdentifierBody::new(&authorization.identifier),
            status: authorization.status.as_str(),
            expires: time(authorization.expires_at),
            wildcard: authorization.wildcard,
            challenges: challenges
                .into_iter()
                .map(|challenge| ChallengeBody::new(challenge, urls))
                .collect(),
        }
    }
}

/// A challenge (RFC 8555 §7.1.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChallengeBody {
    #[serde(rename = "type")]
    kind: &'static str,
    url: String,
    status: &'static str,
    token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    validated: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ProblemBody>,
}

impl ChallengeBody {
    /// A challenge.
    #[must_use]
    pub fn new(challenge: &Challenge, urls: &Urls) -> Self {
        Self {
            kind: challenge.challenge_type.as_str(),
            url: urls.challenge(&challenge.id),
            status: challenge.status.as_str(),
            token: challenge.token.clone(),
            validated: challenge.validated_at.map(time),
            error: challenge.error.as_ref().map(ProblemBody::new),
        }
    }
}

/// When to renew (RFC 9773 §4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewalInfoBody {
    suggested_window: WindowBody,
    #[serde(rename = "explanationURL", skip_serializing_if = "Option::is_none")]
    explanation_url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct WindowBody {
    start: String,
    end: String,
}

impl RenewalInfoBody {
    /// A window, and where it is explained.
    #[must_use]
    pub fn new(window: Window, explanation_url: Option<String>) -> Self {
        Self {
            suggested_window: WindowBody {
                start: time(window.start),
                end: time(window.end),
            },
            explanation_url,
        }
    }
}

/// A problem document (RFC 8555 §6.7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProblemBody {
    #[serde(rename = "type")]
    kind: String,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subproblems: Vec<ProblemBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identifier: Option<IdentifierBody>,
    /// RFC 8555 §6.2: with `badSignatureAlgorithm`, what would have been good.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    algorithms: Vec<&'static str>,
}

impl ProblemBody {
    /// A problem.
    #[must_use]
    pub fn new(problem: &Problem) -> Self {
        let is_algorithm = problem.kind == ProblemType::BadSignatureAlgorithm;
        Self {
            kind: urn(problem.kind),
            detail: problem.detail.clone(),
            status: Some(problem.status),
            subproblems: problem.subproblems.iter().map(Self::sub).collect(),
            identifier: None,
            algorithms: if is_algorithm {
                Algorithm::ALL.map(Algorithm::as_str).to_vec()
            } else {
                Vec::new()
            },
        }
    }

    fn sub(problem: &Subproblem) -> Self {
        Self {
            kind: urn(problem.kind),
            detail: problem.detail.clone(),
            // The status is that of the answer as a whole.
            status: None,
            subproblems: Vec::new(),
            identifier: problem
                .identifier
                .clone()
                .map(|(kind, value)| IdentifierBody {
                    kind: Cow::Owned(kind),
                    value,
                }),
            algorithms: Vec::new(),
        }
    }
}

fn urn(kind: ProblemType) -> String {
    [ERROR_NAMESPACE, kind.as_str()].concat()
}

/// RFC 3339 in whole seconds, which is all that RFC 8555 needs and all that every client reads.
fn time(time: Timestamp) -> String {
    time.truncated_to_seconds().to_rfc3339()
}

#[cfg(test)]
mod tests;
