//! What operators do, over the API.

use certctl_acme::base64url;
use certctl_service::acme::AcmeConfig;
use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use super::client::{Client, PROFILE, api, config, is_problem, settings};

db_tests! {
    async fn a_key_binds_one_account_and_its_secret_is_shown_once(db: TestDb) {
        let bound = AcmeConfig { eab_required: true, ..config() };
        let api = api(db, settings(), Some(bound)).await;
        let made = api.post("/api/v1/acme/eab-keys", &json!({"profile_id": PROFILE, "kid": "team-web"})).await;
        assert_eq!(made.status, 201, "{made:?}");
        let secret = made.json()["hmac_key"].as_str().unwrap().to_owned();
        assert_eq!(api.post("/api/v1/acme/eab-keys", &json!({"profile_id": PROFILE, "kid": "team-web"})).await.status, 409);
        assert_eq!(api.post("/api/v1/acme/eab-keys", &json!({"profile_id": "prof-none"})).await.status, 400);
        assert_eq!(api.post("/api/v1/acme/eab-keys", &json!({"profile_id": "a b"})).await.status, 400);
        let mut client = Client::new(&api, "/acme/");
        is_problem(&client.register(&json!({})).await, 403, "externalAccountRequired");
        let binding = client.signer.bind("team-web", &base64url::decode(&secret).unwrap(), &client.url("new-account"));
        let account = client.register(&json!({"externalAccountBinding": binding})).await;
        assert_eq!(account.status, 201, "{account:?}");
        let id = account.header("location").unwrap().rsplit('/').next().unwrap().to_owned();
        let keys = api.get("/api/v1/acme/eab-keys").await.json();
        assert_eq!(keys["data"][0]["bound_account_id"], id);
        assert!(!keys.to_string().contains(&secret), "{keys}");
        let accounts = api.get("/api/v1/acme/accounts").await.json();
        assert_eq!((&accounts["data"][0]["id"], &accounts["total"]), (&json!(id), &json!(1)));
    }

    async fn a_revoked_key_binds_nobody(db: TestDb) {
        let bound = AcmeConfig { eab_required: true, ..config() };
        let api = api(db, settings(), Some(bound)).await;
        let made = api.post("/api/v1/acme/eab-keys", &json!({"profile_id": PROFILE})).await.json();
        let (kid, secret) = (made["kid"].as_str().unwrap(), made["hmac_key"].as_str().unwrap());
        assert_eq!(api.delete(&format!("/api/v1/acme/eab-keys/{kid}")).await.status, 204);
        let mut client = Client::new(&api, "/acme/");
        let binding = client.signer.bind(kid, &base64url::decode(secret).unwrap(), &client.url("new-account"));
        is_problem(&client.register(&json!({"externalAccountBinding": binding})).await, 401, "unauthorized");
    }

    async fn an_account_that_was_revoked_is_refused(db: TestDb) {
        let api = api(db, settings(), Some(config())).await;
        let mut client = Client::new(&api, "/acme/");
        let made = client.register(&json!({})).await;
        let id = made.header("location").unwrap().rsplit('/').next().unwrap().to_owned();
        let path = format!("/api/v1/acme/accounts/{id}/revoke");
        assert_eq!(api.post(&path, &Value::Null).await.status, 204);
        let order = json!({"identifiers": [{"type": "dns", "value": "www.example.test"}]});
        is_problem(&client.ask("new-order", &order.to_string()).await, 401, "unauthorized");
        assert_eq!(api.get("/api/v1/acme/accounts").await.json()["data"][0]["status"], "revoked");
    }

    async fn names_that_are_paused_are_listed_and_let_go(db: TestDb) {
        let api = api(db, settings(), Some(config())).await;
        let mut client = Client::new(&api, "/acme/");
        let made = client.register(&json!({})).await;
        let id = made.header("location").unwrap().rsplit('/').next().unwrap().to_owned();
        let paused = "INSERT INTO acme_failing_names (account_id, identifier_type, identifier_value, failures, last_failed_at, paused_at) \
             SELECT id_of, 'dns', 'www.example.test', 15, made, made FROM (SELECT id AS id_of, created_at AS made FROM acme_accounts) a";
        api.db.execute(paused).await.unwrap();
        let listed = api.get("/api/v1/acme/paused-names").await.json();
        assert_eq!((&listed["total"], &listed["data"][0]["value"]), (&json!(1), &json!("www.example.test")));
        let let_go = api.post(&format!("/api/v1/acme/accounts/{id}/unpause"), &Value::Null).await;
        assert_eq!((let_go.status, &let_go.json()["unpaused"]), (200, &json!(1)));
        assert_eq!(api.get("/api/v1/acme/paused-names").await.json()["total"], 0);
    }

    async fn without_an_acme_server_there_is_nothing_to_operate(db: TestDb) {
        let api = api(db, settings(), None).await;
        assert_eq!(api.get("/api/v1/acme/accounts").await.status, 503);
        assert_eq!(api.post("/api/v1/acme/eab-keys", &json!({"profile_id": PROFILE})).await.status, 503);
    }
}
