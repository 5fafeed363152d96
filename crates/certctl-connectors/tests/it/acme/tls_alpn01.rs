//! `tls-alpn-01`: RFC 8737 §3, and for addresses RFC 8738 §6.

use certctl_connectors::acme::Config;
use certctl_domain::acme::{ChallengeType, Identifier, Problem, ProblemType};
use rcgen::SanType;

use super::{
    KEY_AUTHORIZATION, NAME, SHORT, assert_refused, config,
    dns_server::DnsServer,
    http_server::{HttpServer, RawServer, Then, file},
    prove, prove_for,
    tls_server::{PROTOCOL, Presented, TlsServer, dns_name, extension, octets},
};

fn right() -> Presented {
    Presented::right_for(dns_name(NAME))
}

async fn at(port: u16) -> (DnsServer, Config) {
    let dns = DnsServer::start().await;
    dns.set_addresses(NAME, &["127.0.0.1"]);
    let config = Config {
        tls_port: port,
        ..config(&dns)
    };
    (dns, config)
}

async fn look_at(presented: &Presented) -> Result<(), Problem> {
    let server = TlsServer::start(presented).await;
    let (_dns, config) = at(server.port()).await;
    prove(&config, ChallengeType::TlsAlpn01).await
}

#[tokio::test]
async fn the_certificate_proves_control_in_both_versions() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut presented = right();
        presented.versions = vec![version];
        let server = TlsServer::start(&presented).await;
        let (_dns, config) = at(server.port()).await;
        prove(&config, ChallengeType::TlsAlpn01).await.unwrap();
    }
}

#[tokio::test]
async fn the_name_is_asked_for_and_compared_as_dns_does() {
    let server = TlsServer::start(&Presented::right_for(dns_name("WWW.Example.COM"))).await;
    let (_dns, config) = at(server.port()).await;
    prove(&config, ChallengeType::TlsAlpn01).await.unwrap();
    // The client is done before the server has noted it, so the server is given its turn.
    while server.asked_for().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.asked_for(), [Some(NAME.to_owned())]);
}

#[tokio::test]
async fn an_address_is_asked_for_by_its_reverse_name() {
    let presented = Presented::right_for(SanType::IpAddress([127, 0, 0, 1].into()));
    let server = TlsServer::start(&presented).await;
    let (dns, config) = at(server.port()).await;
    let ip = Identifier::ip("127.0.0.1").unwrap();
    prove_for(&config, ChallengeType::TlsAlpn01, ip)
        .await
        .unwrap();
    while server.asked_for().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        server.asked_for(),
        [Some("1.0.0.127.in-addr.arpa".to_owned())]
    );
    assert_eq!(dns.questions(), 0);
}

#[tokio::test]
async fn an_address_is_not_proved_by_a_name_that_looks_like_it() {
    for name in ["127.0.0.1", "1.0.0.127.in-addr.arpa"] {
        let server = TlsServer::start(&Presented::right_for(dns_name(name))).await;
        let (_dns, config) = at(server.port()).await;
        let ip = Identifier::ip("127.0.0.1").unwrap();
        let result = prove_for(&config, ChallengeType::TlsAlpn01, ip).await;
        assert_refused(
            &result,
            ProblemType::IncorrectResponse,
            "not for this identifier alone",
        );
    }
}

#[tokio::test]
async fn only_the_protocol_of_the_challenge_counts() {
    let mut presented = right();
    for protocols in [
        vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        vec![b"acme-tls/2".to_vec()],
        vec![b"ACME-TLS/1".to_vec()],
    ] {
        presented.protocols = protocols;
        let result = look_at(&presented).await;
        assert_refused(&result, ProblemType::Tls, "the TLS handshake failed");
    }
    presented.protocols = Vec::new();
    let result = look_at(&presented).await;
    assert_refused(&result, ProblemType::Tls, "did not choose acme-tls/1");
    presented.protocols = vec![b"h2".to_vec(), PROTOCOL.to_vec()];
    look_at(&presented).await.unwrap();
}

#[tokio::test]
async fn the_extension_has_to_be_there_critical_and_alone() {
    let mut presented = right();
    let (digest, ours) = (octets(KEY_AUTHORIZATION), || {
        extension(octets(KEY_AUTHORIZATION), true)
    });
    let raw_digest = digest[2..].to_vec();
    let in_utf8_string = [[0x0c, 32].as_slice(), &raw_digest].concat();
    let with_more = [digest.as_slice(), &[0]].concat();
    for (extensions, kind, part) in [
        (vec![], ProblemType::Tls, "has no acmeIdentifier"),
        (
            vec![extension(digest.clone(), false)],
            ProblemType::IncorrectResponse,
            "is not critical",
        ),
        (
            vec![extension(octets("another.key"), true)],
            ProblemType::IncorrectResponse,
            "the digest in the certificate",
        ),
        (
            vec![extension(
                [[4, 31].as_slice(), &raw_digest[..31]].concat(),
                true,
            )],
            ProblemType::IncorrectResponse,
            "the digest in the certificate",
        ),
        (
            vec![extension(vec![4, 0], true)],
            ProblemType::IncorrectResponse,
            "the digest in the certificate",
        ),
        (
            vec![extension(raw_digest.clone(), true)],
            ProblemType::IncorrectResponse,
            "cannot be read",
        ),
        (
            vec![extension(in_utf8_string, true)],
            ProblemType::IncorrectResponse,
            "cannot be read",
        ),
        (
            vec![extension(with_more, true)],
            ProblemType::IncorrectResponse,
            "cannot be read",
        ),
        (
            vec![ours(), ours()],
            ProblemType::IncorrectResponse,
            "cannot be read",
        ),
    ] {
        presented.extensions = extensions;
        assert_refused(&look_at(&presented).await, kind, part);
    }
}

#[tokio::test]
async fn the_certificate_has_to_be_for_the_name_and_nothing_else() {
    let mut presented = right();
    let ip = || SanType::IpAddress([127, 0, 0, 1].into());
    for names in [
        vec![],
        vec![dns_name("other.example.com")],
        vec![dns_name("example.com")],
        vec![dns_name("*.example.com")],
        vec![dns_name("www.example.com.")],
        vec![ip()],
        vec![dns_name(NAME), dns_name("other.example.com")],
        vec![dns_name("other.example.com"), dns_name(NAME)],
        vec![dns_name(NAME), dns_name(NAME)],
        vec![dns_name(NAME), ip()],
        vec![
            dns_name(NAME),
            SanType::Rfc822Name("a@example.com".try_into().unwrap()),
        ],
        vec![
            dns_name(NAME),
            SanType::OtherName((
                vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3],
                rcgen::OtherNameValue::Utf8String("other".to_owned()),
            )),
        ],
        vec![SanType::URI("https://www.example.com".try_into().unwrap())],
    ] {
        presented.names.clone_from(&names);
        let result = look_at(&presented).await;
        let part = "not for this identifier alone";
        assert_refused(&result, ProblemType::IncorrectResponse, part);
    }
}

#[tokio::test]
async fn what_is_not_tls_is_a_problem_of_tls() {
    let server = HttpServer::start(|_| file(KEY_AUTHORIZATION)).await;
    let (_dns, config) = at(server.port()).await;
    let result = prove(&config, ChallengeType::TlsAlpn01).await;
    assert_refused(&result, ProblemType::Tls, "the TLS handshake failed");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left() {
    let server = RawServer::start(Vec::new(), Then::Hold).await;
    let (_dns, mut config) = at(server.port()).await;
    config.limits.total = 5 * SHORT;
    let result = prove(&config, ChallengeType::TlsAlpn01).await;
    assert_refused(&result, ProblemType::Connection, "took too long");
}

#[tokio::test]
async fn nobody_there_is_a_problem_of_the_connection() {
    let port = RawServer::start(Vec::new(), Then::Close).await.port();
    let (dns, config) = at(port).await;
    let result = prove(&config, ChallengeType::TlsAlpn01).await;
    assert_refused(&result, ProblemType::Connection, "cannot connect to");
    dns.set_addresses(NAME, &[]);
    let result = prove(&config, ChallengeType::TlsAlpn01).await;
    assert_refused(&result, ProblemType::Dns, "no A or AAAA record");
}
