//! Authorisations and the challenges that prove them.

use super::{AcmeAuthorizationId, AcmeChallengeId, AcmeOrderId, Identifier, Problem};
use crate::{text_enum, time::Timestamp};

text_enum! {
    /// Where an authorisation stands (RFC 8555 §7.1.6).
    pub enum AuthorizationStatus ("authorization status") {
        /// To be proved.
        Pending = "pending",
        /// Proved.
        Valid = "valid",
        /// A proof failed; terminal.
        Invalid = "invalid",
        /// Its holder gave it up; terminal.
        Deactivated = "deactivated",
        /// It was not proved or used in time; terminal.
        Expired = "expired",
        /// The server took it back; terminal.
        Revoked = "revoked",
    }
}

impl AuthorizationStatus {
    /// Whether a state may follow.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (
                Self::Pending,
                Self::Valid | Self::Invalid | Self::Expired | Self::Deactivated
            ) | (
                Self::Valid,
                Self::Expired | Self::Deactivated | Self::Revoked
            )
        )
    }
}

text_enum! {
    /// How control of an identifier is proved.
    pub enum ChallengeType ("challenge type") {
        /// A file on port 80 (RFC 8555 §8.3).
        Http01 = "http-01",
        /// A TXT record (RFC 8555 §8.4).
        Dns01 = "dns-01",
        /// A certificate on port 443 (RFC 8737).
        TlsAlpn01 = "tls-alpn-01",
    }
}

impl ChallengeType {
    /// Whether it can prove an identifier: a wildcard only by DNS (RFC 8555 §7.1.3 leaves it to the server), an address not by
    /// DNS (RFC 8738 §7).
    #[must_use]
    pub fn can_prove(self, identifier: &Identifier) -> bool {
        match identifier {
            Identifier::Dns(_) if identifier.is_wildcard() => matches!(self, Self::Dns01),
            Identifier::Dns(_) => true,
            Identifier::Ip(_) => !matches!(self, Self::Dns01),
        }
    }
}

text_enum! {
    /// Where a challenge stands (RFC 8555 §7.1.6).
    pub enum ChallengeStatus ("challenge status") {
        /// The client has not said yet that it is ready.
        Pending = "pending",
        /// The server looks.
        Processing = "processing",
        /// Proved; terminal.
        Valid = "valid",
        /// Not proved; terminal.
        Invalid = "invalid",
    }
}

impl ChallengeStatus {
    /// Whether a state may follow.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Pending, Self::Processing) | (Self::Processing, Self::Valid | Self::Invalid)
        )
    }
}

/// That the account of an order may have a certificate for an identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The id.
    pub id: AcmeAuthorizationId,
    /// Of which order.
    pub order_id: AcmeOrderId,
    /// For what, without the star.
    pub identifier: Identifier,
    /// Whether the order has it with a star.
    pub wildcard: bool,
    /// Where it stands.
    pub status: AuthorizationStatus,
    /// Until when it may be proved or used.
    pub expires_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// One way to prove an authorisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The id.
    pub id: AcmeChallengeId,
    /// Of which authorisation.
    pub authorization_id: AcmeAuthorizationId,
    /// How.
    pub challenge_type: ChallengeType,
    /// Where it stands.
    pub status: ChallengeStatus,
    /// 32 random bytes as base64url (RFC 8555 §8.1 asks for 128 bits).
    pub token: String,
    /// When it was proved.
    pub validated_at: Option<Timestamp>,
    /// Why it was not.
    pub error: Option<Problem>,
    /// When it was made.
    pub created_at: Timestamp,
}
