use certctl_testkit::{TestDb, db_tests};
use serde_json::json;

use crate::nouns::{NOW, NounApi};

db_tests! {
    async fn renewal_policies_over_http(db: TestDb) {
        let api = NounApi::new(db).await;
        let policy = json!({
            "id": "rp-weekly", "name": "Weekly", "renewal_window_days": 30, "auto_renew": true, "max_retries": 3,
            "retry_interval_seconds": 3600, "alert_thresholds_days": [30, 14, 7, 0], "created_at": NOW, "updated_at": NOW,
        });
        api.post("/api/v1/renewal-policies", &json!({"name": "Weekly"})).await.is(201, &policy);
        api.get("/api/v1/renewal-policies/rp-weekly").await.is(200, &policy);
        let list = api.get("/api/v1/renewal-policies").await.json();
        let names: Vec<&str> = list["data"].as_array().unwrap().iter().map(|policy| policy["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["Weekly", "default"], "by name, in the order of bytes");
        let said = json!({"auto_renew": false, "alert_channels": {"critical": ["Email"]}, "alert_severity_map": {"7": "critical"}});
        api.put("/api/v1/renewal-policies/rp-weekly", &said).await.is(200, &json!({
            "id": "rp-weekly", "name": "Weekly", "renewal_window_days": 30, "auto_renew": false, "max_retries": 3,
            "retry_interval_seconds": 3600, "alert_thresholds_days": [30, 14, 7, 0], "alert_channels": {"critical": ["Email"]},
            "alert_severity_map": {"7": "critical"}, "created_at": NOW, "updated_at": NOW,
        }));
        api.delete("/api/v1/renewal-policies/rp-weekly").await.is_done();
    }

    async fn refusals_of_renewal_policies_over_http(db: TestDb) {
        let api = NounApi::new(db).await;
        api.db.seed_basics().await;
        api.refuses_the_unknown("/api/v1/renewal-policies", &json!({"name": "x"})).await;
        api.reads_only_for_viewers("/api/v1/renewal-policies", "rp-default", &json!({"name": "x"})).await;
        api.post("/api/v1/renewal-policies", &json!({})).await.is_main(400, "Bad Request", "name: is required");
        api.post("/api/v1/renewal-policies", &json!({"name": "x", "max_retries": 11})).await
            .is_main(400, "Bad Request", "max_retries: 11 is not within 0 to 10");
        let negative = api.post("/api/v1/renewal-policies", &json!({"name": "x", "max_retries": -1})).await;
        assert!(negative.status == 400 && negative.json()["message"].as_str().unwrap().starts_with("max_retries: "), "{negative:?}");
        api.post("/api/v1/renewal-policies", &json!({"name": "default"})).await
            .is_main(409, "Conflict", "a renewal policy named \"default\" exists, or was made at the same moment");
        api.delete("/api/v1/renewal-policies/rp-standard").await.is_main(409, "Conflict", "certificates use this renewal policy");
    }
}
