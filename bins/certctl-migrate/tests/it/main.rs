//! The program as an init container runs it.

#![expect(
    clippy::unwrap_used,
    reason = "clippy knows tests by their attribute, and these bodies are called from such"
)]

mod audit;

use std::process::{Command, Output};

use certctl_testkit::{TestDb, database};

fn program(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certctl-migrate"));
    command
        .args(arguments)
        .env_clear()
        .env("CERTCTL_DATABASE_URL", url);
    command
}

fn run(url: &str, arguments: &[&str]) -> Output {
    program(url, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn ledger(db: &TestDb) -> Vec<String> {
    db.texts("SELECT version AS value FROM schema_migrations ORDER BY version")
        .await
}

/// The names of the files the program carries, in order.
fn versions(db: &TestDb) -> Vec<String> {
    let files = certctl_repository::migrations::embedded(db.backend());
    files.into_iter().map(|file| file.version).collect()
}

/// Makes a test for each database out of one body, which is given an empty database.
macro_rules! on_empty {
    ($($name:ident => $body:ident;)+) => {$(
        mod $name {
            use certctl_repository::Backend;
            use certctl_testkit::{TestDb, database};

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
    three_processes_one_database => check_three_processes;
    a_database_is_looked_at_migrated_and_verified => check_life;
    a_broken_file_is_named_and_leaves_nothing => check_broken;
}

async fn check_three_processes(db: TestDb) {
    for round in 0..2 {
        let children: Vec<_> = (0..3)
            .map(|_| {
                let mut command = program(db.url(), &["up"]);
                command
                    .stdout(std::process::Stdio::piped())
                    .stderr(std::process::Stdio::piped());
                command.spawn().unwrap()
            })
            .collect();
        let mut applied = 0;
        for child in children {
            let output = child.wait_with_output().unwrap();
            let said = text(&output.stdout);
            assert!(output.status.success(), "{said}{}", text(&output.stderr));
            let (_, done) = said.split_once("done: ").unwrap();
            let (count, _) = done.split_once(" applied now").unwrap();
            applied += count.parse::<usize>().unwrap();
        }
        // Each file is applied once, in the first round; on SQLite, which is locked for each, the three may take turns.
        let expected = if round == 0 { versions(&db).len() } else { 0 };
        assert_eq!(applied, expected);
        assert_eq!(ledger(&db).await, versions(&db));
    }
}

async fn check_life(db: TestDb) {
    let output = run(db.url(), &["status"]);
    assert!(output.status.success());
    let line = text(&output.stdout).lines().last().unwrap().to_owned();
    let versions = versions(&db);
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        [versions.last().unwrap(), "pending"]
    );
    let output = run(db.url(), &["verify"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        format!(
            "certctl-migrate: {} migrations are not applied, the first is {}\n",
            versions.len(),
            versions[0]
        )
    );
    let output = run(db.url(), &["up"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let done = format!("done: {} applied now, 0 before\n", versions.len());
    assert!(said.ends_with(&done), "{said}");
    assert!(run(db.url(), &["verify"]).status.success());
    let said = text(&run(db.url(), &["status"]).stdout);
    assert!(said.contains(" applied 20"), "{said}");
    let by = "SELECT applied_by AS value FROM schema_migrations ORDER BY version LIMIT 1";
    let by = db.text(by).await;
    assert!(
        by.rsplit_once(':')
            .is_some_and(|(host, pid)| !host.is_empty() && pid.parse::<u32>().is_ok()),
        "{by}"
    );

    db.execute("UPDATE schema_migrations SET checksum = 'x'")
        .await
        .unwrap();
    let said = text(&run(db.url(), &["status"]).stdout);
    assert!(
        said.ends_with("and changed since: migration drift\n"),
        "{said}"
    );
    for command in ["up", "verify"] {
        let output = run(db.url(), &[command]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("migration drift: 0001_initial.up.sql"));
    }
    db.execute(
        "UPDATE schema_migrations SET version = '9009_newer.up.sql' WHERE version LIKE '0001%'",
    )
    .await
    .unwrap();
    let said = text(&run(db.url(), &["status"]).stdout);
    assert!(said.ends_with(" by a newer version\n"), "{said}");
}

async fn check_broken(db: TestDb) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, sql: &str| std::fs::write(folder.path().join(name), sql).unwrap();
    write("0001_a.up.sql", "CREATE TABLE one (id TEXT);");
    write(
        "0002_b.up.sql",
        "CREATE TABLE two (id TEXT); INSERT INTO nowhere VALUES (1);",
    );
    let up = || {
        let mut command = program(db.url(), &["up"]);
        command.env("CERTCTL_DATABASE_MIGRATIONS_PATH", folder.path());
        command.output().unwrap()
    };
    let output = up();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.starts_with("certctl-migrate: migration 0002_b.up.sql failed: ")
            && said.contains("nowhere"),
        "{said}"
    );
    assert_eq!(ledger(&db).await, ["0001_a.up.sql"]);
    assert!(db.execute("SELECT * FROM two").await.is_err());
}

#[test]
fn a_database_that_cannot_be_reached_is_told_without_its_password() {
    let url = "postgres://ann:canary@127.0.0.1:1/nowhere?sslmode=disable";
    for command in ["up", "status", "verify"] {
        let output = run(url, &[command]);
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(said.contains("the database cannot be reached: "), "{said}");
        assert!(!said.contains("canary"), "{said}");
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let output = run("mysql://x", &["up"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("CERTCTL_DATABASE_URL"),
        "{}",
        text(&output.stderr)
    );
    for arguments in [&["sideways"][..], &[], &["up", "--fast"]] {
        assert_eq!(
            run("sqlite://x.db", arguments).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
}

#[test]
fn sqlite_is_made_in_a_folder_of_its_own_by_the_flag() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new/certctl.db");
    let url = format!("sqlite://{}", file.display());
    let output = run("sqlite://never.db", &["verify", "--database-url", &url]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!file.exists());
    let output = run("sqlite://never.db", &["up", "--database-url", &url]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file
        .parent()
        .unwrap()
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!((file.exists(), mode & 0o777), (true, 0o700));
}

/// A migration that takes long must not be begun by another process when the first one dies.
mod postgres {
    use super::{TestDb, database, ledger, program, run, text};

    #[test]
    fn a_process_that_is_killed_gives_the_lock_back() {
        database::run(
            || TestDb::empty(certctl_repository::Backend::Postgres),
            |db| async move {
                let folder = tempfile::tempdir().unwrap();
                std::fs::write(
                    folder.path().join("0001_slow.up.sql"),
                    "CREATE TABLE slow (id TEXT); SELECT pg_sleep(600);",
                )
                .unwrap();
                let mut command = program(db.url(), &["up"]);
                let mut child = command
                    .env("CERTCTL_DATABASE_MIGRATIONS_PATH", folder.path())
                    .spawn()
                    .unwrap();
                let busy = "SELECT CAST(count(*) AS text) AS value FROM pg_stat_activity \
                WHERE datname = current_database() AND query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()";
                while db.text(busy).await == "0" {
                    assert!(child.try_wait().unwrap().is_none());
                }
                let mut waiting = program(db.url(), &["up"]);
                let waiting = waiting
                    .env("CERTCTL_MIGRATIONS_LOCK_TIMEOUT", "1s")
                    .output()
                    .unwrap();
                assert_eq!(waiting.status.code(), Some(1));
                assert!(
                    text(&waiting.stderr).contains("has held the migrations lock for 1 s"),
                    "{}",
                    text(&waiting.stderr)
                );
                child.kill().unwrap();
                child.wait().unwrap();
                // The server notices a dead client when it next speaks to it, or when told.
                db.texts("SELECT CAST(pg_cancel_backend(pid) AS text) AS value FROM pg_stat_activity \
                WHERE datname = current_database() AND query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()").await;
                let output = run(db.url(), &["up"]);
                assert!(output.status.success(), "{}", text(&output.stderr));
                assert_eq!(ledger(&db).await, super::versions(&db));
            },
        );
    }
}
