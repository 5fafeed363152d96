//! OCSP (RFC 6960, nonces by RFC 9654): requests read, responses made; and both the other way, for whoever asks.

mod parsed;
mod request;
mod response;

use certctl_domain::serial::SerialNumber;
use ring::digest;
use x509_cert::der::oid::ObjectIdentifier;

pub use self::{
    parsed::ParsedResponse,
    request::{MAX_CERTIFICATES, MAX_REQUEST, Nonce, Request, encode_request},
    response::{CertStatus, Failure, Responder, ResponderId, ResponseData, SingleResponse, Status},
};
use crate::{
    Error,
    asn1::{self, Reader},
    cert::ParsedCertificate,
};

const WHAT: &str = "OCSP request";

/// `id-pkix-ocsp-nonce`.
const NONCE_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");

/// How a request hashes the issuer. SHA-1 is no signature here: it only names the issuer, and most clients know nothing else
/// (RFC 5019 §2.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashAlgorithm {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl HashAlgorithm {
    const ALL: [Self; 2] = [Self::Sha1, Self::Sha256];

    /// The content of the object identifier.
    const fn oid(self) -> &'static [u8] {
        match self {
            Self::Sha1 => &[0x2b, 0x0e, 0x03, 0x02, 0x1a],
            Self::Sha256 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01],
        }
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        };
        digest::digest(algorithm, bytes).as_ref().to_vec()
    }
}

/// The certificate that is asked about (§4.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertId {
    /// None for an algorithm that no issuer here is hashed with.
    hash: Option<HashAlgorithm>,
    name_hash: Vec<u8>,
    key_hash: Vec<u8>,
    serial: SerialNumber,
    der: Vec<u8>,
}

impl CertId {
    /// What names the certificate `serial` of a CA.
    #[must_use]
    pub fn new(hash: HashAlgorithm, issuer: &IssuerHashes, serial: &SerialNumber) -> Self {
        let (name_hash, key_hash) = issuer.of(hash);
        let algorithm = asn1::sequence(&[&asn1::object_identifier(hash.oid()), &[0x05, 0x00]]);
        let der = asn1::sequence(&[
            &algorithm,
            &asn1::octet_string(name_hash),
            &asn1::octet_string(key_hash),
            &asn1::unsigned(&serial.to_be_bytes()),
        ]);
        Self {
            hash: Some(hash),
            name_hash: name_hash.to_vec(),
            key_hash: key_hash.to_vec(),
            serial: serial.clone(),
            der,
        }
    }

    fn from_der(der: &[u8]) -> Result<Self, Error> {
        let malformed = || Error::malformed(WHAT);
        let mut fields = Reader::sequence(der, WHAT)?;
        let mut algorithm = Reader::sequence(fields.any()?, WHAT)?;
        let oid = algorithm.required(0x06)?;
        // Parameters of hashes are NULL or absent (RFC 5754 §2); anything else would be another name for the same.
        if algorithm
            .optional(0x05)?
            .is_some_and(|null| !null.is_empty())
        {
            return Err(malformed());
        }
        algorithm.end()?;
        let name_hash = fields.required(0x04)?.to_vec();
        let key_hash = fields.required(0x04)?.to_vec();
        let serial = SerialNumber::from_be_bytes(fields.integer()?).map_err(|_| malformed())?;
        fields.end()?;
        Ok(Self {
            hash: HashAlgorithm::ALL
                .into_iter()
                .find(|hash| hash.oid() == oid),
            name_hash,
            key_hash,
            serial,
            der: der.to_vec(),
        })
    }

    /// The serial that is asked about.
    #[must_use]
    pub const fn serial(&self) -> &SerialNumber {
        &self.serial
    }

    /// As it came or was made; a response repeats it octet by octet.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether it asks about a certificate of this CA.
    #[must_use]
    pub fn is_of(&self, issuer: &IssuerHashes) -> bool {
        self.hash.is_some_and(|hash| {
            let (name_hash, key_hash) = issuer.of(hash);
            self.name_hash == name_hash && self.key_hash == key_hash
        })
    }
}

/// The hashes by which requests name a CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerHashes {
    sha1: (Vec<u8>, Vec<u8>),
    sha256: (Vec<u8>, Vec<u8>),
}

impl IssuerHashes {
    /// Of a CA by its certificate.
    ///
    /// # Errors
    /// [`Error::UnsupportedKey`] when its key is of no kind that certctl handles.
    pub fn new(ca: &ParsedCertificate) -> Result<Self, Error> {
        let name = ca.subject_der();
        // §4.1.1: the bits of the key without tag, length and unused bits.
        let key = ca.public_key()?.subject_public_key();
        let pair = |hash: HashAlgorithm| (hash.hash(name), hash.hash(key));
        Ok(Self {
            sha1: pair(HashAlgorithm::Sha1),
            sha256: pair(HashAlgorithm::Sha256),
        })
    }

    fn of(&self, hash: HashAlgorithm) -> (&[u8], &[u8]) {
        let (name, key) = match hash {
            HashAlgorithm::Sha1 => &self.sha1,
            HashAlgorithm::Sha256 => &self.sha256,
        };
        (name, key)
    }
}
