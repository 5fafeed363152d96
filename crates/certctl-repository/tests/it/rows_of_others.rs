//! Rows that others write straight into the tables: load-test fixtures and older programs (model §7.3).

use certctl_domain::{
    agent::AgentStatus,
    certificate::CertificateStatus,
    id::{AgentId, CertificateId},
};
use certctl_repository::{Backend, agents, certificates, renewals};
use certctl_testkit::{TestDb, database::START, db_tests};

/// The columns of the certificates fixture, which are contract; times are those of the database.
async fn insert_certificate(db: &TestDb, id: &str, status: &str) {
    let (now, ends, sans) = match db.backend() {
        Backend::Postgres => (
            "now()",
            "now() + interval '3 days'",
            "ARRAY['one.example.test']",
        ),
        Backend::Sqlite => (
            "unixepoch() * 1000000",
            "(unixepoch() + 3 * 86400) * 1000000",
            "'[\"one.example.test\"]'",
        ),
    };
    db.execute(&format!(
        "INSERT INTO managed_certificates (id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id, \
            status, expires_at, tags, created_at, updated_at) \
         VALUES ('{id}', '{id}.example.test', 'one.example.test', {sans}, 'loadtest', 'o-alice', 't-platform', 'iss-local', 'rp-standard', \
            '{status}', {ends}, '{{\"source\": \"loadtest\", \"number\": 7}}', {now}, {now}) ON CONFLICT (name) DO NOTHING"
    ))
    .await
    .unwrap();
}

db_tests! {
    async fn a_certificate_of_the_fixture_is_read_planned_and_due(db: TestDb) {
        db.seed_basics().await;
        insert_certificate(&db, "cert-loadtest-bulk-00001", "active").await;
        insert_certificate(&db, "cert-loadtest-bulk-00001", "active").await;
        let id = CertificateId::from_stored("cert-loadtest-bulk-00001".into());
        let found = certificates::find(reader!(db), &id).await.unwrap();
        assert_eq!((found.status, found.sans.as_slice()), (CertificateStatus::Active, ["one.example.test".to_owned()].as_slice()));
        assert_eq!((found.tags["source"].as_str(), found.tags["number"].as_str()), ("loadtest", "7"));
        assert_eq!((found.renew_at, found.profile_id), (None, None));
        assert!(found.created_at > START && found.expires_at > Some(found.created_at));
        assert_eq!(tx!(db, conn => renewals::plan_unplanned(conn).await).unwrap(), 1);
        let due = tx!(db, conn => renewals::due(conn, &renewals::Position::start(), 10, found.created_at).await).unwrap().due;
        assert_eq!(due.iter().map(|one| &one.id).collect::<Vec<_>>(), [&id]);
    }

    async fn states_are_stored_in_their_canonical_spelling(db: TestDb) {
        db.seed_basics().await;
        for status in CertificateStatus::ALL {
            for (style, written) in [("l", status.as_str().to_lowercase()), ("u", status.as_str().to_uppercase()), ("c", status.to_string())] {
                let id = format!("mc-{style}-{status}");
                insert_certificate(&db, &id, &written).await;
                let stored = db.text(&format!("SELECT status AS value FROM managed_certificates WHERE id = '{id}'")).await;
                assert_eq!(stored, status.as_str(), "{written}");
            }
        }
    }

    async fn an_agent_of_the_fixture_is_read(db: TestDb) {
        let now = match db.backend() {
            Backend::Postgres => "now()",
            Backend::Sqlite => "unixepoch() * 1000000",
        };
        for number in 1..=2 {
            db.execute(&format!(
                "INSERT INTO agents (id, name, hostname, status, last_heartbeat_at, registered_at, api_key_hash, os, architecture, \
                    ip_address, version) \
                 VALUES ('ag-loadtest-0000{number}', 'loadtest-agent-0000{number}', 'h', 'Online', {now}, {now}, 'loadtest_no_auth', \
                    'linux', 'amd64', '10.42.0.1', '2.1.0') ON CONFLICT (id) DO NOTHING"
            ))
            .await
            .unwrap();
        }
        let found = agents::find(reader!(db), &AgentId::from_stored("ag-loadtest-00002".into())).await.unwrap();
        assert_eq!((found.status, found.version.as_str(), found.retired_at), (AgentStatus::Online, "2.1.0", None));
    }

    async fn every_column_beyond_the_contract_has_a_default(db: TestDb) {
        // What model §3 names as required, and nothing else.
        for statement in [
            "INSERT INTO teams (id, name) VALUES ('t', 't')",
            "INSERT INTO owners (id, name, team_id) VALUES ('o', 'o', 't')",
            "INSERT INTO renewal_policies (id, name) VALUES ('rp', 'rp')",
            "INSERT INTO certificate_profiles (id, name) VALUES ('prof', 'prof')",
            "INSERT INTO issuers (id, name, type) VALUES ('iss', 'iss', 'local')",
            "INSERT INTO agents (id, name, hostname, api_key_hash) VALUES ('ag', 'ag', 'h', 'x')",
            "INSERT INTO deployment_targets (id, name, type, agent_id) VALUES ('tgt', 'tgt', 'nginx', 'ag')",
            "INSERT INTO managed_certificates (id, name, common_name, owner_id, team_id, issuer_id, renewal_policy_id) \
                VALUES ('mc', 'mc', 'cn', 'o', 't', 'iss', 'rp')",
            "INSERT INTO certificate_target_mappings (certificate_id, target_id) VALUES ('mc', 'tgt')",
            "INSERT INTO jobs (id, type, certificate_id) VALUES ('job', 'renewal', 'mc')",
        ] {
            db.execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        }
        let certificate = certificates::find(reader!(db), &CertificateId::from_stored("mc".into())).await.unwrap();
        assert_eq!((certificate.status, certificate.target_ids.len()), (CertificateStatus::Pending, 1));
        // Aliases and other capitals are read as what they mean.
        let issuer = certctl_repository::issuers::find(reader!(db), &certificate.issuer_id).await.unwrap();
        assert_eq!(issuer.issuer_type, certctl_domain::issuer::IssuerType::GenericCa);
        let job = crate::jobs::job(&db, "job").await;
        assert_eq!(job.job_type, certctl_domain::job::JobType::Renewal);
        let profile = certctl_domain::id::ProfileId::from_stored("prof".into());
        let profile = certctl_repository::profiles::find(reader!(db), &profile).await.unwrap();
        assert_eq!(profile.allowed_key_algorithms, certctl_domain::key::AllowedKey::DEFAULT);
    }
}
