//! Looks at the certificate that a TLS server presents, whoever signed it.
//!
//! Trust is not checked, for the question is which certificate is there, not whether it is good. Possession of the key is:
//! the handshake signature is verified as in any handshake. No session is ever resumed, because a resumed session shows the
//! certificate of the session and not the one that is served now (targets §3.1).

use std::{fmt, io, sync::Arc, time::Duration};

use certctl_tls::any_certificate;
use rustls::{ClientConfig, client::Resumption};
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

/// Why no certificate was seen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The endpoint is not `host:port`.
    #[error("{0:?} is not host:port")]
    BadEndpoint(String),
    /// The name for SNI is no host name and no address.
    #[error("{name:?} cannot be asked for")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: InvalidDnsNameError,
    },
    /// Plain protocols that switch to TLS are not spoken yet.
    #[error("STARTTLS for {0} is not supported yet")]
    StartTlsUnsupported(String),
    /// Nobody answered, or not in TLS.
    #[error("no TLS handshake with {endpoint}")]
    Handshake {
        /// The endpoint.
        endpoint: String,
        /// The reason.
        source: io::Error,
    },
    /// The limit was reached.
    #[error("no TLS handshake with {endpoint} within {limit:?}")]
    TimedOut {
        /// The endpoint.
        endpoint: String,
        /// The limit.
        limit: Duration,
    },
    /// The server completed a handshake without a certificate.
    #[error("{0} presented no certificate")]
    NoCertificate(String),
}

/// Where to look, and whom to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    server_name: String,
}

impl Endpoint {
    /// Reads `host:port` or `[v6]:port`; the host is also asked for by SNI.
    ///
    /// # Errors
    /// [`Error::BadEndpoint`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = || Error::BadEndpoint(text.chars().take(300).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').ok_or_else(bad)?,
            None if host.contains(':') => return Err(bad()),
            None => host,
        };
        let port: u16 = port.parse().map_err(|_| bad())?;
        if host.is_empty() || port == 0 {
            return Err(bad());
        }
        Ok(Self::new(host, port))
    }

    /// A host and a port; the host is also asked for by SNI.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        let host = host.into();
        Self {
            server_name: host.clone(),
            host,
            port,
        }
    }

    /// The same endpoint, asked for by another name.
    #[must_use]
    pub fn with_server_name(self, server_name: impl Into<String>) -> Self {
        Self {
            server_name: server_name.into(),
            ..self
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What a server presented.
#[derive(Debug, Clone)]
pub struct Presented {
    /// The certificates in DER, leaf first, as sent.
    pub chain: Vec<Vec<u8>>,
    /// SHA-256 of the leaf in lowercase hex.
    pub fingerprint_sha256: String,
    /// The protocol version, as in `TLSv1_3`.
    pub tls_version: String,
    /// The cipher suite, as rustls names it.
    pub cipher_suite: String,
    /// How long connecting and the handshake took.
    pub response_time: Duration,
}

/// Makes handshakes.
#[derive(Clone)]
pub struct Prober {
    config: Arc<ClientConfig>,
}

impl Prober {
    /// A prober for TLS 1.2 and 1.3.
    #[must_use]
    pub fn new() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions")
            .dangerous()
            .with_custom_certificate_verifier(any_certificate(provider))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Self {
            config: Arc::new(config),
        }
    }

    /// Connects and completes one handshake.
    ///
    /// # Errors
    /// [`Error`] when there was none within `limit`.
    pub async fn probe(&self, endpoint: &Endpoint, limit: Duration) -> Result<Presented, Error> {
        let name = ServerName::try_from(endpoint.server_name.clone()).map_err(|source| {
            Error::BadName {
                name: endpoint.server_name.clone(),
                source,
            }
        })?;
        let started = Instant::now();
        let handshake = async {
            let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
            TlsConnector::from(Arc::clone(&self.config))
                .connect(name, stream)
                .await
        };
        let stream = match timeout(limit, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(source)) => {
                return Err(Error::Handshake {
                    endpoint: endpoint.to_string(),
                    source,
                });
            }
            Err(_) => {
                return Err(Error::TimedOut {
                    endpoint: endpoint.to_string(),
                    limit,
                });
            }
        };
        let (_, session) = stream.get_ref();
        let chain: Vec<Vec<u8>> = session
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect();
        let leaf = chain
            .first()
            .ok_or_else(|| Error::NoCertificate(endpoint.to_string()))?;
        Ok(Presented {
            fingerprint_sha256: certctl_pki::fingerprint(leaf),
            tls_version: session
                .protocol_version()
                .map(|version| format!("{version:?}"))
                .unwrap_or_default(),
            cipher_suite: session
                .negotiated_cipher_suite()
                .map(|suite| format!("{:?}", suite.suite()))
                .unwrap_or_default(),
            response_time: started.elapsed(),
            chain,
        })
    }
}

impl Default for Prober {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Prober {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prober")
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn endpoints_are_host_and_port() {
        for good in ["example.com:443", "127.0.0.1:8443", "[::1]:443"] {
            assert_eq!(Endpoint::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "example.com",
            "example.com:",
            ":443",
            "::1:443",
            "[::1:443",
            "a:0",
            "a:70000",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }
}
