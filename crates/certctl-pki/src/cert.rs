//! X.509 certificates (RFC 5280): what is to be made, who makes it, and what was read.

pub(crate) mod extension;
mod parsed;
mod serial;
mod signer;
mod spec;
pub(crate) mod tbs;
mod tls_alpn;

pub use self::{
    parsed::{MAX_LEN, ParsedCertificate},
    serial::random_serial,
    signer::{CaSigner, SignedCertificate, sign_root},
    spec::{CertificateSpec, PathLength, ResponderSpec, RootSpec},
    tls_alpn::{AcmeIdentifier, TlsAlpnCertificate},
};
