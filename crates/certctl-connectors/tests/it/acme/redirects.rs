//! Redirects: RFC 8555 §8.3 lets them be followed, and each is a new place that somebody else chose.

use std::sync::{Arc, Mutex};

use certctl_connectors::acme::Config;
use certctl_domain::acme::{ChallengeType, Problem, ProblemType};
use hyper::header;

use super::{
    KEY_AUTHORIZATION, NAME, SHORT, TOKEN, assert_refused, config,
    dns_server::DnsServer,
    http_server::{HttpServer, RawServer, Seen, Then, file, moved},
    prove,
    tls_server::acceptor,
};

const FILE: &str = "/the/file";

/// Redirects the challenge's path to `location`, in which `PORT` is the server's own, and serves the file at [`FILE`].
async fn redirecting(status: u16, location: &str) -> (DnsServer, HttpServer, Config) {
    let dns = DnsServer::start().await;
    dns.set_addresses(NAME, &["127.0.0.1"]);
    let target = Arc::new(Mutex::new(location.to_owned()));
    let shared = Arc::clone(&target);
    let server = HttpServer::start(move |seen: &Seen| {
        if seen.target.ends_with(TOKEN) {
            moved(status, &shared.lock().unwrap())
        } else {
            file(KEY_AUTHORIZATION)
        }
    })
    .await;
    let text = location.replace("PORT", &server.port().to_string());
    *target.lock().unwrap() = text;
    let config = Config {
        http_port: server.port(),
        ..config(&dns)
    };
    (dns, server, config)
}

async fn follow(status: u16, location: &str) -> (Result<(), Problem>, Vec<Seen>) {
    let (_dns, server, config) = redirecting(status, location).await;
    let result = prove(&config, ChallengeType::Http01).await;
    (result, server.seen())
}

#[tokio::test]
async fn every_kind_of_redirect_is_followed() {
    for status in [301, 302, 303, 307, 308] {
        let (result, seen) = follow(status, FILE).await;
        result.unwrap();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[1].target, FILE);
        assert_eq!(seen[1].header("host"), seen[0].header("host"));
    }
}

#[tokio::test]
async fn a_target_is_read_as_a_reference_to_where_it_stands() {
    for (location, expected) in [
        ("http://www.example.com:PORT/a?b=c#d", "/a?b=c"),
        ("//www.example.com:PORT/a", "/a"),
        ("other", "/.well-known/acme-challenge/other"),
        ("../x", "/.well-known/x"),
        ("?q", &format!("/.well-known/acme-challenge/{TOKEN}?q")),
        ("http://www.example.com/no-port", "/no-port"),
        ("HTTP://WWW.Example.Com.:PORT/a b", "/a%20b"),
    ] {
        let (result, seen) = follow(302, location).await;
        result.unwrap();
        assert_eq!(seen[1].target, expected, "{location}");
    }
}

#[tokio::test]
async fn a_redirect_to_an_address_is_checked_like_any() {
    let (result, seen) = follow(302, "http://127.0.0.1:PORT/a").await;
    result.unwrap();
    assert!(seen[1].header("host").unwrap().starts_with("127.0.0.1:"));
    for host in [
        "127.0.0.2",
        "169.254.169.254",
        // Other spellings of 127.0.0.2.
        "2130706434",
        "0x7f.2",
        "0177.0.0.2",
        "127.2",
        "[::1]",
        "[::ffff:169.254.169.254]",
        "[::7f00:2]",
        "[2002:7f00:2::]",
        "[64:ff9b::7f00:2]",
        "0",
    ] {
        let (result, seen) = follow(302, &format!("http://{host}:PORT/a")).await;
        assert_refused(&result, ProblemType::Connection, "does not connect to");
        assert_eq!(seen.len(), 1, "{host}");
    }
}

#[tokio::test]
async fn some_targets_are_never_followed() {
    let long = format!("/{}", "x".repeat(3000));
    for (location, part) in [
        ("https://www.example.com:8443/", "a port other than"),
        ("http://www.example.com:22/", "a port other than"),
        ("http://www.example.com:0/", "a port other than"),
        ("ftp://www.example.com/", "neither http nor https"),
        ("file:///etc/passwd", "neither http nor https"),
        ("gopher://www.example.com:PORT/", "neither http nor https"),
        ("data:text/plain,x", "neither http nor https"),
        ("http://user:secret@www.example.com:PORT/", "credentials"),
        ("http://user@www.example.com:PORT/", "credentials"),
        ("http://:PORT/", "what is no URL"),
        ("http://[::1/", "what is no URL"),
        ("http://exa mple.com/", "what is no URL"),
        ("http://www.example.com:99999/", "what is no URL"),
        (&long, "too long"),
    ] {
        let (result, seen) = follow(302, location).await;
        assert_refused(&result, ProblemType::Connection, part);
        assert_eq!(seen.len(), 1, "{location}");
    }
}

#[tokio::test]
async fn names_that_cannot_be_looked_up_are_a_problem_of_dns() {
    let label = "a".repeat(64);
    for (host, part) in [
        ("nowhere.example", "does not exist"),
        ("a..example", "no name that can be looked up"),
        (label.as_str(), "no name that can be looked up"),
        ("a,b.example", "no name that can be looked up"),
    ] {
        let (result, _) = follow(302, &format!("http://{host}:PORT/")).await;
        assert_refused(&result, ProblemType::Dns, part);
    }
}

#[tokio::test]
async fn ten_redirects_are_followed_and_no_more() {
    for (length, is_enough) in [(9, true), (10, true), (11, false), (100, false)] {
        let dns = DnsServer::start().await;
        dns.set_addresses(NAME, &["127.0.0.1"]);
        let server = HttpServer::start(move |seen: &Seen| {
            let at: usize = seen.target.trim_start_matches("/hop/").parse().unwrap_or(0);
            if at == length {
                file(KEY_AUTHORIZATION)
            } else {
                moved(302, &format!("/hop/{}", at + 1))
            }
        })
        .await;
        let config = Config {
            http_port: server.port(),
            ..config(&dns)
        };
        let result = prove(&config, ChallengeType::Http01).await;
        if is_enough {
            result.unwrap();
        } else {
            assert_refused(&result, ProblemType::Connection, "more than 10 redirects");
        }
        assert_eq!(server.seen().len(), length.min(10) + 1);
    }
}

#[tokio::test]
async fn a_circle_is_left_when_it_closes() {
    let (result, seen) = follow(301, &format!("/.well-known/acme-challenge/{TOKEN}#again")).await;
    assert_refused(&result, ProblemType::Connection, "where it came from");
    assert_eq!(seen.len(), 1);
}

#[tokio::test]
async fn what_one_answer_sets_no_request_brings_back() {
    let dns = DnsServer::start().await;
    dns.set_addresses(NAME, &["127.0.0.1"]);
    let server = HttpServer::start(|seen: &Seen| {
        if seen.target == FILE {
            return file(KEY_AUTHORIZATION);
        }
        let mut answer = moved(302, FILE);
        let cookie = header::HeaderValue::from_static("session=1; Path=/");
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
        answer
    })
    .await;
    let config = Config {
        http_port: server.port(),
        ..config(&dns)
    };
    prove(&config, ChallengeType::Http01).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[1].header("cookie"), None);
    assert_eq!(seen[1].header("referer"), None);
}

#[tokio::test]
async fn https_is_followed_whatever_its_certificate() {
    let dns = DnsServer::start().await;
    dns.set_addresses(NAME, &["127.0.0.1"]);
    let tls = acceptor(&["somebody.else.example"], &[b"h2", b"http/1.1"]);
    let secure = HttpServer::on(([127, 0, 0, 1], 0).into(), Some(tls), |_| {
        file(KEY_AUTHORIZATION)
    })
    .await;
    for host in [NAME, "127.0.0.1"] {
        let location = format!("https://{host}/secure");
        let server = HttpServer::start(move |_| moved(301, &location)).await;
        let config = Config {
            http_port: server.port(),
            tls_port: secure.port(),
            ..config(&dns)
        };
        prove(&config, ChallengeType::Http01).await.unwrap();
    }
    let seen = secure.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|one| one.target == "/secure"));
}

#[tokio::test]
async fn https_without_a_handshake_is_a_problem_of_tls() {
    let dns = DnsServer::start().await;
    dns.set_addresses(NAME, &["127.0.0.1"]);
    let server = HttpServer::start(|_| moved(301, "https://www.example.com/")).await;
    let plain = HttpServer::start(|_| file(KEY_AUTHORIZATION)).await;
    let mut config = Config {
        http_port: server.port(),
        tls_port: plain.port(),
        ..config(&dns)
    };
    let result = prove(&config, ChallengeType::Http01).await;
    assert_refused(&result, ProblemType::Tls, "the TLS handshake failed");

    // This one waits for the end of a head, which a handshake does not have.
    let silent = RawServer::start(Vec::new(), Then::Hold).await;
    config.tls_port = silent.port();
    config.limits.headers = 10 * SHORT;
    let result = prove(&config, ChallengeType::Http01).await;
    assert_refused(
        &result,
        ProblemType::Connection,
        "the TLS handshake took too long",
    );
}
