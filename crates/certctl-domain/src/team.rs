//! Teams: who is responsible.

use crate::{id::TeamId, time::Timestamp};

/// A team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    /// The id.
    pub id: TeamId,
    /// The name, unique.
    pub name: String,
    /// What the team does; may be empty.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}
