//! Whole orders, with what each answer carries.

use certctl_domain::{key::KeySpec, name::SubjectAltName};
use certctl_service::acme::AcmeConfig;
use certctl_testkit::{
    TestDb, db_tests,
    pki::{csr::CsrBuilder, key::PrivateKey},
};
use serde_json::json;

use super::client::{Client, PROFILE, api, config, is_problem, post, settings};

/// A request for these names, base64url.
fn csr(names: &[&str]) -> String {
    let sans = names
        .iter()
        .map(|name| SubjectAltName::Dns((*name).to_owned()));
    let der = CsrBuilder::new(names[0])
        .sans(sans.collect())
        .sign_der(&PrivateKey::generate(KeySpec::EcdsaP256).unwrap())
        .unwrap();
    certctl_acme::base64url::encode(der)
}

/// One order from beginning to end, within one family.
async fn whole_order(client: &mut Client<'_>) {
    let made = client
        .register(&json!({"contact": ["mailto:ops@example.test"]}))
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    let account = made.header("location").unwrap().to_owned();
    assert_eq!(made.json()["orders"], format!("{account}/orders"));
    let again = client.register(&json!({})).await;
    assert_eq!(
        (again.status, again.header("location")),
        (200, Some(account.as_str()))
    );

    let order = json!({"identifiers": [{"type": "dns", "value": "www.example.test"}]});
    let order = client.ask("new-order", &order.to_string()).await;
    assert_eq!(order.status, 201, "{order:?}");
    assert!(order.header("replay-nonce").is_some());
    let place = client.suffix(order.header("location").unwrap());
    let order = order.json();
    assert_eq!(order["status"], "ready");
    let authorization = client.suffix(order["authorizations"][0].as_str().unwrap());
    let shown = client.ask(&authorization, "").await;
    assert_eq!(
        (shown.status, &shown.json()["status"]),
        (200, &json!("valid"))
    );
    let challenge = client.suffix(shown.json()["challenges"][0]["url"].as_str().unwrap());
    let challenge = client.ask(&challenge, "{}").await;
    assert_eq!(
        (challenge.status, &challenge.json()["status"]),
        (200, &json!("valid"))
    );
    let up = format!("<{}>;rel=\"up\"", client.url(&authorization));
    assert!(
        challenge
            .headers
            .get_all("link")
            .iter()
            .any(|link| link == up.as_str()),
        "{challenge:?}"
    );

    let finalize = client.suffix(order["finalize"].as_str().unwrap());
    let payload = json!({"csr": csr(&["www.example.test"])}).to_string();
    let asked = client.ask(&finalize, &payload).await;
    assert_eq!(
        (asked.status, &asked.json()["status"]),
        (200, &json!("processing")),
        "{asked:?}"
    );
    assert!(asked.header("retry-after").is_some());
    assert_eq!(
        asked.header("location").map(|url| client.suffix(url)),
        Some(place.clone())
    );
    client.api.work().await;
    let done = client.ask(&place, "").await;
    assert_eq!(
        (done.status, &done.json()["status"]),
        (200, &json!("valid")),
        "{done:?}"
    );
    assert!(done.header("retry-after").is_none());

    let certificate = client.suffix(done.json()["certificate"].as_str().unwrap());
    let chain = client.ask(&certificate, "").await;
    assert_eq!(chain.status, 200);
    assert_eq!(
        chain.header("content-type"),
        Some("application/pem-certificate-chain")
    );
    let text = String::from_utf8(chain.body.to_vec()).unwrap();
    let leaf = certctl_testkit::pki::cert::ParsedCertificate::from_pem(&text).unwrap();
    // Clients that want to know who signed are told, although the root does itself.
    assert_eq!(text.matches("-----BEGIN CERTIFICATE-----").count(), 2);
    let orders = client
        .ask(&client.suffix(&format!("{account}/orders")), "")
        .await;
    assert_eq!(orders.json()["orders"], json!([client.url(&place)]));

    let payload = json!({"certificate": certctl_acme::base64url::encode(leaf.der()), "reason": 4});
    let revoked = client.ask("revoke-cert", &payload.to_string()).await;
    assert_eq!(
        (revoked.status, revoked.body.len()),
        (200, 0),
        "{revoked:?}"
    );
    is_problem(
        &client.ask("revoke-cert", &payload.to_string()).await,
        400,
        "alreadyRevoked",
    );
}

db_tests! {
    async fn an_order_from_account_to_revocation_below_acme(db: TestDb) {
        let api = api(db, settings(), Some(config())).await;
        whole_order(&mut Client::new(&api, "/acme/")).await;
    }

    async fn an_order_from_account_to_revocation_below_a_profile(db: TestDb) {
        let api = api(db, settings(), Some(config())).await;
        whole_order(&mut Client::new(&api, &format!("/acme/profile/{PROFILE}/"))).await;
    }

    async fn a_nonce_is_good_once_and_the_refusal_brings_another(db: TestDb) {
        let api = api(db, settings(), Some(config())).await;
        let mut client = Client::new(&api, "/acme/");
        client.register(&json!({})).await;
        let nonce = client.nonce().await;
        let body = client.signer.sign_with_jwk(&client.url("new-account"), Some(&nonce), "{}").unwrap();
        assert_eq!(post(&api, "/acme/new-account", body.clone()).await.status, 200);
        let refused = post(&api, "/acme/new-account", body).await;
        is_problem(&refused, 400, "badNonce");
        let fresh = refused.header("replay-nonce").unwrap();
        let body = client.signer.sign_with_jwk(&client.url("new-account"), Some(fresh), "{}").unwrap();
        assert_eq!(post(&api, "/acme/new-account", body).await.status, 200);
    }

    async fn terms_are_linked_for_whoever_has_not_agreed(db: TestDb) {
        let terms = AcmeConfig { terms_url: Some("https://ca.example/terms".into()), ..config() };
        let api = api(db, settings(), Some(terms)).await;
        let mut client = Client::new(&api, "/acme/");
        let refused = client.register(&json!({})).await;
        is_problem(&refused, 403, "userActionRequired");
        let link = "<https://ca.example/terms>;rel=\"terms-of-service\"";
        assert!(refused.headers.get_all("link").iter().any(|value| value == link), "{refused:?}");
        assert_eq!(client.register(&json!({"termsOfServiceAgreed": true})).await.status, 201);
    }

    async fn a_client_that_does_not_read_chains_is_told(db: TestDb) {
        let api = api(db, settings(), Some(config())).await;
        for (accept, status) in [("text/html", 406), ("application/pem-certificate-chain", 400), ("text/html, */*;q=0.1", 400)] {
            let request = http::Request::builder()
                .method("POST")
                .uri("/acme/cert/mc-acme-0000000000000000")
                .header("host", "ca.example:8443")
                .header("content-type", "application/jose+json")
                .header("accept", accept);
            let answer = api.send(request.body("{}".into()).unwrap()).await;
            is_problem(&answer, status, "malformed");
        }
    }

    async fn a_renewal_window_says_when_to_ask_again(db: TestDb) {
        let api = api(db, settings(), Some(config())).await;
        let bad = super::client::get(&api, "GET", "/acme/renewal-info/not-an-id").await;
        is_problem(&bad, 400, "malformed");
        let unknown = super::client::get(&api, "GET", "/acme/renewal-info/AAAA.AQ").await;
        is_problem(&unknown, 404, "malformed");
    }
}
