//! How orders end that lead to no certificate, and what is put right that a crash left.

use std::time::Duration;

use certctl_domain::id::JobId;
use certctl_service::{
    acme::{AcmeConfig, OrderAnswer, Refusal},
    config::ServiceConfig,
};
use certctl_testkit::{TestDb, db_tests};
use serde_json::json;

use super::kit::{Client, Server, acme_config, body, problem, serving};
use crate::support::process;

const HOUR: Duration = Duration::from_secs(3600);

/// An order that is being issued, and its job.
async fn begun(server: &Server, client: &Client) -> (String, JobId) {
    let order = client.order(&["a.example.test"]).await.unwrap();
    let id = order.id.to_string();
    let begun = client.finalize(&id, &["a.example.test"]).await.unwrap();
    assert_eq!(body(&begun.order)["status"], "processing");
    let sql = format!("SELECT job_id AS value FROM acme_orders WHERE id = '{id}'");
    let job = server.world.db.text(&sql).await;
    (id, JobId::parse(&job).unwrap())
}

/// That an order came to nothing, that this was written down, and that no sweep was needed for it.
async fn has_failed(server: &Server, client: &Client, id: &str) {
    let shown = body(&client.show_order(id).await.unwrap().order);
    assert_eq!(shown["status"], "invalid");
    assert_eq!(
        shown["error"],
        json!({"type": "urn:ietf:params:acme:error:serverInternal", "status": 500, "detail": "the certificate could not be issued"})
    );
    assert_eq!(server.world.recorded("acme_order_failed").await, 1);
    assert_eq!(server.acme().gc().await.unwrap().reconciled, 0);
}

db_tests! {
    async fn an_order_ends_with_the_job_that_a_sweep_gives_up(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let (id, job) = begun(&server, &client).await;
        server.world.db.execute("UPDATE jobs SET max_attempts = 1").await.unwrap();
        let door = server.world.ca.shut(false);
        let services = server.world.services.clone();
        let dead = tokio::spawn(async move { process(&services).await });
        door.arrived().await;
        dead.abort();
        let _: Result<_, _> = dead.await;
        server.world.clock.advance(Duration::from_secs(301));
        assert_eq!(server.world.services.recover_jobs().await.unwrap(), 1);
        assert_eq!(server.world.ended(&job).await.0, "Failed");
        has_failed(&server, &client, &id).await;
        door.open();
    }

    async fn an_order_ends_with_the_job_that_is_called_off(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let (id, job) = begun(&server, &client).await;
        server.world.services.cancel_job(&server.world.admin, &job).await.unwrap();
        has_failed(&server, &client, &id).await;
        assert_eq!(process(&server.world.services).await.claimed, 0);
    }

    async fn an_order_ends_with_the_certificate_that_is_archived(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let (id, _) = begun(&server, &client).await;
        let sql = format!("SELECT certificate_id AS value FROM acme_orders WHERE id = '{id}'");
        let certificate = crate::support::certificate_id(&server.world.db.text(&sql).await);
        server.world.services.archive_certificate(&server.world.admin, &certificate).await.unwrap();
        has_failed(&server, &client, &id).await;
        assert_eq!(process(&server.world.services).await.claimed, 0);
    }

    async fn an_order_that_nobody_approves_ends(db: TestDb) {
        let server = Server::new(db).await;
        server.world.profile(|profile| profile.requires_approval = true).await;
        let client = server.client().await;
        let (id, _) = begun(&server, &client).await;
        server.world.clock.advance(169 * HOUR);
        assert_eq!(server.world.services.time_out_jobs().await.unwrap().approval, 1);
        has_failed(&server, &client, &id).await;
    }

    async fn whoever_waits_for_a_second_person_is_answered_at_once(db: TestDb) {
        let server = Server::with(db, AcmeConfig { finalize_wait: 1000 * HOUR, ..acme_config() }).await;
        server.world.profile(|profile| profile.requires_approval = true).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test"]).await.unwrap().id.to_string();
        let answer = tokio::time::timeout(HOUR / 60, client.finalize(&order, &["a.example.test"])).await;
        let answer: OrderAnswer = answer.expect("nothing is waited for").unwrap();
        assert_eq!((body(&answer.order)["status"].as_str().unwrap(), answer.retry_after), ("processing", Some(3)));
        let again: Result<Result<OrderAnswer, Refusal>, _> = tokio::time::timeout(HOUR / 60, client.show_order(&order)).await;
        assert_eq!(body(&again.unwrap().unwrap().order)["status"], "processing");
    }

    async fn where_approval_is_bypassed_orders_are_issued(db: TestDb) {
        let config = ServiceConfig { approval_bypass: true, ..serving(acme_config()) };
        let server = Server::of(db, config).await;
        server.world.profile(|profile| profile.requires_approval = true).await;
        let client = server.client().await;
        let (id, _) = begun(&server, &client).await;
        assert_eq!(server.world.work().await.completed, 1);
        assert_eq!(client.status(&id).await, "valid");
        assert_eq!(server.world.recorded("approval_bypassed").await, 1);
    }

    async fn what_a_crash_left_processing_is_put_right_by_the_sweep(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let (issued, _) = server.issued(&client, "a.example.test").await;
        let (called_off, job) = begun(&server, &client).await;
        let (jobless, gone) = begun(&server, &client).await;
        let (under_way, _) = begun(&server, &client).await;
        // As if the last transaction of each had been lost in part.
        for sql in [
            format!("UPDATE acme_orders SET status = 'processing' WHERE id = '{issued}'"),
            format!("UPDATE jobs SET status = 'Cancelled' WHERE id = '{job}'"),
            format!("DELETE FROM jobs WHERE id = '{gone}'"),
        ] {
            server.world.db.execute(&sql).await.unwrap();
        }
        assert_eq!(server.acme().gc().await.unwrap().reconciled, 3);
        assert_eq!(client.status(&issued).await, "valid", "there is a version");
        for id in [&called_off, &jobless] {
            let shown = body(&client.show_order(id).await.unwrap().order);
            assert_eq!((&shown["status"], &shown["error"]["type"]), (&json!("invalid"), &json!("urn:ietf:params:acme:error:serverInternal")));
            assert_eq!(problem(client.finalize(id, &["a.example.test"]).await), "403 orderNotReady");
        }
        assert_eq!(client.status(&under_way).await, "processing", "what is under way is left alone");
        assert_eq!(server.world.recorded("acme_order_failed").await, 2);
        assert_eq!(server.acme().gc().await.unwrap().reconciled, 0);
    }
}
