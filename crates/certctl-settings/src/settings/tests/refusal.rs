//! What is refused, and in which words.

use super::*;

#[test]
fn all_problems_are_reported_together_and_by_name() {
    let found = problems(load(&[
        ("CERTCTL_SERVER_PORT", "99999"),
        ("CERTCTL_LOG_LEVEL", "loud"),
        ("CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL", "10s"),
        ("CERTCTL_RATE_LIMIT_ENABLED", ""),
        ("CERTCTL_TRUSTED_PROXIES", "10.0.0.0/8,proxy"),
        ("CERTCTL_CONFIG_ENCRYPTION_KEY", "canary"),
        ("CERTCTL_KEYGEN_MODE", "server"),
    ]));
    assert_eq!(
        found,
        [
            "CERTCTL_SERVER_PORT: \"99999\" is not a port (1 to 65535)",
            "CERTCTL_TRUSTED_PROXIES: \"10.0.0.0/8,proxy\" has a wrong entry 2: is not an address with a prefix length",
            "CERTCTL_RATE_LIMIT_ENABLED: \"\" is not a truth value (true, 1, yes, false, 0 or no)",
            "CERTCTL_LOG_LEVEL: \"loud\" is not one of debug, info, warn, error",
            "CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL: \"10s\" is not a duration of at least 1m (300ms, 10s, 5m, 7h30m)",
            "CERTCTL_CONFIG_ENCRYPTION_KEY: the value (redacted) is not a secret of at least 32 bytes",
            "CERTCTL_KEYGEN_MODE: server sends private keys over the network; it needs CERTCTL_DEMO_MODE_ACK=true",
        ]
    );
}

#[test]
fn intervals_below_the_minima_are_refused() {
    let minima = [
        ("CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL", "59s", "1m"),
        ("CERTCTL_SCHEDULER_JOB_PROCESSOR_INTERVAL", "999ms", "1s"),
        ("CERTCTL_SCHEDULER_RETRY_INTERVAL", "0", "1s"),
        ("CERTCTL_JOB_TIMEOUT_INTERVAL", "0s", "1s"),
        (
            "CERTCTL_SCHEDULER_AGENT_HEALTH_CHECK_INTERVAL",
            "999ms",
            "1s",
        ),
        ("CERTCTL_SHORT_LIVED_EXPIRY_CHECK_INTERVAL", "999ms", "1s"),
        ("CERTCTL_RATE_LIMIT_JANITOR_INTERVAL", "59s", "1m"),
        ("CERTCTL_RATE_LIMIT_BUCKET_TTL", "59s", "1m"),
        ("CERTCTL_AUDIT_CHAIN_VERIFY_INTERVAL", "59s", "1m"),
        ("CERTCTL_RETENTION_INTERVAL", "59s", "1m"),
        ("CERTCTL_SCHEDULER_LEASE_TTL", "4s", "5s"),
    ];
    for (variable, below, minimum) in minima {
        refused(
            &[(variable, below)],
            &format!(
                "{variable}: \"{below}\" is not a duration of at least {minimum} (300ms, 10s, 5m, 7h30m)"
            ),
        );
        assert!(load(&[(variable, minimum)]).is_ok(), "{variable}={minimum}");
    }
}

#[test]
fn a_database_without_tls_is_warned_about_or_refused() {
    let url = (
        "CERTCTL_DATABASE_URL",
        "postgres://u:p@db.example/d?sslmode=disable",
    );
    let warnings = with_postgres(&[url]).unwrap().warnings;
    assert_eq!(
        warnings,
        [Warning::DatabaseWithoutTls {
            host: "db.example".to_owned()
        }]
    );
    assert_eq!(
        problems(with_postgres(&[
            url,
            ("CERTCTL_DATABASE_TLS_STRICT", "true")
        ])),
        [
            "CERTCTL_DATABASE_URL: sslmode=disable to db.example is refused by CERTCTL_DATABASE_TLS_STRICT"
        ]
    );
    assert!(
        with_postgres(&[("CERTCTL_DATABASE_TLS_STRICT", "true")])
            .unwrap()
            .warnings
            .is_empty()
    );
}

#[test]
fn postgres_asks_for_what_the_embedded_default_makes_itself() {
    let url = [POSTGRES[0]];
    assert_eq!(
        problems(load(&url)),
        [
            "CERTCTL_SERVER_TLS_CERT_PATH: is required; replicas may share a PostgreSQL, so none is made for it: give it with CERTCTL_SERVER_TLS_KEY_PATH, or set CERTCTL_SERVER_TLS_BOOTSTRAP=true",
            "CERTCTL_AGENT_BOOTSTRAP_TOKEN: is required; replicas may share a PostgreSQL, so none is made for it: give one, or set CERTCTL_AGENT_BOOTSTRAP_TOKEN_DENY_EMPTY=false to register agents with agent.edit only",
        ]
    );
    let settings = with_postgres(&[
        ("CERTCTL_AGENT_BOOTSTRAP_TOKEN", ""),
        ("CERTCTL_AGENT_BOOTSTRAP_TOKEN_DENY_EMPTY", "no"),
    ]);
    assert!(
        settings
            .unwrap()
            .settings
            .auth
            .agent_bootstrap_token
            .is_none()
    );
    let settings = with_postgres(&[]).unwrap().settings;
    assert_eq!(settings.rate_limit.backend, RateLimitBackend::Postgres);
    assert!(settings.auth.has_no_key(), "the first start makes a key");
    refused(
        &[("CERTCTL_RATE_LIMIT_BACKEND", "postgres")],
        "CERTCTL_RATE_LIMIT_BACKEND: postgres needs CERTCTL_DATABASE_URL to name a PostgreSQL",
    );
}

#[test]
fn files_come_in_pairs_and_must_be_readable() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("some.pem");
    fs::write(&file, "x").unwrap();
    let path = file.to_str().unwrap();
    for (first, second) in [
        (
            "CERTCTL_SERVER_TLS_CERT_PATH",
            "CERTCTL_SERVER_TLS_KEY_PATH",
        ),
        ("CERTCTL_CA_CERT_PATH", "CERTCTL_CA_KEY_PATH"),
    ] {
        assert!(load(&[(first, path), (second, path)]).is_ok());
        refused(
            &[(first, path)],
            &format!("{second}: is required; its other half is given"),
        );
        refused(
            &[(second, path)],
            &format!("{first}: is required; its other half is given"),
        );
        let found = problems(load(&[(first, path), (second, "/no/such/file")]));
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with(&format!("{second}: \"/no/such/file\" cannot be read: ")),
            "{found:?}"
        );
    }
}

#[test]
fn no_authentication_is_for_loopback_or_a_fresh_demo() {
    let none = ("CERTCTL_AUTH_TYPE", "none");
    let open = ("CERTCTL_SERVER_HOST", "0.0.0.0");
    let ack = ("CERTCTL_DEMO_MODE_ACK", "true");
    assert!(load(&[none]).is_ok());
    refused(
        &[none, open],
        "CERTCTL_AUTH_TYPE: none makes everyone who reaches 0.0.0.0 an administrator; bind loopback or set CERTCTL_DEMO_MODE_ACK=true",
    );
    let stale = "CERTCTL_DEMO_MODE_ACK_TS: must be the present time in seconds, at most 24h old and 1m ahead, to serve without authentication beyond loopback";
    refused(&[none, open, ack], stale);
    let seconds = NOW.as_seconds();
    for (offset, fresh) in [
        (0, true),
        (-86_400, true),
        (-86_401, false),
        (60, true),
        (61, false),
    ] {
        let at = (seconds + offset).to_string();
        let result = load(&[none, open, ack, ("CERTCTL_DEMO_MODE_ACK_TS", &at)]);
        assert_eq!(
            problems(result),
            if fresh { vec![] } else { vec![stale] },
            "{offset}"
        );
    }
    refused(
        &[("CERTCTL_AUTH_TYPE", "jwt")],
        "CERTCTL_AUTH_TYPE: \"jwt\" is not one of api-key, none",
    );
}

#[test]
fn what_only_a_demo_may_do_is_refused_elsewhere() {
    let cases = [
        ("CERTCTL_AUTH_SECRET", "good,change-me-in-production"),
        (
            "CERTCTL_CONFIG_ENCRYPTION_KEY",
            "change-me-32-char-encryption-key",
        ),
        ("CERTCTL_KEYGEN_MODE", "server"),
        ("CERTCTL_CORS_ORIGINS", "*"),
    ];
    for (variable, value) in cases {
        let found = problems(load(&[(variable, value)]));
        assert!(
            matches!(found.as_slice(), [problem] if problem.starts_with(&format!("{variable}: "))),
            "{found:?}"
        );
        assert!(
            load(&[(variable, value), ("CERTCTL_DEMO_MODE_ACK", "yes")]).is_ok(),
            "{variable}"
        );
    }
}

#[test]
fn keys_are_not_given_twice() {
    refused(
        &[
            ("CERTCTL_AUTH_SECRET", "canary"),
            ("CERTCTL_API_KEYS_NAMED", "ci:canary"),
        ],
        "CERTCTL_API_KEYS_NAMED: has a key that is also in CERTCTL_AUTH_SECRET",
    );
    refused(
        &[("CERTCTL_API_KEYS_NAMED", "canary")],
        "CERTCTL_API_KEYS_NAMED: the value (redacted) has a wrong entry 1: has no colon",
    );
    let (old, new) = ("o".repeat(32), "n".repeat(32));
    let previous = "CERTCTL_CONFIG_ENCRYPTION_KEY_PREVIOUS";
    let why = "CERTCTL_CONFIG_ENCRYPTION_KEY_PREVIOUS: needs a CERTCTL_CONFIG_ENCRYPTION_KEY other than itself to change to";
    refused(&[(previous, &old)], why);
    refused(
        &[(previous, &old), ("CERTCTL_CONFIG_ENCRYPTION_KEY", &old)],
        why,
    );
    assert!(load(&[(previous, &old), ("CERTCTL_CONFIG_ENCRYPTION_KEY", &new)]).is_ok());
}
