//! Accounts, and the keys that bind them to somebody known outside of ACME.

use super::{AcmeAccountId, EabKeyId};
use crate::{
    id::{OwnerId, ProfileId},
    text_enum,
    time::Timestamp,
};

text_enum! {
    /// Where an account stands (RFC 8555 §7.1.6). Nothing leads back from the second and the third.
    pub enum AccountStatus ("account status") {
        /// It may ask.
        Valid = "valid",
        /// Its holder gave it up.
        Deactivated = "deactivated",
        /// An operator took it away.
        Revoked = "revoked",
    }
}

impl AccountStatus {
    /// Whether a state may follow.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Valid, Self::Deactivated | Self::Revoked)
        )
    }
}

/// An account: a key that may order under one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The id.
    pub id: AcmeAccountId,
    /// RFC 7638 thumbprint of the key, SHA-256, base64url without padding; unique for each profile.
    pub thumbprint: String,
    /// The key as it is stored: a PEM block `ACME ACCOUNT JWK` around base64 of the JWK.
    pub jwk_pem: String,
    /// `mailto:` URLs; may be empty.
    pub contact: Vec<String>,
    /// Where it stands.
    pub status: AccountStatus,
    /// Under which profile.
    pub profile_id: ProfileId,
    /// Who owns what it orders; none for the configured owner.
    pub owner_id: Option<OwnerId>,
    /// Whether its holder agreed to the terms of service.
    pub terms_agreed: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A key for external account binding (RFC 8555 §7.3.4). The secret itself is sealed and read apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EabKey {
    /// Its name.
    pub id: EabKeyId,
    /// For accounts of which profile.
    pub profile_id: ProfileId,
    /// Which account it is bound to; none until it is used. It binds one account only.
    pub bound_account_id: Option<AcmeAccountId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked; none while it may be used.
    pub revoked_at: Option<Timestamp>,
}
