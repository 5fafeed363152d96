//! The listener over real sockets.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::body::Body;
use certctl_domain::{
    key::KeySpec,
    name::SubjectAltName,
    profile::ExtendedKeyUsage,
    time::{Clock, SystemClock},
};
use certctl_http::tls::{CertResolver, Drained, Error, ServeLimits, serve};
use certctl_testkit::pki::{
    cert::{CaSigner, CertificateSpec, ParsedCertificate, RootSpec, random_serial, sign_root},
    key::PrivateKey,
};
use http::{Request, Version};
use http_body_util::BodyExt;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion, crypto::ring, version,
};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    lifecycle::{ABANDONED, DRAINED, STUCK},
    support::TestApi,
};

/// The type of the frame that sends a peer away (RFC 9113 §6.8).
const GOAWAY: u8 = 7;
const DAY: Duration = Duration::from_secs(86_400);

/// A root and what it signed.
struct Authority {
    signer: CaSigner,
    roots: RootCertStore,
}

impl Authority {
    fn new() -> Self {
        let key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
        let now = SystemClock.now();
        let serial = random_serial().unwrap();
        let spec = RootSpec {
            common_name: "Test root",
            serial: &serial,
            not_before: now - DAY,
            not_after: now + DAY * 30,
        };
        let root = ParsedCertificate::from_pem(&sign_root(&spec, &key).unwrap().to_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(root.der().to_vec()))
            .unwrap();
        Self {
            signer: CaSigner::new(root, key).unwrap(),
            roots,
        }
    }

    /// A certificate for `localhost` and its key, PEM.
    fn pair(&self) -> (String, String) {
        let key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
        let now = SystemClock.now();
        let spec = CertificateSpec {
            common_name: "localhost",
            sans: &[SubjectAltName::Dns("localhost".into())],
            spki_der: key.spki_der(),
            serial: &random_serial().unwrap(),
            not_before: now - Duration::from_secs(60),
            not_after: now + DAY,
            ekus: &[ExtendedKeyUsage::ServerAuth],
            must_staple: false,
            ca: None,
            crl_urls: &[],
            ocsp_urls: &[],
            ca_issuers_urls: &[],
        };
        (
            self.signer.sign(&spec).unwrap().to_pem(),
            key.to_pem().expose().to_owned(),
        )
    }
}

/// A listener that serves the test API.
struct Server {
    authority: Authority,
    address: SocketAddr,
    certificate: Arc<CertResolver>,
    shutdown: CancellationToken,
    ended: JoinHandle<Drained>,
}

impl Server {
    async fn start(limits: ServeLimits) -> Self {
        let authority = Authority::new();
        let (chain, key) = authority.pair();
        let certificate = CertResolver::new(chain.as_bytes(), key.as_bytes()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let app = TestApi::new().app;
        let ended = tokio::spawn(serve(
            listener,
            app,
            certificate.clone(),
            limits,
            shutdown.clone(),
        ));
        Self {
            authority,
            address,
            certificate,
            shutdown,
            ended,
        }
    }

    async fn connect(&self, alpn: &[&str]) -> io::Result<TlsStream<TcpStream>> {
        self.connect_with(alpn, &[&version::TLS13]).await
    }

    async fn connect_with(
        &self,
        alpn: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.authority.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
    }

    async fn http1(&self) -> http1::SendRequest<Body> {
        let stream = self.connect(&["http/1.1"]).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn stop(self) -> Drained {
        self.shutdown.cancel();
        self.ended.await.unwrap()
    }
}

fn get(path: &str) -> Request<Body> {
    Request::get(format!("https://localhost{path}"))
        .header("host", "localhost")
        .body(Body::empty())
        .unwrap()
}

fn served(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// Reads until the server ends the connection.
async fn read_to_end(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A connection that is cut has no closing alert; what came before it counts.
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

#[tokio::test]
async fn tls_1_3_is_spoken_and_1_2_is_refused() {
    let server = Server::start(ServeLimits::default()).await;
    let stream = server.connect(&[]).await.unwrap();
    assert_eq!(
        stream.get_ref().1.protocol_version(),
        Some(ProtocolVersion::TLSv1_3)
    );
    let error = server
        .connect_with(&[], &[&version::TLS12])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
}

#[tokio::test]
async fn plain_text_is_no_request() {
    let server = Server::start(ServeLimits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    assert!(!bytes.starts_with(b"HTTP/"), "{bytes:?}");
}

#[tokio::test]
async fn http_1_1_and_http_2_are_served_as_agreed() {
    let server = Server::start(ServeLimits::default()).await;
    let response = server
        .http1()
        .await
        .send_request(get("/health"))
        .await
        .unwrap();
    assert_eq!(
        (response.status().as_u16(), response.version()),
        (200, Version::HTTP_11)
    );

    let stream = server.connect(&["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(get("/health")).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.version()),
        (200, Version::HTTP_2)
    );
    assert_eq!(response.headers()["x-frame-options"], "DENY");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, r#"{"status":"healthy"}"#);
}

#[tokio::test]
async fn a_new_certificate_is_served_without_dropping_who_is_connected() {
    let server = Server::start(ServeLimits::default()).await;
    let mut old_connection = server.http1().await;
    assert_eq!(
        old_connection
            .send_request(get("/health"))
            .await
            .unwrap()
            .status(),
        200
    );
    let before = served(&server.connect(&[]).await.unwrap());
    let (chain, key) = server.authority.pair();
    server
        .certificate
        .reload(chain.as_bytes(), key.as_bytes())
        .unwrap();
    let after = served(&server.connect(&[]).await.unwrap());
    assert_ne!(before, after);
    assert_eq!(after, server.certificate.certificate_der());
    old_connection.ready().await.unwrap();
    assert_eq!(
        old_connection
            .send_request(get("/health"))
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn a_certificate_that_cannot_be_served_leaves_the_old_one() {
    let server = Server::start(ServeLimits::default()).await;
    let before = served(&server.connect(&[]).await.unwrap());
    let ((chain, key), (_, other_key)) = (server.authority.pair(), server.authority.pair());
    let reload = |chain: &str, key: &str| {
        server
            .certificate
            .reload(chain.as_bytes(), key.as_bytes())
            .unwrap_err()
    };
    assert!(matches!(reload(&chain, &other_key), Error::Pair(_)));
    assert!(matches!(reload("", &key), Error::NoCertificate));
    assert!(matches!(reload(&chain, ""), Error::KeyPem(_)));
    assert!(matches!(reload(&chain, &chain), Error::KeyPem(_)));
    assert!(matches!(
        reload(
            "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n",
            &key
        ),
        Error::CertificatePem(_)
    ));
    assert_eq!(served(&server.connect(&[]).await.unwrap()), before);
}

#[tokio::test]
async fn a_request_in_flight_is_finished_before_the_listener_ends() {
    let server = Server::start(ServeLimits::default()).await;
    let address = server.address;
    let mut sender = server.http1().await;
    let idle = server.http1().await;
    let in_flight = tokio::spawn(async move {
        let response = sender.send_request(get("/drained")).await.unwrap();
        (
            response.status().as_u16(),
            response.into_body().collect().await.unwrap().to_bytes(),
        )
    });
    DRAINED.begun.acquire().await.unwrap().forget();
    let stopping = tokio::spawn(server.stop());
    // The listener is closed while the request is still being served.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!stopping.is_finished() && !in_flight.is_finished());
    DRAINED.allowed.add_permits(1);
    assert_eq!(in_flight.await.unwrap(), (200, "done".into()));
    assert!(stopping.await.unwrap().is_complete());
    drop(idle);
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_when_the_time_is_up() {
    let limits = ServeLimits {
        drain_within: Duration::from_millis(20),
        ..ServeLimits::default()
    };
    let server = Server::start(limits).await;
    let mut stream = server.connect(&["http/1.1"]).await.unwrap();
    stream
        .write_all(b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    STUCK.begun.acquire().await.unwrap().forget();
    let reading = tokio::spawn(async move { read_to_end(&mut stream).await });
    let drained = server.stop().await;
    assert_eq!(drained.cut_connections, 1);
    assert!(!drained.is_complete());
    assert_eq!(reading.await.unwrap(), b"");
}

#[tokio::test]
async fn a_use_case_whose_client_hung_up_is_waited_for_too() {
    let limits = ServeLimits {
        drain_within: Duration::from_millis(20),
        ..ServeLimits::default()
    };
    let server = Server::start(limits).await;
    let mut stream = server.connect(&["http/1.1"]).await.unwrap();
    let head = b"POST /abandoned HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(head).await.unwrap();
    ABANDONED.begun.acquire().await.unwrap().forget();
    drop(stream);
    assert_eq!(server.stop().await.unfinished_requests, 1);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_cut_without_an_answer() {
    let limits = ServeLimits {
        head_within: Duration::from_millis(20),
        ..ServeLimits::default()
    };
    let server = Server::start(limits).await;
    for sent in [&b""[..], b"GET /health HTTP/1.1\r\nHost: loc"] {
        let mut stream = server.connect(&["http/1.1"]).await.unwrap();
        stream.write_all(sent).await.unwrap();
        assert_eq!(read_to_end(&mut stream).await, b"");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_own_time() {
    let limits = ServeLimits {
        idle_for: Duration::from_millis(20),
        ..ServeLimits::default()
    };
    let server = Server::start(limits).await;
    let mut stream = server.connect(&["http/1.1"]).await.unwrap();
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 200 OK\r\n"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test]
async fn an_http_2_connection_without_requests_is_sent_away_and_then_cut() {
    let moment = Duration::from_millis(20);
    let limits = ServeLimits {
        idle_for: moment,
        head_within: moment,
        ..ServeLimits::default()
    };
    let server = Server::start(limits).await;
    let mut silent = server.connect(&["h2"]).await.unwrap();
    silent
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    silent.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let answer = read_to_end(&mut silent).await;
    assert!(
        frames(&answer).any(|(kind, _)| kind == GOAWAY),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut() {
    let limits = ServeLimits {
        handshake_within: Duration::from_millis(20),
        ..ServeLimits::default()
    };
    let server = Server::start(limits).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert!(bytes.is_empty());
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let limits = ServeLimits {
        max_connections: 1,
        ..ServeLimits::default()
    };
    let server = Server::start(limits).await;
    let first = server.http1().await;
    let waiting = server.connect(&["http/1.1"]);
    let mut waiting = Box::pin(waiting);
    // The first is served to its end before the second is even greeted.
    let mut first = first;
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("the second connection was served beside the first"),
        response = first.send_request(get("/health")) => assert_eq!(response.unwrap().status(), 200),
    }
    drop(first);
    assert!(waiting.await.is_ok());
}

#[tokio::test]
async fn a_client_that_resets_streams_in_a_flood_is_sent_away() {
    let server = Server::start(ServeLimits::default()).await;
    let mut stream = server.connect(&["h2"]).await.unwrap();
    stream.write_all(&rapid_resets(2000)).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    // RFC 9113 §7: ENHANCE_YOUR_CALM is 0xb.
    assert!(
        frames(&answer)
            .any(|(kind, payload)| kind == GOAWAY && payload.get(4..8) == Some(&[0, 0, 0, 0xb][..]))
    );
    assert_eq!(
        server
            .http1()
            .await
            .send_request(get("/health"))
            .await
            .unwrap()
            .status(),
        200
    );
}

/// The preface, and streams that are opened and reset at once (CVE-2023-44487).
fn rapid_resets(count: u32) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    // RFC 7541 appendix A: GET, https, the path /, and an authority that is a literal.
    let head = [0x82, 0x87, 0x84, 0x01, 0x01, b'a'];
    for index in 0..count {
        let stream = index * 2 + 1;
        bytes.extend(frame(1, 0x5, stream, &head));
        bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    bytes
}

/// A frame of RFC 9113 §4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn frames(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_first_chunk::<9>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (payload, rest) = rest.split_at_checked(length)?;
        bytes = rest;
        Some((head[3], payload))
    })
}
