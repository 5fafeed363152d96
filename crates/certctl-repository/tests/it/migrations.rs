//! The migrations runner; the names of the first nine tests are the contract's (operations §2).

use std::{collections::BTreeSet, path::Path, time::Duration};

use certctl_domain::secret::Secret;
use certctl_repository::{
    Backend,
    migrations::{self, Error, Migration, Options, Progress, Report},
};
use certctl_testkit::{TestDb, database};

/// Makes a test for each database out of one body, which is given an empty database.
macro_rules! on_empty {
    ($($name:ident => $body:expr;)+) => {$(
        mod $name {
            use super::*;

            #[test]
            fn sqlite() {
                database::run(|| TestDb::empty(Backend::Sqlite), $body);
            }

            #[test]
            fn postgres() {
                database::run(|| TestDb::empty(Backend::Postgres), $body);
            }
        }
    )+};
}

on_empty! {
    populates_schema_migrations => check_populates;
    skips_applied_on_second_call => check_skips;
    concurrent_calls_serialized => check_concurrent;
    fresh_database_happy_path => check_fresh;
    checksum_drift_refused => check_drift;
    partial_failure_leaves_no_row => check_partial_failure;
    lock_released_on_panic => check_panic;
    newer_ledger_refused => check_newer;
    a_gap_in_the_order_is_refused => check_gap;
    a_lock_that_is_held_too_long_is_told => check_lock_timeout;
    a_file_may_run_outside_of_a_transaction => check_no_transaction;
    status_and_verify_change_nothing => check_read_only;
    the_seed_is_complete_and_may_run_again => check_seed;
    progress_is_told => check_progress;
}

fn options(db: &TestDb) -> Options {
    Options {
        url: Secret::new(db.url()),
        lock_timeout: Duration::from_secs(60),
        allow_newer: false,
        applied_by: "test:1".into(),
    }
}

fn files(db: &TestDb) -> Vec<Migration> {
    migrations::embedded(db.backend())
}

/// The names of the embedded files, in order.
fn versions(db: &TestDb) -> Vec<String> {
    files(db).into_iter().map(|file| file.version).collect()
}

/// The embedded files and a further one.
fn with(db: &TestDb, version: &str, sql: &str) -> Vec<Migration> {
    let mut files = files(db);
    files.push(Migration {
        version: version.into(),
        sql: sql.into(),
    });
    files
}

async fn up(db: &TestDb) -> Report {
    migrations::up(&options(db), &files(db)).await.unwrap()
}

async fn ledger(db: &TestDb) -> Vec<String> {
    db.texts("SELECT version AS value FROM schema_migrations ORDER BY version")
        .await
}

async fn check_populates(db: TestDb) {
    let report = up(&db).await;
    assert_eq!((report.applied, report.already), (versions(&db), 0));
    assert_eq!(ledger(&db).await, versions(&db));
    let row = "SELECT applied_by || ' ' || length(checksum) || ' ' || CASE WHEN duration_ms >= 0 THEN 'timed' END AS value \
        FROM schema_migrations ORDER BY version LIMIT 1";
    assert_eq!(db.text(row).await, "test:1 64 timed");
}

async fn check_skips(db: TestDb) {
    up(&db).await;
    let counts = "SELECT CAST(count(*) AS text) AS value FROM schema_migrations UNION ALL SELECT CAST(count(*) AS text) FROM permissions \
        UNION ALL SELECT CAST(count(*) AS text) FROM role_permissions UNION ALL SELECT CAST(count(*) AS text) FROM actor_roles \
        UNION ALL SELECT CAST(count(*) AS text) FROM agents UNION ALL SELECT CAST(count(*) AS text) FROM issuers";
    let (before, stamps) = (
        db.texts(counts).await,
        "SELECT CAST(applied_at AS text) AS value FROM schema_migrations",
    );
    let stamped = db.texts(stamps).await;
    let second = up(&db).await;
    assert_eq!(
        (second.applied.len(), second.already),
        (0, files(&db).len())
    );
    assert_eq!(db.texts(counts).await, before);
    assert_eq!(db.texts(stamps).await, stamped);
}

async fn check_concurrent(db: TestDb) {
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let (options, files) = (options(&db), files(&db));
            tokio::spawn(async move { migrations::up(&options, &files).await.unwrap().applied })
        })
        .collect();
    let mut applied = Vec::new();
    for run in runs {
        applied.extend(run.await.unwrap());
    }
    // SQLite is locked for each file, so that two runners may take turns.
    applied.sort();
    let versions: Vec<String> = files(&db).into_iter().map(|file| file.version).collect();
    assert_eq!(applied, versions, "each file by one runner only");
    assert_eq!(ledger(&db).await, versions);
}

async fn check_fresh(db: TestDb) {
    let carried: BTreeSet<String> = up(&db).await.applied.into_iter().collect();
    let folder = format!("../../migrations/{}", db.backend());
    assert_eq!(carried, up_files(Path::new(&folder)));
    migrations::verify(&options(&db), &files(&db))
        .await
        .unwrap();
}

fn up_files(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".up.sql"))
        .collect()
}

async fn check_drift(db: TestDb) {
    up(&db).await;
    let mut changed = files(&db);
    changed[0].sql.push_str("\n-- an afterthought\n");
    for outcome in [
        migrations::up(&options(&db), &changed).await.map(drop),
        migrations::verify(&options(&db), &changed).await,
    ] {
        let refused = outcome.unwrap_err();
        assert!(
            matches!(&refused, Error::Drift { version, .. } if *version == changed[0].version),
            "{refused:?}"
        );
        assert!(
            refused
                .to_string()
                .starts_with("migration drift: 0001_initial.up.sql "),
            "{refused}"
        );
    }
    let status = migrations::status(&options(&db).url, &changed)
        .await
        .unwrap();
    assert!(!status[0].matches && status[0].applied_at.is_some());
}

async fn check_partial_failure(db: TestDb) {
    let broken = "CREATE TABLE half (id TEXT PRIMARY KEY); INSERT INTO half VALUES ('a'); INSERT INTO nowhere VALUES (1);";
    let mut tree = with(&db, "9002_broken.up.sql", broken);
    tree.push(Migration {
        version: "9003_later.up.sql".into(),
        sql: "CREATE TABLE later (id TEXT)".into(),
    });
    let refused = migrations::up(&options(&db), &tree).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Apply { version, .. } if version == "9002_broken.up.sql"),
        "{refused:?}"
    );
    assert_eq!(refused.to_string(), "migration 9002_broken.up.sql failed");
    assert_eq!(ledger(&db).await, versions(&db));
    for table in ["half", "later"] {
        assert!(
            db.execute(&format!("SELECT * FROM {table}")).await.is_err(),
            "{table}"
        );
    }
    // The lock was given back with the failure, and a mended file goes in.
    let waiting = Options {
        lock_timeout: Duration::ZERO,
        ..options(&db)
    };
    let mut tree = with(
        &db,
        "9002_broken.up.sql",
        "CREATE TABLE half (id TEXT PRIMARY KEY)",
    );
    tree.push(Migration {
        version: "9003_later.up.sql".into(),
        sql: "CREATE TABLE later (id TEXT)".into(),
    });
    let report = migrations::up(&waiting, &tree).await.unwrap();
    assert_eq!(report.applied, ["9002_broken.up.sql", "9003_later.up.sql"]);
}

async fn check_panic(db: TestDb) {
    let (run, tree) = (
        options(&db),
        with(&db, "9999_more.up.sql", "CREATE TABLE more (id TEXT)"),
    );
    let panicked = tokio::spawn(async move {
        migrations::up_with(&run, &tree, |step| {
            assert_ne!(
                step,
                Progress::Applying("9999_more.up.sql"),
                "a test says so"
            );
        })
        .await
    });
    assert!(panicked.await.unwrap_err().is_panic());
    let tree = with(&db, "9999_more.up.sql", "CREATE TABLE more (id TEXT)");
    let report = migrations::up(&options(&db), &tree).await.unwrap();
    assert_eq!(
        (report.applied, report.already),
        (
            vec!["9999_more.up.sql".to_owned()],
            migrations::embedded(db.backend()).len()
        )
    );
}

async fn check_newer(db: TestDb) {
    let newer = with(&db, "9009_newer.up.sql", "CREATE TABLE newer (id TEXT)");
    migrations::up(&options(&db), &newer).await.unwrap();
    for outcome in [
        migrations::up(&options(&db), &files(&db)).await.map(drop),
        migrations::verify(&options(&db), &files(&db)).await,
    ] {
        let refused = outcome.unwrap_err();
        assert!(
            matches!(&refused, Error::Newer { version } if version == "9009_newer.up.sql"),
            "{refused:?}"
        );
        assert!(
            refused
                .to_string()
                .contains("CERTCTL_MIGRATIONS_ALLOW_NEWER"),
            "{refused}"
        );
    }
    let allowed = Options {
        allow_newer: true,
        ..options(&db)
    };
    assert!(
        migrations::up(&allowed, &files(&db))
            .await
            .unwrap()
            .applied
            .is_empty()
    );
    migrations::verify(&allowed, &files(&db)).await.unwrap();
    let status = migrations::status(&allowed.url, &files(&db)).await.unwrap();
    let unknown = status
        .iter()
        .find(|line| line.version == "9009_newer.up.sql")
        .unwrap();
    assert!(unknown.applied_at.is_some() && !unknown.matches);
}

async fn check_gap(db: TestDb) {
    up(&db).await;
    let early = with(&db, "0000_early.up.sql", "CREATE TABLE early (id TEXT)");
    let refused = migrations::up(&options(&db), &early).await.unwrap_err();
    assert!(
        matches!(&refused, Error::OutOfOrder { pending, applied } if pending == "0000_early.up.sql" && Some(applied) == versions(&db).last()),
        "{refused:?}"
    );
    assert!(db.execute("SELECT * FROM early").await.is_err());
}

async fn check_lock_timeout(db: TestDb) {
    // A runner that is stopped by its own progress holds the lock: on SQLite between BEGIN IMMEDIATE and COMMIT of a file.
    let held = match db.backend() {
        Backend::Postgres => {
            let mut other = db.read().await.unwrap();
            hold(&mut other, "SELECT pg_advisory_lock(1200880008772168183)").await;
            other
        }
        Backend::Sqlite => {
            up(&db).await;
            let mut other = db.read().await.unwrap();
            hold(&mut other, "BEGIN IMMEDIATE").await;
            other
        }
    };
    let impatient = Options {
        lock_timeout: Duration::from_millis(20),
        ..options(&db)
    };
    let tree = with(&db, "9999_more.up.sql", "CREATE TABLE more (id TEXT)");
    let mut waited = false;
    let refused = migrations::up_with(&impatient, &tree, |step| {
        waited |= step == Progress::Waiting;
    })
    .await
    .unwrap_err();
    let Error::Locked { holder, .. } = &refused else {
        panic!("{refused:?}")
    };
    match db.backend() {
        Backend::Postgres => assert!(waited && holder.parse::<u32>().is_ok(), "{holder}"),
        Backend::Sqlite => assert_eq!(holder, "unknown"),
    }
    drop(held);
}

async fn hold(conn: &mut certctl_repository::Conn, sql: &str) {
    use diesel_async::SimpleAsyncConnection as _;
    match conn {
        certctl_repository::Conn::Postgres(object) => object.batch_execute(sql).await.unwrap(),
        certctl_repository::Conn::Sqlite(object) => object.batch_execute(sql).await.unwrap(),
    }
}

async fn check_no_transaction(db: TestDb) {
    // Neither database does these inside a transaction.
    let sql = match db.backend() {
        Backend::Postgres => {
            "-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS teams_extra ON teams (description)"
        }
        Backend::Sqlite => "-- no-transaction\nVACUUM;",
    };
    let report = migrations::up(&options(&db), &with(&db, "9999_outside.up.sql", sql))
        .await
        .unwrap();
    assert_eq!(
        report.applied.len(),
        migrations::embedded(db.backend()).len() + 1
    );
    let inside = sql.trim_start_matches("-- no-transaction\n");
    let refused = migrations::up(
        &options(&db),
        &[
            with(&db, "9999_outside.up.sql", sql),
            vec![Migration {
                version: "9999_z_inside.up.sql".into(),
                sql: inside.into(),
            }],
        ]
        .concat(),
    )
    .await;
    assert!(
        matches!(&refused, Err(Error::Apply { version, .. }) if version == "9999_z_inside.up.sql"),
        "{refused:?}"
    );
}

async fn check_read_only(db: TestDb) {
    let status = migrations::status(&options(&db).url, &files(&db))
        .await
        .unwrap();
    assert!(
        status
            .iter()
            .all(|line| line.applied_at.is_none() && line.matches)
            && status.len() == files(&db).len()
    );
    let refused = migrations::verify(&options(&db), &files(&db))
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, Error::Pending { pending } if pending.len() == files(&db).len()),
        "{refused:?}"
    );
    assert_eq!(
        refused.to_string(),
        format!(
            "{} migrations are not applied, the first is 0001_initial.up.sql",
            files(&db).len()
        )
    );
    if let Some(path) = db.url().strip_prefix("sqlite://") {
        assert!(!Path::new(path).exists());
    } else {
        assert!(db.execute("SELECT * FROM schema_migrations").await.is_err());
    }
    up(&db).await;
    let status = migrations::status(&options(&db).url, &files(&db))
        .await
        .unwrap();
    assert!(
        status
            .iter()
            .all(|line| line.applied_at.is_some() && line.matches)
    );
}

async fn check_seed(db: TestDb) {
    up(&db).await;
    let count = async |from: &str| {
        db.text(&format!(
            "SELECT CAST(count(*) AS text) AS value FROM {from}"
        ))
        .await
    };
    let permissions = certctl_domain::access::Permission::ALL.len().to_string();
    assert_eq!(count("permissions").await, permissions);
    assert_eq!(
        count("roles").await,
        certctl_domain::access::SeededRole::ALL.len().to_string()
    );
    assert_eq!(
        count("agents WHERE status = 'Online'").await,
        certctl_domain::agent::SENTINELS.len().to_string()
    );
    assert_eq!(count("policy_rules").await, "4");
    assert_eq!(count("renewal_policies WHERE id = 'rp-default'").await, "1");
    // What an operator took away or made on purpose is not undone, but for what is absent.
    db.execute("UPDATE issuers SET id = 'iss-mine', name = 'Mine'; DELETE FROM policy_rules WHERE id = 'pr-require-owner'; \
        UPDATE renewal_policies SET renewal_window_days = 7 WHERE id = 'rp-default'").await.unwrap();
    up(&db).await;
    assert_eq!(
        db.texts("SELECT id AS value FROM issuers").await,
        ["iss-mine"]
    );
    assert_eq!(count("policy_rules").await, "4");
    assert_eq!(
        count("renewal_policies WHERE renewal_window_days = 7").await,
        "1"
    );
}

async fn check_progress(db: TestDb) {
    let mut told = Vec::new();
    let note = |step: Progress<'_>| {
        told.push(match step {
            Progress::Waiting => "waiting".to_owned(),
            Progress::Applying(version) => format!("applying {version}"),
            Progress::Applied(version, _) => format!("applied {version}"),
            Progress::Overtaken(version) => format!("overtaken {version}"),
            Progress::Seeding => "seeding".to_owned(),
        });
    };
    migrations::up_with(&options(&db), &files(&db), note)
        .await
        .unwrap();
    let mut expected: Vec<String> = versions(&db)
        .iter()
        .flat_map(|version| [format!("applying {version}"), format!("applied {version}")])
        .collect();
    expected.push("seeding".into());
    assert_eq!(told, expected);
}

#[test]
fn every_file_of_the_tree_is_embedded() {
    for backend in [Backend::Postgres, Backend::Sqlite] {
        let folder = format!("../../migrations/{backend}");
        let embedded = migrations::embedded(backend);
        let read = migrations::from_folder(Path::new(&folder), backend).unwrap();
        for (carried, found) in embedded.iter().zip(&read) {
            // Not `assert_eq!`, which would print both files.
            assert!(
                carried == found,
                "{backend}: {} is not the file of the tree, or was changed since the build",
                carried.version
            );
        }
        assert_eq!(
            embedded
                .iter()
                .map(|file| file.version.clone())
                .collect::<BTreeSet<_>>(),
            up_files(Path::new(&folder))
        );
        // From the folder above the subfolder of the database is taken.
        let above = migrations::from_folder(Path::new("../../migrations"), backend).unwrap();
        assert!(above == read, "{backend}");
    }
}

#[test]
fn a_folder_without_migrations_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("0001_a.down.sql"), "").unwrap();
    for path in [folder.path().to_owned(), folder.path().join("absent")] {
        let refused = migrations::from_folder(&path, Backend::Sqlite).unwrap_err();
        assert!(
            matches!(&refused, Error::Read { path: named, .. } if *named == path),
            "{refused:?}"
        );
    }
}
