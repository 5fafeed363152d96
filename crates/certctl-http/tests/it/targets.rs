use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use crate::nouns::{NOW, NounApi, VIEWER_KEY};

fn nginx() -> Value {
    json!({
        "id": "tgt-1", "name": "Web", "type": "nginx", "agent_id": "ag-web",
        "config": {"cert_path": "/etc/nginx/cert.pem", "reload_command": "nginx -s reload", "validate_command": "nginx -t"},
    })
}

db_tests! {
    async fn targets_over_http(db: TestDb) {
        let api = NounApi::new(db).await;
        api.db.seed_basics().await;
        let mut target = json!({
            "id": "tgt-1", "name": "Web", "type": "NGINX", "agent_id": "ag-web", "config": nginx()["config"], "enabled": true,
            "test_status": "untested", "source": "database", "created_at": NOW, "updated_at": NOW,
        });
        api.post("/api/v1/targets", &nginx()).await.is(201, &target);
        api.get("/api/v1/targets/tgt-1").await.is(200, &target);
        assert_eq!(api.get("/api/v1/targets").await.json()["total"], 2);
        api.post("/api/v1/targets/tgt-1/test", &Value::Null).await
            .is(200, &json!({"status": "success", "message": "agent ag-web is online"}));
        target["test_status"] = json!("success");
        target["last_tested_at"] = json!(NOW);
        api.get("/api/v1/targets/tgt-1").await.is(200, &target);
        api.db.clock().advance(std::time::Duration::from_secs(301));
        api.post("/api/v1/targets/tgt-1/test", &Value::Null).await
            .is(200, &json!({"status": "failed", "message": "agent ag-web has not been heard of for five minutes"}));
        api.delete("/api/v1/targets/tgt-1").await.is_done();
    }

    async fn a_secret_is_sent_once_and_never_shown(db: TestDb) {
        let api = NounApi::new(db).await;
        api.db.seed_basics().await;
        let f5 = |password: &str| json!({
            "id": "tgt-f5", "name": "F5", "type": "F5", "agent_id": "ag-web",
            "config": {"host": "f5", "username": "u", "password": password, "ssl_profile": "p"},
        });
        let masked = f5("********")["config"].clone();
        assert_eq!(api.post("/api/v1/targets", &f5("canary-7342")).await.json()["config"], masked);
        assert_eq!(api.get("/api/v1/targets/tgt-f5").await.json()["config"], masked);
        assert_eq!(api.put("/api/v1/targets/tgt-f5", &f5("********")).await.json()["config"], masked);
        for path in ["/api/v1/targets", "/api/v1/audit"] {
            let answer = api.get(path).await;
            assert!(answer.status == 200 && !String::from_utf8(answer.body.to_vec()).unwrap().contains("canary"));
        }
    }

    async fn refusals_of_targets_over_http(db: TestDb) {
        let api = NounApi::new(db).await;
        api.db.seed_basics().await;
        api.refuses_the_unknown("/api/v1/targets", &nginx()).await;
        api.reads_only_for_viewers("/api/v1/targets", "tgt-web", &nginx()).await;
        assert_eq!(api.call("POST", "/api/v1/targets/tgt-web/test", VIEWER_KEY, &Value::Null).await.status, 403);
        assert_eq!(api.post("/api/v1/targets/none/test", &Value::Null).await.status, 404);
        let with = |field: &str, value: Value| {
            let mut target = nginx();
            target[field] = value;
            target
        };
        for (said, message) in [
            (with("agent_id", json!("ag-none")), "agent_id: does not exist"),
            (with("config", json!({"cert_path": "/c"})), "config: reload_command: is required"),
            (with("config", json!({"cert_path": "/c", "validate_command": "nginx -t", "reload_command": "a && b"})),
                "config: reload_command: holds the refused character '&'"),
        ] {
            api.post("/api/v1/targets", &said).await.is_main(400, "Bad Request", message);
        }
        let unknown = api.post("/api/v1/targets", &with("type", json!("Nginx Plus"))).await;
        assert!(unknown.status == 400 && unknown.json()["message"].as_str().unwrap().starts_with("type: "), "{unknown:?}");
        assert_eq!(api.post("/api/v1/targets", &with("name", json!("name-tgt-web"))).await.status, 409);
    }
}
