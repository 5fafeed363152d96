//! The checks of a signed request, in their order (acme-server §4): the first that fails is the answer, and each answer brings a
//! nonce for the next try.

use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use super::client::{Client, api, config, is_problem, post, settings};
use crate::support::Answer;

/// What goes wrong at a check.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Wrong {
    Shape,
    Algorithm,
    Extension,
    Url,
    Nonce,
    Signers,
    Account,
    Status,
    Signature,
    Payload,
    Nothing,
}

/// Who asks, and who else there is.
struct Parties<'a> {
    client: Client<'a>,
    /// Gave its account up.
    ended: Client<'a>,
    /// Has no account.
    stranger: Client<'a>,
    used_nonce: String,
}

impl Parties<'_> {
    /// A request for an order with which everything is wrong from one check on.
    async fn request(&self, from: Wrong) -> Answer {
        let url = self.client.url("new-order");
        let is_wrong = |check: Wrong| from <= check;
        let unknown = self.client.url("account/acme-acc-none");
        let kid = match from {
            Wrong::Status => &self.ended.kid,
            _ if is_wrong(Wrong::Account) => &unknown,
            _ => &self.client.kid,
        };
        let nonce = if is_wrong(Wrong::Nonce) {
            self.used_nonce.clone()
        } else {
            self.client.nonce().await
        };
        let mut header = json!({"alg": "ES256", "kid": kid, "nonce": nonce, "url": url});
        if is_wrong(Wrong::Algorithm) {
            header["alg"] = "none".into();
        }
        if is_wrong(Wrong::Extension) {
            header["crit"] = json!(["b64"]);
        }
        if is_wrong(Wrong::Url) {
            header["url"] = self.client.url("key-change").into();
        }
        if is_wrong(Wrong::Signers) {
            header["jwk"] = jwk(&self.stranger);
        }
        let order = json!({"identifiers": [{"type": "dns", "value": "www.example.test"}]});
        let payload = if is_wrong(Wrong::Payload) {
            "[".to_owned()
        } else {
            order.to_string()
        };
        let signer = if is_wrong(Wrong::Signature) {
            &self.stranger.signer
        } else {
            &self.client.signer
        };
        let mut body: Value =
            serde_json::from_str(&signer.sign_header(&header, &payload).unwrap()).unwrap();
        if is_wrong(Wrong::Shape) {
            body["header"] = json!({});
        }
        post(
            self.client.api,
            &self.client.path("new-order"),
            body.to_string(),
        )
        .await
    }
}

fn jwk(client: &Client<'_>) -> Value {
    serde_json::from_str(&client.signer.jwk().to_json()).unwrap()
}

db_tests! {
    async fn the_first_check_that_fails_is_the_answer(db: TestDb) {
        let api = api(db, settings(), Some(config())).await;
        let (mut client, mut ended) = (Client::new(&api, "/acme/"), Client::new(&api, "/acme/"));
        client.register(&json!({})).await;
        ended.register(&json!({})).await;
        let account = format!("account/{}", ended.kid.rsplit('/').next().unwrap());
        assert_eq!(ended.ask(&account, r#"{"status":"deactivated"}"#).await.status, 200);
        let used_nonce = client.nonce().await;
        let body = client.signer.sign_with_jwk(&client.url("new-account"), Some(&used_nonce), "{}").unwrap();
        assert_eq!(post(&api, &client.path("new-account"), body).await.status, 200);
        let stranger = Client::new(&api, "/acme/");
        let parties = Parties { client, ended, stranger, used_nonce };
        for (wrong, status, kind, word) in [
            (Wrong::Shape, 400, "malformed", "header"),
            (Wrong::Algorithm, 400, "badSignatureAlgorithm", "algorithm"),
            (Wrong::Extension, 400, "malformed", "crit"),
            (Wrong::Url, 401, "unauthorized", "url"),
            (Wrong::Nonce, 400, "badNonce", "nonce"),
            (Wrong::Signers, 400, "malformed", "kid"),
            (Wrong::Account, 400, "accountDoesNotExist", "account"),
            (Wrong::Status, 401, "unauthorized", "deactivated"),
            (Wrong::Signature, 401, "unauthorized", "signature"),
            (Wrong::Payload, 400, "malformed", "JSON"),
        ] {
            let answer = parties.request(wrong).await;
            is_problem(&answer, status, kind);
            parties.client.carries_what_signed_answers_do(&answer);
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains(word), "{wrong:?}: {detail}");
        }
        assert_eq!(parties.request(Wrong::Nothing).await.status, 201);
    }

    async fn what_is_wrong_with_a_key_or_an_algorithm_is_named(db: TestDb) {
        let api = api(db, settings(), Some(config())).await;
        let client = Client::new(&api, "/acme/");
        let url = client.url("new-account");
        let mut private = jwk(&client);
        private["d"] = "AAAA".into();
        let weak = certctl_acme::base64url::encode([0xff; 128]);
        for (alg, jwk, kind) in [
            ("ES256", private, "badPublicKey"),
            ("RS256", json!({"kty": "RSA", "n": weak, "e": "AQAB"}), "badPublicKey"),
            ("ES256", json!({"kty": "oct", "k": "AAAA"}), "badPublicKey"),
            ("HS256", json!({"kty": "oct", "k": "AAAA"}), "badSignatureAlgorithm"),
            ("none", jwk(&client), "badSignatureAlgorithm"),
        ] {
            let header = json!({"alg": alg, "jwk": jwk, "nonce": client.nonce().await, "url": url});
            let answer = post(&api, &client.path("new-account"), client.signer.sign_header(&header, "{}").unwrap()).await;
            is_problem(&answer, 400, kind);
            client.carries_what_signed_answers_do(&answer);
            let algorithms = &answer.json()["algorithms"];
            if kind == "badSignatureAlgorithm" {
                assert_eq!(*algorithms, json!(["RS256", "ES256", "ES384", "EdDSA"]));
            } else {
                assert_eq!(*algorithms, Value::Null);
            }
        }
    }

    async fn a_refusal_of_names_has_a_subproblem_for_each(db: TestDb) {
        let api = api(db, settings(), Some(config())).await;
        let mut client = Client::new(&api, "/acme/");
        client.register(&json!({})).await;
        let order = json!({"identifiers": [
            {"type": "dns", "value": "www.example.test"}, {"type": "dns", "value": "www.example.test."}, {"type": "email", "value": "a@example.test"},
        ]});
        let refused = client.ask("new-order", &order.to_string()).await;
        is_problem(&refused, 400, "compound");
        let error = |kind: &str| format!("urn:ietf:params:acme:error:{kind}");
        let subproblems: Vec<(Value, Value)> = refused.json()["subproblems"].as_array().unwrap().iter()
            .map(|one| (one["type"].clone(), one["identifier"].clone()))
            .collect();
        assert_eq!(subproblems, [
            (error("rejectedIdentifier").into(), json!({"type": "dns", "value": "www.example.test."})),
            (error("unsupportedIdentifier").into(), json!({"type": "email", "value": "a@example.test"})),
        ]);
    }
}
