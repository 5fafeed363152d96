//! What becomes of certificates of ACME: renewal information, replacement, revocation.

use std::time::Duration;

use certctl_acme::ari::CertId;
use certctl_domain::time::Timestamp;
use certctl_pki::cert::ParsedCertificate;
use certctl_service::{
    acme::{AcmeConfig, Download},
    bulk::BulkCriteria,
};
use certctl_testkit::{TestDb, db_tests};
use serde_json::json;

use super::kit::{Client, Server, acme_config, body, csr_der, key, leaf, problem, revocation};
use crate::support::{certificate_id, outcome};

const DAY: Duration = Duration::from_secs(86_400);

fn ari_id(download: &Download) -> String {
    let certificate = ParsedCertificate::from_der(&leaf(download)).unwrap();
    CertId::of_certificate(&certificate).unwrap().to_string()
}

async fn window(client: &Client, id: &str) -> (Timestamp, Timestamp) {
    let answer = client
        .acme
        .renewal_info(&client.urls, &client.profile, id)
        .await
        .unwrap();
    assert_eq!(answer.retry_after, 21_600);
    let shown = body(&answer.body);
    let time = |name: &str| {
        shown["suggestedWindow"][name]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    };
    (time("start"), time("end"))
}

db_tests! {
    async fn when_to_renew_follows_the_policy(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let (_, download) = server.issued(&client, "a.example.test").await;
        let id = ari_id(&download);
        let ends = server.world.certificate(&download.id).await.expires_at.unwrap();
        let (start, end) = window(&client, &id).await;
        assert_eq!((start, end), (ends - 30 * DAY, ends - 15 * DAY), "the policy's thirty days");
        server.world.clock.advance(70 * DAY);
        let (start, _) = window(&client, &id).await;
        assert_eq!(start, server.world.now().truncated_to_seconds(), "never in the past");
        client.revoke(&leaf(&download), None).await.unwrap();
        let (_, end) = window(&client, &id).await;
        assert!(end <= server.world.now(), "at once");
        for (id, expected) in [("", "400 malformed"), ("a.b.c", "400 malformed"), ("AAAA.AQ", "404 malformed")] {
            assert_eq!(problem(client.acme.renewal_info(&client.urls, &client.profile, id).await), expected, "{id}");
        }
        let (_, serial) = id.split_once('.').unwrap();
        let other_key = format!("AAAA.{serial}");
        assert_eq!(problem(client.acme.renewal_info(&client.urls, &client.profile, &other_key).await), "404 malformed");
    }

    async fn renewal_information_can_be_switched_off(db: TestDb) {
        let server = Server::with(db, AcmeConfig { ari_enabled: false, ..acme_config() }).await;
        let client = server.client().await;
        assert_eq!(problem(client.acme.renewal_info(&client.urls, &client.profile, "AAAA.AQ").await), "404 malformed");
        let directory = body(&client.acme.directory(&client.urls, &client.profile).await.unwrap());
        assert_eq!(directory["renewalInfo"], json!(null));
    }

    async fn a_certificate_is_replaced_once(db: TestDb) {
        let server = Server::with(db, AcmeConfig { orders_per_hour: 2, ..acme_config() }).await;
        let (client, other) = (server.client().await, server.client().await);
        let (_, download) = server.issued(&client, "a.example.test").await;
        let replaces = json!({"replaces": ari_id(&download)});
        assert_eq!(problem(other.order_with(&["a.example.test"], replaces.clone()).await), "400 malformed");
        assert_eq!(problem(client.order_with(&["b.example.test"], replaces.clone()).await), "400 malformed");
        assert_eq!(problem(client.order_with(&["a.example.test"], json!({"replaces": "AAAA.AQ"})).await), "400 malformed");
        let ordered = futures_util::future::join_all((0..5).map(|_| client.order_with(&["a.example.test", "b.example.test"], replaces.clone()))).await;
        let (made, refused): (Vec<_>, Vec<_>) = ordered.into_iter().partition(Result::is_ok);
        assert_eq!((made.len(), refused.len()), (1, 4));
        assert!(refused.into_iter().all(|one| problem(one) == "409 alreadyReplaced"));
        let order = made.into_iter().next().unwrap().unwrap();
        assert_eq!(body(&order.order)["replaces"], replaces["replaces"]);
        // One that comes to nothing replaces nothing, and what replaces costs nothing of the hour's orders.
        server.world.clock.advance(2 * DAY);
        server.acme().gc().await.unwrap();
        assert_eq!(client.status(order.id.as_str()).await, "invalid");
        client.order_with(&["a.example.test"], replaces).await.unwrap();
    }

    async fn the_renewal_scan_leaves_clients_their_certificates(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let (_, download) = server.issued(&client, "a.example.test").await;
        server.world.clock.advance(80 * DAY);
        let scanned = server.world.services.scan_renewals().await.unwrap();
        assert_eq!((scanned.enqueued, scanned.expiring), (0, 1));
        let renewed = server.world.services.renew_certificate(&server.world.admin, &download.id, true).await;
        assert_eq!(outcome(renewed), "bad request");
        let of_the_team = BulkCriteria { team_id: Some(server.world.ids.team.to_string()), ..BulkCriteria::default() };
        let done = server.world.services.bulk_renew(&server.world.admin, &of_the_team).await.unwrap();
        assert_eq!((done.matched, done.changed), (2, 1), "the other one is no client's");
        assert_eq!(server.world.certificate(&download.id).await.status.as_str(), "Expiring");
    }

    async fn whoever_ordered_a_certificate_may_revoke_it(db: TestDb) {
        let server = Server::new(db).await;
        let (client, other) = (server.client().await, server.client().await);
        let (_, download) = server.issued(&client, "a.example.test").await;
        let der = leaf(&download);
        assert_eq!(problem(other.revoke(&der, None).await), "401 unauthorized");
        for reason in [7, 8, 10] {
            assert_eq!(problem(client.revoke(&der, Some(reason)).await), "400 badRevocationReason");
        }
        assert_eq!(problem(client.revoke(b"nonsense", None).await), "400 malformed");
        client.revoke(&der, Some(4)).await.unwrap();
        assert_eq!(problem(client.revoke(&der, Some(4)).await), "400 alreadyRevoked");
        assert_eq!(server.world.certificate(&download.id).await.status.as_str(), "Revoked");
        assert!(server.world.revoked().await[0].ends_with(" superseded"));
        let by = server.world.db.text("SELECT actor AS value FROM audit_events WHERE action = 'certificate_revoked'").await;
        assert_eq!(by, format!("acme:{}", client.id));
        assert_eq!(server.world.ca.told().len(), 1);
    }

    async fn whoever_has_the_key_may_revoke_with_one_nonce(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let pair = key();
        let order = client.order(&["a.example.test"]).await.unwrap();
        let request = client.finalize_request(order.id.as_str(), &csr_der(&pair, &["a.example.test"])).await;
        client.acme.finalize(request, order.id.as_str()).await.unwrap();
        server.world.work().await;
        let id = server.world.db.text("SELECT certificate_id AS value FROM acme_orders").await;
        let der = leaf(&client.download(&id).await.unwrap());
        let url = client.urls.revoke_cert();
        let stranger = server.stranger();
        let foreign = stranger.post_jwk(&url, &revocation(&der, None)).await;
        assert_eq!(problem(stranger.acme.revoke(foreign).await), "401 unauthorized");
        let holder = Client { signer: certctl_acme::client::Signer::new(pair).unwrap(), ..server.stranger() };
        let request = holder.post_jwk(&url, &revocation(&der, Some(1))).await;
        holder.acme.revoke(request).await.unwrap();
        assert_eq!(server.world.certificate(&certificate_id(&id)).await.status.as_str(), "Revoked");
        let by = server.world.db.text("SELECT actor AS value FROM audit_events WHERE action = 'certificate_revoked'").await;
        assert!(by.starts_with("acme-cert-key:"), "{by}");
    }

    async fn whoever_has_proved_all_names_may_revoke(db: TestDb) {
        let server = Server::challenging(db, acme_config()).await;
        let _looking = server.look();
        let (client, other) = (server.client().await, server.client().await);
        let order = client.order(&["a.example.test", "b.example.test"]).await.unwrap();
        client.prove(&order, "http-01").await;
        client.finalize(order.id.as_str(), &["a.example.test", "b.example.test"]).await.unwrap();
        server.world.work().await;
        let id = server.world.db.text("SELECT certificate_id AS value FROM acme_orders").await;
        let der = leaf(&client.download(&id).await.unwrap());
        let half = other.order(&["a.example.test"]).await.unwrap();
        assert_eq!(other.prove(&half, "http-01").await, "ready");
        assert_eq!(problem(other.revoke(&der, None).await), "401 unauthorized");
        let rest = other.order(&["b.example.test"]).await.unwrap();
        assert_eq!(other.prove(&rest, "http-01").await, "ready");
        other.revoke(&der, None).await.unwrap();
    }

    async fn a_certificate_that_nobody_issued_here_is_unknown(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        server.issued(&client, "a.example.test").await;
        let root = ParsedCertificate::from_pem(&server.world.ca.root().await).unwrap();
        assert_eq!(problem(client.revoke(root.der(), None).await), "404 malformed");
    }
}
