//! Transactions: all or nothing, again when another came first, and counted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use certctl_domain::{
    id::{JobId, TeamId},
    time::Timestamp,
};
use certctl_repository::{
    Attempts, Backend, Conn, Db, DbOptions, Error, audit_events, intents, jobs::claim, teams,
    testing::prepared, transaction,
};
use certctl_testkit::{TestDb, db_tests, entities};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// Remembers every name with its labels and how often or how high it was counted.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<BTreeMap<String, u64>>>);

struct Entry(Recorded, String);

impl CounterFn for Entry {
    fn increment(&self, value: u64) {
        *self.0.0.lock().unwrap().entry(self.1.clone()).or_default() += value;
    }

    fn absolute(&self, _value: u64) {
        panic!("nothing sets {}", self.1);
    }
}

impl HistogramFn for Entry {
    fn record(&self, value: f64) {
        assert!((0.0..600.0).contains(&value), "{}: {value} s", self.1);
        self.increment(1);
    }
}

impl Recorded {
    fn entry(&self, key: &Key) -> Arc<Entry> {
        let labels: Vec<String> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        Arc::new(Entry(
            self.clone(),
            format!("{} {}", key.name(), labels.join(" ")),
        ))
    }

    fn of(&self, name: &str) -> u64 {
        self.0.lock().unwrap().get(name).copied().unwrap_or(0)
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.entry(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        panic!("nothing here records the gauge {key}");
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.entry(key))
    }
}

/// What a transaction that came second is told.
fn contention() -> Error {
    Error::Contention(diesel::result::Error::RollbackTransaction)
}

async fn exists(db: &Db, id: &str) -> bool {
    match teams::find(reader!(db), &TeamId::from_stored(id.to_owned())).await {
        Ok(_) => true,
        Err(Error::NotFound) => false,
        Err(error) => panic!("{error:?}"),
    }
}

db_tests! {
    async fn a_body_that_fails_writes_nothing(db: TestDb) {
        let before = db.commits();
        let failed: Result<(), Error> = transaction!(db, "fail", conn => {
            teams::insert(conn, &entities::team("t-1")).await?;
            teams::insert(conn, &entities::team("t-2")).await?;
            Err(Error::NotFound)
        });
        assert!(matches!(failed, Err(Error::NotFound)));
        assert!(!exists(&db, "t-1").await && !exists(&db, "t-2").await);
        assert_eq!(db.commits(), before);
        tx!(db, conn => teams::insert(conn, &entities::team("t-1")).await).unwrap();
        assert_eq!(db.commits(), before + 1);
    }

    async fn a_body_runs_again_when_another_transaction_came_first(db: TestDb) {
        let recorded = Recorded::default();
        let guard = metrics::set_default_local_recorder(&recorded);
        let runs = AtomicU32::new(0);
        let done: Result<u32, Error> = transaction!(db, "contended", conn => {
            let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
            teams::insert(conn, &entities::team("t-1")).await?;
            if run < 3 { Err(contention()) } else { Ok(run) }
        });
        assert_eq!(done.unwrap(), 3);
        assert!(exists(&db, "t-1").await);
        let gone: Result<(), Error> = transaction!(db, "gone", _conn => { Err(Error::NotFound) });
        assert!(gone.is_err());
        let runs = AtomicU32::new(0);
        let lost: Result<(), Error> = transaction!(db, "lost", conn => {
            runs.fetch_add(1, Ordering::SeqCst);
            teams::insert(conn, &entities::team("t-2")).await?;
            Err(contention())
        });
        assert!(matches!(lost, Err(Error::Contention(_))));
        assert_eq!(runs.load(Ordering::SeqCst), 10);
        assert!(!exists(&db, "t-2").await);
        drop(guard);

        for (name, expected) in [
            ("certctl_db_transactions_total name=contended outcome=committed", 1),
            ("certctl_db_transaction_attempts_total name=contended", 3),
            ("certctl_db_transaction_seconds name=contended", 1),
            ("certctl_db_transactions_total name=gone outcome=rolled_back", 1),
            ("certctl_db_transaction_attempts_total name=gone", 1),
            ("certctl_db_transactions_total name=lost outcome=failed", 1),
            ("certctl_db_transaction_attempts_total name=lost", 10),
            ("certctl_db_transaction_seconds name=lost", 1),
        ] {
            assert_eq!(recorded.of(name), expected, "{name}");
        }
        assert!(recorded.of("certctl_db_pool_wait_seconds ") >= 14);
        // The crate that describes them is above this one, so its names are read from its source.
        let described = include_str!("../../../certctl-telemetry/src/metrics_names.rs");
        for key in recorded.0.lock().unwrap().keys() {
            let name = key.split(' ').next().unwrap();
            assert!(described.contains(&format!("\"{name}\"")), "{name} is described nowhere");
        }
    }

    async fn two_transactions_that_meet_both_take_place(db: TestDb) {
        for id in ["t-1", "t-2"] {
            tx!(db, conn => teams::insert(conn, &entities::team(id)).await).unwrap();
        }
        // Each takes one row and then the other's. PostgreSQL ends one of them, which runs again; on SQLite the second waits.
        let runs = Arc::new(AtomicU32::new(0));
        let met = Arc::new(tokio::sync::Barrier::new(2));
        let sides: Vec<_> = [("t-1", "t-2"), ("t-2", "t-1")]
            .into_iter()
            .map(|(first, second)| {
                let (db, runs, met) = (db.db(), Arc::clone(&runs), Arc::clone(&met));
                tokio::spawn(async move {
                    let done: Result<(), Error> = transaction!(db, "meet", conn => {
                        let run = runs.fetch_add(1, Ordering::SeqCst);
                        for id in [first, second] {
                            let mut team = teams::find(conn, &TeamId::from_stored(id.to_owned())).await?;
                            team.description.push_str(first);
                            teams::update(conn, &team).await?;
                            if id == first && run < 2 {
                                let _ = tokio::time::timeout(Duration::from_millis(300), met.wait()).await;
                            }
                        }
                        Ok(())
                    });
                    done
                })
            })
            .collect();
        for side in sides {
            side.await.unwrap().unwrap();
        }
        let expected = if db.backend() == Backend::Postgres { 3 } else { 2 };
        assert_eq!(runs.load(Ordering::SeqCst), expected);
    }

    async fn a_transaction_that_is_dropped_rolls_back_and_leaves_the_pool_usable(db: TestDb) {
        for round in 0..25 {
            let mut attempts = Attempts::new("dropped");
            let mut transaction = db.begin(&mut attempts).await.unwrap();
            teams::insert(&mut transaction, &entities::team("t-1")).await.unwrap();
            drop(transaction);
            assert!(!exists(&db, "t-1").await, "{round}");
        }
        // The same for a future that is dropped while its body waits.
        let waiting = async {
            let done: Result<(), Error> = transaction!(db, "dropped", conn => {
                teams::insert(conn, &entities::team("t-1")).await?;
                std::future::pending().await
            });
            done
        };
        assert!(tokio::time::timeout(Duration::from_millis(100), waiting).await.is_err());
        assert!(!exists(&db, "t-1").await);
        tx!(db, conn => teams::insert(conn, &entities::team("t-1")).await).unwrap();
        assert!(exists(&db, "t-1").await);
        let (open, _, waiting) = db.pool_status();
        assert!(open <= 20 && waiting == 0);
    }

    async fn a_body_that_waits_for_others_keeps_nobody_waiting(db: TestDb) {
        // On SQLite the body stays on its thread while it talks to the database, and must leave it where it waits.
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let mut told = Some(told);
        let body = async {
            let done: Result<(), Error> = transaction!(db, "waits", conn => {
                teams::insert(conn, &entities::team("t-1")).await?;
                if let Some(told) = told.take() {
                    let _ = told.await;
                }
                Ok(())
            });
            done
        };
        // Both in one task, so on one thread.
        let (done, ()) = tokio::join!(body, async {
            assert!(!exists(&db, "t-1").await);
            tell.send(()).unwrap();
        });
        done.unwrap();
        assert!(exists(&db, "t-1").await);
    }

    async fn what_was_acknowledged_is_there(db: TestDb) {
        tx!(db, conn => teams::insert(conn, &entities::team("t-taken")).await).unwrap();
        // This body overlooks an error after which PostgreSQL would take nothing more, and answer COMMIT by rolling back.
        let done: Result<(), Error> = transaction!(db, "overlooked", conn => {
            teams::insert(conn, &entities::team("t-1")).await?;
            let taken = teams::insert(conn, &entities::team("t-taken")).await;
            assert!(matches!(taken, Err(Error::AlreadyExists)));
            Ok(())
        });
        assert_eq!(exists(&db, "t-1").await, done.is_ok(), "{done:?}");
        assert_eq!(done.is_ok(), db.backend() == Backend::Sqlite);
        tx!(db, conn => teams::insert(conn, &entities::team("t-2")).await).unwrap();
    }

    async fn a_reader_sees_nothing_that_is_not_committed(db: TestDb) {
        let inside: Result<bool, Error> = transaction!(db, "test", conn => {
            teams::insert(conn, &entities::team("t-1")).await?;
            Ok(exists(&db, "t-1").await)
        });
        assert!(!inside.unwrap());
        assert!(exists(&db, "t-1").await);
    }

    async fn a_database_answers_until_it_is_closed(db: TestDb) {
        db.ping().await.unwrap();
        let replica = db.replica();
        replica.close();
        for outcome in [replica.ping().await, tx!(replica, conn => teams::insert(conn, &entities::team("t-1")).await)] {
            assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
        }
        db.ping().await.unwrap();
        assert_eq!(format!("{:?}", db.db()), format!("Db({})", db.backend()));
    }

    async fn who_waits_too_long_for_the_writer_is_told(db: TestDb) {
        let impatient = Db::open(&DbOptions {
            url: certctl_domain::secret::Secret::new(db.url()),
            max_connections: 1,
            acquire_timeout: Duration::from_millis(50),
        }).unwrap();
        let mut attempts = Attempts::new("held");
        let held = impatient.begin(&mut attempts).await.unwrap();
        let refused = tx!(impatient, conn => teams::insert(conn, &entities::team("t-1")).await);
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        drop(held);
        tx!(impatient, conn => teams::insert(conn, &entities::team("t-1")).await).unwrap();
    }
}

mod sqlite {
    use super::{Db, DbOptions, Duration, Error};
    use certctl_domain::secret::Secret;
    use certctl_repository::testing;

    /// Programs that start at once on a new file all switch it to the write-ahead log; whoever does so while another one writes is
    /// refused without the busy timeout.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_new_file_is_opened_by_many_at_once() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..40 {
            let url = format!("sqlite://{}/{round}.db", folder.path().display());
            let users: Vec<_> = (0..4)
                .map(|_| {
                    let options = DbOptions {
                        url: Secret::new(url.as_str()),
                        max_connections: 1,
                        acquire_timeout: Duration::from_secs(30),
                    };
                    tokio::spawn(async move {
                        let db = Db::open(&options)?;
                        let write = "CREATE TABLE IF NOT EXISTS one (id TEXT); INSERT INTO one VALUES ('a')";
                        testing::execute(&db, write).await?;
                        Ok::<_, Error>(())
                    })
                })
                .collect();
            for user in users {
                user.await.unwrap().unwrap();
            }
        }
    }
}

mod postgres {
    use std::time::Duration;

    use super::{Db, DbOptions, Error, TestDb, entities, exists, teams};
    use certctl_testkit::database;

    #[test]
    fn a_connection_that_only_reads_is_thrown_away() {
        database::run(TestDb::postgres, |db| async move {
            let one = Db::open(&DbOptions {
                url: certctl_domain::secret::Secret::new(db.url()),
                max_connections: 1,
                acquire_timeout: Duration::from_secs(10),
            })
            .unwrap();
            // As it is after a fail-over: the connection lives and answers, and does not write.
            certctl_repository::testing::execute(&one, "SET default_transaction_read_only = on")
                .await
                .unwrap();
            let refused = tx!(one, conn => teams::insert(conn, &entities::team("t-1")).await);
            assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
            tx!(one, conn => teams::insert(conn, &entities::team("t-1")).await).unwrap();
        });
    }

    #[test]
    fn a_transaction_that_is_forgotten_is_ended_by_the_server() {
        database::run(TestDb::postgres, |db| async move {
            let set = db
                .text("SELECT current_setting('idle_in_transaction_session_timeout') AS value")
                .await;
            assert_eq!(set, "1min");
        });
    }

    #[test]
    fn connections_that_the_server_closed_are_replaced() {
        database::run(TestDb::postgres, |db| async move {
            let killer = db.replica();
            for round in 0..3 {
                // Several connections lie idle in the pool.
                let mut idle = Vec::new();
                for _ in 0..4 {
                    idle.push(db.read().await.unwrap());
                }
                drop(idle);
                let kill = "SELECT CAST(pg_terminate_backend(pid) AS text) AS value FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
                certctl_repository::testing::texts(&killer, kill)
                    .await
                    .unwrap();
                let id = format!("t-{round}");
                tx!(db, conn => teams::insert(conn, &entities::team(&id)).await).unwrap();
                assert!(exists(&db, &id).await);
            }
        });
    }

    #[test]
    fn a_server_that_ends_a_transaction_half_way_is_told_as_such() {
        database::run(TestDb::postgres, |db| async move {
            let killer = db.replica();
            let lost = tx!(db, conn => {
                teams::insert(conn, &entities::team("t-1")).await?;
                let kill = "SELECT CAST(pg_terminate_backend(pid) AS text) AS value FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
                certctl_repository::testing::texts(&killer, kill).await?;
                teams::insert(conn, &entities::team("t-2")).await
            });
            assert!(matches!(lost, Err(Error::Unavailable(_))), "{lost:?}");
            assert!(!exists(&db, "t-1").await);
        });
    }
}

/// Only PostgreSQL tells what a connection has prepared; the two share how that is asked for.
mod a_text_is_prepared_once {
    use super::*;

    #[test]
    fn postgres() {
        certctl_testkit::database::run(TestDb::postgres, |db| async move {
            let done: Result<(), Error> = transaction!(db, "prepared", conn => {
                some_of_everything(conn, "a", Timestamp::from_seconds(1_700_000_000)).await?;
                let once = prepared(conn).await?;
                assert!(once >= 4, "a claim, inserts of four rows and of one, and a list: {once}");
                some_of_everything(conn, "b", Timestamp::from_seconds(1_700_000_000)).await?;
                assert_eq!(prepared(conn).await?, once);
                Ok(())
            });
            done.unwrap();
        });
    }

    async fn some_of_everything(conn: &mut Conn, mark: &str, now: Timestamp) -> Result<(), Error> {
        let events: Vec<_> = (0..5)
            .map(|n| entities::event(&format!("{mark}{n}"), now))
            .collect();
        audit_events::insert_all(conn, &events).await?;
        claim::claim(conn, "me", Duration::from_secs(60), 10, now).await?;
        let ids: Vec<_> = (0..mark.as_bytes()[0])
            .map(|n| JobId::from_stored(format!("job-{n}")))
            .collect();
        intents::find_many(conn, &ids).await?;
        Ok(())
    }
}
