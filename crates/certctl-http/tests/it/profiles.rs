use certctl_testkit::{TestDb, db_tests};
use serde_json::json;

use crate::nouns::{NOW, NounApi};

db_tests! {
    async fn profiles_over_http(db: TestDb) {
        let api = NounApi::new(db).await;
        let plain = json!({
            "id": "prof-1", "name": "Web", "description": "", "max_ttl_seconds": 0, "allowed_ekus": ["serverAuth"],
            "allowed_key_algorithms": [{"algorithm": "ECDSA", "min_size": 256}, {"algorithm": "RSA", "min_size": 2048}],
            "required_san_patterns": [], "spiffe_uri_pattern": "", "allow_short_lived": false, "must_staple": false,
            "acme_auth_mode": "trust_authenticated", "enabled": true, "created_at": NOW, "updated_at": NOW,
        });
        api.post("/api/v1/profiles", &json!({"id": "prof-1", "name": "Web", "required_san_patterns": null})).await.is(201, &plain);
        api.get("/api/v1/profiles/prof-1").await.is(200, &plain);
        api.get("/api/v1/profiles").await.is(200, &json!({"data": [plain], "total": 1, "page": 1, "per_page": 50}));
        let said = json!({
            "name": "Devices", "description": "d", "max_ttl_seconds": 600, "allowed_ekus": ["clientAuth"],
            "allowed_key_algorithms": [{"algorithm": "Ed25519"}], "required_san_patterns": ["^a"], "spiffe_uri_pattern": "spiffe://e/*",
            "allow_short_lived": true, "must_staple": true, "required_csr_attributes": ["serialNumber"], "acme_auth_mode": "challenge",
            "enabled": false,
        });
        api.put("/api/v1/profiles/prof-1", &said).await.is(200, &json!({
            "id": "prof-1", "name": "Devices", "description": "d", "max_ttl_seconds": 600, "allowed_ekus": ["clientAuth"],
            "allowed_key_algorithms": [{"algorithm": "Ed25519", "min_size": 0}], "required_san_patterns": ["^a"],
            "spiffe_uri_pattern": "spiffe://e/*", "allow_short_lived": true, "must_staple": true,
            "required_csr_attributes": ["serialNumber"], "acme_auth_mode": "challenge", "enabled": false,
            "created_at": NOW, "updated_at": NOW,
        }));
        api.delete("/api/v1/profiles/prof-1").await.is_done();
    }

    async fn an_edit_that_needs_a_second_person_is_accepted_and_not_done(db: TestDb) {
        let api = NounApi::new(db).await;
        let made = api.post("/api/v1/profiles", &json!({"id": "prof-1", "name": "Gated", "requires_approval": true})).await.json();
        assert_eq!(made["requires_approval"], true);
        let answer = api.put("/api/v1/profiles/prof-1", &json!({"name": "Open"})).await;
        let id = answer.json()["pending_approval_id"].clone();
        assert!(id.as_str().unwrap().starts_with("ar-"));
        answer.is(202, &json!({
            "status": "pending_approval", "pending_approval_id": id,
            "message": "the profile requires approval; nothing changes until a second person approves",
        }));
        api.get("/api/v1/profiles/prof-1").await.is(200, &made);
        api.delete("/api/v1/profiles/prof-1").await.is_main(409, "Conflict", "certificates or approvals refer to this profile");
    }

    async fn refusals_of_profiles_over_http(db: TestDb) {
        let api = NounApi::new(db).await;
        api.db.seed_basics().await;
        api.refuses_the_unknown("/api/v1/profiles", &json!({"name": "x"})).await;
        api.reads_only_for_viewers("/api/v1/profiles", "prof-standard-tls", &json!({"name": "x"})).await;
        for (said, message) in [
            (json!({"name": ""}), "name: is required"),
            (json!({"name": "x", "allow_short_lived": true}), "max_ttl_seconds: must be 1 to 3599 when allow_short_lived is set"),
            (json!({"name": "x", "required_san_patterns": ["("]}), "required_san_patterns: \"(\" is not a regular expression that can be used"),
        ] {
            api.post("/api/v1/profiles", &said).await.is_main(400, "Bad Request", message);
        }
        let negative = api.post("/api/v1/profiles", &json!({"name": "x", "max_ttl_seconds": -1})).await;
        assert!(negative.status == 400 && negative.json()["message"].as_str().unwrap().starts_with("max_ttl_seconds: "), "{negative:?}");
        api.post("/api/v1/profiles", &json!({"name": "name-prof-standard-tls"})).await
            .is_main(409, "Conflict", "a profile named \"name-prof-standard-tls\" or with this id exists");
        api.delete("/api/v1/profiles/prof-standard-tls").await
            .is_main(409, "Conflict", "certificates or approvals refer to this profile");
    }
}
