use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use crate::nouns::{NOW, NounApi, VIEWER_KEY};

db_tests! {
    async fn jobs_over_http(db: TestDb) {
        db.seed_basics().await;
        let api = NounApi::new(db).await;
        let renewed = api.post("/api/v1/certificates/mc-web/renew", &Value::Null).await.json();
        let id = renewed["job_id"].as_str().unwrap().to_owned();
        let at = format!("/api/v1/jobs/{id}");
        let job = json!({"id": id, "type": "Issuance", "certificate_id": "mc-web", "status": "AwaitingCSR", "attempts": 0, "max_attempts": 3,
            "scheduled_at": NOW, "created_at": NOW, "verification_status": "pending"});
        api.get(&at).await.is(200, &job);
        for (query, total) in [("", 1), ("status=AwaitingCSR&type=Issuance", 1), ("status=awaitingcsr", 1), ("status=Running", 0), ("type=Renewal", 0), ("status=Asleep", 0), ("type=Walk", 0)] {
            let listed = api.get(&format!("/api/v1/jobs?{query}")).await;
            assert_eq!((listed.status, &listed.json()["total"]), (200, &json!(total)), "{query}");
        }
        api.get(&format!("{at}/verification")).await.is_main(404, "Not Found", &format!("verification of job {id} does not exist"));
        api.call("POST", &format!("{at}/cancel"), VIEWER_KEY, &Value::Null).await.is_gate(403, "Insufficient permissions");
        api.post(&format!("{at}/cancel"), &Value::Null).await.is(200, &json!({"status": "job_cancelled"}));
        let again = api.post(&format!("{at}/cancel"), &Value::Null).await;
        assert_eq!(again.status, 409, "{again:?}");
        let ended = api.get(&at).await.json();
        assert_eq!((&ended["status"], &ended["last_error"], &ended["completed_at"]), (&json!("Cancelled"), &json!("cancelled"), &json!(NOW)));
        assert_eq!(api.get("/api/v1/certificates/mc-web").await.json()["status"], "Pending");
        for path in ["/api/v1/jobs/job-gone", "/api/v1/jobs/not%20an%20id"] {
            assert_eq!(api.get(path).await.status, 404);
        }
        api.post("/api/v1/jobs/job-gone/cancel", &Value::Null).await.is_main(404, "Not Found", "job job-gone does not exist");
    }
}
