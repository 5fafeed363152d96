//! `http-01`: RFC 8555 §8.3, and what servers do.

use certctl_connectors::acme::Config;
use certctl_domain::acme::{ChallengeType, Identifier, Problem, ProblemType};
use http_body_util::Full;
use hyper::{Method, Response, Version, header};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{
    KEY_AUTHORIZATION, NAME, SHORT, TOKEN, assert_refused, config,
    dns_server::DnsServer,
    http_server::{Answer, HttpServer, RawServer, Then, file},
    prove, prove_for,
};

async fn resolving() -> DnsServer {
    let dns = DnsServer::start().await;
    dns.set_addresses(NAME, &["127.0.0.1"]);
    dns
}

fn at(dns: &DnsServer, port: u16) -> Config {
    Config {
        http_port: port,
        ..config(dns)
    }
}

/// What comes of a server that answers everything alike.
async fn look_at(
    answer: impl Fn() -> Answer + Clone + Send + Sync + 'static,
) -> Result<(), Problem> {
    let dns = resolving().await;
    let server = HttpServer::start(move |_| answer()).await;
    prove(&at(&dns, server.port()), ChallengeType::Http01).await
}

async fn look_at_raw(
    text: impl Into<Vec<u8>>,
    then: Then,
    limits: fn(&mut Config),
) -> Result<(), Problem> {
    let dns = resolving().await;
    let server = RawServer::start(text.into(), then).await;
    let mut config = at(&dns, server.port());
    limits(&mut config);
    prove(&config, ChallengeType::Http01).await
}

#[tokio::test]
async fn the_file_proves_control_and_is_asked_for_plainly() {
    let dns = resolving().await;
    let server = HttpServer::start(|_| file(KEY_AUTHORIZATION)).await;
    prove(&at(&dns, server.port()), ChallengeType::Http01)
        .await
        .unwrap();
    let [seen] = server.seen().try_into().unwrap();
    assert_eq!(seen.method, Method::GET);
    assert_eq!(seen.target, format!("/.well-known/acme-challenge/{TOKEN}"));
    assert_eq!(seen.version, Version::HTTP_11);
    let mut names: Vec<&str> = seen
        .headers
        .keys()
        .map(header::HeaderName::as_str)
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "connection", "host", "user-agent"]);
    assert_eq!(
        seen.header("host"),
        Some(format!("{NAME}:{}", server.port()).as_str())
    );
    assert_eq!(seen.header("user-agent"), Some("certctl"));
    assert_eq!(seen.header("connection"), Some("close"));
    assert_eq!(seen.header("accept"), Some("*/*"));
}

#[tokio::test]
async fn an_address_is_asked_by_itself_and_nobody_resolves_it() {
    let dns = DnsServer::start().await;
    let server = HttpServer::start(|_| file(KEY_AUTHORIZATION)).await;
    let ip = Identifier::ip("127.0.0.1").unwrap();
    prove_for(&at(&dns, server.port()), ChallengeType::Http01, ip)
        .await
        .unwrap();
    let [seen] = server.seen().try_into().unwrap();
    let expected = format!("127.0.0.1:{}", server.port());
    assert_eq!(seen.header("host"), Some(expected.as_str()));
    assert_eq!(dns.questions(), 0);
}

#[tokio::test]
async fn white_space_at_the_end_is_no_part_of_the_file() {
    for end in ["", "\n", "\r\n", " \t \r\n\n"] {
        look_at(move || file(format!("{KEY_AUTHORIZATION}{end}")))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn another_content_is_an_incorrect_response() {
    let other_account = format!("{TOKEN}.{}", "A".repeat(43));
    for body in [
        String::new(),
        TOKEN.to_owned(),
        other_account,
        format!(" {KEY_AUTHORIZATION}"),
        format!("\u{feff}{KEY_AUTHORIZATION}"),
        format!("{KEY_AUTHORIZATION} {KEY_AUTHORIZATION}"),
        KEY_AUTHORIZATION.to_lowercase(),
        KEY_AUTHORIZATION[..KEY_AUTHORIZATION.len() - 1].to_owned(),
        format!("<html>{KEY_AUTHORIZATION}</html>"),
    ] {
        let result = look_at(move || file(body.clone())).await;
        assert_refused(
            &result,
            ProblemType::IncorrectResponse,
            "content of the file",
        );
    }
}

#[tokio::test]
async fn the_type_of_the_content_is_of_no_interest() {
    for content_type in ["text/html", "application/octet-stream", "image/png"] {
        look_at(move || {
            Response::builder()
                .header(header::CONTENT_TYPE, content_type)
                .body(Full::from(KEY_AUTHORIZATION))
                .unwrap()
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn only_status_200_has_the_file() {
    for status in [
        201, 203, 206, 300, 301, 302, 304, 308, 400, 401, 403, 404, 500, 503,
    ] {
        let result = look_at(move || {
            Response::builder()
                .status(status)
                .body(Full::from(KEY_AUTHORIZATION))
                .unwrap()
        })
        .await;
        let part = format!("status {status}");
        assert_refused(&result, ProblemType::IncorrectResponse, &part);
    }
}

#[tokio::test]
async fn a_long_file_is_not_read_to_its_end() {
    let padded = |length: usize| {
        let mut body = KEY_AUTHORIZATION.to_owned();
        body.push_str(&"\n".repeat(length - body.len()));
        body
    };
    let longest = padded(16 * 1024);
    look_at(move || file(longest.clone())).await.unwrap();
    let longer = padded(16 * 1024 + 1);
    let result = look_at(move || file(longer.clone())).await;
    assert_refused(&result, ProblemType::IncorrectResponse, "longer than 16384");

    // Without an end, announced or in parts: it is the length that ends the reading, not time.
    let flood = vec![b'x'; 1024 * 1024];
    let announced = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n".as_slice(),
        &flood,
    ]
    .concat();
    let result = look_at_raw(announced, Then::Hold, |_| ()).await;
    assert_refused(&result, ProblemType::IncorrectResponse, "longer than 16384");
    let mut chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..1000 {
        chunks.extend([b"400\r\n".as_slice(), &flood[..1024], b"\r\n"].concat());
    }
    let result = look_at_raw(chunks, Then::Hold, |_| ()).await;
    assert_refused(&result, ProblemType::IncorrectResponse, "longer than 16384");
}

#[tokio::test]
async fn a_file_that_comes_in_parts_or_ends_with_the_connection_is_whole() {
    let (start, end) = KEY_AUTHORIZATION.split_at(30);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{start}\r\n{:x}\r\n{end}\r\n0\r\n\r\n",
        start.len(),
        end.len()
    );
    look_at_raw(chunked, Then::Hold, |_| ()).await.unwrap();
    let until_close = format!("HTTP/1.0 200 OK\r\n\r\n{KEY_AUTHORIZATION}");
    look_at_raw(until_close, Then::Close, |_| ()).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_cut_off_is_none() {
    let cut = format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{KEY_AUTHORIZATION}");
    let result = look_at_raw(cut, Then::Close, |_| ()).await;
    assert_refused(&result, ProblemType::Connection, "not HTTP/1.1");
}

#[tokio::test]
async fn what_is_not_http_is_a_problem_of_the_connection() {
    let long_head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(1000));
    for text in ["", "SSH-2.0-OpenSSH_9.2\r\n\r\n", &long_head, &many_headers] {
        let result = look_at_raw(text, Then::Close, |_| ()).await;
        assert_refused(&result, ProblemType::Connection, "not HTTP/1.1");
    }
    // HTTP/0.9 had no head at all.
    let result = look_at_raw(KEY_AUTHORIZATION, Then::Close, |_| ()).await;
    assert_refused(&result, ProblemType::Connection, "not HTTP/1.1");
}

#[tokio::test]
async fn a_server_that_takes_its_time_is_left() {
    for head in ["", "HTTP/1.1 200 OK\r\nX-Slow: "] {
        let result = look_at_raw(head, Then::Hold, |config| config.limits.headers = SHORT).await;
        assert_refused(&result, ProblemType::Connection, "the answer took too long");
    }
    for body in ["", "LoqXcYV8"] {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 87\r\n\r\n{body}");
        let result = look_at_raw(text, Then::Hold, |config| config.limits.total = 5 * SHORT).await;
        assert_refused(
            &result,
            ProblemType::Connection,
            "for the file took too long",
        );
    }
}

#[tokio::test]
async fn nobody_there_is_a_problem_of_the_connection() {
    let dns = resolving().await;
    let port = {
        let server = RawServer::start(Vec::new(), Then::Close).await;
        server.port()
    };
    let result = prove(&at(&dns, port), ChallengeType::Http01).await;
    assert_refused(
        &result,
        ProblemType::Connection,
        "cannot connect to 127.0.0.1",
    );
}

#[tokio::test]
async fn a_host_that_takes_no_connection_is_left_for_the_next() {
    // Whose queue is full lets everybody wait. Others are connected until one is let wait.
    let full = TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.3:0".parse().unwrap()).unwrap();
    let full = full.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(connected) = timeout(10 * SHORT, TcpStream::connect(address)).await {
        waiting.push(connected.unwrap());
        assert!(waiting.len() < 100, "the queue has no end");
    }

    let dns = DnsServer::start().await;
    let mut config = at(&dns, address.port());
    config.allowed_networks = vec!["127.0.0.0/8".parse().unwrap()];
    config.limits.dial = SHORT;
    dns.set_addresses(NAME, &["127.0.0.3"]);
    let result = prove(&config, ChallengeType::Http01).await;
    assert_refused(
        &result,
        ProblemType::Connection,
        "cannot connect to 127.0.0.3",
    );
    let next = ([127, 0, 0, 4], address.port()).into();
    let _server = HttpServer::on(next, None, |_| file(KEY_AUTHORIZATION)).await;
    config.limits.dial = 10 * SHORT;
    dns.set_addresses(NAME, &["127.0.0.3", "127.0.0.4"]);
    prove(&config, ChallengeType::Http01).await.unwrap();
}

#[tokio::test]
async fn a_name_without_an_address_is_a_problem_of_dns() {
    let dns = DnsServer::start().await;
    let config = at(&dns, 1);
    let result = prove(&config, ChallengeType::Http01).await;
    assert_refused(&result, ProblemType::Dns, "does not exist");
    dns.set_addresses(NAME, &[]);
    let result = prove(&config, ChallengeType::Http01).await;
    assert_refused(&result, ProblemType::Dns, "no A or AAAA record");
}

#[tokio::test]
async fn an_address_of_the_name_that_answers_is_enough() {
    let dns = DnsServer::start().await;
    let server = HttpServer::start(|_| file(KEY_AUTHORIZATION)).await;
    let mut config = at(&dns, server.port());
    config.allowed_networks = vec!["127.0.0.0/8".parse().unwrap()];
    dns.set_addresses(NAME, &["127.0.0.9", "127.0.0.1"]);
    prove(&config, ChallengeType::Http01).await.unwrap();
}
