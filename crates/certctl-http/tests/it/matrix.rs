//! What holds of every route, whatever it does.

use axum::body::Body;
use certctl_http::{Access, matrix};
use certctl_testkit::{TestDb, db_tests, services::ADMIN_KEY};
use http::Method;
use serde_json::{Value, json};

use crate::{
    nouns::NounApi,
    support::{Answer, request},
};

/// A key that exists and holds nothing.
const BARE_KEY: &str = "test-bare-key-0123456789";

/// A path with ids of nothing in its places.
pub(crate) fn filled(template: &str) -> String {
    template
        .split('/')
        .map(|part| {
            if part.starts_with('{') {
                "no-such-id"
            } else {
                part
            }
        })
        .collect::<Vec<_>>()
        .join("/")
}

async fn api(db: TestDb) -> NounApi {
    db.seed_basics().await;
    let api = NounApi::new(db).await;
    let hash = certctl_service::access::key_hash(BARE_KEY);
    let key = format!(
        "INSERT INTO api_keys (id, name, key_hash, admin, created_by, created_at) SELECT 'ak-bare', 'bare', '{hash}', false, 'test', created_at FROM teams"
    );
    api.db.execute(&key).await.unwrap();
    api
}

async fn send(api: &NounApi, method: &Method, path: &str, key: &str, body: Vec<u8>) -> Answer {
    api.send(
        request(method.as_str(), path, key)
            .body(Body::from(body))
            .unwrap(),
    )
    .await
}

#[test]
fn the_routes_are_those_of_the_list() {
    let mut rows: Vec<String> = matrix()
        .iter()
        .map(|route| {
            let access = match route.access {
                Access::Public => "public".to_owned(),
                Access::Optional => "optional".to_owned(),
                Access::Authenticated => "any".to_owned(),
                Access::Permission(one) => one.to_string(),
                Access::PermissionAtIssuer(one) => format!("{one}@issuer"),
                Access::PermissionAtProfile(one) => format!("{one}@profile"),
            };
            format!("{} {} {access}", route.method, route.path)
        })
        .collect();
    rows.sort();
    let expected: Vec<&str> = include_str!("matrix.txt").lines().collect();
    assert_eq!(
        rows,
        expected,
        "a route came, went or changed who may call it; matrix.txt says so too:\n{}",
        rows.join("\n")
    );
}

db_tests! {
    async fn nobody_enters_without_a_key_and_nobody_does_what_they_may_not(db: TestDb) {
        let api = api(db).await;
        for route in matrix() {
            let path = filled(route.path);
            let what = format!("{} {path}", route.method);
            let nobody = send(&api, &route.method, &path, "", b"{}".to_vec()).await;
            if route.access.needs_identity() {
                assert_eq!(nobody.status, 401, "{what}");
                nobody.is_gate(401, "Authorization header required");
                assert_eq!(nobody.header("www-authenticate"), Some("Bearer realm=\"certctl\""));
                send(&api, &route.method, &path, "guessed-key", Vec::new()).await.is_gate(401, "Invalid API key");
            } else if route.access == Access::Public {
                assert_ne!(nobody.status, 401, "{what}");
            }
            if route.access.permission().is_some() {
                let bare = send(&api, &route.method, &path, BARE_KEY, b"{}".to_vec()).await;
                assert_eq!(bare.status, 403, "{what}");
                bare.is_gate(403, "Insufficient permissions");
            }
        }
    }

    async fn bad_input_is_refused_the_same_way_everywhere(db: TestDb) {
        let api = api(db).await;
        let large = vec![b' '; 1_048_577];
        for route in matrix() {
            let path = filled(route.path);
            let what = format!("{} {path}", route.method);
            if route.access == Access::Public || ![Method::POST, Method::PUT].contains(&route.method) {
                continue;
            }
            let key = ADMIN_KEY;
            let oversize = send(&api, &route.method, &path, key, large.clone()).await;
            assert_eq!(oversize.status, 413, "{what}");
            assert_eq!(oversize.json()["error"], "Payload Too Large", "{what}");
            assert!(oversize.json()["request_id"].is_string());
            // Those that take no body do not read it, and a heartbeat forgives it.
            let malformed = send(&api, &route.method, &path, key, b"{\"name\": ".to_vec()).await;
            if !FORGIVING.iter().any(|end| route.path.ends_with(end)) {
                assert_eq!(malformed.status, 400, "{what} {malformed:?}");
                let said = malformed.json();
                assert_eq!(said["error"], "Bad Request", "{what}");
                assert!(said["message"].as_str().unwrap().contains("not valid JSON") && said["request_id"].is_string(), "{what}");
            } else {
                let expected = if route.path.contains('{') { 404 } else { 200 };
                assert_eq!(malformed.status, expected, "{what} {malformed:?}");
            }
        }
    }

    async fn an_id_of_nothing_is_not_found(db: TestDb) {
        let api = api(db).await;
        for route in matrix() {
            if !route.path.contains('{') || FORGETTING.contains(&(route.method.as_str(), route.path)) {
                continue;
            }
            let path = filled(route.path);
            let answer = send(&api, &route.method, &path, ADMIN_KEY, least(route.path).to_string().into_bytes()).await;
            assert_eq!(answer.status, 404, "{} {path} {answer:?}", route.method);
            assert_eq!(answer.json()["error"], "Not Found");
            assert!(answer.json()["message"].is_string() && answer.json()["request_id"].is_string(), "{} {path}", route.method);
        }
    }
}

/// Routes that a body of any kind does not disturb.
const FORGIVING: [&str; 8] = [
    "/accounts/{id}/revoke",
    "/unpause",
    "/heartbeat",
    "/cancel",
    "/test",
    "/read",
    "/requeue",
    "/demo-residual/cleanup",
];

/// Routes that find it done when there is nothing: taking back what was never granted (api §10.2).
const FORGETTING: [(&str, &str); 1] = [("DELETE", "/api/v1/auth/keys/{id}/roles/{role_id}")];

/// The least body that passes the checks that come before the look at the id.
pub(crate) fn least(path: &str) -> Value {
    match path.rsplit('/').next() {
        Some("verify") => {
            let fingerprint = "a".repeat(64);
            json!({"target_id": "tgt-web", "expected_fingerprint": fingerprint, "actual_fingerprint": fingerprint, "verified": true})
        }
        Some("status") => json!({"status": "Completed"}),
        _ if path.contains("/policies/") => {
            json!({"name": "x", "type": "RenewalLeadTime", "config": {}})
        }
        _ => {
            json!({"name": "x", "type": "NGINX", "email": "x@example.test", "team_id": "t-platform", "agent_id": "ag-web",
                "role_id": "r-none", "permission": "cert.read", "token": "x", "actor_name": "first"})
        }
    }
}
