//! Certificates as rustls serves them.

use std::{fmt, sync::Arc, time::Duration};

use certctl_domain::{key::KeySpec, secret::Secret, time::Timestamp};
use certctl_pki::{
    cert::{RootSpec, random_serial, sign_root},
    key::PrivateKey,
    pem,
};
use rustls::{
    ServerConfig,
    crypto::ring::default_provider,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::TlsAcceptor;

use crate::{PairPem, device::Device, error::Error};

/// A certificate signed by itself, as a device brings one along.
pub(crate) fn self_signed(now: Timestamp) -> Result<PairPem, Error> {
    const DAY: Duration = Duration::from_secs(86_400);
    let key = PrivateKey::generate(KeySpec::EcdsaP256).map_err(Error::Certificate)?;
    let spec = RootSpec {
        common_name: "certctl-f5-mock",
        serial: &random_serial().map_err(Error::Certificate)?,
        not_before: now - DAY,
        not_after: now + 365 * DAY,
    };
    let signed = sign_root(&spec, &key).map_err(Error::Certificate)?;
    Ok(PairPem {
        certificates: signed.to_pem(),
        key: key.to_pem(),
    })
}

/// Certificate and key, once it is known that they belong together.
pub(crate) fn certified(certificates: &str, key: &Secret) -> Result<Arc<CertifiedKey>, Error> {
    let chain: Vec<CertificateDer<'static>> = pem::decode_certificates(certificates)
        .map_err(Error::Certificate)?
        .into_iter()
        .map(CertificateDer::from)
        .collect();
    if chain.is_empty() {
        return Err(Error::Empty);
    }
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| Error::NoKey)?;
    CertifiedKey::from_der(chain, key, &default_provider())
        .map(Arc::new)
        .map_err(Error::Pair)
}

/// The management port: HTTP/1.1, as the device speaks it.
pub(crate) fn management(certified: Arc<CertifiedKey>) -> TlsAcceptor {
    acceptor(Arc::new(SingleCertAndKey::from(certified)), &[b"http/1.1"])
}

/// The virtual server, whose certificate changes with the profile.
pub(crate) fn virtual_server(device: &Arc<Device>) -> TlsAcceptor {
    acceptor(
        Arc::new(OfTheProfile(Arc::clone(device))),
        &[b"h2", b"http/1.1"],
    )
}

fn acceptor(certificates: Arc<dyn ResolvesServerCert>, protocols: &[&[u8]]) -> TlsAcceptor {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    // A change of the profile empties the device's session cache; so a resumed session never shows an old certificate.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    TlsAcceptor::from(Arc::new(config))
}

struct OfTheProfile(Arc<Device>);

impl ResolvesServerCert for OfTheProfile {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.served())
    }
}

impl fmt::Debug for OfTheProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OfTheProfile")
    }
}
