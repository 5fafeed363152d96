//! One connection: TLS 1.3 and HTTP/1.1, kept open.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

/// How long an answer may take; only bounds a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a server is, and whom it is trusted by.
pub(crate) struct Site {
    connector: TlsConnector,
    /// Host and port, as URLs have them.
    authority: String,
    host: String,
    port: u16,
    pub(crate) directory_path: String,
}

impl Site {
    pub(crate) fn new(directory: &str, root: &str) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(root.as_bytes()) {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let uri: http::Uri = directory.parse()?;
        let authority = uri.authority().context("the directory has no host")?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            authority: authority.to_string(),
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(443),
            directory_path: uri.path().to_owned(),
        })
    }

    /// The path of a URL of this server.
    pub(crate) fn path_of<'a>(&self, url: &'a str) -> anyhow::Result<&'a str> {
        url.strip_prefix("https://")
            .and_then(|rest| rest.strip_prefix(self.authority.as_str()))
            .with_context(|| format!("{url} is another server's"))
    }
}

/// An open connection.
pub(crate) struct Wire {
    sender: http1::SendRequest<Full<Bytes>>,
    authority: String,
}

impl Wire {
    pub(crate) async fn open(site: &Site) -> anyhow::Result<Self> {
        let stream = TcpStream::connect((site.host.as_str(), site.port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(site.host.clone())?;
        let stream = site.connector.connect(name, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self {
            sender,
            authority: site.authority.clone(),
        })
    }

    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Reply> {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&mut self, url: &str, body: String) -> anyhow::Result<Reply> {
        let path = url
            .strip_prefix("https://")
            .and_then(|rest| rest.strip_prefix(self.authority.as_str()))
            .with_context(|| format!("{url} is another server's"))?
            .to_owned();
        self.send(Method::POST, &path, Some(body)).await
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> anyhow::Result<Reply> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::USER_AGENT, "certctl-acme-load");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/jose+json");
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())))?;
        // So that a server that never answers is named, instead of standing still with it.
        let answered = timeout(PATIENCE, self.answer(request)).await;
        answered.with_context(|| format!("{} has not answered {path}", self.authority))?
    }

    async fn answer(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Reply> {
        self.sender.ready().await?;
        let (parts, body) = self.sender.send_request(request).await?.into_parts();
        Ok(Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect().await?.to_bytes(),
        })
    }
}

/// What came back.
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| self.text())
    }

    pub(crate) fn nonce(&self) -> anyhow::Result<String> {
        self.header("replay-nonce")
    }

    pub(crate) fn location(&self) -> anyhow::Result<String> {
        self.header("location")
    }

    fn header(&self, name: &str) -> anyhow::Result<String> {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value
            .map(str::to_owned)
            .with_context(|| format!("{} without {name}: {}", self.status, self.text()))
    }
}
