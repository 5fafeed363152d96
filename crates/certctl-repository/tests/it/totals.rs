//! Kept totals are those that a count would find, whatever happens to the rows and whoever does it at the same time.

use certctl_domain::notification::NotificationType;
use certctl_repository::{
    Backend, Error, agents,
    audit_events::{self, AuditFilter},
    certificates::{self, CertificateFilter},
    jobs,
    notifications::{self, Notice},
    totals::{self, Counted},
    transaction,
};
use certctl_testkit::{Basics, TestDb, database::START, db_tests, entities};

/// What is kept and what is there, of both tables.
async fn both(db: &TestDb) -> [(i64, i64); 2] {
    let mut pairs = [(0, 0); 2];
    for (pair, (counted, table)) in pairs.iter_mut().zip([
        (Counted::Certificates, "managed_certificates"),
        (Counted::Jobs, "jobs"),
    ]) {
        let there = format!("SELECT CAST(count(*) AS TEXT) AS value FROM {table}");
        *pair = (
            totals::of(reader!(db), counted).await.unwrap(),
            db.text(&there).await.parse().unwrap(),
        );
    }
    pairs
}

fn notice(basics: &Basics, key: &str) -> Notice {
    Notice {
        kind: NotificationType::Revocation,
        certificate_id: basics.certificate.clone(),
        message: "was revoked".into(),
        key: key.into(),
    }
}

db_tests! {
    async fn rows_are_counted_as_they_come_and_go(db: TestDb) {
        assert_eq!(both(&db).await, [(0, 0); 2]);
        let basics = db.seed_basics().await;
        let renewal = entities::renewal("job-1", &basics.certificate);
        tx!(db, conn => jobs::insert_all(conn, std::slice::from_ref(&renewal)).await).unwrap();
        assert_eq!(both(&db).await, [(1, 1); 2]);
        // A row that is there already is no new one, and what is rolled back never was.
        let rolled_back: Result<(), Error> = transaction!(db, "try", conn => {
            certificates::insert(conn, &basics.certificate("mc-2")).await?;
            assert_eq!(totals::of(conn, Counted::Certificates).await?, 2, "a transaction sees its own");
            certificates::insert(conn, &basics.certificate("mc-2")).await
        });
        rolled_back.unwrap_err();
        assert_eq!(both(&db).await, [(1, 1); 2]);
        let many = "INSERT INTO managed_certificates (id, name, common_name, owner_id, team_id, issuer_id, renewal_policy_id) \
            SELECT 'mc-' || r.id || o.id, 'mc-' || r.id || o.id, 'cn', 'o-alice', 't-platform', 'iss-local', 'rp-standard' FROM roles r CROSS JOIN roles o";
        db.execute(many).await.unwrap();
        let [(kept, there), _] = both(&db).await;
        assert!(kept == there && there > 40, "{kept} {there}");
        assert_eq!(certificates::count(reader!(db), &CertificateFilter::default()).await.unwrap(), there);
        // Jobs go with their certificate.
        db.execute("DELETE FROM managed_certificates WHERE id = 'mc-web'").await.unwrap();
        assert_eq!(both(&db).await, [(there - 1, there - 1), (0, 0)]);
        db.execute("DELETE FROM managed_certificates").await.unwrap();
        assert_eq!(both(&db).await, [(0, 0); 2]);
    }

    async fn writers_at_the_same_time_are_all_counted(db: TestDb) {
        let basics = db.seed_basics().await;
        let writers = (0..8).map(|writer| {
            let (db, basics) = (db.db(), basics.clone());
            tokio::spawn(async move {
                for number in 0..10 {
                    let certificate = basics.certificate(&format!("mc-{writer}-{number}"));
                    let renewal = entities::renewal(&format!("job-{writer}-{number}"), &certificate.id);
                    let done: Result<(), Error> = transaction!(db, "write", conn => {
                        certificates::insert(conn, &certificate).await?;
                        jobs::insert_all(conn, std::slice::from_ref(&renewal)).await
                    });
                    done.unwrap();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        assert_eq!(both(&db).await, [(81, 81), (80, 80)]);
    }

    async fn agents_targets_and_notifications_are_counted_too(db: TestDb) {
        let basics = db.seed_basics().await;
        let all = async || {
            let mut found = Vec::new();
            for (counted, there) in [
                (Counted::Agents, "agents WHERE retired_at IS NULL"),
                (Counted::RetiredAgents, "agents WHERE retired_at IS NOT NULL"),
                (Counted::Targets, "deployment_targets"),
                (Counted::Notifications, "notification_events"),
            ] {
                let kept = totals::of(reader!(db), counted).await.unwrap();
                let there = format!("SELECT CAST(count(*) AS TEXT) AS value FROM {there}");
                assert_eq!(kept.to_string(), db.text(&there).await, "{counted:?}");
                found.push(kept);
            }
            found
        };
        let [agents, retired, targets, notices] = all().await.try_into().unwrap();
        let later = match db.backend() {
            Backend::Postgres => "now()",
            Backend::Sqlite => "5",
        };
        let insert = |id: &str, retired: &str| format!("INSERT INTO agents (id, name, hostname, api_key_hash, retired_at) VALUES ('{id}', '{id}', 'h', '{id}', {retired})");
        db.execute(&insert("ag-2", "NULL")).await.unwrap();
        db.execute(&insert("ag-3", later)).await.unwrap();
        assert_eq!(all().await, [agents + 1, retired + 1, targets, notices]);
        tx!(db, conn => agents::retire(conn, &basics.agent, None, START).await).unwrap();
        tx!(db, conn => agents::retire(conn, &basics.agent, Some("twice"), START).await).unwrap();
        assert_eq!(all().await, [agents, retired + 2, targets, notices]);
        db.execute("UPDATE agents SET retired_at = NULL").await.unwrap();
        assert_eq!(all().await, [agents + retired + 2, 0, targets, notices]);
        db.execute(&format!("UPDATE agents SET retired_at = {later} WHERE id = 'ag-2'")).await.unwrap();
        db.execute("DELETE FROM agents WHERE id IN ('ag-2', 'ag-3')").await.unwrap();
        assert_eq!(all().await, [agents + retired, 0, targets, notices]);
        let written = tx!(db, conn => notifications::enqueue_all(conn, &[notice(&basics, "a"), notice(&basics, "b"), notice(&basics, "a")], START).await).unwrap();
        assert_eq!((written, all().await), (2, vec![agents + retired, 0, targets, notices + 2]));
        db.execute("DELETE FROM certificate_target_mappings").await.unwrap();
        db.execute("DELETE FROM deployment_targets").await.unwrap();
        db.execute("DELETE FROM notification_events").await.unwrap();
        assert_eq!(all().await, [agents + retired, 0, 0, 0]);
    }

    async fn audit_events_are_counted_whether_they_are_sealed_or_wait(db: TestDb) {
        let everything = AuditFilter::default();
        let bytes = match db.backend() {
            Backend::Postgres => "bytea",
            Backend::Sqlite => "BLOB",
        };
        let counted = async || audit_events::count(reader!(db), &everything).await.unwrap();
        let before = counted().await;
        for (from, to) in [(0, 3), (3, 5)] {
            let events: Vec<_> = (from..to).map(|number| entities::event(&format!("audit-{number}"), START)).collect();
            tx!(db, conn => audit_events::insert_all(conn, &events).await).unwrap();
            assert_eq!(counted().await, before + to);
            // What the sealer does: where a row waited, it has a position.
            db.execute(&format!("INSERT INTO audit_positions (seq, event_id, batch, leaf) \
                SELECT (SELECT count(*) FROM audit_positions) + row_number() OVER (ORDER BY event_id) - 1, event_id, 0, CAST('' AS {bytes}) \
                FROM audit_unsealed")).await.unwrap();
            db.execute("DELETE FROM audit_unsealed").await.unwrap();
            assert_eq!(counted().await, before + to);
        }
        let there = db.text("SELECT CAST(count(*) AS TEXT) AS value FROM audit_events").await;
        assert_eq!(counted().await.to_string(), there);
    }

    async fn a_table_that_is_emptied_at_once_has_no_rows(db: TestDb) {
        db.seed_basics().await;
        let sql = match db.backend() {
            Backend::Postgres => "TRUNCATE managed_certificates CASCADE",
            Backend::Sqlite => "DELETE FROM managed_certificates",
        };
        db.execute(sql).await.unwrap();
        assert_eq!(both(&db).await, [(0, 0); 2]);
    }
}
