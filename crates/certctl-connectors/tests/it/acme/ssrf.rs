//! What a name may not make this server connect to.

use certctl_connectors::acme::Config;
use certctl_domain::acme::{ChallengeType, Identifier, ProblemType};
use hickory_proto::rr::RecordType;
use tokio::net::TcpListener;

use super::{
    KEY_AUTHORIZATION, NAME, TOKEN, assert_refused, config,
    dns_server::{DnsServer, Reply, address_record},
    http_server::{HttpServer, Seen, file, moved},
    prove, prove_for,
};

const BY_CONNECTION: [ChallengeType; 2] = [ChallengeType::Http01, ChallengeType::TlsAlpn01];

const ALWAYS: [&str; 30] = [
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "169.254.0.1",
    "100.64.0.1",
    "100.127.255.254",
    "192.0.0.1",
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "2001:0:7f00:1::1",
];

const WHEN_FORBIDDEN: [&str; 8] = [
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.254",
    "192.168.0.1",
    "fc00::1",
    "fd12:3456::1",
    "::ffff:10.0.0.1",
    "2002:c0a8:1::",
];

/// As it is by default: nothing reserved is admitted.
fn strict(dns: &DnsServer, block_private: bool) -> Config {
    Config {
        allowed_networks: Vec::new(),
        block_private,
        ..config(dns)
    }
}

#[tokio::test]
async fn a_name_with_a_reserved_address_is_refused() {
    let dns = DnsServer::start().await;
    for (addresses, block_private) in [(&ALWAYS[..], false), (&WHEN_FORBIDDEN[..], true)] {
        for address in addresses {
            dns.set_addresses(NAME, &[address]);
            for challenge in BY_CONNECTION {
                let result = prove(&strict(&dns, block_private), challenge).await;
                let part = "is in a network that this server does not connect to";
                assert_refused(&result, ProblemType::Connection, part);
            }
        }
    }
}

#[tokio::test]
async fn an_identifier_that_is_a_reserved_address_is_refused() {
    let dns = DnsServer::start().await;
    for address in ALWAYS {
        let ip = Identifier::Ip(address.parse().unwrap());
        for challenge in BY_CONNECTION {
            let result = prove_for(&strict(&dns, false), challenge, ip.clone()).await;
            assert_refused(&result, ProblemType::Connection, "does not connect to");
        }
    }
    assert_eq!(dns.questions(), 0);
}

/// Two servers on one port: 127.0.0.1, which is admitted, and 127.0.0.2, which is not and must never be connected to.
async fn two_hosts() -> (DnsServer, HttpServer, TcpListener, Config) {
    let dns = DnsServer::start().await;
    let (server, forbidden) = loop {
        let forbidden = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let port = forbidden.local_addr().unwrap().port();
        // The port is free on one address; on the other somebody may have it.
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            let address = ([127, 0, 0, 1], port).into();
            let server = HttpServer::on(address, None, |seen: &Seen| {
                if seen.target.ends_with(TOKEN) && seen.header("host").unwrap().starts_with("turn")
                {
                    moved(302, "/again")
                } else {
                    file(KEY_AUTHORIZATION)
                }
            })
            .await;
            break (server, forbidden);
        }
    };
    let config = Config {
        http_port: server.port(),
        tls_port: server.port(),
        ..config(&dns)
    };
    (dns, server, forbidden, config)
}

#[track_caller]
fn assert_untouched(listener: TcpListener) {
    let listener = listener.into_std().unwrap();
    let accepted = listener.accept();
    assert_eq!(
        accepted.unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "it was connected to"
    );
}

#[tokio::test]
async fn one_reserved_address_among_others_spoils_the_name() {
    let (dns, server, forbidden, config) = two_hosts().await;
    for addresses in [
        ["127.0.0.1", "127.0.0.2"],
        ["127.0.0.2", "127.0.0.1"],
        ["127.0.0.1", "::1"],
    ] {
        dns.set_addresses(NAME, &addresses);
        for challenge in BY_CONNECTION {
            let result = prove(&config, challenge).await;
            assert_refused(&result, ProblemType::Connection, "does not connect to");
        }
    }
    assert!(server.seen().is_empty());
    assert_untouched(forbidden);
}

#[tokio::test]
async fn a_name_is_resolved_once_so_that_a_second_answer_changes_nothing() {
    let (dns, server, forbidden, config) = two_hosts().await;
    let then = ["127.0.0.1", "127.0.0.2"]
        .map(|address| Reply::Records(vec![(NAME.to_owned(), address_record(address))]));
    dns.script(NAME, RecordType::A, then.to_vec());
    prove(&config, ChallengeType::Http01).await.unwrap();
    assert_eq!(dns.asked(NAME, RecordType::A), 1);
    assert_eq!(dns.asked(NAME, RecordType::AAAA), 1);
    assert_eq!(server.seen().len(), 1);
    assert_untouched(forbidden);
}

#[tokio::test]
async fn a_redirect_is_resolved_and_checked_again() {
    let (dns, server, forbidden, config) = two_hosts().await;
    let name = "turn.example.com";
    let identifier = Identifier::dns(name).unwrap();
    let then = ["127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2"]
        .map(|address| Reply::Records(vec![(name.to_owned(), address_record(address))]));
    dns.script(name, RecordType::A, then.to_vec());
    prove_for(&config, ChallengeType::Http01, identifier.clone())
        .await
        .unwrap();
    assert_eq!(dns.asked(name, RecordType::A), 2);
    let result = prove_for(&config, ChallengeType::Http01, identifier).await;
    assert_refused(
        &result,
        ProblemType::Connection,
        "127.0.0.2 is in a network",
    );
    assert_eq!(dns.asked(name, RecordType::A), 4);
    assert_eq!(server.seen().len(), 3);
    assert_untouched(forbidden);
}
