//! Agents: the programs on the hosts that hold the keys.

use std::time::Duration;

use crate::{id::AgentId, text_enum, time::Timestamp};

text_enum! {
    /// Whether an agent is heard of.
    pub enum AgentStatus ("agent status") {
        /// It sends heartbeats.
        Online = "Online",
        /// It does not.
        Offline = "Offline",
        /// Accepted on input, set by nothing.
        Degraded = "Degraded",
    }
}

/// Agents that stand for the server's own scanners; they never retire and never go offline.
pub const SENTINELS: [&str; 4] = [
    "server-scanner",
    "cloud-aws-sm",
    "cloud-azure-kv",
    "cloud-gcp-sm",
];

/// How old a heartbeat may be for a deployment to be tried (agent §8).
pub const DEPLOYABLE_WITHIN: Duration = Duration::from_secs(300);

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The id.
    pub id: AgentId,
    /// The name, unique.
    pub name: String,
    /// The host it runs on.
    pub hostname: String,
    /// Whether it is heard of.
    pub status: AgentStatus,
    /// When it was last heard of.
    pub last_heartbeat_at: Option<Timestamp>,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// The operating system; may be empty.
    pub os: String,
    /// The architecture; may be empty.
    pub architecture: String,
    /// The address; may be empty.
    pub ip_address: String,
    /// The version of the program; may be empty.
    pub version: String,
    /// When it was retired.
    pub retired_at: Option<Timestamp>,
    /// Why.
    pub retired_reason: Option<String>,
}

impl Agent {
    /// Whether this is one of the server's own.
    #[must_use]
    pub fn is_sentinel(&self) -> bool {
        SENTINELS.contains(&self.id.as_str())
    }

    /// Whether it was heard of recently enough to be given a deployment.
    #[must_use]
    pub fn is_deployable(&self, now: Timestamp) -> bool {
        self.retired_at.is_none()
            && self
                .last_heartbeat_at
                .is_some_and(|at| now.since(at) <= DEPLOYABLE_WITHIN)
    }
}

/// What an agent says of itself with a heartbeat; empty fields change nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentReport {
    /// The version of the program.
    pub version: String,
    /// The host.
    pub hostname: String,
    /// The operating system.
    pub os: String,
    /// The architecture.
    pub architecture: String,
    /// The address.
    pub ip_address: String,
}

/// What stands in the way of retiring an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AgentDependencies {
    /// Targets that are not retired.
    pub active_targets: i64,
    /// Certificates mapped to one of them and not archived or revoked.
    pub active_certificates: i64,
    /// Open jobs for it.
    pub pending_jobs: i64,
}

impl AgentDependencies {
    /// Whether nothing stands in the way.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.active_targets == 0 && self.active_certificates == 0 && self.pending_jobs == 0
    }
}
