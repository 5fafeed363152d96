use std::path::Path;

use proptest::prelude::*;

use super::{DatabaseUrl, DatabaseUrlForm, PostgresUrl, SslMode, percent_decode, percent_encode};
use crate::form::Form;

fn postgres(url: &str) -> PostgresUrl {
    match DatabaseUrlForm.parse(url) {
        Ok(DatabaseUrl::Postgres(parsed)) => parsed,
        other => panic!("{url} gave {other:?}"),
    }
}

#[test]
fn sqlite_urls_name_a_file() {
    for (url, path) in [
        ("sqlite://a.db", "a.db"),
        ("sqlite:///var/lib/certctl.db", "/var/lib/certctl.db"),
        ("SQLITE://./x/y", "./x/y"),
    ] {
        assert_eq!(
            DatabaseUrlForm.parse(url).unwrap(),
            DatabaseUrl::Sqlite {
                path: Path::new(path).to_owned()
            }
        );
    }
}

#[test]
fn postgres_urls_give_hosts_and_tls_mode() {
    let cases: [(&str, &[&str], SslMode); 7] = [
        (
            "postgres://certctl:pw@db:5432/certctl?sslmode=disable",
            &["db"],
            SslMode::Disable,
        ),
        ("postgresql://certctl@db/certctl", &["db"], SslMode::Prefer),
        (
            "postgres://a:b%40c@one:1,two:2/d?sslmode=verify-full",
            &["one", "two"],
            SslMode::VerifyFull,
        ),
        (
            "postgres://a@[::1]:5432/d?sslmode=require",
            &["::1"],
            SslMode::Require,
        ),
        (
            "postgres:///d?host=/run/postgresql",
            &["/run/postgresql"],
            SslMode::Prefer,
        ),
        (
            "postgres://u@%2Frun%2Fpg/d?sslmode=verify-ca",
            &["/run/pg"],
            SslMode::VerifyCa,
        ),
        (
            "POSTGRES://u:p@10.0.0.1/d?sslmode=allow&connect_timeout=3",
            &["10.0.0.1"],
            SslMode::Allow,
        ),
    ];
    for (url, hosts, mode) in cases {
        let parsed = postgres(url);
        assert_eq!(parsed.hosts, hosts, "{url}");
        assert_eq!(parsed.ssl_mode, mode, "{url}");
        assert_eq!(parsed.url.expose(), url);
    }
}

#[test]
fn what_is_no_database_url_is_refused() {
    let refused = [
        "",
        "certctl.db",
        "sqlite:",
        "sqlite://",
        "sqlite://dir/",
        "sqlite://:memory:",
        "sqlite://a.db?mode=memory",
        "mysql://a/b",
        "postgres://",
        "postgres://db",
        "postgres://db/",
        "postgres:///d",
        "postgres://db/a/b",
        "postgres://db:x/d",
        "postgres://[::g]/d",
        "postgres://db/d?sslmode=on",
        "postgres://db/d?sslmode",
        "postgres://u:a b@db/d",
        "postgres://d b/d",
    ];
    for url in refused {
        assert!(DatabaseUrlForm.parse(url).is_err(), "{url}");
    }
}

#[test]
fn no_password_is_ever_shown() {
    for url in [
        "postgres://u:canary@db/d?sslmode=disable",
        "postgres://u:can:ary@db/d",
        "postgres://u:x@canary@db/d",
        "postgres://u@db/d?password=canary",
        "postgres://u@db/d?sslpassword=canary",
        "postgres://u:canary@db",
        "postgres://u:canary@/",
    ] {
        let shown = DatabaseUrlForm.shown(url);
        assert!(
            !shown.contains("canary") && !shown.contains("ary"),
            "{url} shows {shown}"
        );
        assert!(
            !format!("{:?}", DatabaseUrlForm.parse(url)).contains("canary"),
            "{url}"
        );
    }
    assert_eq!(
        DatabaseUrlForm.shown("postgresql://u:canary@db:5432/d?sslmode=disable&application_name=x"),
        "postgres://u:<redacted>@db:5432/d?sslmode=disable&application_name=x"
    );
}

#[test]
fn an_open_connection_is_noticed() {
    let exposed = |url: &str| postgres(url).host_exposed_without_tls().map(str::to_owned);
    assert_eq!(
        exposed("postgres://u@db.example/d?sslmode=disable").as_deref(),
        Some("db.example")
    );
    assert_eq!(
        exposed("postgres://u@localhost,db.example/d?sslmode=disable").as_deref(),
        Some("db.example")
    );
    assert_eq!(exposed("postgres://u@db.example/d?sslmode=require"), None);
    for host in [
        "localhost",
        "127.0.0.1",
        "[::1]",
        "postgres",
        "certctl-postgres",
        "pg.ns.svc.cluster.local",
        "%2Frun",
    ] {
        assert_eq!(
            exposed(&format!("postgres://u@{host}/d?sslmode=disable")),
            None,
            "{host}"
        );
    }
}

proptest! {
    #[test]
    fn any_password_can_be_written_into_a_url(password in "\\PC{1,24}") {
        let encoded = percent_encode(&password);
        prop_assert_eq!(percent_decode(&encoded), password);
        let url = format!("postgres://u:{encoded}@db/d");
        prop_assert_eq!(postgres(&url).hosts, ["db"]);
    }

    #[test]
    fn no_text_panics(text in "(postgres|sqlite)://[a-z:@/?=%,\\[\\]]{0,32}") {
        drop(DatabaseUrlForm.parse(&text));
        drop(DatabaseUrlForm.shown(&text));
    }
}
