use std::time::Duration;

use certctl_domain::{profile::AcmeAuthMode, time::Timestamp};

use super::AcmeServerSettings;
use crate::{Error, MapEnv, Settings, Sources};

const NOW: Timestamp = Timestamp::from_seconds(1_795_219_200);

fn load(pairs: &[(&str, &str)]) -> Result<AcmeServerSettings, Error> {
    let pairs: Vec<(String, &str)> = pairs
        .iter()
        .map(|(name, value)| (format!("CERTCTL_{name}"), *value))
        .collect();
    let env: MapEnv = pairs
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    Settings::load(&Sources::from_env(&env, NOW)).map(|loaded| loaded.settings.acme)
}

fn shown(networks: &[crate::Network]) -> Vec<String> {
    networks.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_configured_is_acme_for_this_machine_alone() {
    let acme = load(&[]).unwrap();
    assert!(acme.enabled && acme.by_default);
    assert_eq!(shown(&acme.allowed), ["127.0.0.0/8", "::1/128"]);
}

#[test]
fn whoever_configures_a_database_or_an_address_decides_about_acme() {
    for configured in [
        ("DATABASE_URL", "sqlite:///var/lib/certctl/certctl.db"),
        ("SERVER_HOST", "0.0.0.0"),
    ] {
        let acme = load(&[configured]).unwrap();
        assert!(!acme.enabled && !acme.by_default, "{configured:?}");
        let acme = load(&[configured, ("ACME_SERVER_ENABLED", "true")]).unwrap();
        assert!(acme.enabled && !acme.by_default && acme.allowed.is_empty());
    }
    let acme = load(&[("ACME_SERVER_ENABLED", "true")]).unwrap();
    assert!(acme.enabled && !acme.by_default && acme.allowed.is_empty());
    let acme = load(&[("ACME_SERVER_ENABLED", "false")]).unwrap();
    assert!(!acme.enabled);
    let acme = load(&[("ACME_SERVER_ALLOWED_CIDRS", "10.0.0.0/8")]).unwrap();
    assert!(acme.enabled, "narrower or wider, it stays on");
    assert_eq!(shown(&acme.allowed), ["10.0.0.0/8"]);
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let acme = load(&[]).unwrap();
    assert_eq!(acme.default_auth_mode, AcmeAuthMode::TrustAuthenticated);
    assert_eq!(acme.nonce_ttl, Duration::from_secs(300));
    assert_eq!(acme.order_ttl, Duration::from_secs(86_400));
    assert_eq!(acme.authorization_ttl, Duration::from_secs(86_400));
    assert_eq!(acme.gc_interval, Some(Duration::from_secs(60)));
    assert_eq!(acme.order_retention, Duration::from_secs(90 * 86_400));
    assert_eq!(acme.ari_poll_interval, Duration::from_secs(21_600));
    assert!(acme.ari_enabled && !acme.eab_required);
    let validation = &acme.validation;
    assert_eq!(
        (validation.http01_concurrency, validation.dns01_concurrency),
        (10, 10)
    );
    assert_eq!(validation.tls_alpn01_concurrency, 10);
    assert_eq!(validation.resolver.to_string(), "8.8.8.8:53");
    assert_eq!((validation.http_port, validation.tls_port), (80, 443));
    assert!(validation.allowed.is_empty() && !validation.block_private);
    let limits = acme.limits;
    assert_eq!(
        (
            limits.orders_per_hour,
            limits.concurrent_orders,
            limits.key_changes_per_hour,
            limits.challenge_responds_per_hour,
            limits.new_accounts_per_hour,
            limits.unsigned_per_second
        ),
        (100, 5, 5, 60, 10, 0)
    );
}

#[test]
fn what_is_out_of_bounds_stops_the_start_and_names_the_variable() {
    for (name, value) in [
        ("DEFAULT_AUTH_MODE", "none"),
        ("DEFAULT_PROFILE_ID", "a b"),
        ("NONCE_TTL", "0s"),
        ("ORDER_TTL", "0"),
        ("AUTHZ_TTL", "0"),
        ("ARI_POLL_INTERVAL", "0"),
        ("DNS01_RESOLVER", "8.8.8.8"),
        ("DNS01_RESOLVER", "8.8.8.8:0"),
        ("DNS01_RESOLVER", "resolver.example:53"),
        ("VALIDATION_ALLOWED_CIDRS", "loopback"),
        ("HTTP01_PORT", "0"),
        ("RATE_LIMIT_ORDERS_PER_HOUR", "-1"),
        ("GC_INTERVAL", "10ms"),
        ("ORDER_RETENTION", "0"),
        ("TOS_URL", "ftp://a"),
        ("TOS_URL", "https://a>;rel=\"x\""),
        ("WEBSITE", "https://"),
        ("CAA_IDENTITIES", "a b"),
        ("BASE_URL", "http://ca.example"),
        ("ALLOWED_CIDRS", "10.0.0.0/33"),
        ("OFFERED_PROFILES", "prof-a"),
    ] {
        let error = load(&[(&format!("ACME_SERVER_{name}"), value)])
            .expect_err(value)
            .to_string();
        assert!(
            error.contains(&format!("CERTCTL_ACME_SERVER_{name}")),
            "{error}"
        );
        assert_eq!(error.lines().count(), 2, "{error}");
    }
}

#[test]
fn numbers_and_lists_are_read_as_the_contract_says() {
    let acme = load(&[
        ("ACME_SERVER_HTTP01_CONCURRENCY", "0"),
        ("ACME_SERVER_DNS01_CONCURRENCY", "-3"),
        ("ACME_SERVER_TLSALPN01_CONCURRENCY", "2"),
        ("ACME_SERVER_GC_INTERVAL", "0"),
        ("ACME_SERVER_DEFAULT_PROFILE_ID", "prof-a"),
        ("ACME_SERVER_OFFERED_PROFILES", "prof-b, prof-c"),
        ("ACME_SERVER_CAA_IDENTITIES", "ca.example,other.example"),
        ("ACME_SERVER_BASE_URL", "https://ca.example/"),
        ("ACME_SERVER_DNS01_RESOLVER", "[2001:db8::53]:53"),
    ])
    .unwrap();
    let validation = &acme.validation;
    assert_eq!(
        [
            validation.http01_concurrency,
            validation.dns01_concurrency,
            validation.tls_alpn01_concurrency
        ],
        [10, 10, 2]
    );
    assert!(acme.gc_interval.is_none());
    assert_eq!(acme.offered_profiles.len(), 2);
    assert_eq!(acme.caa_identities, ["ca.example", "other.example"]);
    assert_eq!(acme.base_url.as_deref(), Some("https://ca.example"));
}
