use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use crate::nouns::{NounApi, VIEWER_KEY};

const PATH: &str = "/api/v1/certificates";

/// Three certificates of one owner, two active and one archived.
async fn api(db: TestDb) -> NounApi {
    db.seed_basics().await;
    let api = NounApi::new(db).await;
    let owner =
        json!({"id": "o-bob", "name": "Bob", "email": "bob@example.test", "team_id": "t-platform"});
    assert_eq!(api.post("/api/v1/owners", &owner).await.status, 201);
    for id in ["mc-1", "mc-2", "mc-3"] {
        let body = json!({"id": id, "name": id, "common_name": "api.example.test", "owner_id": "o-bob", "team_id": "t-platform",
            "issuer_id": "iss-local", "renewal_policy_id": "rp-standard", "status": "Active"});
        assert_eq!(api.post(PATH, &body).await.status, 201);
    }
    api.delete(&format!("{PATH}/mc-3")).await.is_done();
    api
}

db_tests! {
    async fn many_are_renewed_and_the_answer_says_which(db: TestDb) {
        let api = api(db).await;
        let answer = api.post(&format!("{PATH}/bulk-renew"), &json!({"owner_id": "o-bob", "team_id": "", "unknown": 1})).await;
        let body = answer.json();
        assert_eq!(answer.status, 200, "{body}");
        let jobs = body["enqueued_jobs"].as_array().unwrap().clone();
        assert_eq!(jobs.iter().map(|one| one["certificate_id"].as_str().unwrap()).collect::<Vec<_>>(), ["mc-1", "mc-2"]);
        for job in &jobs {
            let path = format!("/api/v1/jobs/{}", job["job_id"].as_str().unwrap());
            assert_eq!(api.get(&path).await.json()["certificate_id"], job["certificate_id"]);
        }
        let mut without = body.clone();
        without.as_object_mut().unwrap().remove("enqueued_jobs");
        assert_eq!(without, json!({"total_matched": 3, "total_enqueued": 2, "total_skipped": 1, "total_failed": 0}));
        api.post(&format!("{PATH}/bulk-renew"), &json!({"certificate_ids": ["mc-1", "mc-2", "mc-gone"]})).await
            .is(200, &json!({"total_matched": 2, "total_enqueued": 0, "total_skipped": 2, "total_failed": 0}));
    }

    async fn many_are_revoked_and_what_failed_is_named(db: TestDb) {
        let api = api(db).await;
        for path in ["/api/v1/certificates/bulk-revoke", "/api/v1/est/certificates/bulk-revoke"] {
            for (body, message) in [
                (json!({"owner_id": "o-bob"}), "reason"),
                (json!({"reason": "superseded"}), "name at least one criterion"),
                (json!({"reason": "bored", "owner_id": "o-bob"}), "reason"),
                (json!({"reason": "superseded", "certificate_ids": "mc-1"}), "certificate_ids"),
            ] {
                let answer = api.post(path, &body).await;
                let text = answer.json()["message"].as_str().unwrap_or_default().to_owned();
                assert!(answer.status == 400 && text.contains(message), "{path} {body}: {text}");
            }
        }
        api.post("/api/v1/est/certificates/bulk-revoke", &json!({"reason": "superseded", "owner_id": "o-bob"})).await
            .is(200, &json!({"total_matched": 0, "total_revoked": 0, "total_skipped": 0, "total_failed": 0}));
        let error = |id: &str| json!({"certificate_id": id, "error": "nothing is issued for this certificate yet"});
        api.post(&format!("{PATH}/bulk-revoke"), &json!({"reason": "superseded", "owner_id": "o-bob"})).await
            .is(200, &json!({"total_matched": 3, "total_revoked": 0, "total_skipped": 1, "total_failed": 2, "errors": [error("mc-1"), error("mc-2")]}));
    }

    async fn many_are_given_to_another_owner(db: TestDb) {
        let api = api(db).await;
        let path = format!("{PATH}/bulk-reassign");
        for body in [json!({"owner_id": "o-bob"}), json!({"owner_id": "o-bob", "certificate_ids": []}), json!({"certificate_ids": ["mc-1"]}),
            json!({"certificate_ids": ["mc-1"], "owner_id": "o-gone"}), Value::Null] {
            assert_eq!(api.post(&path, &body).await.status, 400, "{body}");
        }
        api.post(&path, &json!({"certificate_ids": ["mc-1", "mc-gone"], "owner_id": "o-alice"})).await.is(200, &json!({"total_matched": 1,
            "total_reassigned": 1, "total_skipped": 0, "total_failed": 1, "errors": [{"certificate_id": "mc-gone", "error": "there is no such certificate"}]}));
        api.post(&path, &json!({"criteria": {"owner_id": "o-bob"}, "owner_id": "o-alice"})).await
            .is(200, &json!({"total_matched": 2, "total_reassigned": 2, "total_skipped": 0, "total_failed": 0}));
        assert_eq!(api.get(&format!("{PATH}/mc-3")).await.json()["owner_id"], "o-alice");
        let ids: Vec<String> = (0..10_000).map(|number| format!("cert-{number:0>90}")).collect();
        let full = api.post(&format!("{PATH}/bulk-renew"), &json!({ "certificate_ids": ids })).await;
        assert_eq!(full.status, 200, "as many ids as one may name, and longer than those that certctl makes, fit into a body");
        for (route, body) in [("bulk-renew", json!({"owner_id": "o-bob"})), ("bulk-revoke", json!({"owner_id": "o-bob", "reason": "superseded"})),
            ("bulk-reassign", json!({"certificate_ids": ["mc-1"], "owner_id": "o-alice"}))] {
            assert_eq!(api.call("POST", &format!("{PATH}/{route}"), VIEWER_KEY, &body).await.status, 403, "{route}");
        }
    }
}
