//! What every answer has: ids, headers, HEAD, 404 and 405, lists, tags.

use std::collections::HashSet;

use axum::body::Body;
use serde_json::json;

use crate::support::{Answer, TestApi, request};

/// One request of each kind of answer, with the status it gets.
const EVERY_KIND: [(&str, &str, &str, u16); 12] = [
    ("GET", "/health", "", 200),
    ("GET", "/api/v1/things", "viewer-key", 200),
    ("DELETE", "/api/v1/things/a", "admin-key", 204),
    ("GET", "/api/v1/whoami", "", 401),
    ("POST", "/api/v1/things", "viewer-key", 403),
    ("GET", "/api/v1/nothing", "", 404),
    ("GET", "/nothing", "", 404),
    ("PATCH", "/api/v1/things", "", 405),
    ("GET", "/panic", "", 500),
    ("POST", "/panic", "", 500),
    ("OPTIONS", "/api/v1/things", "", 204),
    ("GET", "/api/v1/whoami", "down-key", 503),
];

#[tokio::test]
async fn every_answer_has_the_security_headers_and_an_id() {
    let api = TestApi::new();
    let mut ids = HashSet::new();
    for (method, path, key, status) in EVERY_KIND {
        let answer = api.call(method, path, key, "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        for (name, value) in [
            (
                "strict-transport-security",
                "max-age=31536000; includeSubDomains",
            ),
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer-when-downgrade"),
            (
                "content-security-policy",
                "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self'; \
                 connect-src 'self'; frame-ancestors 'none'",
            ),
            (
                "permissions-policy",
                "accelerometer=(), camera=(), geolocation=(), microphone=(), payment=(), usb=(), interest-cohort=()",
            ),
        ] {
            assert_eq!(answer.header(name), Some(value), "{method} {path}");
        }
        let id: uuid::Uuid = answer.header("x-request-id").unwrap().parse().unwrap();
        assert_eq!(id.get_version_num(), 4);
        assert!(ids.insert(id), "an id came twice");
    }
}

#[tokio::test]
async fn an_id_that_the_client_sends_is_not_taken() {
    let api = TestApi::new();
    let sent = "00000000-0000-4000-8000-000000000000";
    let request = request("GET", "/health", "")
        .header("x-request-id", sent)
        .body(Body::empty())
        .unwrap();
    let answer = Answer::of(api.send(request).await).await;
    let ids: Vec<_> = answer.headers.get_all("x-request-id").iter().collect();
    assert_eq!(ids.len(), 1);
    assert_ne!(ids[0], sent);
}

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_json() {
    let api = TestApi::new();
    api.get("/api/v1/nothing", "")
        .await
        .is_main(404, "Not Found", "there is no such path");
    api.get("/api/v1/things/", "")
        .await
        .is_main(404, "Not Found", "there is no such path");
    let answer = api.call("PUT", "/api/v1/things", "", "").await;
    answer.is_main(
        405,
        "Method Not Allowed",
        "the path does not serve this method; the Allow header says which",
    );
    let mut allowed: Vec<_> = answer.header("allow").unwrap().split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
}

#[tokio::test]
async fn head_is_the_answer_to_get_without_its_body() {
    let api = TestApi::new();
    for (path, key) in [
        ("/health", ""),
        ("/api/v1/things", "viewer-key"),
        ("/api/v1/whoami", ""),
    ] {
        let (get, head) = (
            api.get(path, key).await,
            api.call("HEAD", path, key, "").await,
        );
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        for name in ["content-type", "content-length", "etag", "www-authenticate"] {
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
    }
}

#[tokio::test]
async fn a_list_honours_its_page_and_forgives_bad_numbers() {
    let api = TestApi::new();
    let list = async |query: &str| {
        api.get(&format!("/api/v1/things{query}"), "viewer-key")
            .await
            .json()
    };
    let all = list("").await;
    assert_eq!(
        (
            all["total"].as_i64(),
            all["page"].as_i64(),
            all["per_page"].as_i64()
        ),
        (Some(3), Some(1), Some(50))
    );
    assert_eq!(
        list("?page=2&per_page=2").await,
        json!({ "data": [{ "name": "thing-3", "size": 3 }], "total": 3, "page": 2, "per_page": 2 })
    );
    assert_eq!(list("?page=9").await["data"], json!([]));
    for bad in [
        "?page=0&per_page=501",
        "?page=x&per_page=-1",
        "?page=&per_page=0",
        "?%ff=%fe&page=-1",
    ] {
        assert_eq!(list(bad).await, all, "{bad}");
    }
}

#[tokio::test]
async fn an_id_that_cannot_be_one_is_an_id_nothing_has() {
    let api = TestApi::new();
    for id in ["a%20b", "a%2Fb", "%ff", "..%00", &"x".repeat(129)] {
        let answer = api
            .call("DELETE", &format!("/api/v1/things/{id}"), "admin-key", "")
            .await;
        answer.is_main(404, "Not Found", "there is nothing with this id");
    }
    assert_eq!(
        api.call(
            "DELETE",
            &format!("/api/v1/things/{}", "x".repeat(128)),
            "admin-key",
            ""
        )
        .await
        .status,
        204
    );
}

#[tokio::test]
async fn a_tag_is_the_hash_of_the_body_and_spares_sending_it_again() {
    let api = TestApi::new();
    let first = api.get("/api/v1/things", "viewer-key").await;
    let tag = first.header("etag").unwrap().to_owned();
    let digest = ring::digest::digest(&ring::digest::SHA256, &first.body);
    assert_eq!(tag, format!("\"{}\"", hex::encode(digest)));
    let held = async |value: String| {
        let request = request("GET", "/api/v1/things", "viewer-key").header("if-none-match", value);
        Answer::of(api.send(request.body(Body::empty()).unwrap()).await).await
    };
    for value in [tag.clone(), "*".to_owned(), format!("\"other\", {tag}")] {
        let answer = held(value).await;
        assert_eq!((answer.status, answer.body.len()), (304, 0));
        assert_eq!(answer.header("etag"), Some(tag.as_str()));
        assert_eq!(answer.header("content-type"), None);
    }
    for value in [
        format!("W/{tag}"),
        "\"other\"".to_owned(),
        tag.trim_matches('"').to_owned(),
    ] {
        assert_eq!(held(value.clone()).await.status, 200, "{value}");
    }
    let other = api.get("/api/v1/things?per_page=1", "viewer-key").await;
    assert_ne!(other.header("etag"), Some(tag.as_str()));
}

#[tokio::test]
async fn large_answers_refusals_and_other_routes_have_no_tag() {
    let api = TestApi::new();
    let big = api.get("/big", "").await;
    assert_eq!(
        (big.status, big.body.len(), big.header("etag")),
        (200, 65_537, None)
    );
    for (path, key, status) in [
        ("/refused", "", 400),
        ("/api/v1/things", "scoped-key", 403),
        ("/health", "", 200),
    ] {
        let answer = api.get(path, key).await;
        assert_eq!(
            (answer.status, answer.header("etag")),
            (status, None),
            "{path}"
        );
    }
}
