//! Audit events: added, listed, and never changed.

use std::time::Duration;

use certctl_domain::{audit::EventCategory, id::AuditEventId, page::PageRequest};
use certctl_repository::{
    Error,
    audit_events::{self, AuditFilter},
};
use certctl_testkit::{TestDb, database::START, db_tests, entities};

const SECOND: Duration = Duration::from_secs(1);

async fn seed(db: &TestDb) {
    let mut events = vec![
        entities::event("audit-1", START),
        entities::event("audit-2", START + SECOND),
        entities::event("audit-3", START + SECOND),
    ];
    events[1].category = EventCategory::Auth;
    events[1].details = serde_json::json!({"b": [1.5, null], "a": "ü"});
    tx!(db, conn => audit_events::insert_all(conn, &events).await).unwrap();
}

db_tests! {
    async fn events_are_found_and_listed_newest_first(db: TestDb) {
        seed(&db).await;
        let all = AuditFilter::default();
        let cases = [
            (all.clone(), "audit-3 audit-2 audit-1"),
            (AuditFilter { category: Some(EventCategory::Auth), ..all.clone() }, "audit-2"),
            (AuditFilter { since: Some(START + SECOND), ..all.clone() }, "audit-3 audit-2"),
            (AuditFilter { until: Some(START), ..all.clone() }, "audit-1"),
            (AuditFilter { since: Some(START + 2 * SECOND), ..all.clone() }, ""),
        ];
        for (filter, expected) in cases {
            let page = audit_events::list(reader!(db), &filter, PageRequest::default()).await.unwrap();
            let ids: Vec<&str> = page.rows.iter().map(|event| event.id.as_str()).collect();
            assert_eq!(ids.join(" "), expected, "{filter:?}");
            assert_eq!(usize::try_from(page.total).unwrap(), ids.len());
        }
        let page = audit_events::list(reader!(db), &all, PageRequest::lenient(Some("2"), Some("2"))).await.unwrap();
        assert_eq!((page.rows.len(), page.total), (1, 3));
        let found = audit_events::find(reader!(db), &AuditEventId::from_stored("audit-2".into())).await.unwrap();
        assert_eq!(found.details, serde_json::json!({"a": "ü", "b": [1.5, null]}));
        assert_eq!(found.category, EventCategory::Auth);
        let absent = audit_events::find(reader!(db), &AuditEventId::from_stored("audit-x".into())).await;
        assert!(matches!(absent, Err(Error::NotFound)), "{absent:?}");
        tx!(db, conn => audit_events::insert_all(conn, &[]).await).unwrap();
    }

    async fn no_statement_changes_or_removes_an_event(db: TestDb) {
        seed(&db).await;
        let before = db.texts("SELECT id || actor AS value FROM audit_events ORDER BY id").await;
        let insert = "audit_events (id, actor, actor_type, action, resource_type, resource_id, timestamp) \
            SELECT id, 'mallory', actor_type, action, resource_type, resource_id, timestamp FROM audit_events WHERE id = 'audit-1'";
        let mut statements = vec![
            "UPDATE audit_events SET actor = 'mallory'".to_owned(),
            "UPDATE audit_events SET actor = 'mallory' WHERE id = 'audit-1'".to_owned(),
            "DELETE FROM audit_events".to_owned(),
            "DELETE FROM audit_events WHERE id = 'audit-1'".to_owned(),
            format!("INSERT INTO {insert} ON CONFLICT (id) DO UPDATE SET actor = 'mallory'"),
        ];
        statements.push(match db.backend() {
            certctl_repository::Backend::Postgres => "TRUNCATE audit_events".to_owned(),
            certctl_repository::Backend::Sqlite => format!("INSERT OR REPLACE INTO {insert}"),
        });
        for statement in statements {
            let refused = db.execute(&statement).await.expect_err(&statement);
            let said = std::error::Error::source(&refused).map(ToString::to_string);
            assert_eq!(said.as_deref(), Some("audit events are never changed"), "{statement}");
        }
        assert_eq!(db.texts("SELECT id || actor AS value FROM audit_events ORDER BY id").await, before);
    }

    async fn many_events_are_added_at_once(db: TestDb) {
        let events: Vec<_> = (0..5_001).map(|number| entities::event(&format!("audit-{number}"), START)).collect();
        tx!(db, conn => audit_events::insert_all(conn, &events).await).unwrap();
        let page = audit_events::list(reader!(db), &AuditFilter::default(), PageRequest::default()).await.unwrap();
        assert_eq!((page.total, page.rows.len()), (5_001, 50));
        // One that is there already refuses them all.
        let twice = [entities::event("audit-new", START), entities::event("audit-1", START)];
        assert!(tx!(db, conn => audit_events::insert_all(conn, &twice).await).is_err());
        let page = audit_events::list(reader!(db), &AuditFilter::default(), PageRequest::default()).await.unwrap();
        assert_eq!(page.total, 5_001);
    }
}
