//! Which pages of other origins may call.

use axum::body::Body;
use certctl_http::{CorsOrigins, HttpSettings};

use crate::support::{Answer, TestApi, request};

const ORIGIN: &str = "https://console.example.com";

fn api(cors: CorsOrigins) -> TestApi {
    TestApi::with(HttpSettings {
        cors,
        ..HttpSettings::default()
    })
}

fn listed() -> TestApi {
    api(CorsOrigins::Listed(vec![ORIGIN.to_owned()]))
}

async fn from(api: &TestApi, method: &str, path: &str, origin: &str) -> Answer {
    let request = request(method, path, "viewer-key")
        .header("origin", origin)
        .body(Body::empty())
        .unwrap();
    Answer::of(api.send(request).await).await
}

const ALLOW_ORIGIN: &str = "access-control-allow-origin";

#[tokio::test]
async fn without_origins_there_are_no_headers_and_a_preflight_is_empty() {
    let api = TestApi::new();
    for method in ["GET", "OPTIONS"] {
        let answer = from(&api, method, "/api/v1/things", ORIGIN).await;
        assert_eq!(
            (answer.header(ALLOW_ORIGIN), answer.header("vary")),
            (None, None)
        );
    }
    assert_eq!(
        from(&api, "OPTIONS", "/api/v1/things", ORIGIN).await.status,
        204
    );
}

#[tokio::test]
async fn a_listed_origin_is_echoed_and_others_are_not() {
    let api = listed();
    let answer = from(&api, "GET", "/api/v1/things", ORIGIN).await;
    assert_eq!(
        (answer.header(ALLOW_ORIGIN), answer.header("vary")),
        (Some(ORIGIN), Some("Origin"))
    );
    assert_eq!(answer.header("access-control-allow-methods"), None);
    for other in [
        "https://evil.example.com",
        "https://console.example.com.evil.example",
        "null",
    ] {
        let answer = from(&api, "GET", "/api/v1/things", other).await;
        assert_eq!(
            (
                answer.status,
                answer.header(ALLOW_ORIGIN),
                answer.header("vary")
            ),
            (200, None, Some("Origin"))
        );
    }
}

#[tokio::test]
async fn a_refusal_is_readable_for_a_listed_origin() {
    let api = listed();
    let answer = from(&api, "POST", "/api/v1/things", ORIGIN).await;
    assert_eq!(
        (answer.status, answer.header(ALLOW_ORIGIN)),
        (403, Some(ORIGIN))
    );
    assert_eq!(
        answer.json(),
        serde_json::json!({ "error": "Insufficient permissions" })
    );
}

#[tokio::test]
async fn a_page_can_read_that_its_key_is_not_accepted() {
    let request = request("GET", "/api/v1/things", "")
        .header("origin", ORIGIN)
        .body(Body::empty())
        .unwrap();
    let answer = Answer::of(listed().send(request).await).await;
    assert_eq!(
        (answer.status, answer.header(ALLOW_ORIGIN)),
        (401, Some(ORIGIN))
    );
}

#[tokio::test]
async fn a_preflight_needs_no_key_and_says_what_may_be_sent() {
    let request = request("OPTIONS", "/api/v1/things", "")
        .header("origin", ORIGIN)
        .header("access-control-request-method", "POST")
        .body(Body::empty())
        .unwrap();
    let answer = Answer::of(listed().send(request).await).await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    for (name, value) in [
        (ALLOW_ORIGIN, ORIGIN),
        (
            "access-control-allow-methods",
            "GET, POST, PUT, DELETE, PATCH, OPTIONS",
        ),
        (
            "access-control-allow-headers",
            "Content-Type, Authorization, X-Request-ID, X-CSRF-Token",
        ),
        ("access-control-max-age", "86400"),
    ] {
        assert_eq!(answer.header(name), Some(value));
    }
    assert_eq!(answer.header("access-control-allow-credentials"), None);
}

#[tokio::test]
async fn any_origin_is_a_star() {
    let answer = from(&api(CorsOrigins::Any), "GET", "/api/v1/things", ORIGIN).await;
    assert_eq!(
        (answer.header(ALLOW_ORIGIN), answer.header("vary")),
        (Some("*"), None)
    );
}

#[tokio::test]
async fn the_public_probes_may_be_read_by_any_page_and_other_public_paths_say_nothing() {
    for api in [TestApi::new(), listed()] {
        for path in ["/health", "/ready", "/api/v1/version", "/api/v1/auth/info"] {
            for method in ["GET", "OPTIONS"] {
                assert_eq!(
                    from(&api, method, path, ORIGIN).await.header(ALLOW_ORIGIN),
                    Some("*"),
                    "{method} {path}"
                );
            }
        }
        for path in ["/healthz", "/api/v1/openapi.json"] {
            assert_eq!(
                from(&api, "GET", path, ORIGIN).await.header(ALLOW_ORIGIN),
                None,
                "{path}"
            );
        }
    }
}
