//! Edges of accounts, orders, challenges and revocations that have no test of their subject's own (acme-server §3 to §8).

use std::time::Duration;

use certctl_acme::{base64url, client::Signer};
use certctl_domain::{key::KeySpec, name::SubjectAltName, profile::ExtendedKeyUsage};
use certctl_pki::{cert::ParsedCertificate, csr::CsrBuilder, key::PrivateKey};
use certctl_service::acme::AcmeConfig;
use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use super::{
    accounts::change,
    kit::{Client, Server, acme_config, body, challenge_of, csr_der, key, last, leaf, problem},
};

const HOUR: Duration = Duration::from_secs(3600);

/// The details of the audit rows of an action.
async fn details(server: &Server, action: &str) -> Vec<Value> {
    let sql = format!(
        "SELECT CAST(details AS TEXT) AS value FROM audit_events WHERE action = '{action}'"
    );
    let rows = server.world.db.texts(&sql).await;
    rows.iter()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect()
}

async fn finalize(client: &Client, id: &str, csr: &[u8]) -> String {
    let request = client.finalize_request(id, csr).await;
    problem(client.acme.finalize(request, id).await)
}

db_tests! {
    async fn what_was_agreed_to_is_on_record(db: TestDb) {
        let server = Server::new(db).await;
        for agreed in [true, false] {
            server.stranger().register(json!({"termsOfServiceAgreed": agreed})).await.unwrap();
        }
        let mut agreed: Vec<Value> = details(&server, "acme_account_created").await.into_iter().map(|one| one["terms_agreed"].clone()).collect();
        agreed.sort_by_key(Value::to_string);
        assert_eq!(agreed, [false, true]);
    }

    async fn an_account_that_was_revoked_is_refused_a_new_one(db: TestDb) {
        let server = Server::new(db).await;
        let mut client = server.client().await;
        server.acme().revoke_account(&server.world.admin, &client.id).await.unwrap();
        assert_eq!(problem(client.register(json!({})).await), "401 unauthorized");
        assert_eq!(problem(client.register(json!({"onlyReturnExisting": true})).await), "401 unauthorized");
    }

    async fn with_an_account_everything_ends_that_it_has_under_way(db: TestDb) {
        let server = Server::challenging(db, acme_config()).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test"]).await.unwrap();
        let other = server.client().await;
        let kept = other.order(&["a.example.test"]).await.unwrap();
        change(&client, json!({"status": "deactivated"})).await.unwrap();
        let of = |table: &str, column: &str, id: &str| format!("SELECT status AS value FROM {table} WHERE {column} = '{id}'");
        assert_eq!(server.world.db.text(&of("acme_orders", "id", order.id.as_str())).await, "invalid");
        assert_eq!(server.world.db.text(&of("acme_authorizations", "order_id", order.id.as_str())).await, "deactivated");
        assert_eq!(server.world.db.text(&of("acme_accounts", "id", &client.id)).await, "deactivated");
        assert_eq!(other.status(kept.id.as_str()).await, "pending", "of nobody else");
        assert_eq!(server.world.recorded("acme_account_deactivated").await, 1);
    }

    async fn an_order_and_its_proofs_have_a_day(db: TestDb) {
        let server = Server::challenging(db, AcmeConfig { authz_ttl: 12 * HOUR, ..acme_config() }).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test", "b.example.test"]).await.unwrap();
        let now = server.world.now();
        assert_eq!(body(&order.order)["expires"], (now + 24 * HOUR).to_rfc3339());
        let mut tokens = Vec::new();
        for authorization in client.authorizations(&order).await {
            assert_eq!(authorization["expires"], (now + 12 * HOUR).to_rfc3339());
            for challenge in authorization["challenges"].as_array().unwrap() {
                let token = challenge["token"].as_str().unwrap().to_owned();
                assert_eq!(base64url::decode(&token).unwrap().len(), 32);
                tokens.push(token);
            }
        }
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), 6, "each challenge has a token of its own");
    }

    async fn an_order_that_is_over_is_not_finalised(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let id = client.order(&["a.example.test"]).await.unwrap().id.to_string();
        server.world.clock.advance(24 * HOUR);
        assert_eq!(problem(client.finalize(&id, &["a.example.test"]).await), "403 orderNotReady");
        let shown = body(&client.show_order(&id).await.unwrap().order);
        assert_eq!((&shown["status"], &shown["error"]["detail"]), (&json!("invalid"), &json!("order expired before issuance")));
        assert_eq!(server.world.versions().await, Vec::<String>::new());
    }

    async fn a_csr_with_a_mailbox_or_the_key_of_the_account_is_refused(db: TestDb) {
        let server = Server::new(db).await;
        let pair = key();
        let copy = PrivateKey::from_pem(pair.to_pem().expose()).unwrap();
        let mut client = Client { signer: Signer::new(pair).unwrap(), ..server.stranger() };
        client.register(json!({})).await.unwrap();
        let id = client.order(&["a.example.test"]).await.unwrap().id.to_string();
        let own = csr_der(&copy, &["a.example.test"]);
        assert_eq!(finalize(&client, &id, &own).await, "400 badCSR");
        let san = |text: &str| SubjectAltName::parse(text).unwrap();
        let mailbox = CsrBuilder::new("a.example.test").sans(vec![san("a.example.test"), san("bob@a.example.test")]).sign_der(&key()).unwrap();
        assert_eq!(finalize(&client, &id, &mailbox).await, "400 badCSR");
        let mut forged = csr_der(&key(), &["a.example.test"]);
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(finalize(&client, &id, &forged).await, "400 badCSR");
        assert_eq!(client.status(&id).await, "ready", "a better one may follow");
        client.finalize(&id, &["a.example.test"]).await.unwrap();
    }

    async fn a_key_that_the_profile_does_not_allow_is_a_bad_csr(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let id = client.order(&["a.example.test"]).await.unwrap().id.to_string();
        server.world.profile(|profile| profile.allowed_key_algorithms.retain(|one| one.algorithm == certctl_domain::key::KeyAlgorithm::Ecdsa)).await;
        server.world.clock.advance(Duration::from_secs(2));
        let rsa = csr_der(&PrivateKey::generate(KeySpec::Rsa2048).unwrap(), &["a.example.test"]);
        assert_eq!(finalize(&client, &id, &rsa).await, "400 badCSR");
        client.finalize(&id, &["a.example.test"]).await.unwrap();
    }

    async fn a_certificate_has_the_uses_of_its_profile(db: TestDb) {
        const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
        const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
        // 1.3.6.1.5.5.7.1.24, RFC 7633.
        const TLS_FEATURE: &[u8] = &[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 1, 24];
        let server = Server::new(db).await;
        let client = server.client().await;
        let staples = |der: &[u8]| der.windows(TLS_FEATURE.len()).any(|part| part == TLS_FEATURE);
        let (_, download) = server.issued(&client, "a.example.test").await;
        let der = leaf(&download);
        assert_eq!(ParsedCertificate::from_der(&der).unwrap().extended_key_usages(), [SERVER_AUTH]);
        assert!(!staples(&der));
        server.world.profile(|profile| {
            profile.allowed_ekus = vec![ExtendedKeyUsage::ClientAuth, ExtendedKeyUsage::ServerAuth];
            profile.must_staple = true;
        }).await;
        server.world.clock.advance(Duration::from_secs(2));
        let (_, download) = server.issued(&client, "a.example.test").await;
        let der = leaf(&download);
        let mut uses = ParsedCertificate::from_der(&der).unwrap().extended_key_usages();
        uses.sort_unstable();
        assert_eq!(uses, [SERVER_AUTH, CLIENT_AUTH]);
        assert!(staples(&der));
    }

    async fn one_csr_is_good_for_two_orders(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let csr = csr_der(&key(), &["a.example.test"]);
        for _ in 0..2 {
            let id = client.order(&["a.example.test"]).await.unwrap().id.to_string();
            let request = client.finalize_request(&id, &csr).await;
            client.acme.finalize(request, &id).await.unwrap();
            server.world.work().await;
            assert_eq!(client.status(&id).await, "valid");
        }
        assert_eq!(server.world.versions().await.len(), 2);
    }

    async fn what_is_not_issued_yet_cannot_be_downloaded(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let id = client.order(&["a.example.test"]).await.unwrap().id.to_string();
        client.finalize(&id, &["a.example.test"]).await.unwrap();
        let certificate = server.world.db.text("SELECT certificate_id AS value FROM acme_orders").await;
        assert_eq!(problem(client.download(&certificate).await), "404 malformed");
        // Nor what the account did not order, although it is there.
        let not_by_acme = server.world.ids.certificate.to_string();
        assert_eq!(problem(client.download(&not_by_acme).await), "404 malformed");
    }

    async fn an_authorisation_that_is_over_takes_no_response(db: TestDb) {
        let server = Server::challenging(db, acme_config()).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test"]).await.unwrap();
        let challenge = challenge_of(&client.authorizations(&order).await[0], "http-01");
        server.world.clock.advance(24 * HOUR);
        assert_eq!(problem(client.respond(&challenge).await), "400 malformed", "although no sweep has seen it yet");
        assert_eq!(server.world.recorded("acme_challenge_processing").await, 0);
    }

    async fn other_challenges_of_a_name_that_is_proved_stay_as_they_are(db: TestDb) {
        let server = Server::challenging(db, acme_config()).await;
        let client = server.client().await;
        let _looking = server.look();
        let order = client.order(&["a.example.test"]).await.unwrap();
        assert_eq!(client.prove(&order, "http-01").await, "ready");
        assert_eq!(server.world.recorded("acme_challenge_processing").await, 1);
        let authorization = &client.authorizations(&order).await[0];
        let states: Vec<&Value> = authorization["challenges"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
        assert_eq!(states, ["pending", "valid", "pending"]);
        assert_eq!(problem(client.respond(&challenge_of(authorization, "dns-01")).await), "400 malformed");
        assert_eq!(server.proofs.names().len(), 1);
        let again = client.respond(&challenge_of(authorization, "http-01")).await.unwrap();
        assert_eq!((&body(&again.challenge)["status"], again.retry_after), (&json!("valid"), None));
    }

    async fn a_certificate_that_only_looks_like_one_of_ours_is_unknown(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let (_, download) = server.issued(&client, "a.example.test").await;
        // Issuer and serial number are right; the signature is not.
        let mut forged = leaf(&download);
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(problem(client.revoke(&forged, None).await), "404 malformed");
        assert_eq!(server.world.revoked().await, Vec::<String>::new());
    }

    async fn a_revocation_by_acme_is_one_like_any_other(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let (_, download) = server.issued(&client, "a.example.test").await;
        let version = "SELECT CAST(COALESCE(MAX(version), 0) AS TEXT) AS value FROM revocation_status WHERE issuer_id = 'iss-local'";
        let before: i64 = server.world.db.text(version).await.parse().unwrap();
        client.revoke(&leaf(&download), Some(1)).await.unwrap();
        assert_eq!(server.world.certificate(&download.id).await.status.as_str(), "Revoked");
        let [revoked] = &server.world.revoked().await[..] else { panic!("one serial is on the list") };
        assert!(revoked.ends_with(" keyCompromise"), "{revoked}");
        let after: i64 = server.world.db.text(version).await.parse().unwrap();
        assert!(after > before, "lists and answers are made anew");
        let told = format!("SELECT type AS value FROM notification_events WHERE dedupe_key = 'revoked:{}'", download.id);
        assert_eq!(server.world.db.texts(&told).await.len(), 1, "the owner is told");
        assert_eq!(server.world.ca.told().len(), 1, "and the issuer");
        assert_eq!(server.world.recorded("certificate_revoked").await, 1);
    }

    async fn whoever_has_another_key_revokes_nothing_and_uses_one_nonce(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let (_, download) = server.issued(&client, "a.example.test").await;
        let url = client.urls.revoke_cert();
        let stranger = server.stranger();
        let request = stranger.post_jwk(&url, &super::kit::revocation(&leaf(&download), None)).await;
        assert_eq!(problem(stranger.acme.revoke(request.clone()).await), "401 unauthorized");
        assert_eq!(problem(stranger.acme.revoke(request).await), "400 badNonce", "it was used up");
        assert_eq!(server.world.certificate(&download.id).await.status.as_str(), "Active");
    }

    async fn an_order_in_the_making_names_what_was_asked_of_its_dates(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let at = |hours: u32| (server.world.now() + HOUR * hours).truncated_to_seconds().to_rfc3339();
        let (start, end) = (at(1), at(3));
        let order = client.order_with(&["a.example.test"], json!({"notBefore": start, "notAfter": end})).await.unwrap();
        let shown = body(&order.order);
        assert_eq!((&shown["notBefore"], &shown["notAfter"]), (&json!(start), &json!(end)));
        let id = order.id.to_string();
        client.finalize(&id, &["a.example.test"]).await.unwrap();
        server.world.work().await;
        let certificate = last(&body(&client.show_order(&id).await.unwrap().order)["certificate"]);
        let issued = ParsedCertificate::from_der(&leaf(&client.download(&certificate).await.unwrap())).unwrap();
        assert_eq!(issued.not_before().to_rfc3339(), start);
        assert!(issued.not_after().to_rfc3339() <= end);
    }
}
