//! Limits and hygiene: what parallel requests cannot pass, and what time takes away.

use std::time::Duration;

use certctl_repository::{
    Backend,
    acme::sweeps::{self, Deleted},
    transaction,
};
use certctl_service::acme::{AcmeConfig, GcSummary};
use certctl_testkit::{TestDb, db_tests};
use serde_json::json;

use super::kit::{Server, acme_config, body, problem, serving};

const DAY: Duration = Duration::from_secs(86_400);

db_tests! {
    async fn parallel_requests_cannot_pass_the_cap(db: TestDb) {
        let capped = AcmeConfig { concurrent_orders: 5, ..acme_config() };
        let server = Server::with(db, capped.clone()).await;
        let client = server.client().await;
        let (other, _) = server.world.replica("other:2", serving(capped));
        let there = other.acme().unwrap();
        let shared = server.world.db.backend() == Backend::Postgres;
        let payload = json!({"identifiers": [{"type": "dns", "value": "a.example.test"}]});
        let made = futures_util::future::join_all((0..20).map(|n| {
            let (client, there, payload) = (&client, &there, &payload);
            async move {
                let request = client.post(&client.urls.new_order(), payload).await;
                if shared && n % 2 == 0 { there.new_order(request).await } else { client.acme.new_order(request).await }
            }
        })).await;
        let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
        assert_eq!((made.len(), refused.len()), (5, 15));
        for one in refused {
            let refusal = one.unwrap_err();
            assert_eq!((refusal.problem.kind.as_str(), refusal.retry_after.is_some()), ("rateLimited", true));
        }
        // One that ends makes room.
        let id = made[0].as_ref().unwrap().id.to_string();
        client.finalize(&id, &["a.example.test"]).await.unwrap();
        server.world.work().await;
        client.order(&["b.example.test"]).await.unwrap();
    }

    async fn orders_of_an_hour_are_limited(db: TestDb) {
        let server = Server::with(db, AcmeConfig { orders_per_hour: 2, ..acme_config() }).await;
        let client = server.client().await;
        for _ in 0..2 {
            client.order(&["a.example.test"]).await.unwrap();
        }
        let refusal = client.order(&["a.example.test"]).await.unwrap_err();
        assert_eq!((refusal.problem.kind.as_str(), refusal.problem.status, refusal.retry_after), ("rateLimited", 429, Some(1800)));
        server.client().await.order(&["a.example.test"]).await.unwrap();
        server.world.clock.advance(Duration::from_secs(1800));
        client.order(&["a.example.test"]).await.unwrap();
    }

    async fn what_is_late_is_swept(db: TestDb) {
        let server = Server::challenging(db, acme_config()).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test"]).await.unwrap().id.to_string();
        let gc = |summary: GcSummary| (summary.authorizations, summary.orders, summary.reconciled, summary.deleted, summary.failures);
        let acme = server.acme();
        assert_eq!(gc(acme.gc().await.unwrap()), (0, 0, 0, 0, 0));
        assert_eq!(server.world.recorded("acme_gc_summary").await, 0);
        server.world.clock.advance(DAY + Duration::from_secs(1));
        let swept = acme.gc().await.unwrap();
        assert_eq!(gc(swept), (1, 1, 0, 0, 0));
        if server.world.db.backend() == Backend::Postgres {
            assert!(swept.nonces > 0);
        }
        assert_eq!(server.world.db.texts("SELECT nonce AS value FROM acme_redeemed_nonces").await, Vec::<String>::new());
        let shown = body(&client.show_order(&order).await.unwrap().order);
        assert_eq!((shown["status"].as_str().unwrap(), shown["error"]["detail"].as_str().unwrap()), ("invalid", "order expired before issuance"));
        assert_eq!(server.world.recorded("acme_gc_summary").await, 1);
        let by = server.world.db.text("SELECT actor AS value FROM audit_events WHERE action = 'acme_gc_summary'").await;
        assert_eq!(by, "acme-system:gc");
        server.world.clock.advance(91 * DAY);
        assert_eq!(gc(acme.gc().await.unwrap()), (0, 0, 0, 1, 0));
        for table in ["acme_orders", "acme_authorizations", "acme_challenges"] {
            assert_eq!(server.world.db.texts(&format!("SELECT id AS value FROM {table}")).await, Vec::<String>::new());
        }
        client.order(&["a.example.test"]).await.unwrap();
    }

    async fn orders_go_when_their_certificates_are_of_no_use(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let (order, _) = server.issued(&client, "a.example.test").await;
        server.world.clock.advance(89 * DAY);
        assert_eq!(server.acme().gc().await.unwrap().deleted, 0);
        server.world.clock.advance(10 * DAY);
        assert_eq!(server.acme().gc().await.unwrap().deleted, 1);
        assert_eq!(problem(client.show_order(&order).await), "404 malformed");
    }

    async fn an_order_that_is_kept_is_not_passed_over_again(db: TestDb) {
        let server = Server::with(db, AcmeConfig { retention: 10 * DAY, ..acme_config() }).await;
        let client = server.client().await;
        let (kept, _) = server.issued(&client, "a.example.test").await;
        let ended = client.order(&["b.example.test"]).await.unwrap().id.to_string();
        server.world.clock.advance(2 * DAY);
        assert_eq!(server.acme().gc().await.unwrap().orders, 1);
        server.world.clock.advance(11 * DAY);
        let now = server.world.now();
        let step = async || {
            transaction!(server.world.db, "sweep", conn => {
                sweeps::delete_ended(conn, now - 10 * DAY, 100, now).await
            }).unwrap()
        };
        assert_eq!(step().await, Deleted { orders: 1, kept: 1, authorizations: 1 });
        assert_eq!(step().await, Deleted::default(), "it was noted down until when it is kept");
        assert_eq!(problem(client.show_order(&ended).await), "404 malformed");
        assert_eq!(client.status(&kept).await, "valid");
        server.world.clock.advance(90 * DAY);
        assert_eq!(server.acme().gc().await.unwrap().deleted, 1);
        assert_eq!(problem(client.show_order(&kept).await), "404 malformed");
    }

    async fn what_an_order_was_proved_by_goes_before_an_order_that_is_kept(db: TestDb) {
        let server = Server::with(db, AcmeConfig { retention: 10 * DAY, ..acme_config() }).await;
        let client = server.client().await;
        let (order, _) = server.issued(&client, "a.example.test").await;
        let gc = |summary: GcSummary| (summary.spent, summary.deleted, summary.failures);
        server.world.clock.advance(10 * DAY);
        assert_eq!(gc(server.acme().gc().await.unwrap()), (0, 0, 0), "it is not old enough");
        server.world.clock.advance(Duration::from_secs(1));
        assert_eq!(gc(server.acme().gc().await.unwrap()), (1, 0, 0));
        assert_eq!(server.world.recorded("acme_gc_summary").await, 1);
        for table in ["acme_authorizations", "acme_challenges"] {
            assert_eq!(server.world.db.texts(&format!("SELECT id AS value FROM {table}")).await, Vec::<String>::new());
        }
        let shown = body(&client.show_order(&order).await.unwrap().order);
        assert_eq!((&shown["status"], &shown["authorizations"]), (&json!("valid"), &json!([])));
        let download = client.download(&super::kit::last(&shown["certificate"])).await.unwrap();
        client.revoke(&super::kit::leaf(&download), None).await.unwrap();
    }

    async fn a_proof_that_is_good_stays_with_its_order(db: TestDb) {
        let config = AcmeConfig { retention: DAY, order_ttl: 30 * DAY, authz_ttl: 30 * DAY, ..acme_config() };
        let server = Server::with(db, config).await;
        let client = server.client().await;
        let (order, _) = server.issued(&client, "a.example.test").await;
        server.world.clock.advance(5 * DAY);
        assert_eq!(server.acme().gc().await.unwrap().spent, 0);
        assert_eq!(client.authorizations(&client.show_order(&order).await.unwrap()).await.len(), 1);
    }

    async fn an_order_ends_with_the_first_proof_that_is_late(db: TestDb) {
        let server = Server::challenging(db, AcmeConfig { authz_ttl: DAY / 24, ..acme_config() }).await;
        let client = server.client().await;
        let _looking = server.look();
        let half = client.order(&["a.example.test", "b.example.test"]).await.unwrap();
        let first = &client.authorizations(&half).await[0];
        client.respond(&super::kit::challenge_of(first, "http-01")).await.unwrap();
        server.proofs.asked_for(1).await;
        while client.authorizations(&half).await[0]["status"] != "valid" {
            tokio::task::yield_now().await;
        }
        server.world.clock.advance(DAY / 12);
        let swept = server.acme().gc().await.unwrap();
        assert_eq!((swept.authorizations, swept.orders), (1, 1), "long before the order's own end");
        assert_eq!(client.status(half.id.as_str()).await, "invalid");
        assert_eq!(client.authorizations(&half).await[1]["status"], "expired");
    }

    async fn a_sweep_that_fails_keeps_no_other_from_running(db: TestDb) {
        let server = Server::challenging(db, acme_config()).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test"]).await.unwrap().id.to_string();
        server.world.db.execute("ALTER TABLE acme_failing_names RENAME TO elsewhere").await.unwrap();
        server.world.clock.advance(DAY + Duration::from_secs(1));
        let swept = server.acme().gc().await.unwrap();
        assert_eq!((swept.authorizations, swept.orders, swept.failures), (1, 1, 1));
        assert_eq!(client.status(&order).await, "invalid");
    }

    async fn orders_are_listed_page_by_page(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let made = futures_util::future::join_all((0..105).map(|_| async {
            client.order(&["a.example.test"]).await.unwrap().id.to_string()
        })).await;
        let url = client.urls.at(&format!("account/{}/orders", client.id));
        let mut listed = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..2 {
            let asked = match &cursor { Some(cursor) => format!("{url}?cursor={cursor}"), None => url.clone() };
            let page = client.acme.orders(client.post(&asked, &json!(null)).await, &client.id, cursor.as_deref()).await.unwrap();
            listed.extend(body(&page.orders)["orders"].as_array().unwrap().iter().map(super::kit::last));
            cursor = page.next_cursor;
        }
        assert_eq!(cursor, None);
        let mut made = made;
        made.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, made);
        let bad = client.acme.orders(client.post(&url, &json!(null)).await, &client.id, Some("x")).await;
        assert_eq!(problem(bad), "400 malformed");
    }

    async fn what_is_not_set_up_is_said(db: TestDb) {
        let server = Server::with(db, AcmeConfig { owner: None, issuer: None, default_profile: None, ..acme_config() }).await;
        let client = server.client().await;
        let found = server.acme().shortcomings().await.unwrap();
        assert!(found.iter().any(|one| one.contains("owner, team or renewal policy")), "{found:?}");
        assert_eq!(problem(client.order(&["a.example.test"]).await), "500 serverInternal");
        let acme = server.acme();
        let shorthand = certctl_acme::urls::Family::Shorthand;
        assert_eq!(problem(acme.resolve(&shorthand).await), "403 userActionRequired");
        let unknown = certctl_acme::urls::Family::Profile(certctl_domain::id::ProfileId::from_stored("prof-none".into()));
        assert_eq!(problem(acme.resolve(&unknown).await), "404 userActionRequired");
        let known = certctl_acme::urls::Family::Profile(client.profile.clone());
        assert_eq!(acme.resolve(&known).await.unwrap(), client.profile);
        assert!(server.world.replica("off:2", certctl_testkit::services::config()).0.acme().is_none());
    }
}
