//! The rows that calls of the API leave: queued, written in one go, never lost.

use std::time::Duration;

use certctl_service::{
    Services,
    audit::ApiCall,
    config::{AuditConfig, ServiceConfig},
};
use certctl_testkit::{
    TestDb, db_tests,
    services::{config, services},
};
use futures_util::FutureExt as _;

use crate::kit::actor;

fn with(db: &TestDb, instance: &str, audit: AuditConfig) -> Services {
    let config = ServiceConfig {
        instance: instance.to_owned(),
        audit,
        ..config()
    };
    services(db.replica(), db.clock(), &std::env::temp_dir(), config)
}

/// A process in whose queue there is room for so many calls.
fn with_room(db: &TestDb, queue: usize) -> Services {
    let audit = AuditConfig {
        queue,
        ..AuditConfig::default()
    };
    with(db, "one", audit)
}

fn sampling(db: &TestDb, instance: &str, queue: usize) -> Services {
    let audit = AuditConfig {
        queue,
        sample_heartbeats: true,
        ..AuditConfig::default()
    };
    with(db, instance, audit)
}

fn call(path: &str) -> ApiCall {
    ApiCall {
        actor: Some(actor("una", &[], &certctl_domain::access::Scope::Global)),
        method: "GET".to_owned(),
        path: path.to_owned(),
        body_hash: String::new(),
        status: 200,
        latency_ms: 1,
        heartbeat_of: None,
    }
}

fn beat(agent: &str, status: u16) -> ApiCall {
    ApiCall {
        method: "POST".to_owned(),
        status,
        heartbeat_of: Some(agent.to_owned()),
        ..call(&format!("/api/v1/agents/{agent}/heartbeat"))
    }
}

/// The paths of the calls that are written.
async fn written(db: &TestDb) -> Vec<String> {
    db.texts("SELECT resource_id AS value FROM audit_events WHERE resource_type = 'api' ORDER BY 1")
        .await
}

db_tests! {
    async fn whoever_finds_the_queue_full_waits_and_nothing_is_lost(db: TestDb) {
        let one = with_room(&db, 2);
        for path in ["/a", "/b"] {
            one.record_api_call(&call(path)).now_or_never().expect("there is room");
        }
        let (third, fourth) = (call("/c"), call("/d"));
        let mut waiting = Box::pin(one.record_api_call(&third));
        assert!(waiting.as_mut().now_or_never().is_none());
        let mut given_up = Box::pin(one.record_api_call(&fourth));
        assert!(given_up.as_mut().now_or_never().is_none());
        drop(given_up);
        // Who is gone cannot be made to wait.
        one.record_abandoned_api_call(&call("/gone"));
        assert!(written(&db).await.is_empty(), "the queue is behind the answers");
        assert_eq!(one.flush_api_trail().await.unwrap(), 3);
        waiting.await;
        assert_eq!(one.flush_api_trail().await.unwrap(), 1);
        assert_eq!(written(&db).await, ["/a", "/b", "/c", "/gone"], "one who gave up waiting entered nothing by it");
        // All places are free again.
        for path in ["/e", "/f"] {
            one.record_api_call(&call(path)).now_or_never().expect("there is room");
        }
        assert_eq!(one.flush_api_trail().await.unwrap(), 2);
        assert_eq!(one.flush_api_trail().await.unwrap(), 0);
    }

    async fn what_cannot_be_written_waits_on(db: TestDb) {
        let one = with_room(&db, 3);
        one.record_api_call(&call("/a")).await;
        db.execute("ALTER TABLE audit_events RENAME TO audit_events_away").await.unwrap();
        one.flush_api_trail().await.unwrap_err();
        one.record_api_call(&call("/b")).await;
        one.flush_api_trail().await.unwrap_err();
        db.execute("ALTER TABLE audit_events_away RENAME TO audit_events").await.unwrap();
        assert_eq!(one.flush_api_trail().await.unwrap(), 2);
        assert_eq!(written(&db).await, ["/a", "/b"]);
    }

    async fn a_flush_writes_five_hundred_at_a_time(db: TestDb) {
        let one = with_room(&db, 10_000);
        for number in 0..499 {
            one.record_api_call(&call(&format!("/{number:04}"))).await;
        }
        assert!(one.api_trail_is_long().now_or_never().is_none(), "the tick is soon enough");
        for number in 499..1201 {
            one.record_api_call(&call(&format!("/{number:04}"))).await;
        }
        one.api_trail_is_long().now_or_never().expect("the bell rang");
        let commits = one.db().commits();
        assert_eq!(one.flush_api_trail().await.unwrap(), 1201);
        let found = written(&db).await;
        assert_eq!((found.len(), found[1200].as_str()), (1201, "/1200"));
        assert_eq!(one.db().commits() - commits, 3);
    }

    async fn in_turn_the_few_that_come_after_five_hundred_wait(db: TestDb) {
        let one = with_room(&db, 10_000);
        for number in 0..1201 {
            one.record_api_call(&call(&format!("/{number:04}"))).await;
        }
        let commits = one.db().commits();
        assert_eq!(one.flush_api_trail_in_turn().await.unwrap(), 1000);
        assert_eq!(one.db().commits() - commits, 2);
        assert_eq!(one.flush_api_trail_in_turn().await.unwrap(), 201, "nobody waits longer than a turn");
        assert_eq!(one.flush_api_trail_in_turn().await.unwrap(), 0);
        assert_eq!(written(&db).await.len(), 1201);
    }

    async fn of_heartbeats_one_for_each_agent_and_hour_is_enough_where_that_is_configured(db: TestDb) {
        let (one, two) = (sampling(&db, "one", 100), sampling(&db, "two", 100));
        let all = with_room(&db, 100);
        for _ in 0..3 {
            for agent in ["ag-1", "ag-2"] {
                one.record_api_call(&beat(agent, 204)).await;
            }
            one.record_api_call(&beat("ag-1", 410)).await;
        }
        assert_eq!(one.flush_api_trail().await.unwrap(), 5, "one of each agent, and every one that was refused");
        two.record_api_call(&beat("ag-1", 204)).await;
        assert_eq!(two.flush_api_trail().await.unwrap(), 1, "each replica samples by itself");
        db.clock().advance(Duration::from_secs(3599));
        one.record_api_call(&beat("ag-1", 204)).await;
        assert_eq!(one.flush_api_trail().await.unwrap(), 0);
        db.clock().advance(Duration::from_secs(1));
        one.record_api_call(&beat("ag-1", 204)).await;
        assert_eq!(one.flush_api_trail().await.unwrap(), 1, "a new hour");
        for _ in 0..3 {
            all.record_api_call(&beat("ag-1", 204)).await;
        }
        assert_eq!(all.flush_api_trail().await.unwrap(), 3, "not sampled, all are entered");
    }

    async fn a_heartbeat_that_gave_up_waiting_is_not_the_one_of_its_hour(db: TestDb) {
        let one = sampling(&db, "one", 1);
        one.record_api_call(&call("/a")).await;
        let sign = beat("ag-1", 204);
        let mut waiting = Box::pin(one.record_api_call(&sign));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(waiting);
        one.record_abandoned_api_call(&sign);
        one.record_abandoned_api_call(&sign);
        assert_eq!(one.flush_api_trail().await.unwrap(), 2);
        assert_eq!(written(&db).await, ["/a", "/api/v1/agents/ag-1/heartbeat"]);
    }
}
