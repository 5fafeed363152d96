//! Managed certificates, their versions and the states they go through.

use std::collections::BTreeMap;

use crate::{
    id::{
        CertificateId, CertificateVersionId, IssuerId, OwnerId, ProfileId, RenewalPolicyId,
        TargetId, TeamId,
    },
    name::CommonName,
    revocation::RevocationReason,
    serial::SerialNumber,
    text_enum,
    time::Timestamp,
};

text_enum! {
    /// Where a certificate is in its life (model §5.1).
    pub enum CertificateStatus ("certificate status") {
        /// Known, nothing issued yet.
        Pending = "Pending",
        /// Issued and in date.
        Active = "Active",
        /// Inside its renewal window.
        Expiring = "Expiring",
        /// Past its expiry.
        Expired = "Expired",
        /// A renewal is under way.
        RenewalInProgress = "RenewalInProgress",
        /// The last renewal failed for good.
        Failed = "Failed",
        /// Revoked; terminal.
        Revoked = "Revoked",
        /// Deleted; terminal, the row is kept.
        Archived = "Archived",
    }
}

text_enum! {
    /// By which door a certificate came in.
    pub enum CertificateSource ("certificate source") {
        /// Not said.
        Unset = "",
        /// EST.
        Est = "EST",
        /// SCEP.
        Scep = "SCEP",
        /// The REST API.
        Api = "API",
        /// An agent.
        Agent = "Agent",
        /// ACME.
        Acme = "ACME",
    }
}

/// What happens to a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateEvent {
    /// A renewal is asked for; `force` admits expired ones and a second one while the first is under way.
    Renew {
        /// Whether the caller insists.
        force: bool,
    },
    /// A version was issued.
    Issued,
    /// Its last renewal job failed for good.
    RenewalFailed,
    /// It is revoked.
    Revoke,
    /// It is deleted.
    Archive,
}

/// A state does not admit an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a certificate that is {from} cannot do this")]
pub struct IllegalTransition {
    /// The state it is in.
    pub from: CertificateStatus,
}

impl CertificateStatus {
    /// The state after `event`.
    ///
    /// # Errors
    /// [`IllegalTransition`] where model §5.1 has no such edge.
    pub fn transition(self, event: CertificateEvent) -> Result<Self, IllegalTransition> {
        use CertificateEvent as E;
        match (self, event) {
            (Self::Pending | Self::Active | Self::Expiring | Self::Failed, E::Renew { .. })
            | (Self::RenewalInProgress | Self::Expired, E::Renew { force: true }) => {
                Ok(Self::RenewalInProgress)
            }
            (Self::Revoked | Self::Archived, E::Issued | E::RenewalFailed | E::Revoke)
            | (_, E::Renew { .. }) => Err(IllegalTransition { from: self }),
            (_, E::Issued) => Ok(Self::Active),
            (Self::RenewalInProgress, E::RenewalFailed) => Ok(Self::Failed),
            (_, E::RenewalFailed) => Err(IllegalTransition { from: self }),
            (_, E::Revoke) => Ok(Self::Revoked),
            (_, E::Archive) => Ok(Self::Archived),
        }
    }

    /// The state a certificate falls back to when its renewal is called off: what its expiry says.
    #[must_use]
    pub fn by_expiry(
        expires_at: Option<Timestamp>,
        renew_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        match expires_at {
            None => Self::Pending,
            Some(end) if end <= now => Self::Expired,
            Some(_) if renew_at.is_some_and(|at| at <= now) => Self::Expiring,
            Some(_) => Self::Active,
        }
    }
}

/// A certificate under management: a name that is kept supplied with valid versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The id.
    pub id: CertificateId,
    /// The name, unique.
    pub name: String,
    /// The common name.
    pub common_name: CommonName,
    /// Further names as they were given.
    pub sans: Vec<String>,
    /// Where it is used; may be empty.
    pub environment: String,
    /// Who answers for it.
    pub owner_id: OwnerId,
    /// Which team does.
    pub team_id: TeamId,
    /// Who issues it.
    pub issuer_id: IssuerId,
    /// Where it is deployed.
    pub target_ids: Vec<TargetId>,
    /// How it is renewed.
    pub renewal_policy_id: RenewalPolicyId,
    /// What it may be; none means the defaults.
    pub profile_id: Option<ProfileId>,
    /// Where it is in its life.
    pub status: CertificateStatus,
    /// The end of its latest version.
    pub expires_at: Option<Timestamp>,
    /// When it is due for renewal; none while nothing is issued.
    pub renew_at: Option<Timestamp>,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// When it was last issued.
    pub last_renewal_at: Option<Timestamp>,
    /// When it was last deployed.
    pub last_deployment_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Why.
    pub revocation_reason: Option<RevocationReason>,
    /// By which door it came in.
    pub source: CertificateSource,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// One issued version of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateVersion {
    /// The id.
    pub id: CertificateVersionId,
    /// Whose version it is.
    pub certificate_id: CertificateId,
    /// Who signed it.
    pub issuer_id: IssuerId,
    /// Its serial number.
    pub serial_number: SerialNumber,
    /// The start of its validity.
    pub not_before: Timestamp,
    /// The end of its validity.
    pub not_after: Timestamp,
    /// SHA-256 of the leaf's DER, lowercase hex.
    pub fingerprint_sha256: String,
    /// Leaf first, then the chain.
    pub pem_chain: String,
    /// The request it was issued on; empty where the server made the key.
    pub csr_pem: String,
    /// The family of its key; empty when not known.
    pub key_algorithm: String,
    /// The size of its key in bits; 0 when not known.
    pub key_size: u32,
    /// When it was stored.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::{CertificateEvent as E, CertificateStatus as S};

    #[test]
    fn terminal_states_admit_nothing_but_archiving() {
        for event in [
            E::Renew { force: true },
            E::Issued,
            E::RenewalFailed,
            E::Revoke,
        ] {
            assert!(S::Revoked.transition(event).is_err());
            assert!(S::Archived.transition(event).is_err());
        }
        assert_eq!(S::Revoked.transition(E::Archive), Ok(S::Archived));
    }

    #[test]
    fn force_admits_expired_and_running_renewals_only() {
        for from in [S::Pending, S::Active, S::Expiring, S::Failed] {
            assert_eq!(
                from.transition(E::Renew { force: false }),
                Ok(S::RenewalInProgress)
            );
        }
        for from in [S::Expired, S::RenewalInProgress] {
            assert!(from.transition(E::Renew { force: false }).is_err());
            assert_eq!(
                from.transition(E::Renew { force: true }),
                Ok(S::RenewalInProgress)
            );
        }
    }
}
