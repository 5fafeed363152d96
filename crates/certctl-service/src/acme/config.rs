//! How the ACME server behaves, and what it looks out with.

use std::{sync::Arc, time::Duration};

use certctl_domain::{
    id::{IssuerId, OwnerId, ProfileId, RenewalPolicyId, TeamId},
    ports::challenge::{CaaChecker, ChallengeValidator},
    profile::AcmeAuthMode,
    secret::Secret,
};

/// How the ACME server behaves (acme-server §13).
#[derive(Debug, Clone)]
pub struct AcmeConfig {
    /// The profile of the routes that name none.
    pub default_profile: Option<ProfileId>,
    /// The origin that URLs begin with, where it is set; otherwise they begin with the host that was asked.
    pub base_url: Option<String>,
    /// Profiles that orders on those routes may choose, besides the default one (draft-ietf-acme-profiles).
    pub offered_profiles: Vec<ProfileId>,
    /// How profiles authorise that do not say.
    pub default_auth_mode: AcmeAuthMode,
    /// How long a nonce may be used.
    pub nonce_ttl: Duration,
    /// What the key of nonces is derived from, the same at all replicas; none to keep one in the database.
    pub nonce_secret: Option<Secret>,
    /// How long an order may take.
    pub order_ttl: Duration,
    /// How long a proof is good.
    pub authz_ttl: Duration,
    /// Proofs by `http-01` that are looked at together.
    pub http01_concurrency: usize,
    /// Proofs by `dns-01` that are looked at together.
    pub dns01_concurrency: usize,
    /// Proofs by `tls-alpn-01` that are looked at together.
    pub tlsalpn01_concurrency: usize,
    /// Challenges of a type that may wait to be looked at; at least 1.
    pub challenge_queue: usize,
    /// How long a challenge may take, from when it is taken up, waiting and all tries included.
    pub challenge_timeout: Duration,
    /// How long to wait before each try.
    pub challenge_tries: Vec<Duration>,
    /// How long finalising waits for the certificate before it answers `processing`.
    pub finalize_wait: Duration,
    /// Failures in a row after which a name is paused for an account; 0 for never.
    pub pause_after: u32,
    /// Whether renewal information is served (RFC 9773).
    pub ari_enabled: bool,
    /// How often clients are to ask for it.
    pub ari_poll_interval: Duration,
    /// Orders an account may make in an hour; 0 for no limit.
    pub orders_per_hour: u32,
    /// Orders an account may have open; 0 for no limit.
    pub concurrent_orders: u32,
    /// Key changes of an account in an hour; 0 for no limit.
    pub key_changes_per_hour: u32,
    /// Responses to one challenge in an hour; 0 for no limit.
    pub challenge_responds_per_hour: u32,
    /// Accounts made from one address in an hour; 0 for no limit.
    pub new_accounts_per_hour: u32,
    /// Where the terms of service are, to which accounts must agree.
    pub terms_url: Option<String>,
    /// Where more is said about the server.
    pub website: Option<String>,
    /// What CAA records call the server.
    pub caa_identities: Vec<String>,
    /// Whether accounts must be bound to somebody known.
    pub eab_required: bool,
    /// Who owns certificates of accounts without an owner.
    pub owner: Option<OwnerId>,
    /// Which team they are of.
    pub team: Option<TeamId>,
    /// Under which policy.
    pub renewal_policy: Option<RenewalPolicyId>,
    /// Who signs where the profile does not say.
    pub issuer: Option<IssuerId>,
    /// How long orders are kept that have ended.
    pub retention: Duration,
    /// Batches of orders that a process has issued elsewhere at a time as soon as they are committed. What comes beyond them is left to
    /// the processor of jobs, as everything is with 0, what the CA in this process signs included.
    pub lanes: usize,
}

impl Default for AcmeConfig {
    fn default() -> Self {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        Self {
            default_profile: None,
            base_url: None,
            offered_profiles: Vec::new(),
            default_auth_mode: AcmeAuthMode::TrustAuthenticated,
            nonce_ttl: 5 * minute,
            nonce_secret: None,
            order_ttl: 24 * hour,
            authz_ttl: 24 * hour,
            http01_concurrency: 10,
            dns01_concurrency: 10,
            tlsalpn01_concurrency: 10,
            challenge_queue: 1000,
            challenge_timeout: Duration::from_secs(30),
            challenge_tries: [0, 5, 15].map(Duration::from_secs).to_vec(),
            finalize_wait: Duration::from_secs(5),
            pause_after: 15,
            ari_enabled: true,
            ari_poll_interval: 6 * hour,
            orders_per_hour: 100,
            concurrent_orders: 5,
            key_changes_per_hour: 5,
            challenge_responds_per_hour: 60,
            new_accounts_per_hour: 10,
            terms_url: None,
            website: None,
            caa_identities: Vec::new(),
            eab_required: false,
            owner: None,
            team: None,
            renewal_policy: None,
            issuer: None,
            retention: 90 * 24 * hour,
            lanes: 64,
        }
    }
}

/// What the ACME server looks out with.
#[derive(Clone, Default)]
pub struct AcmePorts {
    /// Looks whether a proof is there; without it no challenge can be met.
    pub validator: Option<Arc<dyn ChallengeValidator>>,
    /// Reads CAA records; none where they are not asked.
    pub caa: Option<Arc<dyn CaaChecker>>,
}
