//! Revocations, their reasons, and the parts that CRLs are split into.

use std::{fmt, str::FromStr, time::Duration};

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

/// Lives that end before this much after they begin are below an hour, since the last second counts (RFC 5280 §4.1.2.5).
pub const SHORT_LIVED: Duration = Duration::from_secs(3599);

/// Whether a certificate lives so shortly that status services leave it out (issuers §4): it ends before most verifiers would ask
/// again, so it points at no status service, is on no CRL, and OCSP answers good.
#[must_use]
pub fn is_short_lived(not_before: Timestamp, not_after: Timestamp) -> bool {
    not_after < not_before + SHORT_LIVED
}

/// One of the equal parts that the serials of an issuer are split into, each with a CRL of its own (RFC 5280 §5.2.5).
///
/// The number of parts is in the name, because a certificate points at its part for as long as it lives: were it only the number
/// of the part, then after a change of the number of parts it would point at a CRL that leaves it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard {
    number: u16,
    of: u16,
}

/// No name of a part: `<number>-of-<parts>`, numbers from 1 on, 2 to 256 parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a shard is written as 3-of-8, with 2 to 256 shards")]
pub struct InvalidShard;

impl Shard {
    /// The greatest number of parts.
    pub const MAX: u16 = 256;

    /// The part of a serial when there are `of` parts; none when nothing is split.
    #[must_use]
    pub fn of_serial(serial: &SerialNumber, of: u16) -> Option<Self> {
        if !(2..=Self::MAX).contains(&of) {
            return None;
        }
        // FNV-1a, for all time: certificates in use were given their part by it.
        let hash = serial.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        let number = u16::try_from(hash % u32::from(of)).unwrap_or(0) + 1;
        Some(Self { number, of })
    }

    /// Every part when there are `of`.
    pub fn all(of: u16) -> impl Iterator<Item = Self> {
        let of = if (2..=Self::MAX).contains(&of) { of } else { 0 };
        (1..=of).map(move |number| Self { number, of })
    }

    /// Where its list is, below the URL of the whole one.
    #[must_use]
    pub fn url(self, whole: &str) -> String {
        format!("{}/{self}", whole.trim_end_matches('/'))
    }

    /// How many parts there are.
    #[must_use]
    pub const fn parts(self) -> u16 {
        self.of
    }

    /// Its place among the parts, from 0 on.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.number - 1)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-of-{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = InvalidShard;

    fn from_str(text: &str) -> Result<Self, InvalidShard> {
        let (number, of) = text.split_once("-of-").ok_or(InvalidShard)?;
        let shard = Self {
            number: number.parse().map_err(|_| InvalidShard)?,
            of: of.parse().map_err(|_| InvalidShard)?,
        };
        // Two spellings of one part would be two names of one resource.
        let is_canonical = shard.to_string() == text;
        if is_canonical
            && (2..=Self::MAX).contains(&shard.of)
            && (1..=shard.of).contains(&shard.number)
        {
            Ok(shard)
        } else {
            Err(InvalidShard)
        }
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
    use std::{collections::HashMap, time::Duration};

    use super::{InvalidShard, RevocationReason, Shard, is_short_lived};
    use crate::{serial::SerialNumber, time::Timestamp};

    #[test]
    fn an_hour_is_not_short_and_a_second_less_is() {
        let start = Timestamp::from_seconds(1_700_000_000);
        // The last second counts, so an hour ends 3599 s after its first.
        assert!(!is_short_lived(start, start + Duration::from_secs(3599)));
        assert!(is_short_lived(start, start + Duration::from_secs(3598)));
    }

    #[test]
    fn every_serial_has_one_part_and_keeps_it() {
        let mut sizes = HashMap::new();
        for n in 0..8000_u32 {
            let serial =
                SerialNumber::parse(&format!("{:x}", n.wrapping_mul(2_654_435_761))).unwrap();
            let shard = Shard::of_serial(&serial, 8).unwrap();
            assert_eq!(Shard::of_serial(&serial, 8), Some(shard));
            *sizes.entry(shard).or_insert(0) += 1;
        }
        assert_eq!(sizes.len(), 8);
        assert!(
            sizes.values().all(|size| (800..1200).contains(size)),
            "{sizes:?}"
        );
        // Certificates in use point at these for ever.
        let known = SerialNumber::parse("7f00ff").unwrap();
        assert_eq!(
            Shard::of_serial(&known, 16).unwrap().to_string(),
            "13-of-16"
        );
        assert_eq!(Shard::of_serial(&known, 1), None);
        assert_eq!(Shard::of_serial(&known, 257), None);
        assert_eq!(Shard::all(8).count(), 8);
        assert_eq!(Shard::all(1).count(), 0);
    }

    #[test]
    fn the_names_of_parts_are_read_in_one_spelling_only() {
        for shard in Shard::all(12) {
            assert_eq!(shard.to_string().parse(), Ok(shard));
        }
        for text in [
            "", "1", "0-of-8", "9-of-8", "1-of-1", "1-of-257", "01-of-8", "+1-of-8", "1-of-8 ",
            "a-of-8",
        ] {
            assert_eq!(text.parse::<Shard>(), Err(InvalidShard), "{text}");
        }
    }

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
