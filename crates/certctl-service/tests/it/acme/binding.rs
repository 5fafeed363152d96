//! Which issuer and which profile an account's certificates come from (acme-server §2).

use std::time::Duration;

use certctl_acme::{
    ari::CertId,
    urls::{Family, Urls},
};
use certctl_domain::id::ProfileId;
use certctl_pki::cert::ParsedCertificate;
use certctl_service::{acme::AcmeConfig, profiles::ProfileInput};
use certctl_testkit::{TestDb, db_tests};
use serde_json::json;

use super::kit::{Client, ORIGIN, Server, acme_config, body, leaf, problem};

/// Another CA, which signs as the first one does.
async fn second_issuer(server: &Server) {
    let sql = "INSERT INTO issuers (id, name, type, config, enabled) \
        SELECT 'iss-two', 'two', type, config, enabled FROM issuers WHERE id = 'iss-local'";
    server.world.db.execute(sql).await.unwrap();
}

/// What is remembered of issuers and profiles is a second old at the most.
fn later(server: &Server) {
    server.world.clock.advance(Duration::from_secs(2));
}

/// Another profile.
async fn second_profile(server: &Server) -> ProfileId {
    let input = ProfileInput {
        name: "Second".to_owned(),
        ..ProfileInput::default()
    };
    let services = &server.world.services;
    let made = services.create_profile(&server.world.admin, input).await;
    later(server);
    made.unwrap().id
}

db_tests! {
    async fn an_issuer_is_bound_and_never_guessed(db: TestDb) {
        let server = Server::with(db, AcmeConfig { issuer: None, ..acme_config() }).await;
        let client = server.client().await;
        client.order(&["a.example.test"]).await.expect("there is only one");
        assert_eq!(server.acme().shortcomings().await.unwrap(), Vec::<String>::new());
        second_issuer(&server).await;
        later(&server);
        assert_eq!(problem(client.order(&["a.example.test"]).await), "500 serverInternal", "nobody says which");
        let found = server.acme().shortcomings().await.unwrap();
        let expected = format!("no issuer is bound to profile {} for ACME", client.profile);
        assert!(found.iter().any(|one| one.starts_with(&expected)), "{found:?}");
        server.world.profile(|profile| profile.acme_issuer_id = Some(certctl_domain::id::IssuerId::from_stored("iss-two".into()))).await;
        later(&server);
        let order = client.order(&["a.example.test"]).await.expect("the profile says").id;
        let sql = format!("SELECT issuer_id AS value FROM acme_orders WHERE id = '{order}'");
        assert_eq!(server.world.db.text(&sql).await, "iss-two");
        server.world.profile(|profile| profile.acme_issuer_id = None).await;
        server.world.db.execute("UPDATE issuers SET enabled = (1 = 0) WHERE id = 'iss-two'").await.unwrap();
        later(&server);
        client.order(&["a.example.test"]).await.expect("there is only one again");
        server.world.db.execute("UPDATE issuers SET enabled = (1 = 0)").await.unwrap();
        later(&server);
        assert_eq!(problem(client.order(&["a.example.test"]).await), "500 serverInternal", "there is none");
    }

    async fn renewal_information_is_for_certificates_of_the_bound_issuer(db: TestDb) {
        let server = Server::new(db).await;
        let client = server.client().await;
        let (_, download) = server.issued(&client, "a.example.test").await;
        let id = CertId::of_certificate(&ParsedCertificate::from_der(&leaf(&download)).unwrap()).unwrap().to_string();
        client.acme.renewal_info(&client.urls, &client.profile, &id).await.unwrap();
        second_issuer(&server).await;
        server.world.profile(|profile| profile.acme_issuer_id = Some(certctl_domain::id::IssuerId::from_stored("iss-two".into()))).await;
        later(&server);
        assert_eq!(problem(client.acme.renewal_info(&client.urls, &client.profile, &id).await), "404 malformed");
        let replaces = client.order_with(&["a.example.test"], json!({"replaces": id})).await;
        assert_eq!(problem(replaces), "400 malformed");
    }

    async fn profiles_that_trust_their_accounts_are_named_at_the_start(db: TestDb) {
        let server = Server::new(db).await;
        let id = server.stranger().profile;
        assert_eq!(server.acme().trusting_profiles().await.unwrap(), std::slice::from_ref(&id));
        server.world.profile(|profile| profile.acme_auth_mode = certctl_domain::profile::AcmeAuthMode::Challenge).await;
        later(&server);
        assert_eq!(server.acme().trusting_profiles().await.unwrap(), []);
    }

    async fn one_key_has_an_account_of_its_own_under_each_profile(db: TestDb) {
        let server = Server::new(db).await;
        let mut here = server.client().await;
        let order = here.order(&["a.example.test"]).await.unwrap().id.to_string();
        let (first, kid) = (here.id.clone(), here.kid.clone());
        let profile = second_profile(&server).await;
        let there = Urls::new(ORIGIN, Family::Profile(profile.clone()));
        here = Client { urls: there.clone(), profile: profile.clone(), ..here };
        // The account of the other profile is none of this one, however its URL is written.
        assert_eq!(problem(here.show_order(&order).await), "400 accountDoesNotExist");
        let moved = Client { kid: kid.replace(&Urls::new(ORIGIN, Family::Profile(server.stranger().profile)).at(""), &there.at("")), ..here };
        assert_eq!(problem(moved.show_order(&order).await), "400 accountDoesNotExist");
        here = moved;
        assert!(here.register(json!({})).await.unwrap().created);
        assert_ne!(here.id, first);
        assert_eq!(problem(here.show_order(&order).await), "401 unauthorized", "and what the other ordered is another's");
    }

    async fn an_order_may_choose_among_the_profiles_of_the_directory(db: TestDb) {
        let second = ProfileId::parse("prof-second").unwrap();
        let server = Server::with(db, AcmeConfig { offered_profiles: vec![second.clone()], ..acme_config() }).await;
        let input = ProfileInput { id: Some(second.to_string()), name: "Second".to_owned(), description: "For others".to_owned(), ..ProfileInput::default() };
        server.world.services.create_profile(&server.world.admin, input).await.unwrap();
        let choosing = || json!({"profile": "prof-second"});
        let of_a_profile = server.client().await;
        assert_eq!(problem(of_a_profile.order_with(&["a.example.test"], choosing()).await), "400 invalidProfile", "its routes are of one");
        let mut client = Client { urls: Urls::new(ORIGIN, Family::Shorthand), ..server.stranger() };
        let directory = body(&client.acme.directory(&client.urls, &client.profile).await.unwrap());
        assert_eq!(directory["meta"]["profiles"]["prof-second"], "For others");
        assert_eq!(directory["meta"]["profiles"].as_object().unwrap().len(), 2);
        client.register(json!({})).await.unwrap();
        let order = client.order_with(&["a.example.test"], choosing()).await.unwrap();
        assert_eq!(body(&order.order)["profile"], "prof-second");
        let id = order.id.to_string();
        client.finalize(&id, &["a.example.test"]).await.unwrap();
        server.world.work().await;
        let certificate = super::kit::last(&body(&client.show_order(&id).await.unwrap().order)["certificate"]);
        let kept = server.world.certificate(&crate::support::certificate_id(&certificate)).await;
        assert_eq!(kept.profile_id, Some(second));
        let usual = client.order(&["a.example.test"]).await.unwrap();
        assert_eq!(body(&usual.order)["profile"], client.profile.as_str());
        assert_eq!(problem(client.order_with(&["a.example.test"], json!({"profile": "prof-none"})).await), "400 invalidProfile");
    }

    async fn an_account_key_binds_accounts_of_its_own_profile_only(db: TestDb) {
        let server = Server::with(db, AcmeConfig { eab_required: true, ..acme_config() }).await;
        let profile = second_profile(&server).await;
        let made = server.acme().create_eab_key(&server.world.admin, &profile, Some("kid-1")).await.unwrap();
        let secret = certctl_acme::base64url::decode(made.hmac_key.expose()).unwrap();
        let mut client = server.stranger();
        let bound = json!({"externalAccountBinding": client.signer.bind("kid-1", &secret, &client.urls.new_account())});
        assert_eq!(problem(client.register(bound).await), "401 unauthorized");
        client = Client { urls: Urls::new(ORIGIN, Family::Profile(profile.clone())), profile, ..client };
        let wrong_url = json!({"externalAccountBinding": client.signer.bind("kid-1", &secret, &client.urls.new_order())});
        assert_eq!(problem(client.register(wrong_url).await), "401 unauthorized");
        let bound = json!({"externalAccountBinding": client.signer.bind("kid-1", &secret, &client.urls.new_account())});
        let account = client.register(bound).await.unwrap();
        assert_eq!((account.created, &body(&account.account)["status"]), (true, &json!("valid")));
    }
}
