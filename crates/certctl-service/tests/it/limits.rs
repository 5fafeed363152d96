//! Limits that replicas count together.

use std::{sync::Arc, time::Duration};

use certctl_service::{
    Error, Services,
    config::ServiceConfig,
    limits::{Buckets, LimitsConfig, OnError, Rate, Site, Verdict},
};
use certctl_testkit::{TestDb, database, db_tests, services::config};
use tokio::task::JoinSet;

use crate::support::{World, outcome};

/// A window that no test outlasts, so that nothing is freed in it.
static OPEN: Site = Site {
    name: "test",
    window: Duration::from_secs(24 * 3600),
    max_keys: 1000,
    on_error: OnError::Open,
};
static CLOSED: Site = Site {
    name: "login",
    window: Duration::from_secs(24 * 3600),
    max_keys: 1000,
    on_error: OnError::Closed,
};

fn sharing() -> ServiceConfig {
    let limits = LimitsConfig {
        shared: true,
        ..LimitsConfig::default()
    };
    ServiceConfig { limits, ..config() }
}

/// Processes on one database that hear each other.
struct Replicas {
    services: Vec<Services>,
    _hearing: JoinSet<()>,
}

impl Replicas {
    async fn new(world: &World, count: usize) -> Self {
        let names = (0..count).map(|number| format!("replica:{number}"));
        let services: Vec<Services> = names
            .map(|name| world.replica(&name, sharing()).0)
            .collect();
        let mut hearing = JoinSet::new();
        for one in &services {
            let one = one.clone();
            hearing.spawn(async move {
                // It ends with the connection, at the end of the test.
                let _ = one.hear_recalls().await;
            });
        }
        let replicas = Self {
            services,
            _hearing: hearing,
        };
        let sql = "SELECT count(*)::text AS value FROM pg_stat_activity \
            WHERE datname = current_database() AND query LIKE 'LISTEN%certctl_rate_limits%'";
        while world.db.text(sql).await != count.to_string() {
            tokio::task::yield_now().await;
        }
        replicas
    }

    /// What became of `calls` calls by each of eight tasks of each replica.
    async fn rush(&self, limit: u32, key: &'static str, calls: usize) -> usize {
        let mut tasks = JoinSet::new();
        for services in &self.services {
            for _ in 0..8 {
                let services = services.clone();
                tasks.spawn(async move {
                    let mut allowed = 0;
                    for _ in 0..calls {
                        allowed += usize::from(ask(&services, limit, key).await);
                    }
                    allowed
                });
            }
        }
        tasks.join_all().await.into_iter().sum()
    }

    fn commits(&self) -> u64 {
        self.services.iter().map(|one| one.db().commits()).sum()
    }
}

async fn ask(services: &Services, limit: u32, key: &str) -> bool {
    services.limits().admit(&OPEN, limit, key).await == Verdict::Allowed
}

/// Statements of one exchange at the most: BEGIN, lock, store, recall, COMMIT.
const STATEMENTS: u64 = 5;

mod postgres {
    use super::*;

    #[test]
    fn a_hundred_permits_of_three_replicas_admit_exactly_a_hundred() {
        database::run(TestDb::postgres, |db| async move {
            let world = World::new(db).await;
            let replicas = Replicas::new(&world, 3).await;
            assert_eq!(replicas.rush(100, "a", 40).await, 100);
            assert_eq!(
                replicas.rush(10, "b", 5).await,
                10,
                "the proof of the contract: 100 calls, 3 instances, cap 10"
            );
            // A start after all of them died forgets nothing.
            drop(replicas);
            let late = Replicas::new(&world, 1).await;
            assert!(!ask(&late.services[0], 100, "a").await);
            assert!(!ask(&late.services[0], 10, "b").await);
        });
    }

    #[test]
    fn no_permit_lies_idle_at_one_replica_while_another_refuses() {
        database::run(TestDb::postgres, |db| async move {
            let world = World::new(db).await;
            let replicas = Replicas::new(&world, 3).await;
            let [one, two, three] = &replicas.services[..] else {
                unreachable!()
            };
            // The first two hold a tenth each, and spend one of it.
            assert!(ask(one, 100, "a").await && ask(two, 100, "a").await);
            let mut allowed = 2;
            while ask(three, 100, "a").await {
                allowed += 1;
            }
            assert_eq!(allowed, 100);
            assert!(!ask(one, 100, "a").await && !ask(two, 100, "a").await);
            // What is refused is known without another question.
            let commits = replicas.commits();
            for _ in 0..1000 {
                assert!(!ask(one, 100, "a").await);
            }
            assert_eq!(replicas.commits(), commits);
        });
    }

    #[test]
    fn a_request_costs_a_tenth_of_a_query_at_most() {
        database::run(TestDb::postgres, |db| async move {
            let world = World::new(db).await;
            let replicas = Replicas::new(&world, 3).await;
            let before = replicas.commits();
            let requests = 24 * 400;
            assert_eq!(replicas.rush(1_000_000, "a", 400).await, requests);
            let exchanges = replicas.commits() - before;
            assert!(
                exchanges * STATEMENTS * 10 <= requests as u64,
                "{exchanges} exchanges for {requests} requests"
            );
            assert!(exchanges > 0, "they count together");
        });
    }
}

db_tests! {
    async fn what_one_process_held_is_free_for_the_next_when_it_ends_in_order(db: TestDb) {
        let world = World::new(db).await;
        let (first, _) = world.replica("first:1", sharing());
        for _ in 0..3 {
            assert!(ask(&first, 30, "a").await);
        }
        first.give_back_permits().await;
        let (second, _) = world.replica("second:2", sharing());
        let mut allowed = 0;
        while ask(&second, 30, "a").await {
            allowed += 1;
        }
        assert_eq!(allowed, 27);
        let Verdict::Limited { retry_after } = second.limits().admit(&OPEN, 30, "a").await else { panic!() };
        assert!(retry_after <= OPEN.window && retry_after > OPEN.window - Duration::from_secs(600), "{retry_after:?}");
        assert!(ask(&second, 30, "b").await, "another key has its own window");
        assert!(ask(&second, 0, "a").await, "zero is no limit");
    }

    async fn without_the_database_a_replica_counts_by_itself_or_admits_nothing(db: TestDb) {
        let world = World::new(db).await;
        let (services, _) = world.replica("lonely:1", sharing());
        services.db().close();
        let mut allowed = 0;
        for _ in 0..20 {
            allowed += usize::from(ask(&services, 7, "a").await);
        }
        assert_eq!(allowed, 7);
        let closed = services.limits().admit(&CLOSED, 7, "a").await;
        assert_eq!(closed.retry_after_seconds(), Some(1));
        let set = bucket_set(&services);
        assert_eq!(spend(&set, &services, 200).await, 100);
    }

    async fn buckets_are_shared_but_for_ten_tokens_of_credit(db: TestDb) {
        let world = World::new(db).await;
        let replicas: Vec<_> = (0..3).map(|number| world.replica(&format!("replica:{number}"), sharing()).0).collect();
        let sets: Vec<_> = replicas.iter().map(bucket_set).collect();
        let mut allowed = 0;
        for _ in 0..100 {
            for (set, services) in sets.iter().zip(&replicas) {
                allowed += spend(set, services, 2).await;
            }
        }
        assert!((100..=130).contains(&allowed), "{allowed}");
        let exchanges: u64 = replicas.iter().map(|one| one.db().commits()).sum();
        assert!(exchanges * 10 <= 2 * 600 && exchanges > 0, "{exchanges} for 600 requests");
        for services in &replicas {
            services.flush_limits().await;
        }
        let (late, _) = world.replica("late:4", sharing());
        let set = bucket_set(&late);
        assert!(spend(&set, &late, 20).await <= 10, "the bucket is empty for a new replica too");
        let owed = world.db.text("SELECT CAST(tokens <= 0 AS TEXT) AS value FROM rate_limit_tokens").await;
        assert!(["true", "1"].contains(&owed.as_str()), "{owed}");
    }

    async fn exports_are_counted_over_all_replicas(db: TestDb) {
        let world = World::with(db, ServiceConfig { exports_per_hour: 2, ..sharing() }).await;
        let id = &world.ids.certificate;
        let _key = world.issued().await;
        let (other, _) = world.replica("other:2", ServiceConfig { exports_per_hour: 2, ..sharing() });
        assert_eq!(outcome(world.services.export_pem(&world.admin, id).await), "ok");
        assert_eq!(outcome(other.export_pem(&world.admin, id).await), "ok");
        assert_eq!(outcome(other.export_pem(&world.admin, id).await), "too many");
        // The first one tells what it spent, so the second need not wait for it.
        world.services.flush_limits().await;
        let Err(Error::TooManyExports { retry_after }) = other.export_pem(&world.admin, id).await else { panic!() };
        assert!(retry_after <= 3600, "{retry_after}");
        assert_eq!(outcome(world.services.export_pem(&world.admin, id).await), "too many");
    }

    async fn counts_that_are_out_of_date_are_swept(db: TestDb) {
        let world = World::with(db, sharing()).await;
        assert!(ask(&world.services, 5, "kept").await);
        let set = bucket_set(&world.services);
        assert_eq!(spend(&set, &world.services, 1).await, 1);
        world.services.flush_limits().await;
        let (old, window) = match world.db.backend() {
            certctl_repository::Backend::Postgres => ("TIMESTAMPTZ '2020-01-01'", "'[]'::jsonb"),
            certctl_repository::Backend::Sqlite => ("1577836800000000", "'[]'"),
        };
        let values = |number: u32| format!("('test:old-{number}', 'test', {window}, {old}, {old})");
        let rows: Vec<_> = (0..6000).map(values).collect();
        let sql = format!("INSERT INTO rate_limit_buckets (bucket_key, site, slices, updated_at, expires_at) VALUES {}", rows.join(", "));
        world.db.execute(&sql).await.unwrap();
        let sql = format!("INSERT INTO rate_limit_tokens (bucket_key, tokens, burst, per_second, updated_at) VALUES \
            ('client:full', 1, 100, 1000, {old}), ('client:slow', -1000000000000, 100, 1, {old})");
        world.db.execute(&sql).await.unwrap();
        assert_eq!(world.services.sweep_limits().await.unwrap(), 6001);
        assert_eq!(world.db.texts("SELECT bucket_key AS value FROM rate_limit_buckets").await, ["test:kept"]);
        let tokens = world.db.texts("SELECT bucket_key AS value FROM rate_limit_tokens ORDER BY 1").await;
        assert_eq!(tokens, ["client:slow", "client:test"], "one is not full yet, one is in use");
    }
}

/// Buckets of a hundred tokens that do not fill while a test runs.
fn bucket_set(services: &Services) -> Arc<Buckets> {
    let rate = Rate {
        per_second: 0.001,
        burst: 100.0,
    };
    let idle = Duration::from_secs(3600);
    services.limits().token_buckets("client", rate, idle, 1000)
}

async fn spend(set: &Buckets, services: &Services, times: usize) -> usize {
    let mut allowed = 0;
    for _ in 0..times {
        allowed += usize::from(set.take("test".to_owned(), services.clock().now()).await);
    }
    allowed
}
