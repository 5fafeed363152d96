use std::{fs, path::PathBuf, time::Duration};

use certctl_domain::time::Timestamp;

use super::{MigrateSettings, Settings};
use crate::{
    AgentIdentity, AgentSettings, BackupRetention, DatabaseUrl, Effective, Error, KeygenMode,
    Loaded, LogFormat, LogLevel, MapEnv, Network, Origin, Problem, Programs, RateLimitBackend,
    Sources, Warning, entries,
    reader::Reader,
    setting::{DefaultValue, Entry},
};

const NOW: Timestamp = Timestamp::from_seconds(1_795_219_200);

/// A PostgreSQL with everything that a start on it asks for.
const POSTGRES: &[(&str, &str)] = &[
    (
        "CERTCTL_DATABASE_URL",
        "postgres://certctl:canary@localhost/certctl?sslmode=disable",
    ),
    ("CERTCTL_SERVER_TLS_BOOTSTRAP", "true"),
    ("CERTCTL_AGENT_BOOTSTRAP_TOKEN", "canary-token"),
];

fn load(pairs: &[(&str, &str)]) -> Result<Loaded<Settings>, Error> {
    let env: MapEnv = pairs.iter().copied().collect();
    Settings::load(&Sources::from_env(&env, NOW))
}

fn loaded(pairs: &[(&str, &str)]) -> Loaded<Settings> {
    load(pairs).unwrap_or_else(|error| panic!("{pairs:?}: {error}"))
}

/// The settings in force on PostgreSQL with some more variables.
fn with_postgres(more: &[(&str, &str)]) -> Result<Loaded<Settings>, Error> {
    load(&[POSTGRES, more].concat())
}

/// The problems, each as one line.
fn problems(result: Result<Loaded<Settings>, Error>) -> Vec<String> {
    match result {
        Ok(_) => Vec::new(),
        Err(error) => error
            .to_string()
            .lines()
            .skip(1)
            .map(|line| line.trim().to_owned())
            .collect(),
    }
}

/// Asserts that these variables are refused with exactly one problem, which reads so.
fn refused(pairs: &[(&str, &str)], problem: &str) {
    assert_eq!(problems(load(pairs)), [problem], "{pairs:?}");
}

fn shown(effective: &Effective, variable: &str) -> String {
    let row = effective
        .rows()
        .iter()
        .find(|row| row.variable() == variable)
        .expect("a row");
    format!("{} ({})", row.shown(), row.origin())
}

mod refusal;
mod source;

#[test]
fn an_empty_environment_is_the_embedded_default() {
    let Loaded {
        settings,
        warnings,
        effective,
    } = loaded(&[]);
    assert!(warnings.is_empty());
    assert_eq!(settings.server.host.as_str(), "127.0.0.1");
    assert_eq!(settings.server.port, 8443);
    assert_eq!(settings.server.data_dir, PathBuf::from("./certctl-data"));
    assert_eq!(settings.server.max_body_size, 1_048_576);
    assert_eq!(settings.server.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(
        settings.database.url,
        DatabaseUrl::Sqlite {
            path: PathBuf::from("./certctl-data/certctl.db")
        }
    );
    assert_eq!(
        (
            settings.database.max_connections,
            settings.database.idle_connections()
        ),
        (50, 10)
    );
    assert_eq!(
        (settings.log.level, settings.log.format),
        (LogLevel::Info, LogFormat::Json)
    );
    assert!(settings.auth.has_no_key() && settings.auth.agent_bootstrap_token.is_none());
    assert_eq!(settings.rate_limit.backend, RateLimitBackend::Memory);
    assert_eq!(
        settings.rate_limit.per_user,
        settings.rate_limit.per_address
    );
    assert_eq!(settings.rate_limit.exports_per_actor_hour, Some(50));
    assert_eq!(settings.scheduler.renewal_check, Duration::from_secs(3600));
    assert_eq!(
        settings.jobs.awaiting_approval_timeout,
        Duration::from_secs(168 * 3600)
    );
    assert_eq!(settings.features.keygen_mode, KeygenMode::Agent);
    assert_eq!(settings.features.backup_retention, BackupRetention::Last(3));
    assert!(settings.local_ca.files.is_none() && settings.encryption.key.is_none());
    assert_eq!(
        shown(&effective, "CERTCTL_DATABASE_URL"),
        "sqlite://./certctl-data/certctl.db (default)"
    );
}

#[test]
fn every_row_is_read_by_every_program_that_it_names() {
    let env = MapEnv::default();
    let sources = Sources::from_env(&env, NOW);
    let read_by = |program: Programs, read: fn(&mut Reader<'_>)| {
        let mut reader = Reader::new(&sources, program);
        read(&mut reader);
        let declared = entries()
            .filter(|entry| entry.programs().include(program))
            .map(Entry::name)
            .collect();
        assert_eq!(reader.names_read(), declared, "{:?}", program.names());
    };
    read_by(Programs::SERVER, |reader| drop(Settings::read(reader)));
    read_by(Programs::AGENT, |reader| drop(AgentSettings::read(reader)));
    read_by(Programs::MIGRATE, |reader| {
        drop(MigrateSettings::read(reader));
    });
}

#[test]
fn a_default_given_by_hand_is_accepted() {
    let pairs: Vec<(String, &str)> = entries()
        .filter(|entry| entry.programs().include(Programs::SERVER))
        .filter_map(|entry| match entry.default() {
            DefaultValue::Text(text) => Some((entry.variable(), text)),
            DefaultValue::Unset | DefaultValue::Derived(_) => None,
        })
        .collect();
    let env: MapEnv = pairs
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    let given = Settings::load(&Sources::from_env(&env, NOW)).unwrap();
    assert_eq!(
        format!("{:?}", given.settings),
        format!("{:?}", loaded(&[]).settings)
    );
}

#[test]
fn numbers_with_a_meaning_of_their_own() {
    let settings = loaded(&[
        ("CERTCTL_MAX_BODY_SIZE", "-1"),
        ("CERTCTL_DEPLOY_BACKUP_RETENTION", "-1"),
        ("CERTCTL_CERT_EXPORT_RATE_LIMIT_PER_ACTOR_HR", "0"),
        ("CERTCTL_RATE_LIMIT_PER_USER_RPS", "7"),
        ("CERTCTL_DATABASE_MAX_CONNS", "4"),
        ("CERTCTL_TRUSTED_PROXIES", "10.0.0.0/8"),
    ])
    .settings;
    assert_eq!(settings.server.max_body_size, 1_048_576);
    assert_eq!(settings.features.backup_retention, BackupRetention::None);
    assert_eq!(settings.rate_limit.exports_per_actor_hour, None);
    assert_eq!(
        (
            settings.rate_limit.per_user.per_second,
            settings.rate_limit.per_user.burst
        ),
        (7, 100)
    );
    assert_eq!(settings.database.idle_connections(), 1);
    assert_eq!(
        settings.server.trusted_proxies,
        [Network::parse("10.0.0.0/8").unwrap()]
    );
    for retention in [BackupRetention::None, BackupRetention::Last(7)] {
        assert_eq!(
            BackupRetention::from_number(retention.as_number().into()),
            retention
        );
    }
    assert_eq!(BackupRetention::from_number(0), BackupRetention::Last(3));
}

#[test]
fn nothing_that_is_printed_holds_a_secret() {
    let key = format!("canary-{}", "k".repeat(32));
    let pairs = [
        POSTGRES,
        &[
            ("CERTCTL_AUTH_SECRET", "canary-a"),
            ("CERTCTL_API_KEYS_NAMED", "ci:canary-b"),
            ("CERTCTL_BOOTSTRAP_TOKEN", "canary-c"),
            ("CERTCTL_CONFIG_ENCRYPTION_KEY", &key),
        ],
    ]
    .concat();
    let loaded = loaded(&pairs);
    let printed = format!("{:?}\n{:#?}\n{}", loaded, loaded.settings, loaded.effective);
    assert!(!printed.contains("canary"), "{printed}");
    assert!(
        loaded
            .effective
            .to_string()
            .contains("postgres://certctl:<redacted>@localhost/certctl?sslmode=disable")
    );

    // The same when each of them is refused.
    let broken: Vec<(&str, &str)> = pairs
        .iter()
        .filter(|(name, _)| *name != "CERTCTL_SERVER_TLS_BOOTSTRAP")
        .map(|(name, _)| {
            (
                *name,
                if *name == "CERTCTL_DATABASE_URL" {
                    "postgres://u:canary@h"
                } else {
                    "canary:canary:canary"
                },
            )
        })
        .collect();
    let error = load(&broken).unwrap_err();
    assert!(!format!("{error}\n{error:?}").contains("canary"), "{error}");
    let env: MapEnv = pairs.iter().copied().collect();
    assert!(!format!("{env:?}").contains("canary"));
}

#[test]
fn check_config_prints_name_value_and_origin() {
    let printed = loaded(&[("CERTCTL_SERVER_PORT", "9443")])
        .effective
        .to_string();
    let line = |name: &str| {
        let line = printed
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))
            .unwrap_or_else(|| panic!("{name} in {printed}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        line("CERTCTL_SERVER_PORT"),
        "CERTCTL_SERVER_PORT 9443 environment"
    );
    assert_eq!(
        line("CERTCTL_SERVER_HOST"),
        "CERTCTL_SERVER_HOST 127.0.0.1 default"
    );
    assert_eq!(
        line("CERTCTL_AUTH_SECRET"),
        "CERTCTL_AUTH_SECRET (unset) default"
    );
    assert!(printed.starts_with("# Server\n") && printed.contains("\n\n# Database\n"));
}

#[test]
fn the_agent_is_registered_or_registers_itself() {
    let load = |pairs: &[(&str, &str)]| {
        let env: MapEnv = pairs.iter().copied().collect();
        AgentSettings::load(&Sources::from_env(&env, NOW)).map_err(|error| error.to_string())
    };
    let known = [("CERTCTL_API_KEY", "canary"), ("CERTCTL_AGENT_ID", "ag-1")];
    let agent = load(&known).unwrap().settings;
    assert!(
        matches!(&agent.identity, AgentIdentity::Registered { agent_id, api_key } if agent_id == "ag-1" && api_key.expose() == "canary")
    );
    assert_eq!(
        (agent.server_url.as_str(), agent.name.as_str()),
        ("https://localhost:8443", "certctl-agent")
    );
    assert_eq!(agent.overrides, crate::AgentOverrides::default());
    assert!(!format!("{agent:?}").contains("canary"));

    let overrides = load(
        &[
            &known[..],
            &[
                ("CERTCTL_VERIFY_DEPLOYMENT", "true"),
                ("CERTCTL_DEPLOY_BACKUP_RETENTION", "-1"),
            ],
        ]
        .concat(),
    );
    let overrides = overrides.unwrap().settings.overrides;
    assert_eq!(
        (
            overrides.verify,
            overrides.verify_delay,
            overrides.backup_retention
        ),
        (Some(true), None, Some(BackupRetention::None))
    );

    let bootstrap = load(&[("CERTCTL_AGENT_BOOTSTRAP_TOKEN", "t")])
        .unwrap()
        .settings;
    assert!(matches!(
        bootstrap.identity,
        AgentIdentity::Bootstrap { .. }
    ));

    let insecure = load(
        &[
            &known[..],
            &[("CERTCTL_SERVER_TLS_INSECURE_SKIP_VERIFY", "1")],
        ]
        .concat(),
    )
    .unwrap();
    assert_eq!(insecure.warnings, [Warning::ServerNotVerified]);

    for (pairs, start) in [
        (&[][..], "CERTCTL_API_KEY: is required; "),
        (&known[..1], "CERTCTL_AGENT_ID: is required; "),
        (&known[1..], "CERTCTL_API_KEY: is required; "),
        (
            &[known[0], known[1], ("CERTCTL_SERVER_URL", "http://a")],
            "CERTCTL_SERVER_URL: \"http://a\" is not an https:// URL",
        ),
        (
            &[known[0], known[1], ("CERTCTL_SERVER_URL", "")],
            "CERTCTL_SERVER_URL: \"\" is not an https:// URL",
        ),
        (
            &[
                known[0],
                known[1],
                ("CERTCTL_SERVER_CA_BUNDLE_PATH", "/no/such"),
            ],
            "CERTCTL_SERVER_CA_BUNDLE_PATH: \"/no/such\" cannot be read",
        ),
        (
            &[known[0], known[1], ("CERTCTL_AGENT_NAME", &"n".repeat(129))],
            "CERTCTL_AGENT_NAME: is longer than 128 bytes",
        ),
    ] {
        let error = load(pairs).unwrap_err();
        assert!(
            error.starts_with(&format!(
                "the configuration is refused for 1 problem:\n  {start}"
            )),
            "{error}"
        );
    }
}

#[test]
fn migrating_needs_the_database_only() {
    let env: MapEnv = [POSTGRES[0], ("CERTCTL_SERVER_PORT", "not read")]
        .into_iter()
        .collect();
    let loaded = MigrateSettings::load(&Sources::from_env(&env, NOW)).unwrap();
    assert!(!loaded.settings.database.url.is_embedded() && !loaded.settings.database.demo_seed);
    assert!(loaded.warnings.is_empty());
    assert!(loaded.effective.rows().iter().all(|row| row.origin() == &Origin::Default || row.variable() == "CERTCTL_DATABASE_URL"));
}
