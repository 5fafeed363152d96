//! Probes, version, who am I.

use serde_json::json;

use crate::support::{FakeState, Logs, TestApi};

#[tokio::test]
async fn health_knows_only_the_process() {
    let api = TestApi::new();
    api.database.is_now(FakeState::Refusing);
    api.health.set_draining();
    for path in ["/health", "/healthz"] {
        let answer = api.get(path, "").await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({ "status": "healthy" }))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn ready_asks_the_database_and_says_what_is_wrong_without_saying_why() {
    let api = TestApi::new();
    for (state, status, body) in [
        (
            FakeState::Up,
            200,
            json!({ "status": "ready", "db": "reachable" }),
        ),
        (
            FakeState::Absent,
            200,
            json!({ "status": "ready", "db": "not_configured" }),
        ),
        (
            FakeState::Refusing,
            503,
            json!({ "status": "db_unavailable", "error": "the database cannot be reached" }),
        ),
        (
            FakeState::Silent,
            503,
            json!({ "status": "db_unavailable", "error": "the database did not answer within 2 s" }),
        ),
    ] {
        api.database.is_now(state);
        let answer = api.get("/ready", "").await;
        assert_eq!((answer.status, answer.json()), (status, body));
    }
}

#[tokio::test]
async fn the_reason_of_not_being_ready_is_in_the_log() {
    let api = TestApi::new();
    let logs = Logs::catch();
    api.database.is_now(FakeState::Refusing);
    api.get("/ready", "").await;
    assert!(
        logs.text().contains("password authentication failed"),
        "{}",
        logs.text()
    );
}

#[tokio::test]
async fn a_server_that_drains_is_not_ready() {
    let api = TestApi::new();
    api.health.set_draining();
    let answer = api.get("/ready", "").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json(),
        json!({ "status": "draining", "error": "the server is shutting down" })
    );
}

#[tokio::test]
async fn version_is_what_was_built() {
    let answer = TestApi::new().get("/api/v1/version", "").await;
    assert_eq!(
        answer.json(),
        json!({
            "version": "1.2.3", "commit": "abc", "modified": true, "build_time": "2026-11-21T00:00:00Z",
            "go_version": "rustc 1.95.0",
        })
    );
}

#[tokio::test]
async fn auth_info_says_how_to_authenticate() {
    let answer = TestApi::new().get("/api/v1/auth/info", "").await;
    assert_eq!(
        answer.json(),
        json!({ "auth_type": "api-key", "required": true })
    );
}

#[tokio::test]
async fn auth_check_says_who_one_is_and_what_one_may() {
    let api = TestApi::new();
    assert_eq!(
        api.get("/api/v1/auth/check", "scoped-key").await.json(),
        json!({
            "status": "authenticated", "user": "scoped", "admin": false, "actor_id": "scoped", "actor_type": "APIKey",
            "tenant_id": "t-default", "roles": [],
            "effective_permissions": [
                { "permission": "issuer.edit", "scope_type": "issuer", "scope_id": "iss-1" },
            ],
            "admin_via_role": false,
        })
    );
    let admin = api.get("/api/v1/auth/check", "admin-key").await.json();
    assert_eq!(
        (&admin["admin"], &admin["admin_via_role"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(
        admin["effective_permissions"][0],
        json!({ "permission": "team.read", "scope_type": "global" })
    );
}
