use std::time::Duration;

use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use crate::nouns::{NOW, NounApi, VIEWER_KEY};

const PATH: &str = "/api/v1/audit";

db_tests! {
    async fn audit_events_over_http(db: TestDb) {
        db.seed_basics().await;
        let api = NounApi::new(db).await;
        api.post("/api/v1/certificates/mc-web/renew", &Value::Null).await;
        api.db.clock().advance(Duration::from_secs(60));
        api.post("/api/v1/teams", &json!({"name": "Two"})).await;
        let all = api.get(PATH).await.json();
        assert_eq!((&all["total"], &all["data"][0]["resource_type"]), (&json!(2), &json!("team")), "newest first");
        let first = all["data"][1].clone();
        let id = first["id"].as_str().unwrap();
        assert_eq!(first, json!({"id": id, "actor": "admin", "actor_type": "APIKey", "action": "renewal_triggered", "resource_type": "certificate",
            "resource_id": "mc-web", "details": first["details"], "timestamp": NOW, "event_category": "cert_lifecycle"}));
        api.get(&format!("{PATH}/{id}")).await.is(200, &first);
        for (query, total) in [
            ("category=cert_lifecycle", 2),
            ("category=auth", 0),
            ("since=2026-06-01T00:00:30Z", 1),
            ("until=2026-06-01T00:00:30Z", 1),
            ("since=2026-06-01T00:00:00Z&until=2026-06-01T00:01:00Z", 2),
            ("since=&until=&category=", 2),
            ("since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59-12:00", 2),
            ("until=1969-12-31T23:59:59Z", 0),
        ] {
            assert_eq!(api.get(&format!("{PATH}?{query}")).await.json()["total"], total, "{query}");
        }
        for (query, field) in [("category=gossip", "category"), ("since=yesterday", "since"), ("until=2026-13-01T00:00:00Z", "until"), ("until=2026-06-02", "until"),
            ("since=2026-06-01%2000:00:00Z", "since")] {
            let answer = api.get(&format!("{PATH}?{query}")).await;
            let message = answer.json()["message"].as_str().unwrap().to_owned();
            assert!(answer.status == 400 && message.contains(field), "{message}");
        }
        api.get(&format!("{PATH}/ae-gone")).await.is_main(404, "Not Found", "audit event ae-gone does not exist");
        assert_eq!(api.call("GET", PATH, VIEWER_KEY, &Value::Null).await.status, 200, "who reads may read this too");
    }
}
