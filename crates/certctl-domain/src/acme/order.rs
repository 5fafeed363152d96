//! Orders and their states.

use super::{AcmeAccountId, AcmeOrderId, Identifier, Problem};
use crate::{
    id::{CertificateId, IssuerId, JobId, ProfileId},
    profile::AcmeAuthMode,
    text_enum,
    time::Timestamp,
};

text_enum! {
    /// Where an order stands (RFC 8555 §7.1.6).
    pub enum OrderStatus ("order status") {
        /// Authorisations are still to be proved.
        Pending = "pending",
        /// It may be finalised.
        Ready = "ready",
        /// The certificate is being issued.
        Processing = "processing",
        /// The certificate is there; terminal.
        Valid = "valid",
        /// It came to nothing; terminal.
        Invalid = "invalid",
    }
}

impl OrderStatus {
    /// States in which an order counts towards the orders an account may have open.
    pub const OPEN: [Self; 3] = [Self::Pending, Self::Ready, Self::Processing];

    /// Whether a state may follow.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Pending, Self::Ready | Self::Invalid)
                // At once where the CA in this process has signed before anything is written.
                | (Self::Ready, Self::Processing | Self::Valid | Self::Invalid)
                | (Self::Processing, Self::Valid | Self::Invalid)
        )
    }
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The id.
    pub id: AcmeOrderId,
    /// Whose it is.
    pub account_id: AcmeAccountId,
    /// Under which profile it is issued; that of the account, or one the client chose (draft-ietf-acme-profiles).
    pub profile_id: ProfileId,
    /// Who is to sign; decided when it was made, so that a later change of the profile does not reach it.
    pub issuer_id: IssuerId,
    /// How its identifiers are authorised; decided when it was made.
    pub auth_mode: AcmeAuthMode,
    /// What for, sorted and without duplicates.
    pub identifiers: Vec<Identifier>,
    /// Where it stands.
    pub status: OrderStatus,
    /// Until when it may be finalised.
    pub expires_at: Timestamp,
    /// The start of validity the client asked for.
    pub not_before: Option<Timestamp>,
    /// The end of validity the client asked for.
    pub not_after: Option<Timestamp>,
    /// Why it is invalid.
    pub error: Option<Problem>,
    /// The request it was finalised with.
    pub csr_pem: Option<String>,
    /// The certificate that it leads to, from when it was finalised.
    pub certificate_id: Option<CertificateId>,
    /// The job that issues it, from when it was finalised.
    pub job_id: Option<JobId>,
    /// The certificate it replaces, as the client named it (RFC 9773 §5).
    pub replaces: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}
