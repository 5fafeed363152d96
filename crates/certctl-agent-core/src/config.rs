//! What an agent is told when it is made.

use std::{path::PathBuf, time::Duration};

use certctl_domain::{id::AgentId, secret::Secret};

/// Where the server is, and how it is known to be the right one.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// `https://host[:port]`, without a path.
    pub url: String,
    /// Roots in PEM; none means those of the system.
    pub ca_bundle: Option<PathBuf>,
    /// Whether anybody may answer in the server's place. Only ever for trying something out.
    pub insecure_skip_verify: bool,
    /// The version of the program, for `User-Agent` and heartbeats.
    pub version: String,
}

/// As whom the agent comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The id that the registration answered with.
    pub agent_id: AgentId,
    /// The key that it answered with.
    pub api_key: Secret,
}

/// Everything an agent needs to know.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Where the server is.
    pub server: ServerConfig,
    /// As whom the agent comes.
    pub identity: Identity,
    /// The name by which people know it.
    pub name: String,
    /// Where private keys lie; made with mode 0700.
    pub key_dir: PathBuf,
    /// How often it says that it is there.
    pub heartbeat_interval: Duration,
    /// How often it asks for work.
    pub poll_interval: Duration,
    /// The longest random delay before a loop begins; none means the interval of the loop.
    pub start_delay: Option<Duration>,
    /// What is set here in place of what the server sends.
    pub overrides: Overrides,
}

/// Values set on the agent in place of what comes with the work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Whether deployments are verified.
    pub verify: Option<bool>,
    /// The limit of one handshake.
    pub verify_timeout: Option<Duration>,
    /// The pause between deployment and verification.
    pub verify_delay: Option<Duration>,
    /// How many backups are kept, where the target does not say: 0 means 3, a negative number none.
    pub backup_retention: Option<i64>,
}

/// How often an agent says that it is there, where nothing else is set (agent §2).
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(60);
/// How often it asks for work, where nothing else is set (agent §2).
pub const POLL_INTERVAL: Duration = Duration::from_secs(30);
