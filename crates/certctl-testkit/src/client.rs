//! Requests as a stranger makes them: TLS 1.3, the printed root, HTTP/1.1 in plain text.

use std::{sync::Arc, time::Duration};

use certctl_pki::cert::ParsedCertificate;
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
pub struct Client {
    port: u16,
    connector: TlsConnector,
}

/// What was answered.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
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
    /// Reaches the server at this port of this machine; trusts this root, PEM, and nothing else.
    ///
    /// # Panics
    /// When the root is no certificate.
    #[must_use]
    pub fn new(port: u16, root: &str) -> Self {
        let root = ParsedCertificate::from_pem(root).expect("the root is PEM");
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(root.der().to_vec()))
            .expect("the root is a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("ring knows TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            port,
            connector: TlsConnector::from(Arc::new(config)),
        }
    }

    /// A connection whose certificate was verified against the root.
    ///
    /// # Errors
    /// What the system or TLS says.
    pub async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = ServerName::try_from("localhost").expect("it is a name");
        self.connector.connect(name, tcp).await
    }

    /// Asks once, on a connection of its own.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn get(&self, path: &str, key: &str) -> Reply {
        self.call("GET", path, key, "").await
    }

    /// Asks once, on a connection of its own.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn call(&self, method: &str, path: &str, key: &str, body: &str) -> Reply {
        let mut stream = self.connect().await.expect("the server is there");
        let (head, body) = message(method, path, key, body);
        stream
            .write_all(head.as_bytes())
            .await
            .expect("a request can be sent");
        stream
            .write_all(body.as_bytes())
            .await
            .expect("a request can be sent");
        answer(&mut stream).await
    }

    /// Asks until the answer is this.
    ///
    /// # Panics
    /// When it never is.
    pub async fn until(&self, path: &str, key: &str, status: u16) -> Reply {
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
#[must_use]
pub fn message(method: &str, path: &str, key: &str, body: &str) -> (String, String) {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    (head, body.to_owned())
}

/// Reads to the end.
///
/// # Panics
/// When no answer comes.
pub async fn answer(stream: &mut TlsStream<TcpStream>) -> Reply {
    let mut text = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut text)).await;
    read.expect("an answer comes")
        .expect("an answer can be read");
    Reply::parse(&String::from_utf8_lossy(&text))
}
