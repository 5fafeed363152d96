//! Owners: the person or mailbox that answers for a certificate.

use crate::{
    id::{OwnerId, TeamId},
    time::Timestamp,
};

/// An owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The id.
    pub id: OwnerId,
    /// The name.
    pub name: String,
    /// Where mail goes; may be empty.
    pub email: String,
    /// The team the owner belongs to.
    pub team_id: TeamId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}
