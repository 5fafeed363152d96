//! Orders that the CA in this process issues: signed before anything is written, and stored with it.

use std::time::Duration;

use certctl_domain::ports::issuer::IssuerError;
use certctl_repository::Backend;
use certctl_service::{acme::AcmeConfig, config::ServiceConfig};
use certctl_testkit::{TestDb, db_tests};

use super::kit::{Server, acme_config, body, csr_der, key, last, problem, serving};
use crate::support::process;

fn patient() -> AcmeConfig {
    AcmeConfig {
        finalize_wait: Duration::from_secs(600),
        lanes: 64,
        ..acme_config()
    }
}

db_tests! {
    async fn an_order_is_issued_with_all_that_belongs_to_it(db: TestDb) {
        let server = Server::with(db, patient()).await;
        let client = server.client().await;
        let id = client.ordered("a.example.test").await;
        let done = client.finalize(&id, &["a.example.test"]).await.unwrap();
        let shown = body(&done.order);
        assert_eq!((shown["status"].as_str().unwrap(), done.retry_after), ("valid", None));
        let certificate = last(&shown["certificate"]);
        let remembered = client.download(&certificate).await.unwrap().chain_pem;
        assert_eq!(client.download(&certificate).await.unwrap().chain_pem, remembered, "as the database has it");
        assert_eq!(client.status(&id).await, "valid");
        assert_eq!(process(&server.world.services).await.claimed, 0);
        let db = &server.world.db;
        let job = "SELECT type || ' ' || status || ' ' || attempts AS value FROM jobs \
            WHERE completed_at >= started_at AND status_changed_at = completed_at AND lease_owner IS NULL";
        assert_eq!(db.texts(job).await, ["Issuance Completed 1"]);
        let stored = "SELECT m.status || ' ' || m.source AS value FROM managed_certificates m JOIN certificate_versions v ON v.certificate_id = m.id \
            WHERE m.expires_at = v.not_after AND m.renew_at < m.expires_at AND m.last_renewal_at IS NOT NULL";
        assert_eq!(db.texts(stored).await, ["Active ACME"]);
        assert_eq!(db.texts("SELECT job_id AS value FROM issuance_intents").await, Vec::<String>::new());
        assert_eq!(db.texts("SELECT type AS value FROM notification_events").await, ["RenewalSuccess"]);
        for action in ["acme_order_created", "acme_order_processing", "renewal_job_completed", "acme_order_finalized"] {
            assert_eq!(server.world.recorded(action).await, 1, "{action}");
        }
    }

    async fn an_order_alone_costs_two_commits_and_reads_nothing_by_itself(db: TestDb) {
        let server = Server::with(db, patient()).await;
        let client = server.client().await;
        for (name, is_counted) in [("warm.example.test", false), ("a.example.test", true)] {
            let commits = server.commits_of_an_order(&client, name).await;
            // New order, finalise, and, where replicas have to agree on nonces, the download.
            let expected = if server.world.db.backend() == Backend::Postgres { 3 } else { 2 };
            assert!(!is_counted || commits == expected, "{commits}");
        }
    }

    async fn who_finalises_in_parallel_is_given_one_certificate(db: TestDb) {
        let server = Server::with(db, patient()).await;
        let client = server.client().await;
        let id = client.ordered("a.example.test").await;
        let csr = csr_der(&key(), &["a.example.test"]);
        let finalized = futures_util::future::join_all((0..10).map(|_| async {
            let request = client.finalize_request(&id, &csr).await;
            client.acme.finalize(request, &id).await
        })).await;
        let shown: Vec<_> = finalized.into_iter().map(|one| body(&one.unwrap().order)).collect();
        // Who finds it being issued is told so.
        assert!(shown.iter().all(|one| one["status"] == "valid" || one["status"] == "processing"), "{shown:?}");
        while client.status(&id).await != "valid" {
            tokio::task::yield_now().await;
        }
        let urls: Vec<String> = shown.iter().filter(|one| one["status"] == "valid").map(|one| last(&one["certificate"])).collect();
        assert!(!urls.is_empty() && urls.iter().all(|url| *url == urls[0]), "{urls:?}");
        assert_eq!(server.world.versions().await.len(), 1);
        let chain = client.download(&urls[0]).await.unwrap().chain_pem;
        assert_eq!(client.download(&urls[0]).await.unwrap().chain_pem, chain);
    }

    async fn what_was_signed_for_an_order_that_has_ended_is_dropped(db: TestDb) {
        let server = Server::with(db, patient()).await;
        let client = server.client().await;
        let id = client.ordered("a.example.test").await;
        // By another replica, while this one remembers that it is ready.
        server.world.db.execute("UPDATE acme_orders SET status = 'invalid'").await.unwrap();
        let refused = client.finalize(&id, &["a.example.test"]).await;
        assert_eq!(problem(refused), "403 orderNotReady");
        assert_eq!(server.world.ca.signed().len(), 1);
        for table in ["managed_certificates WHERE source = 'ACME'", "certificate_versions", "jobs", "certificate_revocations"] {
            assert_eq!(server.world.db.texts(&format!("SELECT id AS value FROM {table}")).await, Vec::<String>::new(), "{table}");
        }
    }

    async fn what_is_remembered_of_an_order_is_for_its_account(db: TestDb) {
        let server = Server::with(db, patient()).await;
        let (client, other) = (server.client().await, server.client().await);
        let id = client.ordered("a.example.test").await;
        assert!(other.finalize(&id, &["a.example.test"]).await.is_err());
        let done = client.finalize(&id, &["a.example.test"]).await.unwrap();
        let certificate = last(&body(&done.order)["certificate"]);
        assert!(other.download(&certificate).await.is_err());
        client.download(&certificate).await.unwrap();
        assert_eq!(server.world.versions().await.len(), 1);
    }

    async fn what_is_remembered_is_looked_at_again_before_it_refuses(db: TestDb) {
        let server = Server::with(db, patient()).await;
        let client = server.client().await;
        let id = client.ordered("a.example.test").await;
        server.world.db.execute("UPDATE acme_orders SET status = 'invalid'").await.unwrap();
        // The request is bad, too, but the order comes first (acme-server §6).
        let refused = client.finalize(&id, &["b.example.test"]).await;
        assert_eq!(problem(refused), "403 orderNotReady");
    }

    async fn what_is_bypassed_is_signed_at_once_and_on_record(db: TestDb) {
        let config = ServiceConfig { approval_bypass: true, ..serving(patient()) };
        let server = Server::of(db, config).await;
        server.world.profile(|profile| profile.requires_approval = true).await;
        let client = server.client().await;
        let id = client.ordered("a.example.test").await;
        let done = client.finalize(&id, &["a.example.test"]).await.unwrap();
        assert_eq!(body(&done.order)["status"], "valid");
        assert_eq!(server.world.recorded("approval_bypassed").await, 1);
        assert_eq!(process(&server.world.services).await.claimed, 0);
    }

    async fn where_no_client_is_kept_the_order_is_issued_behind_its_back(db: TestDb) {
        let server = Server::with(db, AcmeConfig { finalize_wait: Duration::ZERO, ..patient() }).await;
        let client = server.client().await;
        let id = client.ordered("a.example.test").await;
        let done = client.finalize(&id, &["a.example.test"]).await.unwrap();
        assert_eq!(body(&done.order)["status"], "processing");
        while client.status(&id).await != "valid" {
            tokio::task::yield_now().await;
        }
    }

    async fn nothing_is_signed_before_it_is_approved(db: TestDb) {
        let server = Server::with(db, patient()).await;
        server.world.profile(|profile| profile.requires_approval = true).await;
        let client = server.client().await;
        let id = client.ordered("a.example.test").await;
        let done = client.finalize(&id, &["a.example.test"]).await.unwrap();
        assert_eq!(body(&done.order)["status"], "processing");
        assert_eq!(server.world.ca.signed(), Vec::<String>::new());
    }

    async fn what_our_ca_refuses_is_told_by_its_job(db: TestDb) {
        let server = Server::with(db, patient()).await;
        let client = server.client().await;
        let id = client.ordered("a.example.test").await;
        server.world.ca.refuse(Some(IssuerError::Validation("the CA has expired".into())));
        let done = client.finalize(&id, &["a.example.test"]).await.unwrap();
        assert_eq!(body(&done.order)["status"], "invalid");
        assert_eq!(server.world.recorded("acme_order_failed").await, 1);
        assert_eq!(server.world.db.texts("SELECT status AS value FROM jobs").await, ["Failed"]);
    }
}
