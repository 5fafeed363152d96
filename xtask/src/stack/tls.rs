//! TLS handshakes that trust one root only, so that each is a verification, too.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

use super::random::hex;

/// A visitor of websites who trusts one root.
#[derive(Clone)]
pub(crate) struct Visitor {
    config: Arc<ClientConfig>,
}

impl Visitor {
    /// Trusts the certificates in this file of PEM.
    pub(crate) fn trusting(root: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(root)? {
            roots.add(certificate?)?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A resumed session shows no certificate, so it would prove nothing.
        config.resumption = Resumption::disabled();
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// A whole handshake with a port of this machine, one request and its answer, which must be 200; the SHA-256 of the
    /// leaf that is served, in lowercase hex.
    pub(crate) fn visit(&self, port: u16, name: &str) -> Result<String> {
        let (leaf, answer) = self.ask(port, name)?;
        if !answer.starts_with("HTTP/1.1 200") {
            bail!(
                "answered with {:?}",
                answer.lines().next().unwrap_or_default()
            );
        }
        Ok(leaf)
    }

    /// The same with any answer.
    pub(crate) fn look(&self, port: u16, name: &str) -> Result<String> {
        let (leaf, answer) = self.ask(port, name)?;
        if !answer.starts_with("HTTP/1.") {
            bail!("there is no answer");
        }
        Ok(leaf)
    }

    /// The SHA-256 of the leaf, and what is answered.
    ///
    /// The request matters: with TLS 1.3 the client is done before the server has judged it.
    fn ask(&self, port: u16, name: &str) -> Result<(String, String)> {
        const LIMIT: Duration = Duration::from_secs(5);
        let name = ServerName::try_from(name.to_owned())?;
        let mut client = ClientConnection::new(Arc::clone(&self.config), name)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut socket = TcpStream::connect_timeout(&address, LIMIT)?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.set_write_timeout(Some(LIMIT))?;
        socket.set_nodelay(true)?;
        let mut stream = Stream::new(&mut client, &mut socket);
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let leaf = client
            .peer_certificates()
            .and_then(<[_]>::first)
            .context("no certificate was shown")?;
        Ok((fingerprint(leaf), answer))
    }
}

fn fingerprint(leaf: &CertificateDer<'_>) -> String {
    hex(::ring::digest::digest(&::ring::digest::SHA256, leaf).as_ref())
}
