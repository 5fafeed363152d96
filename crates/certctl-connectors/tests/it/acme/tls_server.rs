//! A TLS server on 127.0.0.1 that presents what it is told, and notes whom it was asked for.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType};
use ring::digest;
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::ring::{default_provider, sign::any_supported_type},
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{io::AsyncReadExt as _, net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use super::KEY_AUTHORIZATION;

/// `id-pe-acmeIdentifier` (RFC 8737 §6.1).
pub(crate) const ACME_IDENTIFIER: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 1, 31];

pub(crate) const PROTOCOL: &[u8] = b"acme-tls/1";

/// What is presented, right in all points until something is changed.
#[derive(Clone)]
pub(crate) struct Presented {
    pub(crate) names: Vec<SanType>,
    pub(crate) extensions: Vec<CustomExtension>,
    pub(crate) protocols: Vec<Vec<u8>>,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
}

pub(crate) fn dns_name(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

/// The extension around some DER.
pub(crate) fn extension(der: Vec<u8>, critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&ACME_IDENTIFIER, der);
    extension.set_criticality(critical);
    extension
}

/// SHA-256 of a key authorisation as an OCTET STRING.
pub(crate) fn octets(key_authorization: &str) -> Vec<u8> {
    let digest = digest::digest(&digest::SHA256, key_authorization.as_bytes());
    [[4, 32].as_slice(), digest.as_ref()].concat()
}

impl Presented {
    pub(crate) fn right_for(name: SanType) -> Self {
        Self {
            names: vec![name],
            extensions: vec![extension(octets(KEY_AUTHORIZATION), true)],
            protocols: vec![PROTOCOL.to_vec()],
            versions: vec![&rustls::version::TLS13, &rustls::version::TLS12],
        }
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names.clone_from(&self.names);
        params.custom_extensions.clone_from(&self.extensions);
        let certificate = params.self_signed(&key).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_no_client_auth()
            // Given to it as a chain, rustls would read the certificate, and refuse its extension.
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(
                chain,
                any_supported_type(&key).unwrap(),
            ))));
        config.alpn_protocols.clone_from(&self.protocols);
        TlsAcceptor::from(Arc::new(config))
    }
}

/// An acceptor for an ordinary server.
pub(crate) fn acceptor(names: &[&str], protocols: &[&[u8]]) -> TlsAcceptor {
    let presented = Presented {
        names: names.iter().map(|name| dns_name(name)).collect(),
        extensions: Vec::new(),
        protocols: protocols.iter().map(|name| name.to_vec()).collect(),
        versions: vec![&rustls::version::TLS13, &rustls::version::TLS12],
    };
    presented.acceptor()
}

/// A running server; stopped on drop.
pub(crate) struct TlsServer {
    port: u16,
    asked_for: Arc<Mutex<Vec<Option<String>>>>,
    _tasks: JoinSet<()>,
}

impl TlsServer {
    pub(crate) async fn start(presented: &Presented) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked_for = Arc::new(Mutex::new(Vec::new()));
        let (acceptor, log) = (presented.acceptor(), Arc::clone(&asked_for));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, log) = (acceptor.clone(), Arc::clone(&log));
                connections.spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let name = stream.get_ref().1.server_name().map(str::to_owned);
                    log.lock().unwrap().push(name);
                    // Held open until the client has seen enough.
                    let mut rest = Vec::new();
                    let _: std::io::Result<usize> = stream.read_to_end(&mut rest).await;
                });
            }
        });
        Self {
            port,
            asked_for,
            _tasks: tasks,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The server names of the handshakes that were completed.
    pub(crate) fn asked_for(&self) -> Vec<Option<String>> {
        self.asked_for.lock().unwrap().clone()
    }
}
