use std::time::Duration;

use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use crate::nouns::{NOW, NounApi};

db_tests! {
    async fn metrics_over_http_count_what_is_there(db: TestDb) {
        db.seed_basics().await;
        let api = NounApi::new(db).await;
        api.post("/api/v1/certificates", &json!({"name": "two", "common_name": "two.example.test", "owner_id": "o-alice", "team_id": "t-platform",
            "issuer_id": "iss-local", "renewal_policy_id": "rp-standard", "status": "Active", "expires_at": "2026-06-20T00:00:00Z"})).await;
        let job = api.post("/api/v1/certificates/mc-web/renew", &Value::Null).await.json()["job_id"].as_str().unwrap().to_owned();
        api.db.clock().advance(Duration::from_secs(90));
        let all = api.get("/api/v1/metrics").await.json();
        assert_eq!(all["uptime"], json!({"uptime_seconds": 90, "server_started": NOW, "measured_at": "2026-06-01T00:01:30Z"}));
        assert_eq!((&all["gauge"]["certificate_total"], &all["gauge"]["certificate_active"], &all["gauge"]["certificate_expiring_soon"]), (&json!(2), &json!(1), &json!(1)));
        let names: Vec<_> = all["gauge"].as_object().unwrap().keys().chain(all["counter"].as_object().unwrap().keys()).map(String::as_str).collect();
        let mut expected = ["certificate_total", "certificate_active", "certificate_expiring_soon", "certificate_expired", "certificate_revoked", "agent_total", "agent_online",
            "job_pending", "job_completed_total", "job_failed_total", "notifications_dead_total"];
        let mut names = names;
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected);
        api.post(&format!("/api/v1/jobs/{job}/cancel"), &Value::Null).await;
        let scraped = api.get("/api/v1/metrics/prometheus").await;
        assert_eq!((scraped.status, scraped.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
        let text = String::from_utf8(scraped.body.to_vec()).unwrap();
        for line in ["certctl_certificate_total 2", "certctl_certificate_active 1", "certctl_agent_total", "certctl_job_completed_total 0", "certctl_uptime_seconds 90"] {
            assert!(text.lines().any(|found| found.starts_with(line)), "{line}\n{text}");
        }
    }
}
