//! Handshakes in memory: the certificate may be anybody's, the key must be its own.

use std::sync::Arc;

use certctl_testkit::ca::{Ca, Pair};
use rustls::{
    ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::any_certificate;

/// Serves whatever it is given, also a certificate with the key of another.
#[derive(Debug)]
struct Serve(Arc<CertifiedKey>);

impl ResolvesServerCert for Serve {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// What the client says of a server that shows one pair's certificate and signs with the key of another.
fn handshake(
    version: &'static SupportedProtocolVersion,
    shown: &Pair,
    signing: &Pair,
) -> Result<(), Error> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let certificate = CertificateDer::from_pem_slice(shown.cert_pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(signing.key_pem.expose().as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let served = Arc::new(CertifiedKey::new(vec![certificate], key));
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Serve(served)));
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(any_certificate(provider))
        .with_no_client_auth();
    let name = ServerName::try_from("another-name.test").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        client.write_tls(&mut there).unwrap();
        server.read_tls(&mut &there[..]).unwrap();
        server.process_new_packets()?;
        server.write_tls(&mut back).unwrap();
        client.read_tls(&mut &back[..]).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn any_certificate_will_do_whose_key_signed_the_handshake() {
    let ca = Ca::new("A Root That Nobody Trusts");
    let (pair, other) = (ca.issue("a.example"), ca.issue("b.example"));
    for version in [&TLS12, &TLS13] {
        handshake(version, &pair, &pair).unwrap();
        let refused = handshake(version, &pair, &other).unwrap_err();
        assert!(
            matches!(refused, Error::InvalidCertificate(_)),
            "{version:?}: {refused}"
        );
    }
}
