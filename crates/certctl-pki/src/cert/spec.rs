//! What a certificate is to say.

use certctl_domain::{
    name::SubjectAltName, profile::ExtendedKeyUsage, serial::SerialNumber, time::Timestamp,
};

/// A certificate to be signed by a [`CaSigner`](super::CaSigner): a leaf, or an intermediate CA when [`CertificateSpec::ca`]
/// says so.
#[derive(Debug, Clone, Copy)]
pub struct CertificateSpec<'a> {
    /// The subject's common name. Empty, or longer than the 64 characters a subject has room for (RFC 5280 appendix A,
    /// ub-common-name), it leaves the subject empty and the alternative names critical (§4.1.2.6).
    pub common_name: &'a str,
    /// Every name, the common name included.
    pub sans: &'a [SubjectAltName],
    /// The key to certify, as DER `SubjectPublicKeyInfo`.
    pub spki_der: &'a [u8],
    /// The serial number; see [`random_serial`](super::random_serial).
    pub serial: &'a SerialNumber,
    /// The first second of validity; fractions are cut off.
    pub not_before: Timestamp,
    /// The last second of validity, itself included (RFC 5280 §4.1.2.5); fractions are cut off.
    pub not_after: Timestamp,
    /// What the key may be used for; none for CAs.
    pub ekus: &'a [ExtendedKeyUsage],
    /// Whether to put in the TLS feature `status_request` (RFC 7633).
    pub must_staple: bool,
    /// Makes it a CA, with how many CAs may follow below it.
    pub ca: Option<PathLength>,
    /// Where the CRL is.
    pub crl_urls: &'a [String],
    /// Where OCSP is answered.
    pub ocsp_urls: &'a [String],
    /// Where the issuing certificate is.
    pub ca_issuers_urls: &'a [String],
}

/// A certificate with which a CA lets another key answer OCSP requests in its place (RFC 6960 §4.2.2.2).
#[derive(Debug, Clone, Copy)]
pub struct ResponderSpec<'a> {
    /// The subject's common name, 1 to 64 characters.
    pub common_name: &'a str,
    /// The key to certify, as DER `SubjectPublicKeyInfo`.
    pub spki_der: &'a [u8],
    /// The serial number.
    pub serial: &'a SerialNumber,
    /// The first second of validity.
    pub not_before: Timestamp,
    /// The last second of validity.
    pub not_after: Timestamp,
}

/// How many CAs may stand between a CA and a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathLength {
    /// Any number.
    Unbounded,
    /// At most so many (RFC 5280 §4.2.1.9).
    AtMost(u8),
}

/// A root that signs itself.
#[derive(Debug, Clone, Copy)]
pub struct RootSpec<'a> {
    /// The subject's common name, 1 to 64 characters.
    pub common_name: &'a str,
    /// The serial number.
    pub serial: &'a SerialNumber,
    /// The first second of validity.
    pub not_before: Timestamp,
    /// The last second of validity.
    pub not_after: Timestamp,
}
