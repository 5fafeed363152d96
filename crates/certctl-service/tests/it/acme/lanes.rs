//! Orders that the CA of somebody else issues, asked as soon as they are committed by the process that made them.

use std::time::Duration;

use certctl_domain::ports::issuer::IssuerError;
use certctl_repository::Backend;
use certctl_service::acme::AcmeConfig;
use certctl_testkit::{TestDb, db_tests};

use super::kit::{Server, acme_config, body, csr_der, key, last, serving};
use crate::support::process;

/// A server that issues by itself, and answers when it has.
fn at_once(lanes: usize) -> AcmeConfig {
    AcmeConfig {
        finalize_wait: Duration::from_secs(600),
        lanes,
        ..acme_config()
    }
}

/// One whose CA has issued once it has signed.
async fn asking_elsewhere(db: TestDb, config: AcmeConfig) -> Server {
    let server = Server::with(db, config).await;
    server.world.ca.stand_elsewhere();
    server
}

db_tests! {
    async fn an_order_is_issued_while_its_client_waits(db: TestDb) {
        let server = asking_elsewhere(db, at_once(64)).await;
        let client = server.client().await;
        let id = client.ordered("a.example.test").await;
        let done = client.finalize(&id, &["a.example.test"]).await.unwrap();
        let shown = body(&done.order);
        assert_eq!((shown["status"].as_str().unwrap(), done.retry_after), ("valid", None));
        client.download(&last(&shown["certificate"])).await.unwrap();
        assert_eq!(client.status(&id).await, "valid", "it is so in the database");
        assert_eq!(process(&server.world.services).await.claimed, 0);
        let db = &server.world.db;
        assert_eq!(db.texts("SELECT status || ' ' || attempts AS value FROM jobs").await, ["Completed 1"]);
        assert_eq!(db.texts("SELECT job_id AS value FROM issuance_intents").await, Vec::<String>::new());
        for action in ["acme_order_processing", "renewal_job_completed", "acme_order_finalized"] {
            assert_eq!(server.world.recorded(action).await, 1, "{action}");
        }
    }

    async fn an_order_alone_costs_four_commits_at_the_most(db: TestDb) {
        let server = asking_elsewhere(db, at_once(64)).await;
        let client = server.client().await;
        for (name, is_counted) in [("warm.example.test", false), ("a.example.test", true)] {
            let commits = server.commits_of_an_order(&client, name).await;
            // New order, finalise, what was signed, and, where replicas have to agree on nonces, the download.
            let expected = if server.world.db.backend() == Backend::Postgres { 4 } else { 3 };
            assert!(!is_counted || commits == expected, "{commits}");
        }
    }

    async fn fifty_clients_share_commits(db: TestDb) {
        let server = asking_elsewhere(db, at_once(64)).await;
        let client = server.client().await;
        let before = server.world.services.db().commits();
        let names: Vec<String> = (0..50).map(|n| format!("n{n}.example.test")).collect();
        let done = futures_util::future::join_all(names.iter().map(|name| {
            let client = &client;
            async move {
                let id = client.ordered(name).await;
                body(&client.finalize(&id, &[name]).await.unwrap().order)["status"].clone()
            }
        })).await;
        assert!(done.iter().all(|status| status == "valid"), "{done:?}");
        assert_eq!(server.world.versions().await.len(), 50);
        let commits = server.world.services.db().commits() - before;
        assert!(commits < 50, "{commits} commits for 50 orders");
    }

    async fn one_order_gives_one_certificate(db: TestDb) {
        let server = asking_elsewhere(db, at_once(64)).await;
        let client = server.client().await;
        let id = client.ordered("a.example.test").await;
        let csr = csr_der(&key(), &["a.example.test"]);
        let finalized = futures_util::future::join_all((0..10).map(|_| async {
            let request = client.finalize_request(&id, &csr).await;
            client.acme.finalize(request, &id).await
        })).await;
        for one in finalized {
            let status = body(&one.unwrap().order)["status"].clone();
            assert!(status == "valid" || status == "processing", "{status}");
        }
        assert_eq!(client.status(&id).await, "valid");
        assert_eq!((server.world.versions().await.len(), server.world.ca.signed().len()), (1, 1));
    }

    async fn what_is_refused_for_good_ends_the_order(db: TestDb) {
        let server = asking_elsewhere(db, at_once(64)).await;
        let client = server.client().await;
        let id = client.ordered("a.example.test").await;
        server.world.ca.refuse(Some(IssuerError::Validation("secret words of a CA".into())));
        let done = client.finalize(&id, &["a.example.test"]).await.unwrap();
        let shown = body(&done.order);
        assert_eq!((shown["status"].as_str().unwrap(), done.retry_after), ("invalid", None));
        assert!(!shown.to_string().contains("secret words"));
        assert_eq!(server.world.recorded("acme_order_failed").await, 1);
    }

    async fn what_was_signed_and_not_stored_is_signed_again_elsewhere(db: TestDb) {
        let server = asking_elsewhere(db, AcmeConfig { finalize_wait: Duration::ZERO, ..at_once(64) }).await;
        let client = server.client().await;
        let id = client.ordered("a.example.test").await;
        // Signed, and then nothing more is heard for longer than the lease.
        let door = server.world.ca.shut(true);
        client.finalize(&id, &["a.example.test"]).await.unwrap();
        door.arrived().await;
        assert_eq!(client.status(&id).await, "processing");
        server.world.clock.advance(Duration::from_secs(301));
        let (other, ca) = server.world.replica("other:2", serving(acme_config()));
        assert_eq!(process(&other).await.completed, 1);
        assert_eq!(client.status(&id).await, "valid");
        // The first comes back, and finds that it holds nothing any more.
        door.open();
        let signed = [server.world.ca.signed(), ca.signed()].concat();
        assert_eq!(signed, [signed[0].clone(), signed[0].clone()]);
        let later = client.ordered("b.example.test").await;
        client.finalize(&later, &["b.example.test"]).await.unwrap();
        while client.status(&later).await != "valid" {
            tokio::task::yield_now().await;
        }
        assert_eq!(server.world.versions().await.len(), 2);
        assert_eq!(server.world.recorded("renewal_job_completed").await, 2);
        assert_eq!(server.world.db.texts("SELECT serial_number AS value FROM certificate_revocations").await, Vec::<String>::new());
    }

    async fn what_comes_beyond_the_lanes_is_left_to_the_processor(db: TestDb) {
        let server = asking_elsewhere(db, AcmeConfig { finalize_wait: Duration::ZERO, ..at_once(1) }).await;
        let client = server.client().await;
        let (first, second) = (client.ordered("a.example.test").await, client.ordered("b.example.test").await);
        let door = server.world.ca.shut(false);
        client.finalize(&first, &["a.example.test"]).await.unwrap();
        door.arrived().await;
        client.finalize(&second, &["b.example.test"]).await.unwrap();
        let sql = "SELECT status AS value FROM jobs ORDER BY status";
        assert_eq!(server.world.db.texts(sql).await, ["Pending", "Running"]);
        door.open();
        while client.status(&first).await != "valid" {
            tokio::task::yield_now().await;
        }
        assert_eq!(process(&server.world.services).await.completed, 1);
        assert_eq!(client.status(&second).await, "valid");
    }
}
