//! Revocations (RFC 8555 §7.6).

use certctl_domain::{
    acme::{Problem, ProblemType},
    revocation::RevocationReason,
};

use crate::{json::Value, refuse::malformed};

/// The reasons that a client may give. The others are for CAs: `removeFromCRL` ends a hold, `aACompromise` is of attribute
/// authorities (RFC 5280 §5.3.1).
const REASONS: [RevocationReason; 8] = [
    RevocationReason::Unspecified,
    RevocationReason::KeyCompromise,
    RevocationReason::CaCompromise,
    RevocationReason::AffiliationChanged,
    RevocationReason::Superseded,
    RevocationReason::CessationOfOperation,
    RevocationReason::CertificateHold,
    RevocationReason::PrivilegeWithdrawn,
];

/// A request to revoke a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The certificate as DER, unread.
    pub certificate: Vec<u8>,
    /// Why.
    pub reason: RevocationReason,
}

impl Revocation {
    /// Reads the payload.
    ///
    /// # Errors
    /// `malformed`; `badRevocationReason` for a code that clients may not give.
    pub fn parse(payload: &[u8]) -> Result<Self, Problem> {
        let payload = super::object(payload)?;
        let reason = match payload.get("reason") {
            None => RevocationReason::Unspecified,
            Some(Value::Integer(code)) => REASONS
                .into_iter()
                .find(|reason| i64::from(reason.code()) == *code)
                .ok_or_else(bad_reason)?,
            Some(Value::Number) => return Err(bad_reason()),
            Some(_) => return Err(malformed("reason is not a number")),
        };
        Ok(Self {
            certificate: payload.octets("certificate")?,
            reason,
        })
    }
}

fn bad_reason() -> Problem {
    Problem::new(
        ProblemType::BadRevocationReason,
        "the reason is none of 0 to 6 and 9",
    )
}
