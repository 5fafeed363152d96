//! Where values come from, and which wins.

use super::*;

#[test]
fn the_stronger_source_wins() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("certctl.toml");
    fs::write(&file, "server_port = 1\nserver_host = \"::1\"\nlog_level = \"debug\"\ncors_origins = [\"https://a\", \"https://b\"]\n").unwrap();
    let env: MapEnv = [("CERTCTL_SERVER_PORT", "2"), ("CERTCTL_LOG_LEVEL", "warn")]
        .into_iter()
        .collect();
    let sources = Sources {
        config: Some(file.clone()),
        flags: vec![("--server-port".into(), "3".into())],
        ..Sources::from_env(&env, NOW)
    };
    let Loaded {
        settings,
        effective,
        ..
    } = Settings::load(&sources).unwrap();
    assert_eq!(
        (settings.server.port, settings.log.level),
        (3, LogLevel::Warn)
    );
    assert_eq!(settings.server.host.as_str(), "::1");
    assert_eq!(settings.server.cors_origins, ["https://a", "https://b"]);
    assert_eq!(shown(&effective, "CERTCTL_SERVER_PORT"), "3 (flag)");
    assert_eq!(shown(&effective, "CERTCTL_LOG_LEVEL"), "warn (environment)");
    assert_eq!(
        shown(&effective, "CERTCTL_SERVER_HOST"),
        format!("::1 (configuration file {})", file.display())
    );

    let env: MapEnv = [("CERTCTL_CONFIG", file.to_str().unwrap())]
        .into_iter()
        .collect();
    assert_eq!(
        Settings::load(&Sources::from_env(&env, NOW))
            .unwrap()
            .settings
            .server
            .port,
        1
    );
}

#[test]
fn flags_are_taken_in_any_spelling_and_unknown_ones_are_refused() {
    let env = MapEnv::default();
    for spelling in [
        "server-port",
        "SERVER_PORT",
        "CERTCTL_SERVER_PORT",
        "--server-port",
    ] {
        let sources = Sources {
            flags: vec![(spelling.into(), "7".into())],
            ..Sources::from_env(&env, NOW)
        };
        assert_eq!(
            Settings::load(&sources).unwrap().settings.server.port,
            7,
            "{spelling}"
        );
    }
    let sources = Sources {
        flags: vec![("--sever-port".into(), "7".into())],
        ..Sources::from_env(&env, NOW)
    };
    let error = Settings::load(&sources).unwrap_err();
    assert!(
        matches!(error.problems(), [Problem::UnknownFlag { flag }] if flag == "sever-port"),
        "{error}"
    );
}

#[test]
fn secrets_come_from_files_too() {
    let dir = tempfile::tempdir().unwrap();
    let (file, empty) = (dir.path().join("secret"), dir.path().join("empty"));
    fs::write(&file, "canary-one,canary-two\n").unwrap();
    fs::write(&empty, "\n").unwrap();
    let (path, empty) = (file.to_str().unwrap(), empty.to_str().unwrap());

    let Loaded {
        settings,
        effective,
        ..
    } = loaded(&[("CERTCTL_AUTH_SECRET_FILE", path)]);
    assert_eq!(
        settings
            .auth
            .secrets
            .iter()
            .map(|secret| secret.expose().to_owned())
            .collect::<Vec<_>>(),
        ["canary-one", "canary-two"]
    );
    assert_eq!(
        shown(&effective, "CERTCTL_AUTH_SECRET"),
        format!("<redacted> (secret file {path})")
    );
    // An empty value beside a file is how compose files leave the value out.
    assert_eq!(
        loaded(&[
            ("CERTCTL_AUTH_SECRET_FILE", path),
            ("CERTCTL_AUTH_SECRET", "")
        ])
        .settings
        .auth
        .secrets
        .len(),
        2
    );

    refused(
        &[
            ("CERTCTL_AUTH_SECRET_FILE", path),
            ("CERTCTL_AUTH_SECRET", "x"),
        ],
        "CERTCTL_AUTH_SECRET: is given both as a value and by CERTCTL_AUTH_SECRET_FILE",
    );
    refused(
        &[("CERTCTL_AUTH_SECRET_FILE", empty)],
        "CERTCTL_AUTH_SECRET_FILE: the file is empty",
    );
    let missing = problems(load(&[("CERTCTL_AUTH_SECRET_FILE", "/no/such/file")]));
    assert!(
        missing[0].starts_with("CERTCTL_AUTH_SECRET_FILE: /no/such/file cannot be read: "),
        "{missing:?}"
    );
    let device = problems(load(&[("CERTCTL_AUTH_SECRET_FILE", "/dev/zero")]));
    assert_eq!(
        device,
        ["CERTCTL_AUTH_SECRET_FILE: /dev/zero cannot be read: it is not a file of at most 1 MiB"]
    );
}

#[test]
fn a_configuration_file_that_is_wrong_is_refused_without_quoting_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("certctl.toml");
    let path = file.to_str().unwrap();
    let load_file = |text: &str| {
        fs::write(&file, text).unwrap();
        problems(load(&[("CERTCTL_CONFIG", path)]))
    };
    let syntax = load_file("server_port = 1\nauth_secret = \"canary\n");
    assert_eq!(syntax.len(), 1);
    assert!(
        syntax[0].starts_with(&format!(
            "the configuration file {path} is not valid TOML at line 2: "
        )),
        "{syntax:?}"
    );
    assert!(!syntax[0].contains("canary"));

    let types = load_file(
        "rate_limit_rps = 1.5\nserver = { port = 1 }\ncors_origins = [1]\nauth_secret = [\"a,b\"]\nlog_level = 1979-05-27\n",
    );
    let found: Vec<_> = types
        .iter()
        .map(|problem| {
            problem.replace(path, "F").replace(
                "; a setting is a text, a whole number, a truth value or a list of texts",
                "",
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            "the configuration file F: auth_secret is a list with a comma in an item",
            "the configuration file F: cors_origins is a list of something else than texts",
            "the configuration file F: log_level is a date",
            "the configuration file F: rate_limit_rps is a number with a fraction",
            "the configuration file F: server is a table",
        ]
    );
    let missing = problems(load(&[("CERTCTL_CONFIG", "/no/such/file")]));
    assert!(
        missing[0].starts_with("the configuration file /no/such/file cannot be read: "),
        "{missing:?}"
    );
}

#[test]
fn unknown_names_are_warned_about_and_reserved_ones_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("certctl.toml");
    fs::write(&file, "sever_port = 1\nsmtp_host = \"mail\"\n").unwrap();
    let path = file.to_str().unwrap();
    let Loaded {
        warnings,
        effective,
        ..
    } = loaded(&[
        ("CERTCTL_CONFIG", path),
        ("CERTCTL_LOG_LEVLE", "debug"),
        ("CERTCTL_XYZZY", "1"),
        ("CERTCTL_EST_PROFILE_IOT_ISSUER_ID", "iss-local"),
        ("CERTCTL_API_KEY", "the agent's, on one host"),
        ("PATH", "/bin"),
    ]);
    let lines: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "CERTCTL_LOG_LEVLE in the environment is not a setting; did you mean CERTCTL_LOG_LEVEL?".to_owned(),
            format!("sever_port in the configuration file {path} is not a setting; did you mean CERTCTL_SERVER_PORT?"),
            "CERTCTL_XYZZY in the environment is not a setting".to_owned(),
        ]
    );
    assert_eq!(
        effective.without_effect(),
        ["CERTCTL_EST_PROFILE_IOT_ISSUER_ID", "CERTCTL_SMTP_HOST"]
    );
    assert!(effective.to_string().contains(
        "# Given, but without effect in this version\nCERTCTL_EST_PROFILE_IOT_ISSUER_ID\n"
    ));
}

#[test]
fn the_data_directory_of_a_service_is_the_state_directory() {
    let settings = loaded(&[("STATE_DIRECTORY", "/var/lib/certctl:/var/lib/other")]).settings;
    assert_eq!(
        settings.database.url,
        DatabaseUrl::Sqlite {
            path: PathBuf::from("/var/lib/certctl/certctl.db")
        }
    );
    let settings = loaded(&[
        ("STATE_DIRECTORY", "/var/lib/certctl"),
        ("CERTCTL_DATA_DIR", "/data"),
    ])
    .settings;
    assert_eq!(settings.server.data_dir, PathBuf::from("/data"));
}

#[test]
fn the_password_placeholder_is_filled_in_and_never_shown() {
    let url = (
        "CERTCTL_DATABASE_URL",
        "postgres://u:$(POSTGRES_PASSWORD)@localhost/d",
    );
    let Loaded {
        settings,
        effective,
        ..
    } = with_postgres(&[url, ("POSTGRES_PASSWORD", "can@ry/:?#")]).unwrap();
    let DatabaseUrl::Postgres(parsed) = &settings.database.url else {
        panic!("not PostgreSQL")
    };
    assert_eq!(
        parsed.url.expose(),
        "postgres://u:can%40ry%2F%3A%3F%23@localhost/d"
    );
    assert_eq!(parsed.hosts, ["localhost"]);
    assert_eq!(
        shown(&effective, "CERTCTL_DATABASE_URL"),
        "postgres://u:<redacted>@localhost/d (environment)"
    );
    assert_eq!(
        problems(load(&[url])),
        ["CERTCTL_DATABASE_URL: refers to $(POSTGRES_PASSWORD), which is not set"]
    );
}
