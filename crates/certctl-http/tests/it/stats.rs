use std::time::Duration;

use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use crate::nouns::NounApi;

db_tests! {
    async fn stats_over_http_count_all_there_is(db: TestDb) {
        db.seed_basics().await;
        let api = NounApi::new(db).await;
        for (name, status, ends) in [("one", "Active", "2026-06-01T23:59:59Z"), ("two", "Active", "2026-06-11T00:00:00Z"), ("three", "Expired", "2026-05-01T00:00:00Z")] {
            let made = api.post("/api/v1/certificates", &json!({"name": name, "common_name": format!("{name}.example.test"), "owner_id": "o-alice",
                "team_id": "t-platform", "issuer_id": "iss-local", "renewal_policy_id": "rp-standard", "status": status, "expires_at": ends})).await;
            assert_eq!(made.status, 201, "{made:?}");
        }
        let job = api.post("/api/v1/certificates/mc-web/renew", &Value::Null).await.json()["job_id"].as_str().unwrap().to_owned();
        let summary = json!({"total_certificates": 4, "expiring_certificates": 2, "expired_certificates": 1, "revoked_certificates": 0, "active_agents": 1,
            "offline_agents": 4, "total_agents": 5, "pending_jobs": 1, "failed_jobs": 0, "complete_jobs": 0, "notifications_dead": 0,
            "completed_at": "2026-06-01T00:00:00Z"});
        api.get("/api/v1/stats/summary").await.is(200, &summary);
        api.get("/api/v1/stats/certificates-by-status").await
            .is(200, &json!([{"status": "Active", "count": 2}, {"status": "Expired", "count": 1}, {"status": "RenewalInProgress", "count": 1}]));

        api.get("/api/v1/stats/expiration-timeline?days=2").await.is(200, &json!([{"date": "2026-06-01", "count": 1}, {"date": "2026-06-02", "count": 0}]));
        for days in ["", "?days=0", "?days=366", "?days=x", "?days=30"] {
            let series = api.get(&format!("/api/v1/stats/expiration-timeline{days}")).await.json();
            let series = series.as_array().unwrap();
            assert_eq!((series.len(), &series[10]), (30, &json!({"date": "2026-06-11", "count": 1})), "{days}");
        }
        for (route, empty) in [("job-trends", json!({"date": "2026-06-01", "completed_count": 0, "failed_count": 0, "success_rate": 0.0})),
            ("issuance-rate", json!({"date": "2026-06-01", "issued_count": 0}))] {
            api.get(&format!("/api/v1/stats/{route}?days=1")).await.is(200, &json!([empty]));
            assert_eq!(api.get(&format!("/api/v1/stats/{route}?days=365")).await.json().as_array().unwrap().len(), 365);
        }

        // Counts are at most a second old, and that old at the least while nobody waits for other ones.
        api.post(&format!("/api/v1/jobs/{job}/cancel"), &Value::Null).await;
        let pending = async || api.get("/api/v1/stats/summary").await.json()["pending_jobs"].clone();
        assert_eq!(pending().await, 1);
        api.db.clock().advance(Duration::from_secs(1));
        assert_eq!(pending().await, 0);
    }

    async fn what_was_done_is_on_the_day_of_its_end(db: TestDb) {
        db.seed_basics().await;
        let api = NounApi::new(db).await;
        for (id, status, day) in [("j1", "Completed", 1), ("j2", "Failed", 1), ("j3", "Completed", 0)] {
            let back = match api.db.backend().to_string().as_str() {
                "postgres" => format!("created_at - interval '{day} days'"),
                _ => format!("created_at - {day} * 86400000000"),
            };
            api.db.execute(&format!("INSERT INTO jobs (id, type, status, completed_at) SELECT '{id}', 'Renewal', '{status}', {back} FROM teams")).await.unwrap();
        }
        api.get("/api/v1/stats/job-trends?days=2").await.is(200, &json!([
            {"date": "2026-05-31", "completed_count": 1, "failed_count": 1, "success_rate": 50.0},
            {"date": "2026-06-01", "completed_count": 1, "failed_count": 0, "success_rate": 100.0}]));
    }
}
