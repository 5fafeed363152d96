//! `tls-alpn-01` (RFC 8737): a digest in a certificate that is presented for a protocol of its own.

use std::{net::IpAddr, sync::Arc};

use certctl_domain::{acme::Identifier, name::SubjectAltName, ports::challenge::ProofRequest};
use certctl_pki::cert::TlsAlpnCertificate;
use ring::digest;
use rustls_pki_types::ServerName;
use subtle::ConstantTimeEq as _;
use tokio_rustls::TlsConnector;

use super::{
    Config,
    dial::{Dialler, Host},
    error::Error,
    tls::client,
};

/// The protocol's name (RFC 8737 §6.2).
const PROTOCOL: &[u8] = b"acme-tls/1";

pub(crate) struct TlsAlpn01 {
    dialler: Dialler,
    port: u16,
    connector: TlsConnector,
}

impl std::fmt::Debug for TlsAlpn01 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsAlpn01")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl TlsAlpn01 {
    pub(crate) fn new(dialler: Dialler, config: &Config) -> Self {
        Self {
            dialler,
            port: config.tls_port,
            connector: TlsConnector::from(Arc::new(client(&[PROTOCOL]))),
        }
    }

    pub(crate) async fn prove(&self, request: &ProofRequest) -> Result<(), Error> {
        let name = server_name(&request.identifier)?;
        let host = Host::from(&request.identifier);
        let stream = self.dialler.connect(&host, self.port).await?;
        let stream = self
            .connector
            .connect(name, stream)
            .await
            .map_err(Error::Handshake)?;
        let (_, session) = stream.get_ref();
        // A server that ignores the question has gone on with some other protocol, and nobody chose to answer this challenge.
        if session.alpn_protocol() != Some(PROTOCOL) {
            return Err(Error::NotTheProtocol(
                "the server did not choose acme-tls/1",
            ));
        }
        let leaf = session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .ok_or(Error::NotTheProtocol("the server presented no certificate"))?;
        let leaf = TlsAlpnCertificate::from_der(leaf)
            .map_err(|_| Error::BadCertificate("the certificate cannot be read"))?;
        check(&leaf, request)
    }
}

/// Whom to ask for: the name, or the name that stands for an address in reverse DNS (RFC 8738 §6).
fn server_name(identifier: &Identifier) -> Result<ServerName<'static>, Error> {
    let text = match identifier {
        Identifier::Dns(name) => name.clone(),
        Identifier::Ip(ip) => reverse_name(*ip),
    };
    ServerName::try_from(text).map_err(|_| Error::Unfit(identifier.to_string()))
}

/// RFC 1035 §3.5 and RFC 3596 §2.5.
fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let digits = format!("{:032x}", v6.to_bits());
            let mut name = String::with_capacity(72);
            for digit in digits.chars().rev() {
                name.push(digit);
                name.push('.');
            }
            name + "ip6.arpa"
        }
    }
}

/// RFC 8737 §3: one name, which is the one that is proved, and a critical extension with the digest.
fn check(leaf: &TlsAlpnCertificate, request: &ProofRequest) -> Result<(), Error> {
    let Some(proof) = &leaf.identifier else {
        return Err(Error::NotTheProtocol(
            "the certificate has no acmeIdentifier extension",
        ));
    };
    if !proof.critical {
        return Err(Error::BadCertificate(
            "the certificate's acmeIdentifier extension is not critical",
        ));
    }
    let is_named = match (leaf.names.as_slice(), &request.identifier) {
        ([Some(SubjectAltName::Dns(name))], Identifier::Dns(expected)) => {
            name.eq_ignore_ascii_case(expected)
        }
        ([Some(SubjectAltName::Ip(ip))], Identifier::Ip(expected)) => ip == expected,
        _ => false,
    };
    if !is_named {
        return Err(Error::BadCertificate(
            "the certificate is not for this identifier alone",
        ));
    }
    let expected = digest::digest(&digest::SHA256, request.key_authorization.as_bytes());
    if bool::from(proof.value.ct_eq(expected.as_ref())) {
        Ok(())
    } else {
        Err(Error::Wrong(
            "the digest in the certificate is not the one of this challenge",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::reverse_name;

    #[test]
    fn addresses_are_asked_for_by_their_reverse_names() {
        assert_eq!(
            reverse_name("192.0.2.1".parse().unwrap()),
            "1.2.0.192.in-addr.arpa"
        );
        // The example of RFC 3596 §2.5.
        assert_eq!(
            reverse_name("4321:0:1:2:3:4:567:89ab".parse().unwrap()),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa"
        );
    }
}
