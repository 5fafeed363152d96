//! Policy rules and what violates them over HTTP (api §19).

use certctl_service::config::KeygenMode;
use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::nouns::{NOW, NounApi};

const PATH: &str = "/api/v1/policies";

fn rule(id: &str, kind: &str, config: &Value, severity: &str) -> Value {
    json!({"id": id, "name": format!("name of {id}"), "type": kind, "config": config, "severity": severity})
}

impl NounApi {
    /// Certificate, severity, message and whether it stands, of what violates a rule.
    async fn violating(&self, rule: &str) -> Vec<String> {
        let answer = self.get(&format!("{PATH}/{rule}/violations")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let mut rows: Vec<String> = answer.json()["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                assert_eq!(row["rule_id"], rule);
                let end = if row.get("resolved_at").is_some() {
                    " resolved"
                } else {
                    ""
                };
                let text = |field: &str| row[field].as_str().unwrap().to_owned();
                format!(
                    "{} {}: {}{end}",
                    text("certificate_id"),
                    text("severity"),
                    text("message")
                )
            })
            .collect();
        rows.sort();
        rows
    }

    async fn rule(&self, body: &Value) {
        let answer = self.post(PATH, body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

db_tests! {
    async fn rules_over_http(db: TestDb) {
        let api = NounApi::new(db).await;
        api.db.seed_basics().await;
        let seeded = api.get(PATH).await.json();
        assert_eq!((&seeded["total"], &seeded["per_page"]), (&json!(4), &json!(50)));
        let made = json!({"id": "pr-1", "name": "Only ours", "type": "AllowedIssuers", "config": {"allowed_issuer_ids": ["iss-local"]}, "enabled": true,
            "severity": "Warning", "created_at": NOW, "updated_at": NOW});
        let body = json!({"id": "pr-1", "name": "Only ours", "type": "allowedissuers", "config": {"allowed_issuer_ids": ["iss-local"]}});
        api.post(PATH, &body).await.is(201, &made);
        api.get(&format!("{PATH}/pr-1")).await.is(200, &made);
        assert_eq!(api.post(PATH, &body).await.status, 409);
        let changed = json!({"id": "pr-1", "name": "Soon", "type": "RenewalLeadTime", "config": {}, "enabled": false, "severity": "Critical",
            "created_at": NOW, "updated_at": NOW});
        api.put(&format!("{PATH}/pr-1"), &json!({"name": "Soon", "type": "RenewalLeadTime", "config": {}, "enabled": false, "severity": "critical"})).await.is(200, &changed);
        let blank = api.put(&format!("{PATH}/pr-1"), &json!({"name": "Soon", "type": "RenewalLeadTime", "config": {}, "severity": ""})).await.json();
        assert_eq!((&blank["severity"], &blank["enabled"]), (&json!("Critical"), &json!(true)), "blank keeps it, the rest is replaced");
        for (field, value, said) in [
            ("name", json!(""), "name"), ("name", json!("x".repeat(256)), "name"), ("type", json!("Nothing"), "type"), ("config", json!({}), "config"),
            ("config", json!({"allowed_issuer_ids": []}), "config"), ("config", json!([]), "config"), ("severity", json!("Fatal"), "severity"), ("id", json!("a/b"), "id"),
        ] {
            let mut body = rule("pr-2", "AllowedIssuers", &json!({"allowed_issuer_ids": ["x"]}), "Error");
            body[field] = value;
            let answer = api.post(PATH, &body).await;
            let message = answer.json()["message"].as_str().unwrap().to_owned();
            assert!(answer.status == 400 && message.starts_with(said), "{body}: {message}");
        }
        api.refuses_the_unknown(PATH, &rule("pr-3", "RenewalLeadTime", &json!({}), "Error")).await;
        assert_eq!(api.get(&format!("{PATH}/none/violations")).await.status, 404);
        api.reads_only_for_viewers(PATH, "pr-1", &rule("pr-3", "RenewalLeadTime", &json!({}), "Error")).await;
        api.delete(&format!("{PATH}/pr-1")).await.is_done();
        assert_eq!(api.delete(&format!("{PATH}/pr-1")).await.status, 404);
    }

    async fn what_is_made_changed_and_issued_is_asked_and_hindered_by_nothing(db: TestDb) {
        db.seed_basics().await;
        let api = NounApi::with(db, |config| config.keygen_mode = KeygenMode::Server).await;
        api.rule(&rule("pr-env", "AllowedEnvironments", &json!({"allowed": ["production"]}), "Warning")).await;
        api.rule(&rule("pr-dom", "AllowedDomains", &json!({"allowed_domains": ["*.example.test"]}), "Error")).await;
        api.rule(&rule("pr-life", "CertificateLifetime", &json!({"max_days": 30}), "Critical")).await;
        // Made.
        let body = json!({"id": "mc-1", "name": "one", "common_name": "a.b.example.test", "environment": "lab", "owner_id": "o-alice", "team_id": "t-platform",
            "issuer_id": "iss-local", "renewal_policy_id": "rp-standard"});
        assert_eq!(api.post("/api/v1/certificates", &body).await.status, 201);
        let outside = "mc-1 Error: not in an allowed domain: a.b.example.test";
        let lab = "mc-1 Warning: environment \"lab\" is not allowed";
        assert_eq!((api.violating("pr-env").await, api.violating("pr-dom").await), (vec![lab.to_owned()], vec![outside.to_owned()]));
        let listed = api.get(&format!("{PATH}/pr-env/violations?per_page=1")).await.json();
        let one = &listed["data"][0];
        assert_eq!((&listed["total"], &one["created_at"], one.get("resolved_at")), (&json!(1), &json!(NOW), None));
        assert!(one["id"].as_str().is_some_and(|id| !id.is_empty()));
        // Changed.
        assert_eq!(api.put("/api/v1/certificates/mc-1", &json!({"environment": "production"})).await.status, 200);
        assert_eq!(api.violating("pr-env").await, [format!("{lab} resolved")]);
        assert_eq!(api.violating("pr-dom").await, [outside]);
        // Issued: how long it lives is known by now.
        assert!(api.violating("pr-life").await.is_empty());
        assert_eq!(api.post("/api/v1/certificates/mc-1/renew", &Value::Null).await.status, 202);
        api.work().await;
        assert_eq!(api.get("/api/v1/certificates/mc-1").await.json()["status"], "Active", "nothing is hindered");
        let found = api.violating("pr-life").await;
        assert!(found.len() == 1 && found[0].starts_with("mc-1 Critical: lives "), "{found:?}");
        let told = api.get("/api/v1/notifications?type=PolicyViolation").await.json();
        assert_eq!(told["total"], 4, "each is told of once, that of a seeded rule too: {told}");
        let audited = api.db.texts("SELECT resource_id AS value FROM audit_events WHERE action = 'policy_violation_detected'").await;
        assert_eq!(audited, ["mc-1"; 4]);
        // With the rule goes what is on record of it.
        api.delete(&format!("{PATH}/pr-env")).await.is_done();
        assert_eq!(api.get(&format!("{PATH}/pr-env/violations")).await.status, 404);
    }

    async fn a_rule_that_is_made_later_finds_what_was_there_before(db: TestDb) {
        let api = NounApi::new(db).await;
        api.db.seed_basics().await;
        let stop = CancellationToken::new();
        api.services.review_policies(&stop).await.unwrap();
        api.rule(&rule("pr-env", "AllowedEnvironments", &json!({"allowed": ["lab"]}), "Error")).await;
        assert!(api.violating("pr-env").await.is_empty(), "the answer does not wait for the fleet");
        assert_eq!(api.services.review_policies(&stop).await.unwrap().asked, 1);
        assert_eq!(api.violating("pr-env").await, ["mc-web Error: environment \"production\" is not allowed"]);
        let wider = rule("pr-env", "AllowedEnvironments", &json!({"allowed": ["lab", "production"]}), "Error");
        assert_eq!(api.put(&format!("{PATH}/pr-env"), &wider).await.status, 200);
        api.services.review_policies(&stop).await.unwrap();
        assert_eq!(api.violating("pr-env").await, ["mc-web Error: environment \"production\" is not allowed resolved"]);
    }
}
