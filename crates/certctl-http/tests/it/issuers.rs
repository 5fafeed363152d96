use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use crate::nouns::{NOW, NounApi, VIEWER_KEY};

fn shown(over: &Value) -> Value {
    let mut issuer = json!({
        "id": "iss-1", "name": "Second CA", "type": "GenericCA", "config": {"validity_days": 30}, "enabled": true,
        "test_status": "untested", "source": "database", "hierarchy_mode": "single", "created_at": NOW, "updated_at": NOW,
    });
    for (name, value) in over.as_object().unwrap() {
        issuer[name] = value.clone();
    }
    issuer
}

db_tests! {
    async fn issuers_over_http(db: TestDb) {
        let api = NounApi::new(db).await;
        let said = json!({"id": "iss-1", "name": "Second CA", "type": "local", "config": {"validity_days": 30}});
        api.post("/api/v1/issuers", &said).await.is(201, &shown(&json!({})));
        api.get("/api/v1/issuers/iss-1").await.is(200, &shown(&json!({})));
        assert_eq!(api.get("/api/v1/issuers").await.json()["total"], 2);
        api.put("/api/v1/issuers/iss-1", &json!({"enabled": false, "hierarchy_mode": "tree"})).await
            .is(200, &shown(&json!({"enabled": false, "hierarchy_mode": "tree"})));
        api.post("/api/v1/issuers/iss-1/test", &Value::Null).await.is(200, &json!({"status": "connection_successful"}));
        api.get("/api/v1/issuers/iss-1").await
            .is(200, &shown(&json!({"enabled": false, "hierarchy_mode": "tree", "test_status": "success", "last_tested_at": NOW})));
        api.delete("/api/v1/issuers/iss-1").await.is_done();
    }

    async fn a_secret_that_another_program_wrote_is_not_shown(db: TestDb) {
        let api = NounApi::new(db).await;
        api.db.execute(r#"INSERT INTO issuers (id, name, type, config) VALUES ('iss-d', 'DigiCert', 'DigiCert', '{"api_key":"canary-7342"}')"#).await.unwrap();
        for path in ["/api/v1/issuers", "/api/v1/issuers/iss-d"] {
            let answer = api.get(path).await;
            let text = String::from_utf8(answer.body.to_vec()).unwrap();
            assert!(answer.status == 200 && text.contains(r#"{"api_key":"********"}"#) && !text.contains("canary"), "{text}");
        }
        let failed = api.post("/api/v1/issuers/iss-d/test", &Value::Null).await;
        failed.is_main(502, "Bad Gateway", "this build does not connect to DigiCert issuers yet");
        assert_eq!(api.get("/api/v1/issuers/iss-d").await.json()["test_status"], "failed");
    }

    async fn refusals_of_issuers_over_http(db: TestDb) {
        let api = NounApi::new(db).await;
        api.db.seed_basics().await;
        let local = json!({"name": "x", "type": "local"});
        api.refuses_the_unknown("/api/v1/issuers", &local).await;
        api.reads_only_for_viewers("/api/v1/issuers", "iss-local", &local).await;
        assert_eq!(api.call("POST", "/api/v1/issuers/iss-local/test", VIEWER_KEY, &Value::Null).await.status, 403);
        assert_eq!(api.post("/api/v1/issuers/none/test", &Value::Null).await.status, 404);
        for (said, message) in [
            (json!({"type": "local"}), "name: is required"),
            (json!({"name": "x"}), "type: is required"),
            (json!({"name": "x", "type": "vaultpki"}), "type: this build does not connect to VaultPKI issuers yet"),
            (json!({"name": "x", "type": "local", "config": {"validity_days": 0}}), "config: validity_days: must be a whole number from 1 to 36500"),
            (json!({"name": "x", "type": "local", "config": []}), "config: must be an object"),
        ] {
            api.post("/api/v1/issuers", &said).await.is_main(400, "Bad Request", message);
        }
        api.post("/api/v1/issuers", &json!({"name": "Local CA", "type": "local"})).await
            .is_main(409, "Conflict", "an issuer named \"Local CA\" or with this id exists");
        api.delete("/api/v1/issuers/iss-local").await.is_main(409, "Conflict", "certificates or revocations refer to this issuer");
    }
}
