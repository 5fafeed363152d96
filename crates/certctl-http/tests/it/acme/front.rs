//! What holds of every route, whoever asks and whatever for (acme-server §1, §2, §9).

use std::net::SocketAddr;

use axum::body::Body;
use certctl_http::{AcmeHttp, HttpSettings, Peer, Rate, RateLimits, acme_matrix};
use certctl_service::acme::AcmeConfig;
use certctl_testkit::{TestDb, db_tests};
use http::{Method, Request};
use serde_json::json;

use super::client::{Client, ORIGIN, PROFILE, api, config, get, is_problem, post, settings};
use crate::{nouns::NounApi, support::Answer};

/// A path of the table with ids in its places.
fn filled(template: &str) -> String {
    template
        .replace("{profile_id}", PROFILE)
        .replace("{id}", "acme-ord-0000000000000000")
        .replace("{cert_id}", "AAAA.AAAA")
}

async fn from(api: &NounApi, peer: &str, forwarded: Option<&str>, path: &str) -> Answer {
    let mut request = Request::builder()
        .uri(path)
        .header("host", "ca.example:8443");
    if let Some(forwarded) = forwarded {
        request = request.header("x-forwarded-for", forwarded);
    }
    let mut request = request.body(Body::empty()).unwrap();
    let peer: SocketAddr = format!("{peer}:4711").parse().unwrap();
    request.extensions_mut().insert(Peer(peer));
    api.send(request).await
}

db_tests! {
    async fn every_route_answers_without_a_bearer_token_and_is_not_cached(db: TestDb) {
        let api = api(db, settings(), Some(config())).await;
        for route in acme_matrix() {
            let path = filled(route.path);
            let what = format!("{} {path}", route.method);
            let answer = if route.method == Method::POST {
                post(&api, &path, "{}".to_owned()).await
            } else {
                get(&api, "GET", &path).await
            };
            assert!(![401, 403, 405].contains(&answer.status), "{what}: {answer:?}");
            assert!(answer.header("x-request-id").is_some(), "{what}");
            if route.method == Method::POST {
                // Not a JWS: the first check refuses it.
                is_problem(&answer, 400, "malformed");
                assert!(answer.header("replay-nonce").is_some(), "{what}");
            }
            let index = answer.headers.get_all("link").iter().any(|link| {
                let link = link.to_str().unwrap();
                link.starts_with(&format!("<{ORIGIN}/acme/")) && link.ends_with("/directory>;rel=\"index\"")
            });
            assert_eq!(index, !path.ends_with("/directory"), "{what}: {answer:?}");
            let expected = if path.ends_with("/directory") { "public, max-age=0, no-cache" } else { "no-store" };
            assert_eq!(answer.header("cache-control"), Some(expected), "{what}");
        }
    }

    async fn switched_off_every_path_is_absent(db: TestDb) {
        let api = api(db, settings(), None).await;
        let paths = acme_matrix().into_iter().map(|route| (route.method, filled(route.path)));
        for (method, path) in paths.chain([(Method::GET, "/acme".to_owned()), (Method::PUT, "/acme/nothing".to_owned())]) {
            let answer = match method {
                Method::POST => post(&api, &path, "{}".to_owned()).await,
                method => get(&api, method.as_str(), &path).await,
            };
            is_problem(&answer, 404, "malformed");
            assert!(answer.header("replay-nonce").is_none() && answer.header("allow").is_none());
        }
    }

    async fn a_path_without_a_profile_is_refused_before_the_nonce_is_looked_at(db: TestDb) {
        let without = AcmeConfig { default_profile: None, ..config() };
        let api = api(db, settings(), Some(without)).await;
        is_problem(&get(&api, "GET", "/acme/directory").await, 403, "userActionRequired");
        is_problem(&get(&api, "GET", "/acme/profile/prof-none/directory").await, 404, "userActionRequired");
        is_problem(&get(&api, "GET", "/acme/profile/a%20b/directory").await, 404, "userActionRequired");
        let client = Client::new(&api, &format!("/acme/profile/{PROFILE}/"));
        let nonce = client.nonce().await;
        let url = format!("{ORIGIN}/acme/profile/prof-none/new-account");
        let body = client.signer.sign_with_jwk(&url, Some(&nonce), "{}").unwrap();
        is_problem(&post(&api, "/acme/profile/prof-none/new-account", body).await, 404, "userActionRequired");
        // The nonce is still good.
        let url = client.url("new-account");
        let body = client.signer.sign_with_jwk(&url, Some(&nonce), "{}").unwrap();
        assert_eq!(post(&api, &client.path("new-account"), body).await.status, 201);
    }

    async fn methods_media_types_and_sizes_are_refused_as_problems(db: TestDb) {
        let api = api(db, settings(), Some(config())).await;
        for (method, path, allow) in [
            ("POST", "/acme/directory", "GET,HEAD"),
            ("DELETE", "/acme/new-nonce", "GET,HEAD"),
            ("GET", "/acme/new-order", "POST"),
            ("PUT", "/acme/profile/prof-front/key-change", "POST"),
        ] {
            let answer = get(&api, method, path).await;
            is_problem(&answer, 405, "malformed");
            assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
        }
        is_problem(&get(&api, "GET", "/acme/nothing").await, 404, "malformed");
        is_problem(&get(&api, "GET", "/acme").await, 404, "malformed");
        for media in [None, Some("application/json"), Some("application/jose")] {
            let mut request = Request::builder().method("POST").uri("/acme/new-order").header("host", "ca.example");
            if let Some(media) = media {
                request = request.header("content-type", media);
            }
            let answer = api.send(request.body(Body::from("{}")).unwrap()).await;
            is_problem(&answer, 415, "about:blank");
            assert!(answer.header("replay-nonce").is_some());
        }
        let answer = post(&api, "/acme/new-order", " ".repeat(64 * 1024 + 1)).await;
        is_problem(&answer, 400, "malformed");
        assert!(answer.json()["detail"].as_str().unwrap().contains("64 KiB"));
    }

    async fn without_a_host_there_is_nothing_to_sign_for(db: TestDb) {
        let api = api(db, settings(), Some(config())).await;
        for hosts in [&[][..], &["a.example", "b.example"], &["user@a.example"]] {
            let mut request = Request::builder().uri("/acme/directory");
            for host in hosts {
                request = request.header("host", *host);
            }
            is_problem(&api.send(request.body(Body::empty()).unwrap()).await, 400, "malformed");
        }
    }

    async fn nonces_are_for_whoever_asks_and_are_not_the_same_twice(db: TestDb) {
        let api = api(db, settings(), Some(config())).await;
        for (method, status) in [("HEAD", 200), ("GET", 204)] {
            let (one, two) = (get(&api, method, "/acme/new-nonce").await, get(&api, method, "/acme/new-nonce").await);
            assert_eq!((one.status, two.status), (status, status));
            assert!(one.body.is_empty());
            let nonces = [&one, &two].map(|answer| answer.header("replay-nonce").unwrap());
            assert_ne!(nonces[0], nonces[1]);
            assert!(nonces.iter().all(|nonce| nonce.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')));
        }
        assert!(get(&api, "GET", "/acme/directory").await.header("replay-nonce").is_some());
    }

    async fn the_directory_names_the_family_that_was_asked(db: TestDb) {
        let full = AcmeConfig {
            terms_url: Some("https://ca.example/terms".into()),
            website: Some("https://ca.example".into()),
            caa_identities: vec!["ca.example".into()],
            eab_required: true,
            ..config()
        };
        let api = api(db, settings(), Some(full)).await;
        for base in ["/acme/".to_owned(), format!("/acme/profile/{PROFILE}/")] {
            let body = get(&api, "GET", &format!("{base}directory")).await.json();
            for (member, suffix) in [
                ("newNonce", "new-nonce"), ("newAccount", "new-account"), ("newOrder", "new-order"), ("revokeCert", "revoke-cert"),
                ("keyChange", "key-change"), ("renewalInfo", "renewal-info"),
            ] {
                assert_eq!(body[member], format!("{ORIGIN}{base}{suffix}"));
            }
            assert!(body.get("newAuthz").is_none());
            assert_eq!(body["meta"]["termsOfService"], "https://ca.example/terms");
            assert_eq!(body["meta"]["website"], "https://ca.example");
            assert_eq!(body["meta"]["caaIdentities"], json!(["ca.example"]));
            assert_eq!(body["meta"]["externalAccountRequired"], true);
        }
    }

    async fn only_networks_that_may_come_in_and_the_peer_tells_who_that_is(db: TestDb) {
        let behind = HttpSettings {
            acme: AcmeHttp { allowed: vec!["10.0.0.0/8".parse().unwrap()], ..AcmeHttp::default() },
            trusted_proxies: vec!["192.0.2.1".parse().unwrap()],
            ..settings()
        };
        let api = api(db, behind, Some(config())).await;
        for (peer, forwarded, status) in [
            ("10.1.2.3", None, 200),
            ("203.0.113.1", None, 403),
            ("203.0.113.1", Some("10.1.2.3"), 403),
            ("192.0.2.1", Some("10.1.2.3"), 200),
            ("192.0.2.1", Some("203.0.113.1"), 403),
        ] {
            let answer = from(&api, peer, forwarded, "/acme/directory").await;
            assert_eq!(answer.status, status, "{peer} {forwarded:?}");
            if status == 403 {
                is_problem(&answer, 403, "unauthorized");
            }
        }
        // A path without a route tells strangers nothing either.
        is_problem(&from(&api, "203.0.113.1", None, "/acme/nothing").await, 403, "unauthorized");
        assert_eq!(from(&api, "203.0.113.1", None, "/health").await.status, 200);
    }

    async fn the_limit_of_all_requests_answers_in_the_protocol(db: TestDb) {
        let rate = Rate { per_second: 1.0, burst: 2.0 };
        let limits = RateLimits { client: rate, ..RateLimits::default() };
        let limited = HttpSettings { rate_limits: Some(limits), ..settings() };
        let db_settings = api_without_profile(db, limited).await;
        let mut last = None;
        for _ in 0..3 {
            last = Some(post(&db_settings, "/acme/new-order", "{}".to_owned()).await);
        }
        let last = last.unwrap();
        is_problem(&last, 429, "rateLimited");
        assert!(last.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        assert!(last.header("replay-nonce").is_some(), "a nonce for when it is time");
    }

    async fn requests_without_a_signature_have_a_limit_of_their_own(db: TestDb) {
        let limited = HttpSettings {
            acme: AcmeHttp { unsigned_per_second: 2, ..AcmeHttp::default() },
            ..settings()
        };
        let api = api(db, limited, Some(config())).await;
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(from(&api, "203.0.113.1", None, "/acme/directory").await.status);
        }
        assert_eq!(statuses, [200, 200, 429]);
        assert_eq!(from(&api, "203.0.113.2", None, "/acme/directory").await.status, 200, "each address has its own");
        is_problem(&post(&api, "/acme/new-order", "{}".to_owned()).await, 400, "malformed");
    }
}

/// With so few requests a second that none is left for making a profile.
async fn api_without_profile(db: TestDb, settings: HttpSettings) -> NounApi {
    db.seed_basics().await;
    NounApi::with_settings(db, settings, |service| service.acme = Some(config())).await
}
