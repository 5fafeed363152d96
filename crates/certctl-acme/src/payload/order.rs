//! Orders, and what leads from them to certificates.

use certctl_domain::{
    acme::{Identifier, InvalidIdentifier, Problem, ProblemType, Subproblem},
    time::Timestamp,
};

use crate::{
    ari::CertId,
    json::{Object, Value},
    refuse::malformed,
};

/// How many identifiers an order may have.
pub const MAX_IDENTIFIERS: usize = 100;
/// How much of an identifier that is none is shown again, in characters.
const MAX_SHOWN: usize = 128;
/// The longest name of a profile, in characters.
const MAX_PROFILE: usize = 128;

/// A request for an order (RFC 8555 §7.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    /// What for: sorted, without duplicates, 1 to [`MAX_IDENTIFIERS`].
    pub identifiers: Vec<Identifier>,
    /// When the certificate is to start.
    pub not_before: Option<Timestamp>,
    /// When it is to end; after `not_before`, where both are given.
    pub not_after: Option<Timestamp>,
    /// The name of a profile that the directory offers (draft-ietf-acme-profiles §4).
    pub profile: Option<String>,
    /// The certificate that this one is to replace (RFC 9773 §5).
    pub replaces: Option<CertId>,
}

impl NewOrder {
    /// Reads the payload.
    ///
    /// # Errors
    /// `malformed`; `rejectedIdentifier` and `unsupportedIdentifier`, or `compound` for both, with a subproblem for each
    /// identifier that is none.
    pub fn parse(payload: &[u8]) -> Result<Self, Problem> {
        let payload = super::object(payload)?;
        let order = Self {
            identifiers: identifiers(&payload)?,
            not_before: time(&payload, "notBefore")?,
            not_after: time(&payload, "notAfter")?,
            profile: profile(&payload)?,
            replaces: payload.text("replaces")?.map(CertId::parse).transpose()?,
        };
        match (order.not_before, order.not_after) {
            (Some(start), Some(end)) if start >= end => {
                Err(malformed("notAfter is not after notBefore"))
            }
            _ => Ok(order),
        }
    }
}

fn identifiers(payload: &Object<'_>) -> Result<Vec<Identifier>, Problem> {
    let list = payload
        .list("identifiers")?
        .filter(|list| !list.is_empty())
        .ok_or_else(|| malformed("identifiers are missing"))?;
    let (mut good, mut bad) = (Vec::with_capacity(list.len()), Vec::new());
    for one in list {
        let Value::Object(one) = one else {
            return Err(malformed("an identifier is not an object"));
        };
        let (kind, value) = (one.required_text("type")?, one.required_text("value")?);
        match identifier(kind, value) {
            Ok(identifier) => good.push(identifier),
            Err((problem, reason)) => bad.push(subproblem(problem, &reason, kind, value)),
        }
    }
    // By the thousand they would only be echoed.
    bad.truncate(MAX_IDENTIFIERS);
    if let Some(problem) = summary(bad) {
        return Err(problem);
    }
    good.sort_unstable();
    good.dedup();
    if good.len() > MAX_IDENTIFIERS {
        let detail = format!("an order has at most {MAX_IDENTIFIERS} identifiers");
        return Err(Problem::new(ProblemType::RejectedIdentifier, detail));
    }
    Ok(good)
}

fn identifier(kind: &str, value: &str) -> Result<Identifier, (ProblemType, String)> {
    let rejected =
        |reason: InvalidIdentifier| (ProblemType::RejectedIdentifier, reason.to_string());
    match kind {
        "dns" => Identifier::dns(value).map_err(rejected),
        "ip" => Identifier::ip(value).map_err(rejected),
        _ => Err((
            ProblemType::UnsupportedIdentifier,
            "identifiers are of type dns or ip".to_owned(),
        )),
    }
}

fn subproblem(problem: ProblemType, reason: &str, kind: &str, value: &str) -> Subproblem {
    let shown = |text: &str| text.chars().take(MAX_SHOWN).collect::<String>();
    Subproblem {
        kind: problem,
        detail: reason.to_owned(),
        identifier: Some((shown(kind), shown(value))),
    }
}

/// RFC 8555 §6.7.1: `compound` where the problems are of several kinds.
fn summary(bad: Vec<Subproblem>) -> Option<Problem> {
    let first = bad.first()?;
    let (kind, detail) = if bad.iter().any(|one| one.kind != first.kind) {
        (ProblemType::Compound, "several identifiers cannot be used")
    } else if bad.len() > 1 {
        (first.kind, "several identifiers cannot be used")
    } else {
        (first.kind, "an identifier cannot be used")
    };
    Some(Problem {
        subproblems: bad,
        ..Problem::new(kind, detail)
    })
}

fn time(payload: &Object<'_>, name: &str) -> Result<Option<Timestamp>, Problem> {
    let parse = |text: &str| {
        text.parse()
            .map_err(|reason| malformed(format!("{name} is {reason}")))
    };
    payload.text(name)?.map(parse).transpose()
}

fn profile(payload: &Object<'_>) -> Result<Option<String>, Problem> {
    match payload.text("profile")? {
        Some(name) if name.chars().count() > MAX_PROFILE => Err(Problem::new(
            ProblemType::InvalidProfile,
            "no profile has such a name",
        )),
        name => Ok(name.map(str::to_owned)),
    }
}

/// A request to finalise an order (RFC 8555 §7.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finalize {
    /// The signing request as DER, unread; see [`crate::csr::check`].
    pub csr: Vec<u8>,
}

impl Finalize {
    /// Reads the payload.
    ///
    /// # Errors
    /// `malformed` when there is no CSR; `badCSR` when it is not base64url.
    pub fn parse(payload: &[u8]) -> Result<Self, Problem> {
        let payload = super::object(payload)?;
        let text = payload.required_text("csr")?;
        let csr = crate::base64url::decode(text)
            .map_err(|reason| Problem::new(ProblemType::BadCsr, format!("the CSR is {reason}")))?;
        Ok(Self { csr })
    }
}

/// A request to an authorisation (RFC 8555 §7.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorizationUpdate {
    /// It is only to be shown (POST-as-GET).
    Read,
    /// It is given up (RFC 8555 §7.5.2).
    Deactivate,
}

impl AuthorizationUpdate {
    /// Reads the payload.
    ///
    /// # Errors
    /// `malformed`, also for any other status.
    pub fn parse(payload: &[u8]) -> Result<Self, Problem> {
        if payload.is_empty() {
            return Ok(Self::Read);
        }
        match super::object(payload)?.text("status")? {
            Some("deactivated") => Ok(Self::Deactivate),
            _ => Err(malformed(
                "an authorization can only be read, or become deactivated",
            )),
        }
    }
}

/// A request to a challenge (RFC 8555 §7.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeResponse {
    /// It is only to be shown (POST-as-GET).
    Read,
    /// The client is ready to be looked at. The object may hold what older drafts asked for; it does not count.
    Ready,
}

impl ChallengeResponse {
    /// Reads the payload.
    ///
    /// # Errors
    /// `malformed`.
    pub fn parse(payload: &[u8]) -> Result<Self, Problem> {
        if payload.is_empty() {
            return Ok(Self::Read);
        }
        super::object(payload).map(|_| Self::Ready)
    }
}
