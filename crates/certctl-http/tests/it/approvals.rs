//! The second person over HTTP (api §17, §18).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use certctl_domain::secret::Secret;
use certctl_service::config::{ConfiguredKey, KeygenMode, ServiceConfig};
use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use crate::{
    nouns::{NOW, NounApi, VIEWER_KEY},
    support::Answer,
};

const BOB: &str = "test-second-person-0123456789";
/// The key of the owner of the certificate.
const OWNER: &str = "test-owner-key-0123456789";
const LATER: &str = "2026-06-01T00:01:00Z";
const HOUR: Duration = Duration::from_secs(3600);
const WEEK: Duration = Duration::from_secs(168 * 3600);

async fn api(db: TestDb, change: impl FnOnce(&mut ServiceConfig)) -> NounApi {
    db.seed_basics().await;
    let gate =
        "UPDATE certificate_profiles SET requires_approval = true WHERE id = 'prof-standard-tls'";
    db.execute(gate).await.unwrap();
    NounApi::with(db, |config| {
        config.keygen_mode = KeygenMode::Server;
        for (name, key) in [("bob", BOB), ("o-alice", OWNER)] {
            config.api_keys.push(ConfiguredKey {
                name: name.into(),
                key: Secret::new(key),
                admin: true,
            });
        }
        change(config);
    })
    .await
}

impl NounApi {
    /// A renewal that waits: the paths of its request and of its job.
    async fn waiting(&self) -> (String, String) {
        let answer = self
            .post("/api/v1/certificates/mc-web/renew", &Value::Null)
            .await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let said = answer.json();
        let path =
            |noun: &str, field: &str| format!("/api/v1/{noun}/{}", said[field].as_str().unwrap());
        (path("approvals", "approval_id"), path("jobs", "job_id"))
    }

    async fn decide(&self, key: &str, path: &str, verdict: &str, body: &Value) -> Answer {
        self.call("POST", &format!("{path}/{verdict}"), key, body)
            .await
    }

    /// State and last error of a job.
    async fn job(&self, path: &str) -> (String, Value) {
        let job = self.get(path).await.json();
        (
            job["status"].as_str().unwrap().to_owned(),
            job["last_error"].clone(),
        )
    }

    async fn gated(&self, id: &str) {
        let body = json!({"id": id, "name": id, "requires_approval": true});
        assert_eq!(self.post("/api/v1/profiles", &body).await.status, 201);
    }

    /// An edit that waits: the path of its request.
    async fn edit(&self, profile: &str, change: &Value) -> String {
        let answer = self
            .put(&format!("/api/v1/profiles/{profile}"), change)
            .await;
        assert_eq!(answer.status, 202, "{answer:?}");
        format!(
            "/api/v1/approvals/{}",
            answer.json()["pending_approval_id"].as_str().unwrap()
        )
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

db_tests! {
    async fn it_takes_two(db: TestDb) {
        let api = api(db, |_| {}).await;
        let (request, job) = api.waiting().await;
        let pending = json!({"id": last(&request), "kind": "cert_issuance", "certificate_id": "mc-web", "job_id": last(&job),
            "profile_id": "prof-standard-tls", "requested_by": "admin", "state": "pending", "created_at": NOW, "updated_at": NOW,
            "metadata": {"common_name": "mc-web.example.test", "sans": "mc-web.example.test", "issuer_id": "iss-local", "severity_tier": "informational"}});
        api.get(&request).await.is(200, &pending);
        let none = "requested_by=bob";
        for (query, total) in [("", 1), ("state=pending&certificate_id=mc-web&requested_by=admin", 1), (none, 0), ("state=approved", 0),
            ("certificate_id=mc-other", 0), ("state=asleep", 0), ("state=&certificate_id=", 1)] {
            let listed = api.get(&format!("/api/v1/approvals?{query}")).await;
            assert_eq!((listed.status, &listed.json()["total"]), (200, &json!(total)), "{query}");
        }
        assert_eq!(api.job(&job).await.0, "AwaitingApproval");
        let admin = certctl_testkit::services::ADMIN_KEY;
        for path in [&request, &job] {
            for verdict in ["approve", "reject"] {
                api.decide("", path, verdict, &Value::Null).await.is_gate(401, "Authorization header required");
                api.decide(VIEWER_KEY, path, verdict, &Value::Null).await.is_gate(403, "Insufficient permissions");
                for (key, who) in [(admin, "whoever asked"), (OWNER, "owner")] {
                    let refused = api.decide(key, path, verdict, &Value::Null).await;
                    let said = refused.json()["error"].as_str().unwrap_or_default().to_owned();
                    assert!(refused.status == 403 && said.contains(who), "{path} {verdict} {who}: {refused:?}");
                }
            }
        }
        api.work().await;
        assert_eq!(api.job(&job).await.0, "AwaitingApproval", "nothing of that lets it run");
        let too_long = api.decide(BOB, &request, "approve", &json!({"note": "n".repeat(1001)})).await;
        assert!(too_long.status == 400 && too_long.json()["message"].as_str().unwrap().starts_with("note"), "{too_long:?}");
        assert_eq!(api.decide(BOB, &request, "approve", &json!([1])).await.status, 400);
        assert_eq!(api.decide(BOB, "/api/v1/approvals/ar-gone", "approve", &Value::Null).await.status, 404);
        assert_eq!(api.decide(BOB, "/api/v1/jobs/job-gone", "approve", &Value::Null).await.status, 404);

        api.db.clock().advance(Duration::from_secs(60));
        api.decide(BOB, &request, "approve", &json!({"note": "seen"})).await
            .is(200, &json!({"id": last(&request), "decided_by": "bob", "action": "approved"}));
        let mut approved = pending;
        for (field, value) in [("state", "approved"), ("decided_by", "bob"), ("decided_at", LATER), ("decision_note", "seen"), ("updated_at", LATER)] {
            approved[field] = value.into();
        }
        api.get(&request).await.is(200, &approved);
        api.work().await;
        assert_eq!(api.job(&job).await, ("Completed".to_owned(), Value::Null));
        for verdict in ["approve", "reject"] {
            assert_eq!(api.decide(BOB, &request, verdict, &Value::Null).await.status, 409, "a decision is final");
            assert_eq!(api.decide(BOB, &job, verdict, &Value::Null).await.status, 400);
        }
    }

    async fn what_is_refused_is_called_off_by_either_door(db: TestDb) {
        let api = api(db, |_| {}).await;
        for (by_job, body, said) in [
            (false, json!({"note": "not now"}), "approval rejected: not now"), (false, Value::Null, "approval rejected"),
            (true, json!({"reason": "not now"}), "rejected: not now"), (true, Value::Null, "rejected"),
        ] {
            let (request, job) = api.waiting().await;
            assert_eq!(api.get("/api/v1/certificates/mc-web").await.json()["status"], "RenewalInProgress");
            if by_job {
                api.decide(BOB, &job, "reject", &body).await.is(200, &json!({"status": "job_rejected"}));
            } else {
                api.decide(BOB, &request, "reject", &body).await.is(200, &json!({"id": last(&request), "decided_by": "bob", "action": "rejected"}));
            }
            api.work().await;
            assert_eq!(api.job(&job).await, ("Cancelled".to_owned(), json!(said)));
            assert_eq!(api.get(&request).await.json()["state"], "rejected");
            assert_eq!(api.get("/api/v1/certificates/mc-web").await.json()["status"], "Pending");
        }
        let (request, job) = api.waiting().await;
        api.decide(BOB, &job, "approve", &Value::Null).await.is(200, &json!({"status": "job_approved"}));
        assert_eq!(api.get(&request).await.json()["state"], "approved");
    }

    async fn a_request_that_has_expired_never_runs(db: TestDb) {
        let api = api(db, |_| {}).await;
        let (request, job) = api.waiting().await;
        api.db.clock().advance(WEEK + Duration::from_secs(1));
        let too_late = api.decide(BOB, &request, "approve", &Value::Null).await;
        too_late.is_main(409, "Conflict", "the request has expired; ask again");
        assert_eq!(api.services.expire_approvals().await.unwrap(), 1);
        let ended = api.get(&request).await.json();
        assert_eq!((&ended["state"], &ended["decided_by"], &ended["decision_note"]), (&json!("expired"), &json!("system-reaper"), &json!("approval_timeout")));
        for _ in 0..3 {
            assert_eq!(api.decide(BOB, &request, "approve", &Value::Null).await.status, 409);
            assert_eq!(api.decide(BOB, &job, "approve", &Value::Null).await.status, 400);
            assert_eq!(api.services.retry_jobs().await.unwrap(), 0);
            api.work().await;
            assert_eq!(api.job(&job).await, ("Failed".to_owned(), json!("approval_timeout")));
            api.db.clock().advance(1000 * HOUR);
        }
        assert_eq!(api.get("/api/v1/certificates/mc-web/versions").await.json()["total"], 0);
        // Asking again is a request of its own.
        let (again, _) = api.waiting().await;
        assert_ne!(again, request);
    }

    async fn a_profile_is_edited_by_two(db: TestDb) {
        let api = api(db, |_| {}).await;
        api.gated("prof-1").await;
        let wanted = json!({"name": "Open", "max_ttl_seconds": 3600, "requires_approval": false});
        let request = api.edit("prof-1", &wanted).await;
        assert_eq!(api.edit("prof-1", &wanted).await, request, "asked for twice is asked for once");
        let shown = api.get(&request).await.json();
        assert_eq!((&shown["kind"], &shown["profile_id"], shown.get("job_id")), (&json!("profile_edit"), &json!("prof-1"), None));
        let payload: Value = serde_json::from_slice(&STANDARD.decode(shown["payload"].as_str().unwrap()).unwrap()).unwrap();
        assert_eq!((&payload["name"], &payload["max_ttl_seconds"]), (&json!("Open"), &json!(3600)));
        let own = api.decide(certctl_testkit::services::ADMIN_KEY, &request, "approve", &Value::Null).await;
        assert_eq!(own.status, 403, "{own:?}");
        assert_eq!(api.decide(BOB, &request, "reject", &Value::Null).await.status, 200);
        assert_eq!(api.get("/api/v1/profiles/prof-1").await.json()["name"], "prof-1");
        let request = api.edit("prof-1", &wanted).await;
        assert_eq!(api.decide(BOB, &request, "approve", &Value::Null).await.status, 200);
        let profile = api.get("/api/v1/profiles/prof-1").await.json();
        assert_eq!((&profile["name"], &profile["max_ttl_seconds"], profile["requires_approval"] == true), (&json!("Open"), &json!(3600), false));
        // The gate is open now, and an edit that shuts it waits again.
        assert_eq!(api.put("/api/v1/profiles/prof-1", &json!({"name": "Free"})).await.status, 200);
        let late = api.edit("prof-1", &json!({"name": "Shut", "requires_approval": true})).await;
        api.db.clock().advance(WEEK + HOUR);
        assert_eq!(api.decide(BOB, &late, "approve", &Value::Null).await.status, 409);
        assert_eq!(api.services.expire_approvals().await.unwrap(), 1);
        assert_eq!(api.get("/api/v1/profiles/prof-1").await.json()["name"], "Free");
    }

    async fn an_open_gate_is_seen_in_the_answer(db: TestDb) {
        let api = api(db, |config| config.approval_bypass = true).await;
        let (request, job) = api.waiting().await;
        let shown = api.get(&request).await.json();
        assert_eq!((&shown["state"], &shown["decided_by"]), (&json!("approved"), &json!("system-bypass")));
        api.work().await;
        assert_eq!(api.job(&job).await.0, "Completed");
        assert_eq!(api.put("/api/v1/profiles/prof-standard-tls", &json!({"name": "Free"})).await.status, 200);
    }

    async fn decisions_are_counted_by_how_they_ended(db: TestDb) {
        // What is counted is counted for the whole process: each database has profiles of its own names.
        let backend = db.backend().to_string();
        let api = api(db, |_| {}).await;
        let profile = format!("prof-counted-{backend}");
        api.gated(&profile).await;
        for (verdict, times) in [("approve", 1), ("reject", 2)] {
            for time in 0..times {
                let request = api.edit(&profile, &json!({"name": format!("{verdict} {time}"), "requires_approval": true})).await;
                assert_eq!(api.decide(BOB, &request, verdict, &Value::Null).await.status, 200);
                assert_eq!(api.decide(BOB, &request, verdict, &Value::Null).await.status, 409, "and is not counted");
            }
        }
        for number in 0..3 {
            api.edit(&profile, &json!({"name": format!("late {number}"), "requires_approval": true})).await;
        }
        api.db.clock().advance(WEEK + HOUR);
        assert_eq!(api.services.expire_approvals().await.unwrap(), 3);
        let text = String::from_utf8(api.get("/api/v1/metrics/prometheus").await.body.to_vec()).unwrap();
        for (outcome, count) in [("approved", 1), ("rejected", 2), ("expired", 3)] {
            let line = format!("certctl_approval_decisions_total{{outcome=\"{outcome}\",profile_id=\"{profile}\"}} {count}");
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        for bucket in [60, 300, 1800, 3600, 21_600, 86_400] {
            let line = format!("certctl_approval_pending_age_seconds_bucket{{le=\"{bucket}\"}}");
            assert!(text.lines().any(|found| found.starts_with(&line)), "{line}\n{text}");
        }
    }

    async fn what_an_open_gate_lets_through_is_counted(db: TestDb) {
        let backend = db.backend().to_string();
        let api = api(db, |config| config.approval_bypass = true).await;
        let profile = format!("prof-open-{backend}");
        api.gated(&profile).await;
        assert_eq!(api.put(&format!("/api/v1/profiles/{profile}"), &json!({"name": "Free", "requires_approval": true})).await.status, 200);
        let body = json!({"certificate_profile_id": profile});
        assert_eq!(api.put("/api/v1/certificates/mc-web", &body).await.status, 200);
        let renewed = api.post("/api/v1/certificates/bulk-renew", &json!({"certificate_ids": ["mc-web"]})).await.json();
        assert_eq!(renewed["total_enqueued"], 1);
        let text = String::from_utf8(api.get("/api/v1/metrics/prometheus").await.body.to_vec()).unwrap();
        let line = format!("certctl_approval_decisions_total{{outcome=\"bypassed\",profile_id=\"{profile}\"}} 2");
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}
