//! A TLS client that authenticates nobody.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring::default_provider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// A client for TLS 1.2 and 1.3 that offers protocols, and takes whatever certificate is presented.
///
/// The certificate of `tls-alpn-01` is signed by itself; what it says is the proof, whoever holds its key (RFC 8737 §3). On the
/// way of a redirect of `http-01` it is of no interest at all, since the way began in plain HTTP.
pub(super) fn client(protocols: &[&[u8]]) -> ClientConfig {
    let provider = Arc::new(default_provider());
    let mut schemes = provider
        .signature_verification_algorithms
        .supported_schemes();
    // Nothing is verified, so a server with a key of another kind need not be sent away.
    schemes.push(SignatureScheme::ECDSA_NISTP521_SHA512);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Nobody { schemes }))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    // A resumed session presents no certificate.
    config.resumption = Resumption::disabled();
    config
}

/// Neither is the signature of the handshake checked: rustls reads the certificate for that, and refuses one with a critical
/// extension that it does not know, which is what makes the certificate of `tls-alpn-01`.
#[derive(Debug)]
struct Nobody {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Nobody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
