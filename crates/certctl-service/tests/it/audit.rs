//! The audit trail: sealed, verified, and what is done to it found.

use std::{sync::Arc, time::Duration};

use certctl_domain::{
    access::{Actor, Permission, Scope},
    audit::AuditEvent,
    id::AuditEventId,
    page::PageRequest,
    time::Clock as _,
};
use certctl_pki::trail::{Keys, OfflineOptions, merkle, verify_export};
use certctl_repository::{Attempts, Backend, audit_events, transaction};
use certctl_service::{
    Error, Services,
    audit::{AuditVerification, ExportRange, SealPass, VerifyFrom},
    config::{AuditConfig, ServiceConfig},
};
use certctl_testkit::{
    TestDb,
    database::START,
    db_tests, entities,
    services::{config, services},
};
use tokio_util::sync::CancellationToken;

use crate::kit::actor;

const SECOND: Duration = Duration::from_secs(1);

/// A process on the database of a test.
fn process(db: &TestDb, instance: &str) -> Services {
    let config = ServiceConfig {
        instance: instance.to_owned(),
        ..config()
    };
    services(db.replica(), db.clock(), &std::env::temp_dir(), config)
}

fn auditor() -> Actor {
    let may = [
        Permission::AuditRead,
        Permission::AuditExport,
        Permission::AuthKeyRotate,
    ];
    actor("una", &may, &Scope::Global)
}

/// Adds rows, each at its own time.
async fn add(db: &TestDb, numbers: std::ops::Range<u32>) {
    let events: Vec<AuditEvent> = numbers
        .map(|number| entities::event(&format!("audit-{number:04}"), START + SECOND * number))
        .collect();
    let added: Result<(), certctl_repository::Error> =
        transaction!(db.db(), "test", conn => { audit_events::insert_all(conn, &events).await });
    added.unwrap();
}

async fn verify(services: &Services, from: VerifyFrom) -> AuditVerification {
    services
        .verify_audit_log(&auditor(), from, None)
        .await
        .unwrap()
}

/// What is wrong, as `id position problem`.
fn broken(found: &AuditVerification) -> String {
    found.first_break.as_ref().map_or_else(
        || "intact".to_owned(),
        |broken| format!("{} {} {:?}", broken.id, broken.position, broken.problem),
    )
}

/// Runs statements as somebody does who may switch off what guards the tables.
async fn bypass(db: &TestDb, statements: &str) {
    let statements = match db.backend() {
        Backend::Postgres => format!(
            "SET session_replication_role = replica; {statements}; SET session_replication_role = origin"
        ),
        Backend::Sqlite => {
            let of = |what: &str| {
                format!(
                    "SELECT {what} AS value FROM sqlite_master WHERE type = 'trigger' AND tbl_name LIKE 'audit%'"
                )
            };
            let drop = db.texts(&of("'DROP TRIGGER ' || name")).await;
            let make = db.texts(&of("sql")).await;
            format!("{}; {statements}; {}", drop.join("; "), make.join("; "))
        }
    };
    db.execute(&statements).await.unwrap();
}

/// Seals 30 rows in three batches.
async fn three_batches(db: &TestDb, services: &Services) {
    for batch in 0..3 {
        add(db, batch * 10..batch * 10 + 10).await;
        let pass = services.seal_audit_log().await.unwrap();
        assert_eq!(
            pass,
            SealPass {
                batches: 1,
                rows: 10
            }
        );
    }
}

db_tests! {
    async fn a_batch_costs_one_commit_and_nothing_new_costs_none(db: TestDb) {
        let services = process(&db, "a");
        assert_eq!(services.seal_audit_log().await.unwrap(), SealPass::default());
        assert_eq!(services.db().commits(), 0);
        add(&db, 0..3).await;
        assert_eq!(services.seal_audit_log().await.unwrap(), SealPass { batches: 1, rows: 3 });
        assert_eq!(services.db().commits(), 2, "the batch, and once the key");
        add(&db, 3..9).await;
        services.seal_audit_log().await.unwrap();
        services.seal_audit_log().await.unwrap();
        assert_eq!(services.db().commits(), 3);
        let found = verify(&services, VerifyFrom::Start).await;
        assert_eq!((broken(&found).as_str(), found.row_count, found.verified.batch, found.unsealed), ("intact", 9, 2, 0));
        assert_eq!(services.db().commits(), 3, "verifying writes nothing");
        add(&db, 9..10).await;
        let found = verify(&services, VerifyFrom::Start).await;
        assert_eq!((broken(&found).as_str(), found.row_count, found.unsealed), ("intact", 9, 1));
    }

    async fn whatever_is_done_to_the_rows_is_found_with_the_first_bad_one(db: TestDb) {
        let services = process(&db, "a");
        three_batches(&db, &services).await;
        // Each on top of the ones before, from the end of the trail to its beginning, so that it is the first bad row.
        let one = |id: &str, from: &str| format!(
            "INSERT INTO audit_events (id, actor, actor_type, action, resource_type, resource_id, details, timestamp, event_category) \
             SELECT '{id}', 'mallory', actor_type, action, resource_type, resource_id, details, timestamp, event_category \
             FROM audit_events WHERE id = '{from}'");
        let steps = [
            (one("audit-forged", "audit-0015"), "audit-forged 30 Inserted"),
            ("UPDATE audit_events SET actor = 'mallory' WHERE id = 'audit-0028'".to_owned(), "audit-0028 28 Edited"),
            ("DELETE FROM audit_events WHERE id = 'audit-0027'".to_owned(), "audit-0027 27 Deleted"),
            ("DELETE FROM audit_positions WHERE seq = 26".to_owned(), "position-26 26 Deleted"),
            ("UPDATE audit_positions SET event_id = CASE seq WHEN 23 THEN 'x' ELSE 'audit-0023' END WHERE seq IN (23, 25); \
              UPDATE audit_positions SET event_id = 'audit-0025' WHERE seq = 23".to_owned(), "audit-0025 23 Reordered"),
            ("UPDATE audit_events SET details = '{\"serial\": \"20\"}' WHERE id = 'audit-0021'".to_owned(), "audit-0021 21 Edited"),
            ("UPDATE audit_batches SET row_count = 4611686018427387904 WHERE batch = 3".to_owned(), "audit-0020 20 Unchained"),
            ("UPDATE audit_events SET actor_type = 'Ghost' WHERE id = 'audit-0017'".to_owned(), "audit-0017 17 Edited"),
            ("UPDATE audit_batches SET sealed_at = (SELECT sealed_at FROM audit_batches WHERE batch = 3), signature = previous \
              WHERE batch = 2".to_owned(), "audit-0010 10 Signature"),
            ("DELETE FROM audit_batches WHERE batch = 1".to_owned(), "audit-0000 0 BatchMissing"),
        ];
        for (statement, expected) in steps {
            assert_ne!(broken(&verify(&services, VerifyFrom::Start).await), expected);
            bypass(&db, &statement).await;
            assert_eq!(broken(&verify(&services, VerifyFrom::Start).await), expected, "{statement}");
        }
    }

    async fn rows_that_change_places_are_found(db: TestDb) {
        let services = process(&db, "a");
        three_batches(&db, &services).await;
        bypass(&db, "UPDATE audit_positions SET event_id = 'x' WHERE seq = 12; \
            UPDATE audit_positions SET event_id = 'audit-0012', leaf = (SELECT leaf FROM audit_positions WHERE seq = 12) WHERE seq = 18; \
            UPDATE audit_positions SET event_id = 'audit-0018' WHERE seq = 12").await;
        assert_eq!(broken(&verify(&services, VerifyFrom::Start).await), "audit-0018 12 Edited");
    }

    async fn a_cut_tail_is_found_by_memory_mark_vault_and_expectation(db: TestDb) {
        let services = process(&db, "a");
        three_batches(&db, &services).await;
        let newest = services.list_audit_heads(&auditor(), PageRequest::default()).await.unwrap().rows[0].head.hash();
        let cut = "DELETE FROM audit_events WHERE id >= 'audit-0020'; DELETE FROM audit_positions WHERE seq >= 20; \
            DELETE FROM audit_batches WHERE batch = 3";
        bypass(&db, cut).await;
        let expected = "position-20 20 Truncated";
        assert_eq!(broken(&verify(&services, VerifyFrom::Start).await), expected, "this process remembers");
        let other = process(&db, "b");
        assert_eq!(broken(&verify(&other, VerifyFrom::Start).await), expected, "the mark tells");
        db.execute("DELETE FROM audit_marks").await.unwrap();
        assert_eq!(broken(&verify(&other, VerifyFrom::Start).await), "intact", "nothing inside of the database can tell now");
        let found = other.verify_audit_log(&auditor(), VerifyFrom::Start, Some(newest)).await.unwrap();
        assert_eq!(broken(&found), expected, "who kept the head can");
        // What is sealed on the stump does not hide it from those who remember.
        add(&db, 40..50).await;
        db.clock().advance(Duration::from_secs(3600));
        assert_eq!(services.seal_audit_log().await.unwrap().rows, 10);
        assert_eq!(broken(&verify(&services, VerifyFrom::Start).await), "position-29 29 OtherHistory");
    }

    async fn a_trail_sealed_anew_with_a_forged_key_is_not_believed(db: TestDb) {
        let services = process(&db, "a");
        three_batches(&db, &services).await;
        // The forger has the whole database, and no encryption key: a process of his own signs all of it anew.
        bypass(&db, "DELETE FROM audit_positions; DELETE FROM audit_batches; DELETE FROM audit_marks; DELETE FROM audit_keys; \
            DELETE FROM scheduler_leases; INSERT INTO audit_unsealed SELECT timestamp, id FROM audit_events").await;
        let forger = forging(&db);
        assert_eq!(forger.seal_audit_log().await.unwrap().rows, 30);
        assert_eq!(broken(&verify(&forger, VerifyFrom::Start).await), "intact");
        assert_eq!(broken(&verify(&process(&db, "b"), VerifyFrom::Start).await), "audit-0000 0 Signature");
    }

    async fn the_loop_goes_on_from_where_it_was_and_over_everything_once_a_day(db: TestDb) {
        let services = process(&db, "a");
        let stop = CancellationToken::new();
        three_batches(&db, &services).await;
        let run = async || services.verify_audit_chain(&stop).await.unwrap().unwrap();
        let found = run().await;
        assert_eq!((found.row_count, found.from_seq, broken(&found)), (30, 0, "intact".to_owned()));
        add(&db, 30..35).await;
        services.seal_audit_log().await.unwrap();
        let found = run().await;
        assert_eq!((found.row_count, found.from_seq), (5, 30));
        assert!(process(&db, "b").verify_audit_chain(&stop).await.unwrap().is_none(), "one replica is enough");
        // A row before the checkpoint is not looked at again until the day is over.
        bypass(&db, "UPDATE audit_events SET actor = 'mallory' WHERE id = 'audit-0004'").await;
        assert_eq!(broken(&run().await), "intact");
        assert_eq!(broken(&verify(&services, VerifyFrom::Start).await), "audit-0004 4 Edited");
        db.clock().advance(Duration::from_secs(24 * 3600));
        assert_eq!(broken(&run().await), "audit-0004 4 Edited");
        // A checkpoint that nobody signed is none.
        db.execute("UPDATE audit_marks SET signature = updated_at WHERE name = 'verified'").await.unwrap_err();
        let forged = match db.backend() { Backend::Postgres => "'\\x00'", Backend::Sqlite => "x'00'" };
        db.execute(&format!("UPDATE audit_marks SET signature = {forged} WHERE name = 'verified'")).await.unwrap();
        assert_eq!(broken(&verify(&services, VerifyFrom::Checkpoint).await), "audit-0004 4 Edited");
        stop.cancel();
        let stopped = services.verify_audit_chain(&stop).await.unwrap().unwrap();
        assert!(!stopped.complete && stopped.row_count == 0);
    }

    async fn writers_sealer_and_verifier_at_once_never_cry_wolf(db: TestDb) {
        let services = Arc::new(process(&db, "a"));
        let writers: Vec<_> = (0..8_u32).map(|writer| {
            let own = db.replica();
            tokio::spawn(async move {
                for number in 0..25_u32 {
                    // Times that overlap among the writers, so that rows commit late.
                    let at = START + Duration::from_millis(u64::from(number * 40 + (writer * 7919) % 400));
                    let event = entities::event(&format!("audit-{writer}-{number}"), at);
                    let added: Result<(), certctl_repository::Error> =
                        transaction!(own, "test", conn => { audit_events::insert_all(conn, std::slice::from_ref(&event)).await });
                    added.unwrap();
                }
            })
        }).collect();
        let mut sealed = 0;
        while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
            sealed += services.seal_audit_log().await.unwrap().rows;
            let found = verify(&services, VerifyFrom::Start).await;
            assert_eq!(broken(&found), "intact");
        }
        for writer in writers { writer.await.unwrap(); }
        sealed += services.seal_audit_log().await.unwrap().rows;
        let found = verify(&services, VerifyFrom::Start).await;
        assert_eq!((broken(&found).as_str(), found.row_count, found.unsealed, sealed), ("intact", 200, 0, 200));
    }

    async fn one_of_two_replicas_seals_and_the_other_takes_over(db: TestDb) {
        let (one, two) = (process(&db, "one"), process(&db, "two"));
        add(&db, 0..5).await;
        assert_eq!(one.seal_audit_log().await.unwrap().rows, 5);
        add(&db, 5..10).await;
        assert_eq!(two.seal_audit_log().await.unwrap().rows, 0);
        assert_eq!(two.db().commits(), 0);
        db.clock().advance(AuditConfig::default().lease_ttl + SECOND);
        assert_eq!(two.seal_audit_log().await.unwrap().rows, 5);
        add(&db, 10..15).await;
        assert_eq!(one.seal_audit_log().await.unwrap().rows, 0);
        two.stop_sealing().await.unwrap();
        assert_eq!(one.seal_audit_log().await.unwrap().rows, 5);
        assert_eq!(broken(&verify(&two, VerifyFrom::Start).await), "intact");
        // Both at the same moment, again and again: one batch each time.
        for round in 2..10 {
            db.clock().advance(AuditConfig::default().lease_ttl + SECOND);
            add(&db, round * 10..round * 10 + 10).await;
            let (left, right) = tokio::join!(one.seal_audit_log(), two.seal_audit_log());
            let (left, right) = (left.unwrap(), right.unwrap());
            assert_eq!((left.rows + right.rows, left.batches + right.batches), (10, 1));
        }
        assert_eq!(broken(&verify(&one, VerifyFrom::Start).await), "intact");
    }

    async fn a_key_can_be_rotated_and_old_heads_stay_good(db: TestDb) {
        let (one, two) = (process(&db, "one"), process(&db, "two"));
        add(&db, 0..5).await;
        one.seal_audit_log().await.unwrap();
        db.clock().advance(SECOND);
        let rotated = two.rotate_audit_key(&auditor()).await.unwrap();
        one.seal_audit_log().await.unwrap();
        let heads = one.list_audit_heads(&auditor(), PageRequest::default()).await.unwrap();
        assert_eq!((heads.total, heads.rows.len()), (2, 2));
        assert_eq!(heads.rows[0].head.key_id, rotated.key_id);
        assert_ne!(heads.rows[1].head.key_id, rotated.key_id);
        let keys = one.list_audit_keys(&auditor()).await.unwrap();
        assert_eq!(keys.iter().map(|key| key.retired_at.is_some()).collect::<Vec<_>>(), [false, true]);
        assert_eq!(broken(&verify(&two, VerifyFrom::Start).await), "intact");
        let logged = db.texts("SELECT action AS value FROM audit_events WHERE resource_type = 'audit_key'").await;
        assert_eq!(logged, ["audit_key_rotated"]);
    }

    async fn one_row_is_proved_by_its_batch(db: TestDb) {
        let services = process(&db, "a");
        three_batches(&db, &services).await;
        add(&db, 30..31).await;
        let prove = |id: &str| {
            let (services, id) = (services.clone(), AuditEventId::from_stored(id.to_owned()));
            async move { services.prove_audit_event(&auditor(), &id).await }
        };
        let proof = prove("audit-0013").await.unwrap();
        assert_eq!((proof.seq, proof.leaf_index, proof.tree_size), (13, 3, 10));
        assert_eq!(merkle::root_by_path(proof.leaf, 3, 10, &proof.path), Some(proof.head.head.root));
        let mut keys = Keys::default();
        keys.add_pem(&services.list_audit_keys(&auditor()).await.unwrap()[0].public_key_pem).unwrap();
        let head = &proof.head;
        assert!(keys.verifies(&head.head.key_id, head.head.message().as_bytes(), &head.signature));
        assert!(matches!(prove("audit-0030").await, Err(Error::Conflict(text)) if text.contains("not sealed yet")));
        assert!(matches!(prove("audit-9999").await, Err(Error::NotFound { .. })));
        bypass(&db, "UPDATE audit_events SET actor = 'mallory' WHERE id = 'audit-0013'").await;
        assert!(matches!(prove("audit-0013").await, Err(Error::Conflict(text)) if text.contains("not what was sealed")));
    }

    async fn an_export_holds_what_was_asked_for_and_is_logged(db: TestDb) {
        let services = process(&db, "a");
        three_batches(&db, &services).await;
        let range = |from: u32, to: u32, limit| ExportRange { from: START + SECOND * from, to: START + SECOND * to, category: None, limit };
        let mut export = services.export_audit(&auditor(), range(5, 24, 100)).await.unwrap();
        let mut ids = Vec::new();
        while let Some(page) = export.next().await.unwrap() {
            ids.extend(page.into_iter().map(|event| event.id.into_string()));
        }
        // The row of the export itself was written at START, before the range.
        let expected: Vec<String> = (5..25).rev().map(|number| format!("audit-{number:04}")).collect();
        assert_eq!(ids, expected);
        for wrong in [range(5, 4, 1), range(0, 91 * 86_400, 1), range(0, 1, 0), range(0, 1, 100_001)] {
            assert!(matches!(services.export_audit(&auditor(), wrong).await, Err(Error::Invalid(_))));
        }
        let logged = db.texts("SELECT actor || ' ' || resource_type AS value FROM audit_events WHERE action = 'audit.export'").await;
        assert_eq!(logged, ["una audit"]);

        let text = sealed_export(&services, range(0, 100, 100)).await;
        let newest = services.list_audit_heads(&auditor(), PageRequest::default()).await.unwrap().rows[0].head.hash();
        let options = || OfflineOptions { keys: Keys::default(), expect_head: Some(newest) };
        let report = verify_export(text.as_bytes(), options()).unwrap();
        assert_eq!((report.rows, report.first_batch, report.broken), (30, 1, None));
        let altered = text.replacen("mc-web", "mc-evil", 1);
        let report = verify_export(altered.as_bytes(), options()).unwrap();
        assert_eq!(report.broken.unwrap().id, "audit-0000");
        bypass(&db, "DELETE FROM audit_events WHERE id = 'audit-0022'").await;
        let text = sealed_export(&services, range(0, 100, 100)).await;
        assert_eq!(verify_export(text.as_bytes(), options()).unwrap().broken.unwrap().id, "audit-0022");
        // Full before the end: whole batches, and it says so.
        let text = sealed_export(&services, range(0, 100, 11)).await;
        assert!(text.ends_with("{\"batches\":2,\"complete\":false,\"rows\":20,\"type\":\"end\"}\n"), "{text}");
    }

    async fn without_an_encryption_key_the_key_lies_in_the_vault(db: TestDb) {
        let kit = crate::kit::Kit::with_sealer(db, None);
        add(&kit.db, 0..5).await;
        kit.services.seal_audit_log().await.unwrap();
        assert_eq!(broken(&verify(&kit.services, VerifyFrom::Start).await), "intact");
        assert_eq!(kit.db.texts("SELECT key_id AS value FROM audit_keys WHERE private_key IS NOT NULL").await.len(), 0);
        kit.services.rotate_audit_key(&auditor()).await.unwrap();
        kit.services.seal_audit_log().await.unwrap();
        let heads = kit.services.list_audit_heads(&auditor(), PageRequest::default()).await.unwrap();
        assert_ne!(heads.rows[0].head.key_id, heads.rows[1].head.key_id);
        assert_eq!(broken(&verify(&kit.services, VerifyFrom::Start).await), "intact");
    }
}

async fn sealed_export(services: &Services, range: ExportRange) -> String {
    let mut export = services
        .export_sealed_audit(&auditor(), range)
        .await
        .unwrap();
    let mut text = String::new();
    while let Some(lines) = export.next().await.unwrap() {
        text.push_str(&lines);
    }
    text
}

/// A process with another encryption key.
fn forging(db: &TestDb) -> Services {
    let sealer = certctl_pki::seal::Sealer::new(&certctl_domain::secret::Secret::new(
        "what a forger makes up, 32 bytes and more",
    ));
    crate::kit::forger(db.replica(), db.clock(), sealer)
}

mod postgres {
    use super::*;

    #[test]
    fn a_row_that_commits_late_is_sealed_late_and_never_missed() {
        certctl_testkit::database::run(TestDb::postgres, |db| async move {
            let services = process(&db, "a");
            let mut attempts = Attempts::new("late");
            let mut late = db.begin(&mut attempts).await.unwrap();
            let early = entities::event("audit-late", START);
            audit_events::insert_all(&mut late, std::slice::from_ref(&early))
                .await
                .unwrap();
            add(&db, 1..6).await;
            assert_eq!(services.seal_audit_log().await.unwrap().rows, 5);
            assert_eq!(
                broken(&verify(&services, VerifyFrom::Start).await),
                "intact"
            );
            late.finish(&attempts, Ok::<(), certctl_repository::Error>(()))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(services.seal_audit_log().await.unwrap().rows, 1);
            let proof = services
                .prove_audit_event(&auditor(), &early.id)
                .await
                .unwrap();
            assert_eq!((proof.seq, proof.head.head.batch), (5, 2));
            assert_eq!(
                broken(&verify(&services, VerifyFrom::Start).await),
                "intact"
            );
            assert!(db.clock().now() >= START);
        });
    }
}
