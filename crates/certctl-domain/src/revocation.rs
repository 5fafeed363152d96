//! Revocations and their reasons.

use crate::{
    id::{CertificateId, IssuerId, RevocationId},
    serial::SerialNumber,
    text_enum::UnknownValue,
    time::Timestamp,
};

/// Why a certificate was revoked (RFC 5280 §5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RevocationReason {
    /// No reason given.
    Unspecified,
    /// The private key is known or suspected to be known by others.
    KeyCompromise,
    /// The CA's key is.
    CaCompromise,
    /// The subject's affiliation changed.
    AffiliationChanged,
    /// Another certificate took its place.
    Superseded,
    /// It is no longer needed.
    CessationOfOperation,
    /// On hold for now.
    CertificateHold,
    /// A privilege it stated was withdrawn.
    PrivilegeWithdrawn,
    /// The attribute authority's key is compromised.
    AaCompromise,
}

impl RevocationReason {
    /// Every reason that a revocation may state; `removeFromCRL` is none (it ends a hold on a delta CRL).
    pub const ALL: [Self; 9] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::CertificateHold,
        Self::PrivilegeWithdrawn,
        Self::AaCompromise,
    ];

    /// The name as RFC 5280 spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "caCompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
            Self::AaCompromise => "aaCompromise",
        }
    }

    /// The CRLReason code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::CaCompromise => 2,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::CertificateHold => 6,
            Self::PrivilegeWithdrawn => 9,
            Self::AaCompromise => 10,
        }
    }

    /// Reads camelCase or snake_case in any capitalisation (issuers §1).
    ///
    /// # Errors
    /// [`UnknownValue`] naming the reasons there are.
    pub fn parse(text: &str) -> Result<Self, UnknownValue> {
        let folded: String = text
            .chars()
            .filter(|c| *c != '_')
            .map(|c| c.to_ascii_lowercase())
            .collect();
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str().to_ascii_lowercase() == folded)
            .ok_or_else(|| UnknownValue {
                kind: "revocation reason",
                value: text.chars().take(64).collect(),
                expected: Self::ALL.map(Self::as_str).join(", "),
            })
    }
}

/// One revoked serial of one issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The id.
    pub id: RevocationId,
    /// The certificate the serial belongs to.
    pub certificate_id: CertificateId,
    /// Whose serial it is.
    pub issuer_id: IssuerId,
    /// The serial.
    pub serial_number: SerialNumber,
    /// Why.
    pub reason: RevocationReason,
    /// The actor.
    pub revoked_by: String,
    /// When.
    pub revoked_at: Timestamp,
    /// Whether the issuer itself was told.
    pub issuer_notified: bool,
}

#[cfg(test)]
mod tests {
    use super::RevocationReason;

    #[test]
    fn reasons_are_read_in_either_case_style() {
        for reason in RevocationReason::ALL {
            assert_eq!(RevocationReason::parse(reason.as_str()), Ok(reason));
        }
        assert_eq!(
            RevocationReason::parse("KEY_COMPROMISE"),
            Ok(RevocationReason::KeyCompromise)
        );
        assert!(RevocationReason::parse("removeFromCRL").is_err());
    }
}
