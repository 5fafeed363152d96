//! What the HTTP layer can be told.

use std::time::Duration;

use certctl_domain::network::Network;
pub use certctl_service::limits::Rate;

use crate::auth::AuthMode;

/// How the API behaves. `Default` is the contract's defaults.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// How callers prove who they are.
    pub auth_mode: AuthMode,
    /// Most bytes of a request body, where a route does not say less.
    pub max_body_bytes: usize,
    /// How long a request body may take to arrive.
    pub body_read_timeout: Duration,
    /// How long a request may take until its answer begins.
    pub deadline: Duration,
    /// Which origins browsers may call from.
    pub cors: CorsOrigins,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// The global token buckets; none turns them off.
    pub rate_limits: Option<RateLimits>,
    /// The ACME server.
    pub acme: AcmeHttp,
}

/// How the ACME server is served. `Default` is the contract's defaults.
#[derive(Debug, Clone, Default)]
pub struct AcmeHttp {
    /// What URLs start with, without a slash at the end; none for the host that was asked.
    pub base_url: Option<String>,
    /// Who may use it; nobody in it means everybody.
    pub allowed: Vec<Network>,
    /// Requests without a signature of each address in a second; 0 for no limit.
    pub unsigned_per_second: u32,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            auth_mode: AuthMode::ApiKey,
            max_body_bytes: 1_048_576,
            body_read_timeout: Duration::from_secs(30),
            deadline: Duration::from_secs(120),
            cors: CorsOrigins::Listed(Vec::new()),
            trusted_proxies: Vec::new(),
            rate_limits: Some(RateLimits::default()),
            acme: AcmeHttp::default(),
        }
    }
}

/// Which origins get CORS headers (api §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Exactly these; with none, no CORS header is ever sent.
    Listed(Vec<String>),
    /// All of them; settings refuse this outside a demo.
    Any,
}

/// The global token buckets (api §6).
#[derive(Debug, Clone, Copy)]
pub struct RateLimits {
    /// For each client address, before authentication.
    pub client: Rate,
    /// For each actor, after it.
    pub user: Rate,
    /// How long a bucket nobody takes from is remembered.
    pub idle_ttl: Duration,
}

impl Default for RateLimits {
    fn default() -> Self {
        let rate = Rate {
            per_second: 50.0,
            burst: 100.0,
        };
        Self {
            client: rate,
            user: rate,
            idle_ttl: Duration::from_secs(3600),
        }
    }
}
