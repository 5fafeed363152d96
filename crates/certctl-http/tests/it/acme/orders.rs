//! Whole orders, with what each answer carries.

use certctl_acme::client::Signer;
use certctl_domain::{key::KeySpec, name::SubjectAltName};
use certctl_service::acme::AcmeConfig;
use certctl_testkit::{
    TestDb, db_tests,
    pki::{cert::ParsedCertificate, csr::CsrBuilder, key::PrivateKey},
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

/// A certificate for one name.
async fn issued(client: &mut Client<'_>) -> ParsedCertificate {
    let order = json!({"identifiers": [{"type": "dns", "value": "www.example.test"}]});
    let order = client.ask("new-order", &order.to_string()).await;
    let place = client.suffix(order.header("location").unwrap());
    let finalize = client.suffix(order.json()["finalize"].as_str().unwrap());
    let payload = json!({"csr": csr(&["www.example.test"])}).to_string();
    client.ask(&finalize, &payload).await;
    client.api.work().await;
    let done = client.ask(&place, "").await.json();
    let certificate = client.suffix(done["certificate"].as_str().unwrap());
    let chain = client.ask(&certificate, "").await;
    ParsedCertificate::from_pem(std::str::from_utf8(&chain.body).unwrap()).unwrap()
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
    let leaf = ParsedCertificate::from_pem(&text).unwrap();
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

    async fn a_limit_says_when_to_try_again_and_brings_a_nonce(db: TestDb) {
        let limited = AcmeConfig { orders_per_hour: 2, concurrent_orders: 1, ..config() };
        let api = api(db, settings(), Some(limited)).await;
        let mut client = Client::new(&api, "/acme/");
        client.register(&json!({})).await;
        let order = json!({"identifiers": [{"type": "dns", "value": "www.example.test"}]}).to_string();
        assert_eq!(client.ask("new-order", &order).await.status, 201);
        for after in ["60", "1800"] {
            let refused = client.ask("new-order", &order).await;
            is_problem(&refused, 429, "rateLimited");
            assert_eq!(refused.header("retry-after"), Some(after), "{refused:?}");
            // Whoever is refused goes on with the nonce that they were given.
            let account = client.kid.rsplit('/').next().unwrap().to_owned();
            let suffix = format!("account/{account}");
            let nonce = refused.header("replay-nonce").unwrap();
            let body = client.signer.sign(&client.kid, &client.url(&suffix), nonce, "").unwrap();
            assert_eq!(post(&api, &client.path(&suffix), body).await.status, 200);
        }
    }

    async fn a_key_change_answers_the_account_and_a_conflict_where_the_key_is(db: TestDb) {
        let api = api(db, settings(), Some(config())).await;
        let (mut client, mut other) = (Client::new(&api, "/acme/"), Client::new(&api, "/acme/"));
        client.register(&json!({})).await;
        other.register(&json!({})).await;
        let url = client.url("key-change");
        let taken = other.signer.change_from(client.signer.jwk(), &client.kid, &url).unwrap();
        let refused = client.ask("key-change", &taken).await;
        is_problem(&refused, 409, "unauthorized");
        assert_eq!(refused.header("location"), Some(other.kid.as_str()));
        let new = Signer::new(PrivateKey::generate(KeySpec::EcdsaP384).unwrap()).unwrap();
        let change = new.change_from(client.signer.jwk(), &client.kid, &url).unwrap();
        let changed = client.ask("key-change", &change).await;
        assert_eq!((changed.status, &changed.json()["status"]), (200, &json!("valid")));
        let account = format!("account/{}", client.kid.rsplit('/').next().unwrap());
        is_problem(&client.ask(&account, "").await, 401, "unauthorized");
        client.signer = new;
        assert_eq!(client.ask(&account, "").await.status, 200);
    }

    async fn a_challenge_that_is_taken_up_says_when_to_look_again(db: TestDb) {
        let api = api(db, settings(), Some(config())).await;
        let proving = json!({"id": "prof-proving", "name": "proving", "acme_auth_mode": "challenge"});
        assert_eq!(api.post("/api/v1/profiles", &proving).await.status, 201);
        let mut client = Client::new(&api, "/acme/profile/prof-proving/");
        client.register(&json!({})).await;
        let order = json!({"identifiers": [{"type": "dns", "value": "www.example.test"}]});
        let order = client.ask("new-order", &order.to_string()).await;
        assert_eq!((order.status, &order.json()["status"]), (201, &json!("pending")));
        let authorization = client.suffix(order.json()["authorizations"][0].as_str().unwrap());
        let shown = client.ask(&authorization, "").await.json();
        let challenge = client.suffix(shown["challenges"][0]["url"].as_str().unwrap());
        let taken = client.ask(&challenge, "{}").await;
        assert_eq!((taken.status, &taken.json()["status"], taken.header("retry-after")), (200, &json!("processing"), Some("3")));
        let up = format!("<{}>;rel=\"up\"", client.url(&authorization));
        assert!(taken.headers.get_all("link").iter().any(|link| link == up.as_str()), "{taken:?}");
        let given_up = client.ask(&authorization, r#"{"status":"deactivated"}"#).await;
        assert_eq!((given_up.status, &given_up.json()["status"]), (200, &json!("deactivated")));
    }

    async fn a_long_list_of_orders_links_to_its_next_page(db: TestDb) {
        let api = api(db, settings(), Some(config())).await;
        let mut client = Client::new(&api, "/acme/");
        client.register(&json!({})).await;
        let order = json!({"identifiers": [{"type": "dns", "value": "www.example.test"}]});
        client.ask("new-order", &order.to_string()).await;
        let columns = "account_id, profile_id, issuer_id, auth_mode, identifiers, status, expires_at, created_at, updated_at";
        for n in 0..100 {
            let copied = format!("INSERT INTO acme_orders (id, {columns}) SELECT 'acme-ord-{n:016}', {columns} FROM acme_orders \
                WHERE id NOT LIKE 'acme-ord-0000000000%'");
            api.db.execute(&copied).await.unwrap();
        }
        let mut suffix = format!("account/{}/orders", client.kid.rsplit('/').next().unwrap());
        let mut seen = Vec::new();
        for expected in [100, 1] {
            let page = client.ask(&suffix, "").await;
            assert_eq!(page.status, 200, "{page:?}");
            let orders = page.json()["orders"].as_array().unwrap().clone();
            assert_eq!(orders.len(), expected);
            seen.extend(orders.iter().map(ToString::to_string));
            let next = page.headers.get_all("link").iter().find_map(|link| link.to_str().unwrap().strip_suffix(">;rel=\"next\""));
            assert_eq!(next.is_some(), expected == 100);
            if let Some(next) = next {
                suffix = client.suffix(next.trim_start_matches('<'));
            }
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 101);
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
        let mut client = Client::new(&api, "/acme/");
        client.register(&json!({})).await;
        let leaf = issued(&mut client).await;
        let id = certctl_acme::ari::CertId::of_certificate(&leaf).unwrap();
        let answer = super::client::get(&api, "GET", &format!("/acme/renewal-info/{id}")).await;
        assert_eq!((answer.status, answer.header("retry-after")), (200, Some("21600")), "{answer:?}");
        assert_eq!((answer.header("content-type"), answer.header("cache-control")), (Some("application/json"), Some("no-store")));
        let window = &answer.json()["suggestedWindow"];
        assert!(window["start"].as_str().unwrap() < window["end"].as_str().unwrap(), "{window}");
        assert!(answer.header("replay-nonce").is_none(), "no signed request follows from it");
        let bad = super::client::get(&api, "GET", "/acme/renewal-info/not-an-id").await;
        is_problem(&bad, 400, "malformed");
        let unknown = super::client::get(&api, "GET", "/acme/renewal-info/AAAA.AQ").await;
        is_problem(&unknown, 404, "malformed");
    }
}
