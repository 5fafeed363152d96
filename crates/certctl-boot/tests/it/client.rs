//! Requests as a stranger makes them: TLS 1.3, the printed root, HTTP/1.1 in plain text.

use std::{sync::Arc, time::Duration};

use certctl_boot::Welcome;
use certctl_testkit::pki::cert::ParsedCertificate;
use rustls::{ClientConfig, RootCertStore, crypto::ring, version::TLS13};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Far more than an answer takes; a test that waits this long fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a server is reached.
#[derive(Clone)]
pub(crate) struct Client {
    port: u16,
    connector: TlsConnector,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Self {
            status: status.unwrap_or_else(|| panic!("no answer: {text:?}")),
            body: body.to_owned(),
        }
    }
}

impl Client {
    /// Trusts the root that the server says to trust, and nothing else.
    pub(crate) fn new(welcome: &Welcome) -> Self {
        let root = welcome
            .root
            .as_ref()
            .expect("the server made its own certificate");
        Self::trusting(welcome, &std::fs::read_to_string(root).unwrap())
    }

    /// Trusts this root, PEM.
    pub(crate) fn trusting(welcome: &Welcome, root: &str) -> Self {
        let root = ParsedCertificate::from_pem(root).unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(root.der().to_vec()))
            .unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let port = welcome.url.rsplit_once(':').unwrap().1.parse().unwrap();
        Self {
            port,
            connector: TlsConnector::from(Arc::new(config)),
        }
    }

    /// A connection whose certificate was verified against the root.
    pub(crate) async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = ServerName::try_from("localhost").unwrap();
        self.connector.connect(name, tcp).await
    }

    pub(crate) async fn get(&self, path: &str, key: &str) -> Reply {
        self.call("GET", path, key, "").await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, key: &str, body: &str) -> Reply {
        let mut stream = self.connect().await.unwrap();
        let (head, body) = message(method, path, key, body);
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        answer(&mut stream).await
    }

    /// Asks until the answer is this.
    pub(crate) async fn until(&self, path: &str, key: &str, status: u16) -> Reply {
        let asked = async {
            loop {
                let reply = self.get(path, key).await;
                if reply.status == status {
                    return reply;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let answered = tokio::time::timeout(PATIENCE, asked).await;
        answered.unwrap_or_else(|_| panic!("{path} never answers {status}"))
    }
}

/// Head and body of a request after which the connection ends.
pub(crate) fn message(method: &str, path: &str, key: &str, body: &str) -> (String, String) {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    (head, body.to_owned())
}

/// Reads to the end.
pub(crate) async fn answer(stream: &mut TlsStream<TcpStream>) -> Reply {
    let mut text = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut text)).await;
    read.expect("an answer comes").unwrap();
    Reply::parse(&String::from_utf8_lossy(&text))
}
