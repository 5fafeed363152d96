//! Proofs of control: looked for, tried again, and what follows from them.

use std::time::Duration;

use certctl_domain::acme::ChallengeType;
use certctl_service::acme::AcmeConfig;
use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use super::kit::{Server, acme_config, body, challenge_of, last, problem, serving};

fn types(authorization: &Value) -> Vec<&str> {
    let challenges = authorization["challenges"].as_array().unwrap();
    challenges
        .iter()
        .map(|one| one["type"].as_str().unwrap())
        .collect()
}

db_tests! {
    async fn proofs_make_an_order_ready(db: TestDb) {
        let server = Server::challenging(db, acme_config()).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test", "*.b.example.test", "192.0.2.7"]).await.unwrap();
        let id = order.id.to_string();
        assert_eq!(client.status(&id).await, "pending");
        let authorizations = client.authorizations(&order).await;
        for authorization in &authorizations {
            let expected: &[&str] = match authorization["identifier"]["value"].as_str().unwrap() {
                "a.example.test" => &["dns-01", "http-01", "tls-alpn-01"],
                "b.example.test" => {
                    assert_eq!(authorization["wildcard"], true);
                    &["dns-01"]
                }
                _ => &["http-01", "tls-alpn-01"],
            };
            assert_eq!(types(authorization), expected);
        }
        assert_eq!(problem(client.finalize(&id, &["a.example.test", "*.b.example.test", "192.0.2.7"]).await), "403 orderNotReady");
        let _looking = server.look();
        for authorization in &authorizations {
            let kind = types(authorization)[0].to_owned();
            let answer = client.respond(&challenge_of(authorization, &kind)).await.unwrap();
            assert_eq!((body(&answer.challenge)["status"].as_str().unwrap(), answer.retry_after), ("processing", Some(3)));
        }
        assert_eq!(client.settle(&order).await, "ready");
        let asked = server.proofs.asked.lock().unwrap().clone();
        assert_eq!(asked.len(), 3);
        for request in &asked {
            assert_eq!(request.key_authorization, format!("{}.{}", request.token, client.signer.jwk().thumbprint()));
            assert!(!request.identifier.is_wildcard());
        }
        assert_eq!(asked.iter().filter(|one| one.challenge_type == ChallengeType::Dns01).count(), 2);
        client.finalize(&id, &["a.example.test", "*.b.example.test", "192.0.2.7"]).await.unwrap();
        server.world.work().await;
        assert_eq!(client.status(&id).await, "valid");
        assert_eq!(server.world.recorded("acme_challenge_completed").await, 3);
    }

    async fn a_proof_that_fails_three_times_ends_the_order(db: TestDb) {
        let server = Server::challenging(db, acme_config()).await;
        let client = server.client().await;
        server.proofs.fail("a.example.test");
        let _looking = server.look();
        let order = client.order(&["a.example.test", "b.example.test"]).await.unwrap();
        assert_eq!(client.prove(&order, "http-01").await, "invalid");
        let shown = body(&client.show_order(order.id.as_str()).await.unwrap().order);
        assert_eq!(shown["error"], json!({"type": "urn:ietf:params:acme:error:incorrectResponse", "detail": "one or more authorizations failed", "status": 403}));
        let failed = client.authorizations(&order).await.into_iter().find(|one| one["identifier"]["value"] == "a.example.test").unwrap();
        assert_eq!(failed["status"], "invalid");
        let challenge = challenge_of(&failed, "http-01");
        let again = client.respond(&challenge).await.unwrap();
        assert_eq!(body(&again.challenge)["error"]["type"], "urn:ietf:params:acme:error:incorrectResponse");
        let tries = server.proofs.asked.lock().unwrap().iter().filter(|one| one.identifier.to_string() == "a.example.test").count();
        assert_eq!(tries, 3, "asking again is no further try");
        assert_eq!(problem(client.respond(&challenge_of(&failed, "dns-01")).await), "400 malformed");
    }

    async fn caa_is_asked_where_it_is_configured(db: TestDb) {
        let server = Server::challenging(db, acme_config()).await;
        let client = server.client().await;
        let _looking = server.look();
        server.proofs.forbidden.lock().unwrap().insert("a.example.test".to_owned());
        let order = client.order(&["a.example.test"]).await.unwrap();
        assert_eq!(client.prove(&order, "http-01").await, "invalid");
        let authorization = &client.authorizations(&order).await[0];
        let failed = authorization["challenges"].as_array().unwrap().iter().find(|one| one["status"] == "invalid").unwrap();
        assert_eq!(failed["error"]["type"], "urn:ietf:params:acme:error:caa");
        // And again when the proof is old: its owner may have changed their mind.
        server.proofs.forbidden.lock().unwrap().clear();
        let order = client.order(&["a.example.test"]).await.unwrap();
        assert_eq!(client.prove(&order, "http-01").await, "ready");
        server.proofs.forbidden.lock().unwrap().insert("a.example.test".to_owned());
        server.world.clock.advance(Duration::from_secs(9 * 3600));
        assert_eq!(problem(client.finalize(order.id.as_str(), &["a.example.test"]).await), "403 caa");
    }

    async fn a_proof_is_used_again_until_it_is_given_up(db: TestDb) {
        let server = Server::challenging(db, acme_config()).await;
        let client = server.client().await;
        let _looking = server.look();
        let first = client.order(&["a.example.test"]).await.unwrap();
        assert_eq!(client.prove(&first, "http-01").await, "ready");
        server.world.clock.advance(Duration::from_secs(3600));
        let second = client.order(&["a.example.test"]).await.unwrap();
        assert_eq!(client.status(second.id.as_str()).await, "ready", "what is proved need not be proved again");
        let wildcard = client.order(&["*.a.example.test"]).await.unwrap();
        assert_eq!(client.status(wildcard.id.as_str()).await, "pending", "a wildcard is another thing");
        let stranger = server.client().await;
        let foreign = stranger.order(&["a.example.test"]).await.unwrap();
        assert_eq!(stranger.status(foreign.id.as_str()).await, "pending", "and so is another account");
        let ids: Vec<String> = body(&first.order)["authorizations"].as_array().unwrap().iter().map(last).collect();
        let given_up = client.authorization(&ids[0], &json!({"status": "deactivated"})).await.unwrap();
        assert_eq!(given_up["status"], "deactivated");
        for order in [&first, &second] {
            assert_eq!(client.status(order.id.as_str()).await, "invalid");
        }
        let third = client.order(&["a.example.test"]).await.unwrap();
        assert_eq!(client.status(third.id.as_str()).await, "pending");
        assert_eq!(problem(client.authorization(&ids[0], &json!({"status": "valid"})).await), "400 malformed");
    }

    async fn a_proof_ends_with_its_time(db: TestDb) {
        let server = Server::challenging(db, AcmeConfig { order_ttl: Duration::from_secs(7 * 86_400), ..acme_config() }).await;
        let client = server.client().await;
        let _looking = server.look();
        let order = client.order(&["a.example.test"]).await.unwrap();
        assert_eq!(client.prove(&order, "http-01").await, "ready");
        server.world.clock.advance(Duration::from_secs(25 * 3600));
        assert_eq!(problem(client.finalize(order.id.as_str(), &["a.example.test"]).await), "403 orderNotReady");
        assert_eq!(client.status(order.id.as_str()).await, "invalid");
    }

    async fn what_nobody_looks_at_is_taken_up(db: TestDb) {
        let server = Server::challenging(db, acme_config()).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test"]).await.unwrap();
        let challenge = challenge_of(&client.authorizations(&order).await[0], "http-01");
        // Taken up by a server that dies before it looks.
        client.respond(&challenge).await.unwrap();
        let proofs = server.proofs.clone();
        let (other, _) = server.world.replica("other:2", serving(acme_config()));
        let there = other.acme().unwrap();
        assert_eq!(there.recover_challenges().await.unwrap(), 0, "its lease has not run out");
        server.world.clock.advance(Duration::from_secs(61));
        assert_eq!(there.recover_challenges().await.unwrap(), 1);
        let stop = tokio_util::sync::CancellationToken::new();
        let _guard = stop.clone().drop_guard();
        tokio::spawn(async move { there.run_challenges(&stop).await });
        assert_eq!(client.settle(&order).await, "ready");
        assert_eq!(proofs.asked.lock().unwrap().len(), 1);
    }

    async fn a_name_that_keeps_failing_is_paused(db: TestDb) {
        let server = Server::challenging(db, AcmeConfig { pause_after: 2, ..acme_config() }).await;
        let client = server.client().await;
        let _looking = server.look();
        server.proofs.fail("bad.example.test");
        for _ in 0..2 {
            let order = client.order(&["bad.example.test"]).await.unwrap();
            assert_eq!(client.prove(&order, "http-01").await, "invalid");
        }
        let refused = client.order(&["good.example.test", "bad.example.test"]).await.unwrap_err();
        assert_eq!((refused.problem.kind.as_str(), refused.problem.status), ("rateLimited", 429));
        assert_eq!(refused.problem.subproblems.len(), 1);
        client.order(&["good.example.test"]).await.unwrap();
        server.client().await.order(&["bad.example.test"]).await.unwrap();
        let (acme, admin) = (server.acme(), &server.world.admin);
        let paused = acme.list_paused_names(admin, Default::default()).await.unwrap();
        assert_eq!((paused.total, paused.rows[0].failures, paused.rows[0].identifier.to_string().as_str()), (1, 2, "bad.example.test"));
        assert_eq!(acme.unpause_names(admin, &client.id).await.unwrap(), 1);
        server.proofs.pass("bad.example.test");
        let order = client.order(&["bad.example.test"]).await.unwrap();
        assert_eq!(client.prove(&order, "http-01").await, "ready");
        assert_eq!(server.world.recorded("acme_names_unpaused").await, 1);
    }

    async fn the_mode_of_an_order_is_that_of_its_beginning(db: TestDb) {
        let server = Server::challenging(db, acme_config()).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test"]).await.unwrap();
        server.world.profile(|profile| profile.acme_auth_mode = certctl_domain::profile::AcmeAuthMode::TrustAuthenticated).await;
        server.world.clock.advance(Duration::from_secs(2));
        assert_eq!(problem(client.finalize(order.id.as_str(), &["a.example.test"]).await), "403 orderNotReady");
        let trusted = client.order(&["a.example.test"]).await.unwrap();
        assert_eq!(client.status(trusted.id.as_str()).await, "ready");
    }

    async fn a_profile_that_does_not_say_takes_the_configured_mode(db: TestDb) {
        let mode = certctl_domain::profile::AcmeAuthMode::Challenge;
        let server = Server::with(db, AcmeConfig { default_auth_mode: mode, ..acme_config() }).await;
        let input = certctl_service::profiles::ProfileInput { name: "New".to_owned(), ..Default::default() };
        let made = server.world.services.create_profile(&server.world.admin, input).await.unwrap();
        assert_eq!(made.acme_auth_mode, mode);
    }

    async fn responses_to_one_challenge_are_limited(db: TestDb) {
        let server = Server::challenging(db, AcmeConfig { challenge_responds_per_hour: 1, ..acme_config() }).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test"]).await.unwrap();
        let authorization = &client.authorizations(&order).await[0];
        let challenge = challenge_of(authorization, "http-01");
        client.respond(&challenge).await.unwrap();
        // One that is being looked at costs nothing.
        client.respond(&challenge).await.unwrap();
        server.world.db.execute("UPDATE acme_challenges SET status = 'pending'").await.unwrap();
        let refused = client.respond(&challenge).await.unwrap_err();
        assert_eq!((refused.problem.kind.as_str(), refused.retry_after), ("rateLimited", Some(3600)));
        client.respond(&challenge_of(authorization, "dns-01")).await.unwrap();
    }
}
