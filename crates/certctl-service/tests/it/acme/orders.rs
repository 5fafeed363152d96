//! From an order to its certificate, in trust mode.

use std::{net::IpAddr, time::Duration};

use certctl_domain::{
    certificate::CertificateSource, name::SubjectAltName, ports::issuer::IssuerError,
};
use certctl_pki::cert::ParsedCertificate;
use certctl_repository::Backend;
use certctl_service::acme::AcmeConfig;
use certctl_testkit::{TestDb, db_tests};
use serde_json::json;

use super::kit::{Server, acme_config, body, csr_der, key, leaf, problem, serving};
use crate::support::{certificate_id, process};

db_tests! {
    async fn an_order_leads_to_a_certificate(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let order = client.order(&["b.example.test", "A.example.test", "192.0.2.7", "a.example.test"]).await.unwrap();
        let shown = body(&order.order);
        assert_eq!(shown["status"], "ready");
        assert_eq!(shown["identifiers"], json!([
            {"type": "dns", "value": "a.example.test"}, {"type": "dns", "value": "b.example.test"}, {"type": "ip", "value": "192.0.2.7"},
        ]));
        let authorizations = client.authorizations(&order).await;
        assert_eq!(authorizations.len(), 3);
        assert!(authorizations.iter().all(|one| one["status"] == "valid" && one["challenges"][0]["status"] == "valid"));

        let id = order.id.to_string();
        let names = ["a.example.test", "b.example.test", "192.0.2.7"];
        let begun = client.finalize(&id, &names).await.unwrap();
        assert_eq!((body(&begun.order)["status"].as_str().unwrap(), begun.retry_after), ("processing", Some(3)));
        assert_eq!(body(&begun.order)["certificate"], json!(null), "nothing can be downloaded yet");
        assert_eq!(server.world.work().await.completed, 1);
        let done = client.show_order(&id).await.unwrap();
        let shown = body(&done.order);
        assert_eq!((shown["status"].as_str().unwrap(), done.retry_after), ("valid", None));

        let certificate = super::kit::last(&shown["certificate"]);
        let download = client.download(&certificate).await.unwrap();
        let chain = ParsedCertificate::chain_from_pem(&download.chain_pem).unwrap();
        let root = ParsedCertificate::from_pem(&server.world.ca.root().await).unwrap();
        chain.last().unwrap().verify_signed_by(&root).unwrap();
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        assert_eq!(chain[0].sans(), [
            SubjectAltName::Dns("a.example.test".into()), SubjectAltName::Dns("b.example.test".into()), SubjectAltName::Ip(address),
        ]);
        let kept = server.world.certificate(&certificate_id(&certificate)).await;
        assert_eq!((kept.source, kept.name), (CertificateSource::Acme, format!("acme-{id}")));
        assert_eq!((&kept.owner_id, &kept.team_id, kept.status.as_str()), (&server.world.ids.owner, &server.world.ids.team, "Active"));
        for action in ["acme_account_created", "acme_order_created", "acme_order_processing", "acme_order_finalized"] {
            assert_eq!(server.world.recorded(action).await, 1, "{action}");
        }
        assert_eq!(server.world.db.texts("SELECT job_id AS value FROM issuance_intents").await, Vec::<String>::new());
    }

    async fn an_order_alone_costs_six_commits_at_the_most(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        server.issued(&client, "warm.example.test").await;
        let before = server.world.services.db().commits();
        let order = client.order(&["a.example.test"]).await.unwrap();
        let id = order.id.to_string();
        client.finalize(&id, &["a.example.test"]).await.unwrap();
        server.world.work().await;
        let certificate = server.world.db.text(&format!("SELECT certificate_id AS value FROM acme_orders WHERE id = '{id}'")).await;
        client.download(&certificate).await.unwrap();
        let commits = server.world.services.db().commits() - before;
        // New order, finalise, three of the engine, and, where replicas have to agree on nonces, the download.
        let expected = if server.world.db.backend() == Backend::Postgres { 6 } else { 5 };
        assert_eq!(commits, expected);
    }

    async fn fifty_orders_in_flight_share_their_commits(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        server.issued(&client, "warm.example.test").await;
        let before = server.world.services.db().commits();
        let names: Vec<String> = (0..50).map(|n| format!("n{n}.example.test")).collect();
        let orders = futures_util::future::join_all(names.iter().map(|name| {
            let client = &client;
            async move {
                let order = client.order(&[name]).await.unwrap();
                client.finalize(order.id.as_str(), &[name]).await.unwrap();
                order.id.to_string()
            }
        })).await;
        assert_eq!(server.world.work().await.completed, 50);
        let done = futures_util::future::join_all(orders.iter().map(|id| client.status(id))).await;
        assert!(done.iter().all(|status| status == "valid"), "{done:?}");
        let commits = server.world.services.db().commits() - before;
        assert!(commits < 50, "{commits} commits for 50 orders");
    }

    async fn finalising_in_parallel_gives_one_certificate(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test"]).await.unwrap();
        let id = order.id.to_string();
        let csr = csr_der(&key(), &["a.example.test"]);
        let finalized = futures_util::future::join_all((0..10).map(|_| async {
            let request = client.finalize_request(&id, &csr).await;
            client.acme.finalize(request, &id).await
        })).await;
        assert!(finalized.iter().all(|one| one.as_ref().is_ok_and(|one| body(&one.order)["status"] == "processing")));
        assert_eq!(server.world.work().await.completed, 1);
        let again = client.finalize(&id, &["a.example.test"]).await.unwrap();
        assert_eq!(body(&again.order)["status"], "valid", "the present order is the answer");
        assert_eq!((server.world.versions().await.len(), server.world.ca.signed().len()), (1, 1));
    }

    async fn a_server_that_dies_on_the_way_signs_the_same_again(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test"]).await.unwrap();
        let id = order.id.to_string();
        client.finalize(&id, &["a.example.test"]).await.unwrap();
        // The worker has had it signed, and never comes back.
        let door = server.world.ca.shut(true);
        let services = server.world.services.clone();
        let dead = tokio::spawn(async move { process(&services).await });
        door.arrived().await;
        dead.abort();
        let _: Result<_, _> = dead.await;
        assert_eq!(client.status(&id).await, "processing");
        server.world.clock.advance(Duration::from_secs(301));
        let (other, ca) = server.world.replica("other:2", serving(acme_config()));
        assert_eq!(process(&other).await.completed, 1);
        assert_eq!(client.status(&id).await, "valid");
        let signed = [server.world.ca.signed(), ca.signed()].concat();
        assert_eq!(signed, [signed[0].clone(), signed[0].clone()]);
        assert_eq!(server.world.versions().await, [signed[0].clone()]);
        door.open();
    }

    async fn what_an_issuer_refuses_for_good_ends_the_order(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test"]).await.unwrap();
        let id = order.id.to_string();
        client.finalize(&id, &["a.example.test"]).await.unwrap();
        server.world.ca.refuse(Some(IssuerError::Validation("secret words of a CA".into())));
        assert_eq!(server.world.work().await.failed, 1);
        let shown = body(&client.show_order(&id).await.unwrap().order);
        assert_eq!(shown["status"], "invalid");
        assert_eq!(shown["error"]["type"], "urn:ietf:params:acme:error:serverInternal");
        assert!(!shown.to_string().contains("secret words"));
        assert_eq!(problem(client.finalize(&id, &["a.example.test"]).await), "403 orderNotReady");
        assert_eq!(server.world.recorded("acme_order_failed").await, 1);
    }

    async fn finalising_waits_for_the_certificate(db: TestDb) {
        let server = Server::with(db, AcmeConfig { finalize_wait: Duration::from_secs(60), ..acme_config() }).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test"]).await.unwrap();
        let id = order.id.to_string();
        let services = server.world.services.clone();
        let engine = tokio::spawn(async move {
            loop {
                services.woken().await;
                process(&services).await;
            }
        });
        let done = client.finalize(&id, &["a.example.test"]).await.unwrap();
        assert_eq!(body(&done.order)["status"], "valid");
        engine.abort();
    }

    async fn a_second_person_decides(db: TestDb) {
        let server = Server::new(db).await;
        server.world.profile(|profile| profile.requires_approval = true).await;
        let client = server.client().await;
        for (verdict, expected) in [
            (certctl_service::approvals::Verdict::Approve, "valid"),
            (certctl_service::approvals::Verdict::Reject, "invalid"),
        ] {
            let order = client.order(&["a.example.test"]).await.unwrap();
            let id = order.id.to_string();
            let begun = client.finalize(&id, &["a.example.test"]).await.unwrap();
            assert_eq!((body(&begun.order)["status"].as_str().unwrap(), begun.retry_after), ("processing", Some(3)));
            assert_eq!(server.world.work().await.claimed, 0);
            let job = server.world.db.text(&format!("SELECT job_id AS value FROM acme_orders WHERE id = '{id}'")).await;
            let job = certctl_domain::id::JobId::parse(&job).unwrap();
            server.world.services.decide_job(&server.world.admin, &job, verdict, None).await.unwrap();
            server.world.work().await;
            assert_eq!(client.status(&id).await, expected);
        }
        assert_eq!(server.world.recorded("acme_order_failed").await, 1);
    }

    async fn a_csr_for_anything_else_is_refused(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let order = client.order(&["a.example.test", "b.example.test"]).await.unwrap();
        let id = order.id.to_string();
        for names in [&["a.example.test"][..], &["a.example.test", "b.example.test", "c.example.test"]] {
            assert_eq!(problem(client.finalize(&id, names).await), "400 badCSR", "{names:?}");
        }
        let request = client.finalize_request(&id, b"nonsense").await;
        assert_eq!(problem(client.acme.finalize(request, &id).await), "400 badCSR");
        server.world.profile(|profile| {
            profile.allowed_key_algorithms.retain(|key| key.algorithm == certctl_domain::key::KeyAlgorithm::Rsa);
        }).await;
        server.world.clock.advance(Duration::from_secs(2));
        assert_eq!(problem(client.finalize(&id, &["a.example.test", "b.example.test"]).await), "400 badCSR");
        assert_eq!(client.status(&id).await, "ready", "nothing of it ends the order");
    }

    async fn whose_it_is_comes_before_what_it_is(db: TestDb) {
        let server = Server::new(db).await;
        let (owner, other) = (server.client().await, server.client().await);
        let (order, download) = server.issued(&owner, "a.example.test").await;
        let shown = owner.show_order(&order).await.unwrap();
        let authorization = &owner.authorizations(&shown).await[0];
        let challenge = super::kit::challenge_of(authorization, "http-01");
        let authorization = super::kit::last(&body(&shown.order)["authorizations"][0]);
        assert_eq!(problem(other.show_order(&order).await), "401 unauthorized");
        assert_eq!(problem(other.finalize(&order, &["a.example.test"]).await), "401 unauthorized");
        assert_eq!(problem(other.download(download.id.as_str()).await), "401 unauthorized");
        assert_eq!(problem(other.authorization(&authorization, &json!(null)).await), "401 unauthorized");
        assert_eq!(problem(other.respond(&challenge).await), "401 unauthorized");
        let account = other.urls.at(&format!("account/{}", owner.id));
        let asked = other.acme.account(other.post(&account, &json!(null)).await, &owner.id).await;
        assert_eq!(problem(asked), "401 unauthorized");
        for id in ["acme-ord-0000000000000000", "nonsense"] {
            assert_eq!(problem(owner.show_order(id).await), "404 malformed");
            assert_eq!(problem(owner.finalize(id, &["a.example.test"]).await), "404 malformed");
            assert_eq!(problem(owner.download(id).await), "404 malformed");
        }
        assert_eq!(problem(owner.authorization("acme-authz-0000000000000000", &json!(null)).await), "404 malformed");
        assert_eq!(problem(owner.respond("acme-chall-0000000000000000").await), "404 malformed");
        assert!(!leaf(&download).is_empty());
    }

    async fn a_profile_says_what_may_be_ordered(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        server.world.profile(|profile| {
            profile.required_san_patterns = vec![r"\.example\.test$".to_owned()];
            profile.max_ttl_seconds = 3600 * 24;
        }).await;
        // What is remembered of profiles is a second old at the most.
        server.world.clock.advance(Duration::from_secs(2));
        let refused = client.order(&["a.example.test", "b.elsewhere.test", "c.elsewhere.test"]).await.unwrap_err();
        assert_eq!(refused.problem.kind.as_str(), "rejectedIdentifier");
        let names: Vec<String> = refused.problem.subproblems.into_iter().map(|one| one.identifier.unwrap().1).collect();
        assert_eq!(names, ["b.elsewhere.test", "c.elsewhere.test"]);
        let end = |seconds| (server.world.now() + Duration::from_secs(seconds)).to_rfc3339();
        for (times, expected) in [
            (json!({"notAfter": end(3600 * 25)}), Some("400 malformed")),
            (json!({"notAfter": end(0)}), Some("400 malformed")),
            (json!({"notAfter": end(7200)}), None),
        ] {
            let asked = client.order_with(&["a.example.test"], times).await;
            match expected {
                Some(expected) => assert_eq!(problem(asked), expected),
                None => {
                    let id = asked.unwrap().id.to_string();
                    client.finalize(&id, &["a.example.test"]).await.unwrap();
                    server.world.work().await;
                    let ends = server.world.certificate(&certificate_id(&server.world.db.text(
                        &format!("SELECT certificate_id AS value FROM acme_orders WHERE id = '{id}'")).await)).await.expires_at;
                    assert!(ends.unwrap() <= server.world.now() + Duration::from_secs(7200));
                }
            }
        }
        assert_eq!(problem(client.order_with(&["a.example.test"], json!({"profile": "odd"})).await), "400 invalidProfile");
        client.order_with(&["a.example.test"], json!({"profile": client.profile.as_str()})).await.unwrap();
    }
}
