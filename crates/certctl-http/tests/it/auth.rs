//! Roles, keys and the first administrator over the API.

use certctl_testkit::{TestDb, db_tests, services::ADMIN_KEY};
use serde_json::{Value, json};

use crate::nouns::{NOW, NounApi, VIEWER_KEY};

async fn api(db: TestDb) -> NounApi {
    db.seed_basics().await;
    NounApi::new(db).await
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not text: {value}"))
}

db_tests! {
    async fn a_caller_learns_who_it_is_and_what_there_is(db: TestDb) {
        let api = api(db).await;
        let me = api.call("GET", "/api/v1/auth/me", VIEWER_KEY, &Value::Null).await.json();
        assert_eq!((&me["actor_id"], &me["actor_type"], &me["tenant_id"]), (&json!("viewer"), &json!("APIKey"), &json!("t-default")));
        assert_eq!((&me["admin"], &me["roles"]), (&json!(false), &json!(["r-viewer"])));
        assert_eq!(me["effective_permissions"][0], json!({"permission": "cert.read", "scope_type": "global"}));
        let catalogue = api.call("GET", "/api/v1/auth/permissions", VIEWER_KEY, &Value::Null).await.json();
        let permissions = catalogue["permissions"].as_array().unwrap();
        assert_eq!(permissions.len(), 82);
        assert_eq!(permissions[5], json!({"id": "p-cert-bulk-revoke", "name": "cert.bulk_revoke", "namespace": "cert"}));
    }

    async fn roles_have_the_shapes_of_the_contract(db: TestDb) {
        let api = api(db).await;
        let made = api.post("/api/v1/auth/roles", &json!({"name": "release", "description": "ships"})).await;
        let id = text(&made.json()["id"]).to_owned();
        let role = json!({"id": id, "tenant_id": "t-default", "name": "release", "description": "ships", "created_at": NOW, "updated_at": NOW});
        made.is(201, &role);
        let item = format!("/api/v1/auth/roles/{id}");
        let permissions = format!("{item}/permissions");
        api.post(&permissions, &json!({"permission": "cert.read"})).await.is_done();
        api.post(&permissions, &json!({"permission": "issuer.edit", "scope_type": "issuer", "scope_id": "iss-local"})).await.is_done();
        api.get(&item).await.is(200, &json!({"role": role, "permissions": [
            {"role_id": id, "permission_id": "p-cert-read", "permission": "cert.read", "scope_type": "global"},
            {"role_id": id, "permission_id": "p-issuer-edit", "permission": "issuer.edit", "scope_type": "issuer", "scope_id": "iss-local"},
        ]}));
        let renamed = api.put(&item, &json!({"name": "releases"})).await;
        assert_eq!((renamed.status, &renamed.json()["description"], &renamed.json()["name"]), (200, &json!(""), &json!("releases")));
        for (body, status) in [
            (json!({}), 400),
            (json!({"permission": "moon.land"}), 400),
            (json!({"permission": "cert.read", "scope_type": "issuer"}), 400),
            (json!({"permission": "cert.read", "scope_type": 7}), 400),
        ] {
            assert_eq!(api.post(&permissions, &body).await.status, status, "{body}");
        }
        api.delete(&format!("{permissions}/issuer.edit?scope_type=issuer&scope_id=iss-local")).await.is_done();
        assert_eq!(api.delete(&format!("{permissions}/moon.land")).await.status, 404);
        assert_eq!(api.delete(&format!("{permissions}/cert.read?scope_type=moon")).await.status, 400);
        assert_eq!(api.post("/api/v1/auth/roles", &json!({"name": "viewer"})).await.status, 409);
        assert_eq!(api.put(&item, &json!({"name": ""})).await.status, 400);
        assert_eq!(api.delete("/api/v1/auth/roles/r-viewer").await.status, 409);
        let list = api.get("/api/v1/auth/roles").await.json();
        let names: Vec<_> = list["roles"].as_array().unwrap().iter().map(|role| text(&role["name"])).collect();
        assert_eq!(names, ["admin", "agent", "auditor", "cli", "mcp", "operator", "releases", "viewer"]);
        let second = api.get("/api/v1/auth/roles?page=2&per_page=3").await.json();
        assert_eq!((second["roles"].as_array().unwrap().len(), text(&second["roles"][0]["name"]), &second["total"]), (3, "cli", &json!(8)));
        api.delete(&item).await.is_done();
        assert_eq!(api.delete(&item).await.status, 404);
    }

    async fn a_key_is_made_granted_rotated_and_deleted(db: TestDb) {
        let api = api(db).await;
        let made = api.post("/api/v1/auth/keys", &json!({"name": "ci", "role_ids": ["r-viewer"], "expires_at": "2027-01-01T00:00:00.5Z"})).await;
        let said = made.json();
        let (id, first) = (text(&said["id"]).to_owned(), text(&said["key_value"]).to_owned());
        assert_eq!(made.header("cache-control"), Some("no-store"));
        made.is(201, &json!({"id": id, "name": "ci", "actor_id": "ci", "role_ids": ["r-viewer"], "key_value": first, "created_at": NOW,
            "expires_at": "2027-01-01T00:00:00Z"}));
        let get = async |key: &str| api.call("GET", "/api/v1/teams", key, &Value::Null).await.status;
        assert_eq!(get(&first).await, 200);
        api.services.flush_key_uses().await.unwrap();
        let stored = json!({"actor_id": "ci", "actor_type": "APIKey", "tenant_id": "t-default", "role_ids": ["r-viewer"], "configured": false,
            "id": id, "name": "ci", "created_by": "admin", "created_at": NOW, "expires_at": "2027-01-01T00:00:00Z", "last_used_at": NOW});
        for path in ["/api/v1/auth/keys/ci", &format!("/api/v1/auth/keys/{id}")] {
            api.get(path).await.is(200, &stored);
        }
        let list = api.get("/api/v1/auth/keys?actor_type=apikey").await.json();
        let configured = |name: &str, role: &str| json!({"actor_id": name, "actor_type": "APIKey", "tenant_id": "t-default", "role_ids": [role], "configured": true});
        assert_eq!(list, json!({"keys": [configured("admin", "r-admin"), stored, configured("viewer", "r-viewer")], "total": 3, "page": 1, "per_page": 500}));
        assert_eq!(api.get("/api/v1/auth/keys?actor_type=robot").await.status, 400);
        assert_eq!(api.get("/api/v1/auth/keys?per_page=2&page=2").await.json()["keys"].as_array().unwrap().len(), 2);

        let rotated = api.post("/api/v1/auth/keys/ci/rotate", &json!({"grace_seconds": 60})).await;
        assert_eq!((rotated.status, &rotated.json()["previous_valid_until"]), (200, &json!("2026-06-01T00:01:00Z")));
        let second = text(&rotated.json()["key_value"]).to_owned();
        assert_eq!((get(&first).await, get(&second).await), (200, 200));
        let rotated = api.post("/api/v1/auth/keys/ci/rotate", &Value::Null).await;
        let third = text(&rotated.json()["key_value"]).to_owned();
        assert_eq!((get(&first).await, get(&second).await, get(&third).await), (401, 401, 200));
        for body in [json!({"grace_seconds": -1}), json!({"grace_seconds": 604_801}), json!({"grace_seconds": "1"})] {
            assert_eq!(api.post("/api/v1/auth/keys/ci/rotate", &body).await.status, 400, "{body}");
        }

        let roles = "/api/v1/auth/keys/ci/roles";
        api.post(roles, &json!({"role_id": "r-cli", "expires_at": "2026-06-01T00:00:01Z"})).await.is_done();
        api.post(roles, &json!({"role_id": "r-operator", "scope_type": "issuer", "scope_id": "iss-local"})).await.is_done();
        assert_eq!(api.get("/api/v1/auth/keys/ci").await.json()["role_ids"], json!(["r-cli", "r-operator", "r-viewer"]));
        for (body, status) in [
            (json!({"role_id": "r-none"}), 404),
            (json!({}), 400),
            (json!({"role_id": "r-viewer", "scope_type": "issuer"}), 400),
            (json!({"role_id": "r-viewer", "expires_at": NOW}), 400),
            (json!({"role_id": "r-viewer", "expires_at": "soon"}), 400),
        ] {
            assert_eq!(api.post(roles, &body).await.status, status, "{body}");
        }
        // The key is a command line now: it makes keys like itself, and no administrators.
        let refused = api.call("POST", "/api/v1/auth/keys", &third, &json!({"name": "root", "role_ids": ["r-admin"]})).await;
        assert_eq!(refused.status, 403);
        assert!(text(&refused.json()["error"]).starts_with("nobody hands on what they do not hold"), "{refused:?}");
        assert_eq!(api.call("POST", "/api/v1/auth/keys/admin/rotate", &third, &Value::Null).await.status, 409);
        let reserved = "/api/v1/auth/keys/actor-demo-anon/roles";
        assert_eq!(api.post(reserved, &json!({"role_id": "r-viewer"})).await.status, 409);
        assert_eq!(api.delete(&format!("{reserved}/r-admin")).await.status, 409);
        assert_eq!(api.delete(&format!("{roles}/r-operator?scope_type=profile&scope_id=p")).await.status, 404);
        api.delete(&format!("{roles}/r-operator?scope_type=issuer&scope_id=iss-local")).await.is_done();
        for _ in 0..2 {
            api.delete(&format!("{roles}/r-viewer")).await.is_done();
        }
        assert_eq!(get(&third).await, 200, "by the other role");
        api.delete("/api/v1/auth/keys/ci").await.is_done();
        assert_eq!(get(&third).await, 401);
        for (method, path, status) in [("DELETE", "viewer", 409), ("POST", "viewer/rotate", 409), ("DELETE", "ci", 404), ("POST", "ci/rotate", 404), ("GET", "ci", 404)] {
            let answer = api.call(method, &format!("/api/v1/auth/keys/{path}"), ADMIN_KEY, &Value::Null).await;
            assert_eq!(answer.status, status, "{method} {path}");
        }
    }

    async fn nobody_bootstraps_a_server_that_has_an_administrator(db: TestDb) {
        let api = api(db).await;
        let path = "/api/v1/auth/bootstrap";
        api.call("GET", path, "", &Value::Null).await.is(200, &json!({"available": false}));
        let body = json!({"token": "x", "actor_name": "root"});
        assert_eq!(api.call("POST", path, "", &body).await.status, 410);
        assert_eq!(api.call("POST", path, "", &json!({"token": "x"})).await.status, 400);
        let long = json!({"token": "x".repeat(4096), "actor_name": "root"});
        assert_eq!(api.call("POST", path, "", &long).await.status, 413);
    }

    async fn the_first_administrator_gets_a_key(db: TestDb) {
        db.seed_basics().await;
        let api = NounApi::with(db, |config| {
            config.api_keys.clear();
            config.bootstrap_token = Some(certctl_domain::secret::Secret::new("the-token"));
            config.runtime = [("CERTCTL_BOOTSTRAP_TOKEN_SET".to_owned(), "true".to_owned())].into();
        })
        .await;
        let path = "/api/v1/auth/bootstrap";
        api.call("GET", path, "", &Value::Null).await.is(200, &json!({"available": true}));
        let wrong = api.call("POST", path, "", &json!({"token": "a-token", "actor_name": "root"})).await;
        assert_eq!((wrong.status, wrong.header("www-authenticate")), (401, Some("Bearer realm=\"certctl\"")));
        assert_eq!(api.call("POST", path, "", &json!({"token": "the-token", "actor_name": "R"})).await.status, 400);
        let made = api.call("POST", path, "", &json!({"token": "the-token", "actor_name": "root"})).await;
        let said = made.json();
        let key = text(&said["key_value"]).to_owned();
        assert_eq!((made.status, &said["actor_id"], &said["created_at"]), (201, &json!("root"), &json!(NOW)));
        assert!(text(&said["api_key_id"]).starts_with("ak-") && said["message"].is_string() && key.len() == 64);
        assert_eq!(api.call("POST", path, "", &json!({"token": "the-token", "actor_name": "second"})).await.status, 410);
        api.call("GET", path, "", &Value::Null).await.is(200, &json!({"available": false}));
        let config = api.call("GET", "/api/v1/auth/runtime-config", &key, &Value::Null).await;
        config.is(200, &json!({"runtime_config": {"CERTCTL_BOOTSTRAP_TOKEN_SET": "true"}}));
        let cleaned = api.call("POST", "/api/v1/auth/demo-residual/cleanup", &key, &Value::Null).await;
        cleaned.is(200, &json!({"removed": 1}));
    }
}
