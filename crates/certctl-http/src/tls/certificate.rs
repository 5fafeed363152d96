//! The server's certificate, replaced while it is in use.

use std::sync::{Arc, PoisonError, RwLock};

use certctl_telemetry::metrics_names::TLS_RELOAD_TOTAL;
use rustls::{
    ServerConfig,
    crypto::{
        CryptoProvider,
        ring::{default_provider, kx_group},
    },
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// Why a certificate and key cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text of the certificate is no PEM.
    #[error("the server certificate is not PEM")]
    CertificatePem(#[source] rustls_pki_types::pem::Error),
    /// There is no certificate in the text.
    #[error("there is no certificate in the server certificate file")]
    NoCertificate,
    /// There is no private key in the text that can be read.
    #[error("the server key is not a PEM private key")]
    KeyPem(#[source] rustls_pki_types::pem::Error),
    /// They are not a pair, or of a kind that cannot be used.
    #[error("the server certificate and key cannot be used together")]
    Pair(#[source] rustls::Error),
}

/// Gives every handshake the present certificate. Connections that are open keep the one they began with.
#[derive(Debug)]
pub struct CertResolver(RwLock<Arc<CertifiedKey>>);

impl CertResolver {
    /// Takes a chain, the server's own certificate first, and its key.
    ///
    /// # Errors
    /// [`Error`] when they cannot be read or are not a pair.
    pub fn new(chain_pem: &[u8], key_pem: &[u8]) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self(RwLock::new(Arc::new(pair(
            chain_pem, key_pem,
        )?)))))
    }

    /// Replaces the certificate for the handshakes to come. The old pair stays when the new one cannot be used.
    ///
    /// # Errors
    /// [`Error`] when they cannot be read or are not a pair.
    pub fn reload(&self, chain_pem: &[u8], key_pem: &[u8]) -> Result<(), Error> {
        let read = pair(chain_pem, key_pem);
        let result = if read.is_ok() { "success" } else { "failure" };
        metrics::counter!(TLS_RELOAD_TOTAL.name, "result" => result).increment(1);
        // The lock is held for an assignment, which cannot leave it half done.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read?);
        Ok(())
    }

    /// The server's own certificate that is served now, DER.
    #[must_use]
    pub fn certificate_der(&self) -> Vec<u8> {
        self.present()
            .cert
            .first()
            .map(|certificate| certificate.to_vec())
            .unwrap_or_default()
    }

    fn present(&self) -> Arc<CertifiedKey> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ResolvesServerCert for CertResolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.present())
    }
}

fn pair(chain_pem: &[u8], key_pem: &[u8]) -> Result<CertifiedKey, Error> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain_pem)
        .collect::<Result<_, _>>()
        .map_err(Error::CertificatePem)?;
    if chain.is_empty() {
        return Err(Error::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(Error::KeyPem)?;
    CertifiedKey::from_der(chain, key, &default_provider()).map_err(Error::Pair)
}

/// TLS 1.3 alone, X25519 before P-256, HTTP/2 before HTTP/1.1 (api §1).
pub(super) fn server_config(certificate: Arc<CertResolver>) -> Arc<ServerConfig> {
    let provider = CryptoProvider {
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1],
        ..default_provider()
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has the cipher suites of TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}
