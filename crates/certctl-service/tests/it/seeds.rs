//! The demo data: what it holds, that it is inserted once, and that nothing becomes of it by itself.

use std::time::Duration;

use certctl_pki::cert::ParsedCertificate;
use certctl_testkit::{
    TestDb, database, db_tests,
    services::{config, services},
};
use tokio_util::sync::CancellationToken;

/// Every table of the demo with what operations §10 says it holds; the agents and the policy with those of the baseline.
const COUNTS: [(&str, usize); 19] = [
    ("teams", 6),
    ("owners", 6),
    ("renewal_policies", 4),
    ("issuers", 13),
    ("agents", 13),
    ("deployment_targets", 10),
    ("certificate_profiles", 6),
    ("managed_certificates", 32),
    ("certificate_target_mappings", 34),
    ("certificate_versions", 16),
    ("certificate_revocations", 1),
    ("jobs", 44),
    ("audit_events", 53),
    ("policy_violations", 6),
    ("notification_events", 15),
    ("agent_groups", 6),
    ("agent_group_members", 3),
    ("policy_rules", 4),
    ("tenants", 1),
];

/// What the demo is, but for the keys that are made anew each time.
async fn contents(db: &TestDb) -> Vec<String> {
    let mut all = Vec::new();
    for (table, columns) in [
        ("teams", "id, name"),
        ("owners", "id, name, email, team_id"),
        (
            "renewal_policies",
            "id, name, renewal_window_days, auto_renew, max_retries, retry_interval_seconds",
        ),
        ("issuers", "id, type, enabled"),
        ("agents", "id, name, status, os, architecture, ip_address"),
        ("deployment_targets", "id, type, agent_id"),
        (
            "certificate_profiles",
            "id, max_ttl_seconds, allow_short_lived, acme_auth_mode",
        ),
        (
            "managed_certificates",
            "id, name, common_name, environment, owner_id, team_id, issuer_id, renewal_policy_id, status",
        ),
        ("certificate_target_mappings", "certificate_id, target_id"),
        (
            "certificate_versions",
            "id, certificate_id, issuer_id, serial_number",
        ),
        ("certificate_revocations", "id, serial_number, reason"),
        (
            "jobs",
            "id, type, status, certificate_id, attempts, max_attempts",
        ),
        ("audit_events", "id, action, resource_id"),
        ("policy_violations", "id, rule_id, severity"),
        ("notification_events", "id, type, status, dedupe_key"),
        (
            "agent_groups",
            "id, match_os, match_architecture, match_ip_cidr",
        ),
        (
            "agent_group_members",
            "agent_group_id, agent_id, membership_type",
        ),
    ] {
        let cells: Vec<String> = columns
            .split(", ")
            // A truth is 1 here and true there.
            .map(|column| format!("CASE CAST({column} AS text) WHEN 'true' THEN '1' WHEN 'false' THEN '0' ELSE CAST({column} AS text) END"))
            .collect();
        let sql = format!(
            "SELECT '{table} ' || {} AS value FROM {table} ORDER BY 1",
            cells.join(" || ' ' || ")
        );
        all.extend(db.texts(&sql).await);
    }
    all.sort();
    all
}

/// All that the loops could change.
async fn states(db: &TestDb) -> Vec<String> {
    let mut all = db
        .texts("SELECT id || status AS value FROM agents ORDER BY id")
        .await;
    for table in ["managed_certificates", "jobs", "notification_events"] {
        let changed = match table {
            "managed_certificates" => "updated_at",
            "jobs" => "status_changed_at",
            _ => "retry_count",
        };
        let sql = format!(
            "SELECT id || ' ' || status || ' ' || CAST({changed} AS text) AS value FROM {table} ORDER BY id"
        );
        all.extend(db.texts(&sql).await);
    }
    all.extend(
        db.texts("SELECT id AS value FROM audit_events ORDER BY id")
            .await,
    );
    all
}

async fn count(db: &TestDb, of: &str) -> String {
    db.text(&format!("SELECT CAST(count(*) AS text) AS value FROM {of}"))
        .await
}

db_tests! {
    async fn the_demo_is_what_the_contract_counts_and_is_inserted_once(db: TestDb) {
        db.seed_demo().await;
        for (table, rows) in COUNTS {
            assert_eq!(count(&db, table).await, rows.to_string(), "{table}");
        }
        let groups = [
            ("managed_certificates", "status", "Active 22, Expired 3, Expiring 4, Failed 1, RenewalInProgress 1, Revoked 1"),
            ("managed_certificates", "environment", "development 1, production 28, staging 3"),
            ("jobs", "type", "Deployment 20, Issuance 5, Renewal 18, Validation 1"),
            ("jobs", "status", "AwaitingApproval 2, Completed 39, Failed 2, Running 1"),
        ];
        for (table, column, expected) in groups {
            let found = db.texts(&format!("SELECT {column} || ' ' || count(*) AS value FROM {table} GROUP BY {column} ORDER BY {column}")).await;
            assert_eq!(found.join(", "), expected);
        }
        assert_eq!(count(&db, "issuers WHERE enabled").await, "7");
        let before = contents(&db).await;
        let fingerprints = db.texts("SELECT fingerprint_sha256 AS value FROM certificate_versions ORDER BY id").await;
        db.execute("UPDATE teams SET name = 'Renamed' WHERE id = 't-data'").await.unwrap();
        db.seed_demo().await;
        assert_eq!(db.text("SELECT name AS value FROM teams WHERE id = 't-data'").await, "Renamed", "what is there stays as it is");
        db.execute("UPDATE teams SET name = 'Data Engineering' WHERE id = 't-data'").await.unwrap();
        assert_eq!(contents(&db).await, before);
        assert_eq!(db.texts("SELECT fingerprint_sha256 AS value FROM certificate_versions ORDER BY id").await, fingerprints);
    }

    async fn the_versions_are_certificates_that_say_what_their_rows_say(db: TestDb) {
        db.seed_demo().await;
        let rows = db.texts("SELECT v.serial_number || '|' || v.fingerprint_sha256 || '|' || c.common_name || '|' || v.pem_chain AS value \
            FROM certificate_versions v JOIN managed_certificates c ON c.id = v.certificate_id ORDER BY v.id").await;
        assert_eq!(rows.len(), 16);
        for row in rows {
            let [serial, fingerprint, name, pem] = row.splitn(4, '|').collect::<Vec<_>>().try_into().unwrap();
            let parsed = ParsedCertificate::from_pem(pem).unwrap();
            assert_eq!((parsed.serial().as_str(), parsed.fingerprint_sha256().as_str()), (serial, fingerprint));
            assert!(parsed.sans().iter().any(|san| san.to_string() == name), "{name}");
        }
        let current = "certificate_versions v JOIN managed_certificates c ON c.id = v.certificate_id AND c.expires_at = v.not_after";
        assert_eq!(count(&db, current).await, "15", "all but the older version of one end when their certificates do");
    }

    async fn nothing_becomes_of_the_demo_by_itself_for_a_day(db: TestDb) {
        db.seed_demo().await;
        let folder = tempfile::tempdir().unwrap();
        let services = services(db.db(), db.clock(), folder.path(), config());
        let before = states(&db).await;
        for hours in [0, 1, 23] {
            db.clock().advance(Duration::from_secs(hours * 3600));
            services.scan_renewals().await.unwrap();
            services.recover_jobs().await.unwrap();
            services.retry_jobs().await.unwrap();
            services.time_out_jobs().await.unwrap();
            services.check_agents().await.unwrap();
            services.process_jobs(&CancellationToken::new()).await.unwrap();
            assert_eq!(states(&db).await, before, "after {hours} hours more");
        }
    }

    async fn an_empty_database_gets_the_issuers_of_the_demo_and_no_other(db: TestDb) {
        let empty = TestDb::empty(db.backend()).await;
        empty.migrate_with_demo().await;
        assert_eq!(count(&empty, "issuers").await, "13");
        assert_eq!(empty.text("SELECT name AS value FROM issuers WHERE id = 'iss-local'").await, "Local Dev CA");
        assert_eq!(db.text("SELECT name AS value FROM issuers").await, "Local CA", "without the demo it is the first and only one");
    }
}

mod postgres {
    use super::{TestDb, contents, database};

    #[test]
    fn both_databases_get_the_same_demo() {
        database::run(TestDb::postgres, |postgres| async move {
            let sqlite = TestDb::sqlite().await;
            postgres.seed_demo().await;
            sqlite.seed_demo().await;
            let (left, right) = (contents(&postgres).await, contents(&sqlite).await);
            assert_eq!(left.len(), 268, "every row of every table is compared");
            assert_eq!(left, right);
        });
    }
}
