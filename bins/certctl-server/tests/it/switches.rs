//! What the program does instead of serving.

use std::net::TcpListener;

use certctl_testkit::{Backend, TestDb, database};

use crate::program::{ADMIN_KEY, ENCRYPTION_KEY, Home};

#[test]
fn check_config_prints_what_is_in_force_without_secrets() {
    let home = Home::new()
        .set("CONFIG_ENCRYPTION_KEY", ENCRYPTION_KEY)
        .set(
            "DATABASE_URL",
            "postgres://certctl:canary-7342@db.example.test/certctl",
        )
        .set("SERVER_TLS_BOOTSTRAP", "true")
        .set("AGENT_BOOTSTRAP_TOKEN", "canary-token-0123456789")
        .set("RENEWAL_CONCURRENCY", "7");
    let (status, printed, error) = home.run(&["--check-config"]);
    assert!(status.success(), "{error}");
    for line in [
        "CERTCTL_RENEWAL_CONCURRENCY",
        "CERTCTL_SERVER_PORT",
        "CERTCTL_DATABASE_URL",
    ] {
        assert!(printed.contains(line), "{line} is missing:\n{printed}");
    }
    let concurrency = printed
        .lines()
        .find(|line| line.contains("CERTCTL_RENEWAL_CONCURRENCY"));
    assert!(concurrency.unwrap().contains('7'), "{concurrency:?}");
    for secret in ["canary", ENCRYPTION_KEY, ADMIN_KEY] {
        assert!(
            !printed.contains(secret) && !error.contains(secret),
            "{printed}{error}"
        );
    }
    assert!(!home.path("data").exists(), "it only looked");
}

#[test]
fn check_config_names_everything_that_is_wrong_at_once() {
    let home = Home::new()
        .set("RENEWAL_CONCURRENCY", "many")
        .set("SCHEDULER_RENEWAL_CHECK_INTERVAL", "1s")
        .set("CONFIG_ENCRYPTION_KEY", "canary-short")
        .set("RATE_LIMIT_BACKEND", "postgres");
    for arguments in [&["--check-config"][..], &["--migrate-only"], &[]] {
        let (status, printed, error) = home.run(arguments);
        assert_eq!(status.code(), Some(1), "{arguments:?}");
        for name in [
            "CERTCTL_RENEWAL_CONCURRENCY",
            "CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL",
            "CERTCTL_CONFIG_ENCRYPTION_KEY",
            "CERTCTL_RATE_LIMIT_BACKEND",
        ] {
            assert!(error.contains(name), "{name} is missing: {error}");
        }
        assert!(
            !error.contains("canary-short") && printed.is_empty(),
            "{printed}{error}"
        );
    }
}

async fn migrates_and_ends(db: TestDb) {
    let home = Home::on(db.url());
    // Were it to serve, it would not get the port.
    let _taken = TcpListener::bind(("127.0.0.1", home.port)).unwrap();
    let (status, _, error) = tokio::task::block_in_place(|| home.run(&["--migrate-only"]));
    assert!(status.success(), "{error}");
    let ledger = "SELECT version AS value FROM schema_migrations ORDER BY version";
    let applied = db.texts(ledger).await;
    assert!(applied.len() > 1, "{applied:?}");
    assert_eq!(
        db.texts("SELECT id AS value FROM roles WHERE id = 'r-admin'")
            .await,
        ["r-admin"],
        "seeded"
    );
    let (status, ..) = tokio::task::block_in_place(|| home.run(&["--migrate-only"]));
    assert!(status.success(), "again");
    assert_eq!(db.texts(ledger).await, applied);
    // What a job has brought up to date, a server that leaves that to the job serves; and nothing else.
    let hooked = Home::on(db.url()).set("MIGRATIONS_VIA_HOOK", "true");
    let (process, client) = hooked.start(None).await;
    assert_eq!(client.get("/api/v1/teams", ADMIN_KEY).await.status, 200);
    assert!(process.stop().await.success());
}

async fn refuses_what_no_job_brought_up_to_date(db: TestDb) {
    let home = Home::on(db.url()).set("MIGRATIONS_VIA_HOOK", "true");
    let (status, _, error) = tokio::task::block_in_place(|| home.run(&[]));
    assert_eq!(status.code(), Some(1));
    assert!(error.contains("the database is not ready"), "{error}");
}

/// Makes a test for each database out of one body, which is given an empty database.
macro_rules! on_empty {
    ($($name:ident => $body:ident;)+) => {$(
        mod $name {
            use super::{Backend, TestDb, database};

            #[test]
            fn sqlite() {
                database::run(|| TestDb::empty(Backend::Sqlite), super::$body);
            }

            #[test]
            fn postgres() {
                database::run(|| TestDb::empty(Backend::Postgres), super::$body);
            }
        }
    )+};
}

on_empty! {
    migrate_only_brings_the_database_up_to_date_and_ends => migrates_and_ends;
    a_server_that_leaves_migrations_to_a_job_checks_them => refuses_what_no_job_brought_up_to_date;
}
