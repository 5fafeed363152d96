//! Nonces: good once, wherever, and the first thing that is said to be wrong (RFC 8555 §6.5).

use std::time::Duration;

use certctl_repository::Backend;
use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use super::kit::{Client, Server, acme_config, problem, serving};

/// A request to show the account, with a nonce of the test's choice.
fn reading(client: &Client, nonce: &str) -> certctl_service::acme::SignedRequest {
    let url = client.urls.at(&format!("account/{}", client.id));
    let body = client.signer.sign(&client.kid, &url, nonce, "").unwrap();
    client.request(&url, body)
}

db_tests! {
    async fn a_nonce_is_good_once(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let nonce = client.nonce().await;
        client.acme.account(reading(&client, &nonce), &client.id).await.unwrap();
        assert_eq!(problem(client.acme.account(reading(&client, &nonce), &client.id).await), "400 badNonce");
    }

    async fn a_nonce_that_is_none_or_too_old_is_refused(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let url = client.urls.at(&format!("account/{}", client.id));
        let header = json!({"alg": "ES256", "kid": client.kid, "url": url});
        let without = client.signer.sign_header(&header, "").unwrap();
        assert_eq!(problem(client.acme.account(client.request(&url, without), &client.id).await), "400 badNonce");
        let old = client.nonce().await;
        for (nonce, expected) in [("", "400 badNonce"), ("AAAA", "400 badNonce"), ("a b", "400 malformed")] {
            assert_eq!(problem(client.acme.account(reading(&client, nonce), &client.id).await), expected, "{nonce:?}");
        }
        server.world.clock.advance(Duration::from_secs(301));
        assert_eq!(problem(client.acme.account(reading(&client, &old), &client.id).await), "400 badNonce");
    }

    async fn a_bad_nonce_is_said_before_whatever_else_is_wrong(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let nonce = client.nonce().await;
        client.acme.account(reading(&client, &nonce), &client.id).await.unwrap();
        let stranger = server.stranger();
        let url = client.urls.at(&format!("account/{}", client.id));
        // Another key, an account that is none, and a payload that is none.
        for (kid, payload) in [(client.kid.clone(), ""), (client.urls.at("account/x"), ""), (client.kid.clone(), "[")] {
            let body = stranger.signer.sign(&kid, &url, &nonce, payload).unwrap();
            assert_eq!(problem(client.acme.account(client.request(&url, body), &client.id).await), "400 badNonce");
            let body = stranger.signer.sign(&kid, &url, &client.nonce().await, payload).unwrap();
            let refused = problem(client.acme.account(client.request(&url, body), &client.id).await);
            assert!(refused != "400 badNonce", "{refused}");
        }
    }

    async fn a_nonce_of_another_replica_is_good_once_everywhere(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let (other, _) = server.world.replica("other:2", serving(acme_config()));
        let there = other.acme().unwrap();
        let nonce = there.nonce().await.unwrap();
        let here = client.acme.account(reading(&client, &nonce), &client.id).await;
        if server.world.db.backend() == Backend::Sqlite {
            // There is one process, so what another one made is none.
            assert_eq!(problem(here), "400 badNonce");
            return;
        }
        here.unwrap();
        assert_eq!(problem(there.account(reading(&client, &nonce), &client.id).await), "400 badNonce");
    }

    async fn after_a_restart_no_nonce_is_good_twice(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let (used, unused) = (client.nonce().await, client.nonce().await);
        client.acme.account(reading(&client, &used), &client.id).await.unwrap();
        let (restarted, _) = server.world.replica("test:1", serving(acme_config()));
        let client = client.at(&restarted);
        assert_eq!(problem(client.acme.account(reading(&client, &used), &client.id).await), "400 badNonce");
        let kept = client.acme.account(reading(&client, &unused), &client.id).await;
        match server.world.db.backend() {
            // What was used was in the memory of the process before, and so was the key.
            Backend::Sqlite => assert_eq!(problem(kept), "400 badNonce"),
            Backend::Postgres => drop(kept.unwrap()),
        }
        // Whoever is told so goes on with a fresh one.
        let fresh = client.nonce().await;
        client.acme.account(reading(&client, &fresh), &client.id).await.unwrap();
    }

    async fn a_nonce_that_cannot_be_made_is_a_fault_of_the_server(db: TestDb) {
        let server = Server::new(db).await;
        // Where the secret is kept that replicas share when none is configured.
        server.world.db.execute("ALTER TABLE installation RENAME TO elsewhere").await.unwrap();
        let made = server.acme().new_nonce().await;
        match server.world.db.backend() {
            Backend::Sqlite => drop(made.expect("a process alone asks nobody")),
            Backend::Postgres => assert_eq!(problem(made), "500 serverInternal"),
        }
    }

    async fn of_two_replicas_one_takes_a_nonce(db: TestDb) {
        let server = Server::new(db).await;
        if server.world.db.backend() == Backend::Sqlite {
            return;
        }
        let client = server.client().await;
        let (other, _) = server.world.replica("other:2", serving(acme_config()));
        let there = other.acme().unwrap();
        for _ in 0..20 {
            let nonce = client.nonce().await;
            let (a, b) = tokio::join!(
                client.acme.account(reading(&client, &nonce), &client.id),
                there.account(reading(&client, &nonce), &client.id)
            );
            let (taken, refused) = if a.is_ok() { (a, b) } else { (b, a) };
            taken.unwrap();
            assert_eq!(problem(refused), "400 badNonce");
        }
        // Also when the second one is refused for something else, and writes nothing.
        let nonce = client.nonce().await;
        client.acme.account(reading(&client, &nonce), &client.id).await.unwrap();
        let stranger = server.stranger();
        let url = client.urls.at(&format!("account/{}", client.id));
        let forged = stranger.signer.sign(&client.kid, &url, &nonce, "").unwrap();
        assert_eq!(problem(there.account(client.request(&url, forged), &client.id).await), "400 badNonce");
    }

    async fn what_is_refused_before_anything_is_written_costs_no_commit(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let stranger = server.stranger();
        let before = server.world.services.db().commits();
        for _ in 0..5 {
            client.acme.new_nonce().await.unwrap();
            client.acme.directory(&client.urls, &client.profile).await.unwrap();
            let url = client.urls.new_order();
            let forged = stranger.signer.sign(&client.kid, &url, &client.nonce().await, "{}").unwrap();
            assert_eq!(problem(client.acme.new_order(client.request(&url, forged)).await), "401 unauthorized");
            assert_eq!(problem(client.order(&[]).await), "400 malformed");
            assert_eq!(problem(client.acme.renewal_info(&client.urls, &client.profile, "aaaa").await), "400 malformed");
        }
        assert_eq!(server.world.services.db().commits(), before);
    }

    async fn a_request_is_for_its_url_and_its_family(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let url = client.urls.new_order();
        let payload = json!({"identifiers": [{"type": "dns", "value": "a.example.test"}]});
        let moved = client.post(&client.urls.key_change(), &payload).await;
        let moved = certctl_service::acme::SignedRequest { url: url.clone(), ..moved };
        assert_eq!(problem(client.acme.new_order(moved).await), "401 unauthorized");
        let shorthand = certctl_acme::urls::Urls::new(super::kit::ORIGIN, certctl_acme::urls::Family::Shorthand);
        let foreign = client.post(&shorthand.new_order(), &payload).await;
        let foreign = certctl_service::acme::SignedRequest { urls: shorthand.clone(), ..foreign };
        assert_eq!(problem(client.acme.new_order(foreign).await), "400 accountDoesNotExist");
        let unsigned = client.request(&url, Value::Null.to_string());
        assert_eq!(problem(client.acme.new_order(unsigned).await), "400 malformed");
        let by_key = client.post_jwk(&url, &payload).await;
        assert_eq!(problem(client.acme.new_order(by_key).await), "400 malformed");
    }
}
