//! The fixtures of the load tests, as others load them: past the program, straight into the tables (loadtest/seed).

use certctl_domain::{
    agent::AgentStatus,
    certificate::CertificateStatus,
    id::{AgentId, CertificateId},
    page::PageRequest,
};
use certctl_repository::{
    Backend, agents,
    certificates::{self, CertificateFilter, CertificateOrder},
};
use certctl_testkit::{TestDb, db_tests};

/// A fixture and its twin.
macro_rules! fixture {
    ($db:expr, $file:literal) => {
        match $db.backend() {
            Backend::Postgres => include_str!(concat!("../../../../loadtest/seed/", $file)),
            Backend::Sqlite => include_str!(concat!("../../../../loadtest/seed/sqlite/", $file)),
        }
    };
}

async fn load(db: &TestDb, sql: &str) {
    db.execute(sql).await.unwrap();
}

async fn number(db: &TestDb, table: &str, id: &str) -> String {
    db.text(&format!(
        "SELECT CAST(count(*) AS TEXT) AS value FROM {table} WHERE id LIKE '{id}'"
    ))
    .await
}

db_tests! {
    async fn ten_thousand_certificates_read_back_as_active(db: TestDb) {
        db.seed_demo().await;
        let sql = fixture!(db, "01_bulk_renewal_certs.sql");
        assert!(sql.contains("'active'"), "the spelling of the fixture is what is tried here");
        load(&db, sql).await;
        load(&db, sql).await;
        assert_eq!(number(&db, "managed_certificates", "cert-loadtest-bulk-%").await, "10000");
        let filter = CertificateFilter {
            environment: Some("loadtest".to_owned()),
            status: Some(CertificateStatus::Active),
            ..CertificateFilter::default()
        };
        let page = PageRequest::lenient(Some("20"), Some("500"));
        let found = certificates::list(reader!(db), &filter, CertificateOrder::Name, false, page).await.unwrap();
        assert_eq!((found.total, found.rows.len()), (10_000, 500));
        let last = found.rows.last().unwrap();
        assert_eq!((last.id.as_str(), last.status), ("cert-loadtest-bulk-10000", CertificateStatus::Active));
        let one = certificates::find(reader!(db), &CertificateId::from_stored("cert-loadtest-bulk-00042".into())).await.unwrap();
        assert_eq!((one.name.as_str(), one.common_name.as_str()), ("loadtest-bulk-00042.example.test", "loadtest-bulk-00042.example.test"));
        assert_eq!(one.sans, ["loadtest-bulk-00042.example.test"]);
        assert_eq!((one.owner_id.as_str(), one.team_id.as_str(), one.issuer_id.as_str()), ("o-alice", "t-platform", "iss-local"));
        assert_eq!((one.renewal_policy_id.as_str(), one.environment.as_str()), ("rp-standard", "loadtest"));
        assert_eq!((one.tags["source"].as_str(), one.tags["batch"].as_str()), ("loadtest-phase8", "bulk-renewal"));
        // 42 mod 30 days and 42 mod 24 hours after it was loaded.
        let hours = one.expires_at.unwrap().since(one.created_at).as_secs() / 3600;
        assert_eq!(hours, 12 * 24 + 18);
    }

    async fn five_thousand_agents_are_a_fleet(db: TestDb) {
        let sql = fixture!(db, "02_agent_fleet.sql");
        load(&db, sql).await;
        load(&db, sql).await;
        assert_eq!(number(&db, "agents", "ag-loadtest-%").await, "5000");
        for (id, os, architecture, address) in [
            ("ag-loadtest-00010", "windows", "arm64", "10.42.0.10"),
            ("ag-loadtest-00511", "darwin", "amd64", "10.42.1.255"),
            ("ag-loadtest-05000", "windows", "arm64", "10.42.19.136"),
            ("ag-loadtest-00002", "linux", "amd64", "10.42.0.2"),
        ] {
            let found = agents::find(reader!(db), &AgentId::from_stored(id.into())).await.unwrap();
            assert_eq!((found.os.as_str(), found.architecture.as_str(), found.ip_address.as_str()), (os, architecture, address), "{id}");
            assert_eq!((found.status, found.version.as_str(), found.retired_at), (AgentStatus::Online, "2.1.0", None));
        }
    }

    async fn the_large_fleet_comes_on_top(db: TestDb) {
        db.seed_demo().await;
        load(&db, fixture!(db, "02_agent_fleet.sql")).await;
        load(&db, fixture!(db, "large/03_large_fleet.sql")).await;
        assert_eq!(number(&db, "managed_certificates", "cert-loadtest-large-%").await, "50000");
        assert_eq!(number(&db, "agents", "ag-loadtest-%").await, "10000");
    }
}
