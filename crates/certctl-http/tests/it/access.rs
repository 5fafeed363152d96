//! Who gets in: authentication, the permission gate.

use certctl_http::{Access, AuthMode, HttpSettings, matrix};
use serde_json::json;

use crate::support::{Answer, TestApi, request};
use axum::body::Body;

const BEARER: Option<&str> = Some(r#"Bearer realm="certctl""#);

#[tokio::test]
async fn a_credential_that_is_missing_malformed_or_unknown_is_a_401_that_says_so() {
    let api = TestApi::new();
    let format = "Invalid Authorization header format, expected: Bearer <token>";
    for (header, text) in [
        (None, "Authorization header required"),
        (Some("Basic YTpi"), format),
        (Some("Bearer"), format),
        (Some("Bearer "), format),
        (Some("Bearer a b"), format),
        (Some("Bearer nobody"), "Invalid API key"),
    ] {
        let builder = request("GET", "/api/v1/whoami", "");
        let builder = header.into_iter().fold(builder, |builder, value| {
            builder.header("authorization", value)
        });
        let answer = Answer::of(api.send(builder.body(Body::empty()).unwrap()).await).await;
        answer.is_gate(401, text);
        assert_eq!(answer.header("www-authenticate"), BEARER, "{header:?}");
    }
}

#[tokio::test]
async fn a_header_that_is_no_text_is_a_malformed_credential() {
    let api = TestApi::new();
    let value = http::HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap();
    let request = request("GET", "/api/v1/whoami", "")
        .header("authorization", value)
        .body(Body::empty())
        .unwrap();
    Answer::of(api.send(request).await).await.is_gate(
        401,
        "Invalid Authorization header format, expected: Bearer <token>",
    );
}

#[tokio::test]
async fn a_known_key_is_its_actor() {
    let api = TestApi::new();
    assert_eq!(
        api.get("/api/v1/whoami", "viewer-key").await.json(),
        json!("viewer")
    );
}

#[tokio::test]
async fn keys_that_cannot_be_looked_up_are_no_reason_to_let_anyone_in_or_to_say_why() {
    let api = TestApi::new();
    for path in ["/api/v1/whoami", "/api/v1/enrol"] {
        let method = if path.ends_with("enrol") {
            "POST"
        } else {
            "GET"
        };
        let answer = api.call(method, path, "down-key", "").await;
        answer.is_gate(503, "Authentication is unavailable");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
}

#[tokio::test]
async fn a_public_route_asks_nobody_and_knows_nobody() {
    let api = TestApi::new();
    assert_eq!(api.get("/health", "nobody").await.status, 200);
    api.get("/api/v1/public-caller", "admin-key")
        .await
        .is_gate(401, "Authentication required");
}

#[tokio::test]
async fn an_enrolment_route_recognises_keys_and_takes_other_tokens_too() {
    let api = TestApi::new();
    for (key, seen) in [
        ("", json!([null, null])),
        ("viewer-key", json!(["viewer", "viewer-key"])),
        ("bootstrap-token", json!([null, "bootstrap-token"])),
    ] {
        let answer = api.call("POST", "/api/v1/enrol", key, "").await;
        assert_eq!((answer.status, answer.json()), (200, seen));
    }
}

#[tokio::test]
async fn without_authentication_everyone_is_the_demo_actor() {
    let api = TestApi::with(HttpSettings {
        auth_mode: AuthMode::None,
        ..HttpSettings::default()
    });
    for key in ["", "nobody"] {
        assert_eq!(
            api.get("/api/v1/whoami", key).await.json(),
            json!("actor-demo-anon")
        );
    }
    let info = api.get("/api/v1/auth/info", "").await.json();
    assert_eq!(info, json!({ "auth_type": "none", "required": false }));
}

#[tokio::test]
async fn the_gate_asks_for_the_permission_of_the_route() {
    let api = TestApi::new();
    assert_eq!(api.get("/api/v1/things", "viewer-key").await.status, 200);
    api.call("POST", "/api/v1/things", "viewer-key", "not even JSON")
        .await
        .is_gate(403, "Insufficient permissions");
    api.call("DELETE", "/api/v1/things/not%20an%20id", "viewer-key", "")
        .await
        .is_gate(403, "Insufficient permissions");
    assert_eq!(
        api.call("POST", "/api/v1/things", "admin-key", r#"{"name":"a"}"#)
            .await
            .status,
        201
    );
}

#[tokio::test]
async fn a_scoped_permission_opens_its_own_path_only() {
    let api = TestApi::new();
    let put = async |id: &str, key| {
        api.call("PUT", &format!("/api/v1/test-issuers/{id}"), key, "")
            .await
    };
    assert_eq!(put("iss-1", "scoped-key").await.json()["name"], "iss-1");
    put("iss-2", "scoped-key")
        .await
        .is_gate(403, "Insufficient permissions");
    put("iss-1", "viewer-key")
        .await
        .is_gate(403, "Insufficient permissions");
    assert_eq!(put("iss-2", "admin-key").await.status, 200);
}

#[tokio::test]
async fn no_declared_route_that_needs_identity_answers_without_one() {
    let api = TestApi::new();
    let guarded: Vec<_> = matrix()
        .into_iter()
        .filter(|route| route.access.needs_identity())
        .collect();
    assert!(!guarded.is_empty());
    for route in guarded {
        let path = route.path.replace("{id}", "x").replace(['{', '}'], "");
        let answer = api.call(route.method.as_str(), &path, "", "").await;
        answer.is_gate(401, "Authorization header required");
    }
    assert!(matrix().iter().any(|route| route.access == Access::Public));
}
