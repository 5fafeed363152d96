//! Settings of each crate from the settings of the program.

pub(crate) mod acme;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use certctl_domain::secret::Secret;
use certctl_http::{
    AuthMode, CorsOrigins, HttpSettings, Network, Rate, RateLimits, tls::ServeLimits,
};
use certctl_pki::seal::Sealer;
use certctl_repository::DbOptions;
use certctl_scheduler::Intervals;
use certctl_service::status::StatusConfig;
use certctl_service::{
    config::{AuditConfig, ConfiguredKey, KeygenMode, ServiceConfig, VerifyDefaults},
    limits::LimitsConfig,
};
use certctl_settings::{
    AuditHeartbeats, AuthType, DatabaseUrl, KeygenMode as KeygenSetting, RateLimitBackend, Settings,
};

/// The share of the time for a shutdown that the loops have, and then the requests in flight; the rest is for what is written
/// last.
pub(crate) const LOOPS_SHARE: f64 = 0.55;
const REQUESTS_SHARE: f64 = 0.35;
/// Until which share of the time ACME challenges are waited for, after the loops.
pub(crate) const CHALLENGES_END: f64 = 0.6;

/// How long a request waits for a connection to the database.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn database_url(settings: &Settings) -> Secret {
    match &settings.database.url {
        DatabaseUrl::Sqlite { path } => Secret::new(format!("sqlite://{}", path.display())),
        DatabaseUrl::Postgres(postgres) => postgres.url.clone(),
    }
}

/// What seals secrets at rest; none without a key.
pub(crate) fn sealer(settings: &Settings) -> Option<Arc<Sealer>> {
    let keys = &settings.encryption;
    let key = keys.key.as_ref()?;
    Some(Arc::new(
        Sealer::new(key).with_previous(keys.previous.as_ref()),
    ))
}

pub(crate) fn database(settings: &Settings) -> DbOptions {
    DbOptions {
        url: database_url(settings),
        max_connections: settings.database.max_connections as usize,
        acquire_timeout: ACQUIRE_TIMEOUT,
    }
}

pub(crate) fn service(
    settings: &Settings,
    instance: &str,
    agent_bootstrap_token: Option<Secret>,
) -> ServiceConfig {
    let auth = &settings.auth;
    let named = auth.named_keys.iter().map(|key| ConfiguredKey {
        name: key.name.clone(),
        key: key.key.clone(),
        admin: key.admin,
    });
    // Keys without a name are administrators' (api §3: otherwise the load test's key could not write).
    let legacy = auth
        .secrets
        .iter()
        .enumerate()
        .map(|(number, key)| ConfiguredKey {
            name: format!("legacy-key-{number}"),
            key: key.clone(),
            admin: true,
        });
    ServiceConfig {
        instance: instance.to_owned(),
        auth_none: auth.auth_type == AuthType::None,
        api_keys: named.chain(legacy).collect(),
        agent_bootstrap_token,
        bootstrap_token: auth.bootstrap_token.clone(),
        runtime: runtime(settings),
        keygen_mode: match settings.features.keygen_mode {
            KeygenSetting::Agent => KeygenMode::Agent,
            KeygenSetting::Server => KeygenMode::Server,
        },
        verify: VerifyDefaults {
            enabled: settings.features.verify.enabled,
            timeout: settings.features.verify.timeout,
            delay: settings.features.verify.delay,
        },
        claim_limit: settings.jobs.claim_limit,
        concurrency: settings.jobs.concurrency,
        batch: settings.jobs.batch_size,
        lease: settings.jobs.lease_ttl,
        agent_offline_after: settings.scheduler.agent_offline_after,
        awaiting_csr_timeout: settings.jobs.awaiting_csr_timeout,
        awaiting_approval_timeout: settings.jobs.awaiting_approval_timeout,
        approval_bypass: settings.jobs.approval_bypass,
        exports_per_hour: settings.rate_limit.exports_per_actor_hour.unwrap_or(0),
        limits: LimitsConfig {
            shared: settings.rate_limit.backend == RateLimitBackend::Postgres,
            bucket_ttl: settings.rate_limit.bucket_ttl,
        },
        status: StatusConfig {
            crl_interval: settings.status.crl_interval,
            responder_validity: settings.status.responder_validity,
            responder_grace: settings.status.responder_grace,
            ocsp_per_minute: settings.status.ocsp_per_minute,
        },
        audit: AuditConfig {
            sample_heartbeats: settings.features.audit_heartbeats == AuditHeartbeats::Sampled,
            lease_ttl: settings.scheduler.lease_ttl,
            ..AuditConfig::default()
        },
        acme: acme::service(settings),
    }
}

/// What `GET /api/v1/auth/runtime-config` shows (api §10.2). Of what this program does not do yet, the contract's defaults.
fn runtime(settings: &Settings) -> BTreeMap<String, String> {
    let auth = &settings.auth;
    let auth_type = match auth.auth_type {
        AuthType::ApiKey => AuthMode::ApiKey,
        AuthType::None => AuthMode::None,
    };
    let proxies = settings.server.trusted_proxies.len().to_string();
    [
        ("CERTCTL_AUTH_TYPE", auth_type.as_str()),
        ("CERTCTL_SESSION_SAMESITE", "Lax"),
        ("CERTCTL_OIDC_BCL_MAX_AGE_SECONDS", "60"),
        ("CERTCTL_OIDC_PRELOGIN_REQUIRE_UA", "true"),
        ("CERTCTL_OIDC_PRELOGIN_REQUIRE_IP", "true"),
        ("CERTCTL_BREAKGLASS_ENABLED", "false"),
        ("CERTCTL_BREAKGLASS_LOCKOUT_THRESHOLD", "5"),
        ("CERTCTL_DEMO_MODE_ACK", yes_or_no(auth.demo)),
        ("CERTCTL_TRUSTED_PROXIES_COUNT", &proxies),
        (
            "CERTCTL_BOOTSTRAP_TOKEN_SET",
            yes_or_no(auth.bootstrap_token.is_some()),
        ),
        ("CERTCTL_BOOTSTRAP_OIDC_PROVIDER_ID", ""),
        ("CERTCTL_BOOTSTRAP_ADMIN_GROUPS_COUNT", "0"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

const fn yes_or_no(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

pub(crate) fn intervals(settings: &Settings) -> Intervals {
    Intervals {
        renewal_check: settings.scheduler.renewal_check,
        job_processor: settings.scheduler.job_processor,
        job_retry: settings.scheduler.job_retry,
        job_timeout: settings.scheduler.job_timeout,
        agent_health_check: settings.scheduler.agent_health_check,
        approval_expiry: settings.scheduler.approval_expiry,
        crl_generation: settings.status.crl_interval,
        short_lived_expiry: settings.scheduler.short_lived_expiry_check,
        rate_limit_gc: settings.rate_limit.janitor_interval,
        audit_chain_verify: settings.scheduler.audit_chain_verify,
        acme_gc: settings.acme.gc_interval,
    }
}

pub(crate) fn http(settings: &Settings) -> HttpSettings {
    let limits = &settings.rate_limit;
    let rate = |rate: certctl_settings::Rate| Rate {
        per_second: f64::from(rate.per_second),
        burst: f64::from(rate.burst),
    };
    let origins = &settings.server.cors_origins;
    HttpSettings {
        auth_mode: match settings.auth.auth_type {
            AuthType::ApiKey => AuthMode::ApiKey,
            AuthType::None => AuthMode::None,
        },
        max_body_bytes: usize::try_from(settings.server.max_body_size).unwrap_or(usize::MAX),
        cors: if origins.iter().any(|origin| origin == "*") {
            CorsOrigins::Any
        } else {
            CorsOrigins::Listed(origins.clone())
        },
        trusted_proxies: settings
            .server
            .trusted_proxies
            .iter()
            .filter_map(same)
            .collect(),
        rate_limits: limits.enabled.then(|| RateLimits {
            client: rate(limits.per_address),
            user: rate(limits.per_user),
            idle_ttl: limits.bucket_ttl,
        }),
        acme: acme::http(settings),
        ..HttpSettings::default()
    }
}

/// The same network as the type that everything but settings shares; what settings read can be read again.
fn same(network: &certctl_settings::Network) -> Option<Network> {
    network.to_string().parse().ok()
}

pub(crate) fn serve_limits(settings: &Settings) -> ServeLimits {
    ServeLimits {
        drain_within: settings.server.shutdown_timeout.mul_f64(REQUESTS_SHARE),
        ..ServeLimits::default()
    }
}

/// The configuration of `iss-local` as the settings give it.
pub(crate) fn local_ca(settings: &Settings) -> serde_json::Value {
    match &settings.local_ca.files {
        Some(files) => {
            serde_json::json!({"ca_cert_path": files.certificate, "ca_key_path": files.key})
        }
        None => serde_json::json!({}),
    }
}

/// The host as it stands in a URL.
pub(crate) fn url_host(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => "localhost".to_owned(),
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => host.to_owned(),
    }
}
