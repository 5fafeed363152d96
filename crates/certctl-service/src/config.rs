//! What the use cases are told once, at the start.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use certctl_domain::{
    ports::{
        issuer::{IssuerFactory, ResponderKeyFiles},
        vault::Vault,
    },
    secret::Secret,
    text_enum,
    time::Clock,
};
use certctl_pki::seal::Sealer;
use certctl_repository::Db;

use crate::acme::{AcmeConfig, AcmePorts};
use crate::limits::LimitsConfig;
use crate::status::StatusConfig;

text_enum! {
    /// Who makes the private keys.
    pub enum KeygenMode ("key generation mode") {
        /// The agents, on the hosts that serve them.
        Agent = "agent",
        /// The server; for demonstrations only.
        Server = "server",
    }
}

/// An API key that the configuration names.
#[derive(Debug, Clone)]
pub struct ConfiguredKey {
    /// The actor's id.
    pub name: String,
    /// The key.
    pub key: Secret,
    /// Whether it was marked as an administrator's: then it holds `r-admin`, otherwise `r-viewer`.
    pub admin: bool,
}

/// How agents look at what they deployed, unless a target says otherwise.
#[derive(Debug, Clone, Copy)]
pub struct VerifyDefaults {
    /// Whether they look at all.
    pub enabled: bool,
    /// How long a look may take.
    pub timeout: Duration,
    /// How long to wait before it.
    pub delay: Duration,
}

/// How the audit trail is kept.
#[derive(Debug, Clone, Copy)]
pub struct AuditConfig {
    /// Whether heartbeats that were accepted leave one row for each agent and hour only.
    pub sample_heartbeats: bool,
    /// Calls of the API that may wait to be written; more make their callers wait.
    pub queue: usize,
    /// How long the replica that seals leads without a sign of life.
    pub lease_ttl: Duration,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            sample_heartbeats: false,
            queue: 10_000,
            lease_ttl: Duration::from_secs(30),
        }
    }
}

/// How the use cases behave.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// Who this process is: host, process id and random digits.
    pub instance: String,
    /// Whether everybody is an administrator (`CERTCTL_AUTH_TYPE=none`).
    pub auth_none: bool,
    /// Keys from the configuration.
    pub api_keys: Vec<ConfiguredKey>,
    /// What agents register with.
    pub agent_bootstrap_token: Option<Secret>,
    /// What makes the first administrator over the API, once.
    pub bootstrap_token: Option<Secret>,
    /// What of the configuration is shown to administrators, by variable; never a secret.
    pub runtime: BTreeMap<String, String>,
    /// Who makes the keys.
    pub keygen_mode: KeygenMode,
    /// How agents look at what they deployed.
    pub verify: VerifyDefaults,
    /// Jobs claimed at a time, at the most.
    pub claim_limit: u32,
    /// Batches worked on at a time.
    pub concurrency: u32,
    /// Requests to one issuer in one batch.
    pub batch: u32,
    /// How long a claimed job is held without a sign of life.
    pub lease: Duration,
    /// Silence after which an agent is offline.
    pub agent_offline_after: Duration,
    /// How long a job waits for a request.
    pub awaiting_csr_timeout: Duration,
    /// How long a job waits for approval.
    pub awaiting_approval_timeout: Duration,
    /// Whether what needs a second person is approved at once.
    pub approval_bypass: bool,
    /// Exports an actor may make in an hour; 0 for no limit.
    pub exports_per_hour: u32,
    /// How limits are counted.
    pub limits: LimitsConfig,
    /// How CRLs and OCSP are served.
    pub status: StatusConfig,
    /// How the audit trail is kept.
    pub audit: AuditConfig,
    /// How the ACME server behaves; none where it is switched off.
    pub acme: Option<AcmeConfig>,
}

/// What the use cases work with.
pub struct Dependencies {
    /// The database.
    pub db: Db,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Seals secrets at rest; none when no encryption key is set.
    pub sealer: Option<Arc<Sealer>>,
    /// Connects to CAs.
    pub issuers: Arc<dyn IssuerFactory>,
    /// Keeps the keys of OCSP responders in files; none to keep them in the database, sealed.
    pub responder_keys: Option<Arc<dyn ResponderKeyFiles>>,
    /// Keeps what must lie outside of the database.
    pub vault: Arc<dyn Vault>,
    /// What the ACME server looks out with.
    pub acme: AcmePorts,
    /// How to behave.
    pub config: ServiceConfig,
}
