//! How much may be sent: bodies and requests.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::body::{Body, Bytes};
use certctl_http::{HttpSettings, Peer, Rate, RateLimits};
use futures_util::stream;
use serde_json::json;

use crate::support::{Answer, TestApi, request};

const TOO_LARGE: (u16, &str, &str) = (
    413,
    "Payload Too Large",
    "the body is larger than this route takes",
);

/// A body that comes in pieces and declares no length.
fn streamed(pieces: usize, piece: &'static [u8]) -> Body {
    let pieces = std::iter::repeat_n(Ok::<_, Infallible>(Bytes::from_static(piece)), pieces);
    Body::from_stream(stream::iter(pieces))
}

async fn post(api: &TestApi, path: &str, body: Body) -> Answer {
    Answer::of(
        api.send(request("POST", path, "admin-key").body(body).unwrap())
            .await,
    )
    .await
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_or_not_its_length_is_declared() {
    let api = TestApi::with(HttpSettings {
        max_body_bytes: 1000,
        ..HttpSettings::default()
    });
    let (status, error, message) = TOO_LARGE;
    post(&api, "/api/v1/things", Body::from("x".repeat(1001)))
        .await
        .is_main(status, error, message);
    post(&api, "/api/v1/things", streamed(11, &[b' '; 100]))
        .await
        .is_main(status, error, message);
    assert_eq!(
        post(&api, "/api/v1/things", Body::from("x".repeat(1000)))
            .await
            .status,
        400
    );
    assert_eq!(
        post(&api, "/api/v1/things", streamed(10, &[b' '; 100]))
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn a_route_may_take_less_than_the_rest_and_forgiving_routes_do_not_forgive_size() {
    let api = TestApi::new();
    let (status, error, message) = TOO_LARGE;
    post(&api, "/api/v1/small", Body::from("x".repeat(65)))
        .await
        .is_main(status, error, message);
    post(&api, "/api/v1/small", streamed(65, b" "))
        .await
        .is_main(status, error, message);
    assert_eq!(
        post(&api, "/api/v1/small", Body::from(r#"{"name":"a"}"#))
            .await
            .status,
        200
    );
    post(&api, "/api/v1/beat", streamed(1025, &[b' '; 1024]))
        .await
        .is_main(status, error, message);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_anyone_asks_who_sent_it() {
    let api = TestApi::new();
    let request = request("POST", "/api/v1/small", "")
        .body(Body::from("x".repeat(65)))
        .unwrap();
    assert_eq!(Answer::of(api.send(request).await).await.status, 413);
}

#[tokio::test]
async fn bad_json_is_refused_by_field_or_position() {
    let api = TestApi::new();
    for (body, message) in [
        ("", "the body is empty; a JSON object is expected"),
        (" \n", "the body is empty; a JSON object is expected"),
        (
            r#"{"name":7}"#,
            "name: invalid type: integer `7`, expected a string at line 1 column 9",
        ),
        (
            r#"{"name":"a","size":-1}"#,
            "size: invalid value: integer `-1`, expected u32 at line 1 column 21",
        ),
        ("{}", "missing field `name` at line 1 column 2"),
        (
            r#"{"name":"#,
            "the body is not valid JSON: EOF while parsing a value at line 1 column 8",
        ),
    ] {
        api.call("POST", "/api/v1/things", "admin-key", body)
            .await
            .is_main(400, "Bad Request", message);
    }
    let not_utf8 = post(
        &api,
        "/api/v1/things",
        Body::from(&b"{\"name\":\"\xff\"}"[..]),
    )
    .await;
    assert_eq!(not_utf8.status, 400);
}

#[tokio::test]
async fn a_content_type_is_not_asked_for_and_unknown_fields_are_ignored() {
    let api = TestApi::new();
    let answer = api
        .call(
            "POST",
            "/api/v1/things",
            "admin-key",
            r#"{"name":"a","color":"red"}"#,
        )
        .await;
    assert_eq!(
        (answer.status, answer.json()),
        (201, json!({ "name": "a", "size": 0 }))
    );
}

#[tokio::test]
async fn optional_and_lenient_bodies_may_be_absent_and_lenient_ones_bad() {
    let api = TestApi::new();
    let post = async |path, body| api.call("POST", path, "admin-key", body).await;
    assert_eq!(post("/api/v1/small", "").await.json(), json!(null));
    assert_eq!(post("/api/v1/small", "{").await.status, 400);
    for (body, version) in [
        ("", ""),
        ("{", ""),
        (r#"{"version":1}"#, ""),
        (r#"{"version":"v2"}"#, "v2"),
    ] {
        assert_eq!(
            post("/api/v1/beat", body).await.json(),
            json!(version),
            "{body}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_given_up() {
    let api = TestApi::new();
    let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    post(&api, "/api/v1/things", body).await.is_main(
        408,
        "Request Timeout",
        "the body took too long to arrive",
    );
}

// === rate limits ===

fn limited(client: f64, user: f64) -> TestApi {
    let rate = |burst| Rate {
        per_second: 1.0,
        burst,
    };
    let limits = RateLimits {
        client: rate(client),
        user: rate(user),
        idle_ttl: Duration::from_secs(3600),
    };
    TestApi::with(HttpSettings {
        rate_limits: Some(limits),
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        ..HttpSettings::default()
    })
}

async fn from(
    api: &TestApi,
    address: &str,
    forwarded: Option<&str>,
    path: &str,
    key: &str,
) -> Answer {
    let peer: SocketAddr = format!("{address}:4711").parse().unwrap();
    let builder = request("GET", path, key).extension(Peer(peer));
    let builder = forwarded.into_iter().fold(builder, |builder, value| {
        builder.header("x-forwarded-for", value)
    });
    Answer::of(api.send(builder.body(Body::empty()).unwrap()).await).await
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_to_wait_a_second() {
    let api = limited(2.0, 100.0);
    let ask = async |address| from(&api, address, None, "/api/v1/whoami", "").await;
    assert_eq!(
        [ask("192.0.2.1").await.status, ask("192.0.2.1").await.status],
        [401, 401]
    );
    let refused = ask("192.0.2.1").await;
    refused.is_gate(429, "Rate limit exceeded");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(
        ask("192.0.2.2").await.status,
        401,
        "another client has its own bucket"
    );
    api.clock.advance(Duration::from_secs(1));
    assert_eq!(
        [ask("192.0.2.1").await.status, ask("192.0.2.1").await.status],
        [401, 429]
    );
}

#[tokio::test]
async fn a_client_is_told_apart_by_the_header_of_a_trusted_proxy_only() {
    let api = limited(1.0, 100.0);
    let ask = async |peer, client| {
        from(&api, peer, Some(client), "/api/v1/version", "")
            .await
            .status
    };
    assert_eq!(
        [
            ask("10.0.0.1", "192.0.2.1").await,
            ask("10.0.0.1", "192.0.2.2").await
        ],
        [200, 200]
    );
    assert_eq!(ask("10.0.0.1", "192.0.2.1").await, 429);
    assert_eq!(
        [
            ask("198.51.100.1", "192.0.2.3").await,
            ask("198.51.100.1", "192.0.2.4").await
        ],
        [200, 429]
    );
}

#[tokio::test]
async fn an_actor_has_one_bucket_wherever_they_call_from() {
    let api = limited(100.0, 2.0);
    let ask = async |address, key| {
        from(&api, address, None, "/api/v1/whoami", key)
            .await
            .status
    };
    assert_eq!(
        [
            ask("192.0.2.1", "viewer-key").await,
            ask("192.0.2.2", "viewer-key").await
        ],
        [200, 200]
    );
    assert_eq!(ask("192.0.2.3", "viewer-key").await, 429);
    assert_eq!(ask("192.0.2.3", "admin-key").await, 200);
}

#[tokio::test]
async fn probes_answer_however_often_they_are_asked() {
    let api = limited(1.0, 1.0);
    for _ in 0..5 {
        for path in ["/health", "/healthz", "/ready"] {
            assert_eq!(from(&api, "192.0.2.1", None, path, "").await.status, 200);
        }
    }
}

#[tokio::test]
async fn scrapes_are_not_starved_by_the_api_and_are_no_way_to_guess_keys() {
    let api = limited(1.0, 1.0);
    let ask = async |path, key| from(&api, "192.0.2.1", None, path, key).await.status;
    assert_eq!(
        [
            ask("/api/v1/whoami", "admin-key").await,
            ask("/api/v1/whoami", "admin-key").await
        ],
        [200, 429]
    );
    assert_eq!(ask("/api/v1/scrape", "admin-key").await, 200);
    assert_eq!(ask("/api/v1/scrape", "guess").await, 429);
}
