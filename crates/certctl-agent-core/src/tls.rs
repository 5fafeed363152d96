//! How the server is known to be the right one.

use std::{path::Path, sync::Arc};

use certctl_pki::pem;
use certctl_tls::any_certificate;
use rustls::{ClientConfig, RootCertStore, crypto::ring, version::TLS13};
use rustls_pki_types::CertificateDer;

use crate::{Error, config::ServerConfig};

/// TLS 1.3 only, with the roots that are configured.
pub(crate) fn client_config(server: &ServerConfig) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .expect("ring has suites for TLS 1.3");
    if server.insecure_skip_verify {
        tracing::warn!(
            "the server's certificate is NOT checked: anybody on the way can read and answer for it"
        );
        return Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(any_certificate(provider))
            .with_no_client_auth());
    }
    let roots = match &server.ca_bundle {
        Some(path) => bundle(path)?,
        None => system_roots()?,
    };
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn bundle(path: &Path) -> Result<RootCertStore, Error> {
    let unusable = |source: Box<dyn std::error::Error + Send + Sync>| Error::CaBundle {
        path: path.to_path_buf(),
        source,
    };
    let text = std::fs::read_to_string(path).map_err(|reason| unusable(reason.into()))?;
    let mut roots = RootCertStore::empty();
    for der in pem::decode_certificates(&text).map_err(|reason| unusable(reason.into()))? {
        roots
            .add(CertificateDer::from(der))
            .map_err(|reason| unusable(reason.into()))?;
    }
    Ok(roots)
}

/// Some roots of a system may be unreadable to rustls; the rest still count.
fn system_roots() -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let (added, _ignored) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(Error::NoRoots);
    }
    Ok(roots)
}
