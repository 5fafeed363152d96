//! What is logged and counted of a request, and what is not.

use std::net::SocketAddr;

use axum::body::Body;
use certctl_http::Peer;

use crate::support::{Logs, TestApi, request};

#[tokio::test]
async fn a_request_is_one_line_that_can_be_read_alone() {
    let api = TestApi::new();
    let logs = Logs::catch();
    let peer: SocketAddr = "192.0.2.7:4711".parse().unwrap();
    let request = request("GET", "/api/v1/things?token=query-canary", "viewer-key")
        .extension(Peer(peer))
        .header("cookie", "session=cookie-canary")
        .body(Body::empty())
        .unwrap();
    let response = api.send(request).await;
    let lines: Vec<_> = logs
        .lines()
        .into_iter()
        .filter(|line| line["target"] == "http")
        .collect();
    assert_eq!(lines.len(), 1, "{}", logs.text());
    let line = &lines[0];
    assert_eq!(line["method"], "GET");
    assert_eq!(line["path"], "/api/v1/things");
    assert_eq!(line["status"], 200);
    assert_eq!(line["remote_addr"], "192.0.2.7");
    assert_eq!(line["actor.id"], "viewer");
    assert_eq!(
        line["request_id"].as_str(),
        response.headers()["x-request-id"].to_str().ok()
    );
    assert!(line["duration_ms"].is_number());
}

#[tokio::test]
async fn nothing_secret_of_a_request_is_logged() {
    let api = TestApi::new();
    let logs = Logs::catch();
    for (path, key) in [
        ("/api/v1/things?token=query-canary", "key-canary"),
        ("/fail?with=x", ""),
        ("/api/v1/enrol", "key-canary"),
    ] {
        let request = request("POST", path, key)
            .header("cookie", "session=cookie-canary")
            .body(Body::from(r#"{"password":"body-canary","name":4}"#))
            .unwrap();
        api.send(request).await;
    }
    assert!(logs.text().contains("/api/v1/things"));
    for canary in ["query-canary", "key-canary", "cookie-canary", "body-canary"] {
        assert!(!logs.text().contains(canary), "{canary} in {}", logs.text());
    }
}

#[tokio::test]
async fn requests_are_counted_by_template_and_never_by_what_clients_invent() {
    let api = TestApi::new();
    for id in ["one", "two", "three"] {
        api.call("DELETE", &format!("/api/v1/things/{id}"), "admin-key", "")
            .await;
        api.call("BREW", &format!("/invented/{id}"), "", "").await;
    }
    let text = certctl_telemetry::install().unwrap().render();
    let count = |labels: &str| {
        let name = format!("certctl_http_requests_total{{{labels}}} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&name)?.parse::<u32>().ok())
    };
    let counted = count(r#"method="DELETE",route="/api/v1/things/{id}",status="2xx""#);
    assert!(counted.is_some_and(|count| count >= 3), "{text}");
    assert!(
        count(r#"method="other",route="unmatched",status="4xx""#).is_some_and(|count| count >= 3),
        "{text}"
    );
    assert!(
        text.contains("certctl_http_request_duration_seconds_bucket{"),
        "{text}"
    );
    assert!(!text.contains("BREW") && !text.contains("/invented"));
}

/// Anyone may ask for the status of what a CA of others signed, as often as they like; and what an operator switched off is off.
#[tokio::test]
async fn only_faults_of_certctl_are_logged_as_errors() {
    let api = TestApi::new();
    for (with, status, level) in [
        ("not-supported", 501, None),
        ("disabled", 503, None),
        ("bad-gateway", 502, Some("WARN")),
        ("broken", 500, Some("ERROR")),
        ("unavailable", 503, Some("ERROR")),
    ] {
        let logs = Logs::catch();
        assert_eq!(
            api.get(&format!("/fail?with={with}"), "").await.status,
            status
        );
        let lines = logs.lines();
        let line = lines
            .iter()
            .find(|line| line["target"] == "certctl_http::problem");
        assert_eq!(
            line.and_then(|line| line["level"].as_str()),
            level,
            "{with}: {}",
            logs.text()
        );
    }
}
