//! `http-01` (RFC 8555 §8.3): a file on port 80.
//!
//! The client is as small as it can be: one request for each connection, made by hyper on a socket that was checked. There is
//! no proxy, no cookie, no connection that is used twice, and nothing that is unpacked.

use std::{net::IpAddr, sync::Arc, time::Duration};

use certctl_domain::ports::challenge::ProofRequest;
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use subtle::ConstantTimeEq as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::Url;

use super::{
    Config,
    dial::{Dialler, Host},
    error::Error,
    tls::client,
};

/// How often a redirect is followed.
const MAX_REDIRECTS: usize = 10;

/// What a body may have at most: a key authorisation has under 130 bytes, all else is no proof.
const MAX_BODY: usize = 16 * 1024;

/// What the head of an answer may have at most.
const MAX_HEAD: usize = 16 * 1024;

/// The longest target of a redirect.
const MAX_LOCATION: usize = 2048;

pub(crate) struct Http01 {
    dialler: Dialler,
    connector: TlsConnector,
    http_port: u16,
    tls_port: u16,
    headers: Duration,
}

impl std::fmt::Debug for Http01 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http01")
            .field("port", &self.http_port)
            .finish_non_exhaustive()
    }
}

impl Http01 {
    pub(crate) fn new(dialler: Dialler, config: &Config) -> Self {
        Self {
            dialler,
            connector: TlsConnector::from(Arc::new(client(&[b"http/1.1"]))),
            http_port: config.http_port,
            tls_port: config.tls_port,
            headers: config.limits.headers,
        }
    }

    pub(crate) async fn prove(&self, request: &ProofRequest) -> Result<(), Error> {
        let body = self.fetch(self.first(request)?).await?;
        // RFC 8555 §8.3: white space at the end is ignored, for editors leave a line feed there.
        let found = body.trim_ascii_end();
        if bool::from(found.ct_eq(request.key_authorization.as_bytes())) {
            Ok(())
        } else {
            Err(Error::Wrong(
                "the content of the file is not the one of this challenge",
            ))
        }
    }

    fn first(&self, request: &ProofRequest) -> Result<Url, Error> {
        let host = match Host::from(&request.identifier) {
            Host::Address(IpAddr::V6(v6)) => format!("[{v6}]"),
            Host::Address(IpAddr::V4(v4)) => v4.to_string(),
            Host::Name(name) => name,
        };
        let text = format!(
            "http://{host}:{}/.well-known/acme-challenge/{}",
            self.http_port, request.token
        );
        Url::parse(&text).map_err(|_| Error::Unfit(request.identifier.to_string()))
    }

    /// The file, wherever redirects lead.
    async fn fetch(&self, first: Url) -> Result<Vec<u8>, Error> {
        let mut visited = vec![first];
        while let Some(url) = visited.last() {
            match self.get(url).await? {
                Answer::File(body) => return Ok(body),
                Answer::Elsewhere(location) => {
                    let next = self.target(url, &location)?;
                    if visited.contains(&next) {
                        return Err(redirect("where it came from"));
                    }
                    if visited.len() > MAX_REDIRECTS {
                        break;
                    }
                    visited.push(next);
                }
            }
        }
        Err(Error::TooManyRedirects(MAX_REDIRECTS))
    }

    /// Where a redirect leads, if it may lead there.
    fn target(&self, from: &Url, location: &[u8]) -> Result<Url, Error> {
        if location.len() > MAX_LOCATION {
            return Err(redirect("a URL that is too long"));
        }
        let mut url = std::str::from_utf8(location)
            .ok()
            .and_then(|text| from.join(text).ok())
            .ok_or(redirect("what is no URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(redirect("what is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(redirect("a URL with credentials"));
        }
        // Other ports may belong to somebody else on the same host.
        if ![self.http_port, self.tls_port].contains(&self.port(&url)) {
            return Err(redirect("a port other than 80 and 443"));
        }
        // It is not sent (RFC 9110 §7.1), and would make one target look like two.
        url.set_fragment(None);
        Ok(url)
    }

    /// The port of a URL; one that names none means the configured port of its scheme.
    fn port(&self, url: &Url) -> u16 {
        url.port().unwrap_or(if url.scheme() == "https" {
            self.tls_port
        } else {
            self.http_port
        })
    }

    async fn get(&self, url: &Url) -> Result<Answer, Error> {
        let host = match url.host() {
            Some(url::Host::Domain(name)) => {
                Host::Name(name.strip_suffix('.').unwrap_or(name).to_owned())
            }
            Some(url::Host::Ipv4(v4)) => Host::Address(v4.into()),
            Some(url::Host::Ipv6(v6)) => Host::Address(v6.into()),
            None => return Err(redirect("no host")),
        };
        let stream = self.dialler.connect(&host, self.port(url)).await?;
        if url.scheme() == "http" {
            return self.ask(stream, url).await;
        }
        let name = match host {
            Host::Name(name) => ServerName::try_from(name).map_err(|_| redirect("no host name"))?,
            Host::Address(ip) => ServerName::from(ip),
        };
        let stream = timeout(self.headers, self.connector.connect(name, stream))
            .await
            .map_err(|_| Error::Late("the TLS handshake"))?
            .map_err(Error::Handshake)?;
        self.ask(stream, url).await
    }

    /// One request on a connection of its own.
    async fn ask<S>(&self, stream: S, url: &Url) -> Result<Answer, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(Error::NotHttp)?;
        let exchange = async {
            let response = timeout(self.headers, sender.send_request(request(url)))
                .await
                .map_err(|_| Error::Late("the answer"))?
                .map_err(Error::NotHttp)?;
            answer(response).await
        };
        // The connection does the reading and writing. When it ends first, what it has read is still to be taken.
        let drive = async {
            if let Err(error) = connection.await {
                tracing::trace!(
                    error = &error as &dyn std::error::Error,
                    "the connection ended"
                );
            }
            std::future::pending().await
        };
        tokio::select! {
            result = exchange => result,
            never = drive => never,
        }
    }
}

/// What a request came to.
enum Answer {
    File(Vec<u8>),
    Elsewhere(Vec<u8>),
}

const fn redirect(problem: &'static str) -> Error {
    Error::Redirect { problem }
}

fn request(url: &Url) -> Request<Empty<Bytes>> {
    let mut target = url.path().to_owned();
    if let Some(query) = url.query() {
        target.push('?');
        target.push_str(query);
    }
    let mut host = url.host_str().unwrap_or_default().to_owned();
    if let Some(port) = url.port() {
        host.push_str(&format!(":{port}"));
    }
    Request::builder()
        .method(Method::GET)
        .uri(target)
        .header(header::HOST, host)
        .header(header::USER_AGENT, "certctl")
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .expect("what a URL is made of is fit for a request")
}

async fn answer(response: Response<Incoming>) -> Result<Answer, Error> {
    let status = response.status();
    let is_redirect = matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    if is_redirect && let Some(location) = response.headers().get(header::LOCATION) {
        return Ok(Answer::Elsewhere(location.as_bytes().to_vec()));
    }
    if status != StatusCode::OK {
        return Err(Error::Status(status.as_u16()));
    }
    read(response.into_body()).await.map(Answer::File)
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, Error> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Error::NotHttp)?.into_data() else {
            continue;
        };
        if read.len() + data.len() > MAX_BODY {
            return Err(Error::TooLong(MAX_BODY));
        }
        read.extend_from_slice(&data);
    }
    Ok(read)
}
