//! Responses (RFC 6960 §4.2).

use certctl_domain::{revocation::RevocationReason, time::Timestamp};
use ring::digest;
use x509_cert::der::{DateTime, Encode as _, asn1::GeneralizedTime};

use super::{CertId, request::nonce_extension};
use crate::{
    Error, asn1,
    cert::ParsedCertificate,
    key::{PrivateKey, PublicKey, SignatureAlgorithm},
};

/// What became of a request, as `OCSPResponseStatus` numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is answered.
    Successful,
    /// It is not.
    Failed(Failure),
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The request is none.
    MalformedRequest,
    /// The responder failed.
    InternalError,
    /// Too many questions; later.
    TryLater,
    /// Not about certificates that this responder speaks for.
    Unauthorized,
}

impl Failure {
    /// Each of them.
    pub const ALL: [Self; 4] = [
        Self::MalformedRequest,
        Self::InternalError,
        Self::TryLater,
        Self::Unauthorized,
    ];

    /// The number of §4.2.1.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::MalformedRequest => 1,
            Self::InternalError => 2,
            Self::TryLater => 3,
            Self::Unauthorized => 6,
        }
    }

    /// The whole response as DER; nobody signs it.
    #[must_use]
    pub const fn to_der(self) -> [u8; 5] {
        [0x30, 0x03, 0x0a, 0x01, self.code()]
    }
}

/// What is said of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertStatus {
    /// It is not revoked.
    Good,
    /// It is.
    Revoked {
        /// Since when.
        at: Timestamp,
        /// Why.
        reason: RevocationReason,
    },
    /// The responder does not know it.
    Unknown,
}

/// The answer about one certificate.
#[derive(Debug, Clone)]
pub struct SingleResponse<'a> {
    /// Which.
    pub id: &'a CertId,
    /// What is said.
    pub status: CertStatus,
    /// When that was known to be right; fractions are cut off.
    pub this_update: Timestamp,
    /// When to ask again; fractions are cut off.
    pub next_update: Timestamp,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponderId {
    /// By the name in its certificate, as DER.
    ByName(Vec<u8>),
    /// By the SHA-1 of its key's bits.
    ByKey([u8; 20]),
}

impl ResponderId {
    /// By the key.
    #[must_use]
    pub fn by_key(key: &PublicKey) -> Self {
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, key.subject_public_key());
        let mut id = [0; 20];
        id.copy_from_slice(hash.as_ref());
        Self::ByKey(id)
    }

    /// By the subject of its certificate.
    #[must_use]
    pub fn by_name(certificate: &ParsedCertificate) -> Self {
        Self::ByName(certificate.subject_der().to_vec())
    }

    fn to_der(&self) -> Vec<u8> {
        match self {
            Self::ByName(name) => asn1::explicit(1, &[name]),
            Self::ByKey(hash) => asn1::explicit(2, &[&asn1::octet_string(hash)]),
        }
    }
}

/// The part of a response that is signed, `ResponseData` as DER.
#[derive(Debug, Clone)]
pub struct ResponseData(Vec<u8>);

impl ResponseData {
    /// Puts together what `responder` says at `produced_at`; a nonce is repeated.
    ///
    /// # Errors
    /// [`Error::Malformed`] for times before 1970.
    pub fn new(
        responder: &ResponderId,
        produced_at: Timestamp,
        responses: &[SingleResponse<'_>],
        nonce: Option<&[u8]>,
    ) -> Result<Self, Error> {
        let singles = responses
            .iter()
            .map(single)
            .collect::<Result<Vec<_>, Error>>()?
            .concat();
        let extensions = nonce.map_or_else(Vec::new, |nonce| {
            asn1::explicit(1, &[&asn1::sequence(&[&nonce_extension(nonce)])])
        });
        Ok(Self(asn1::sequence(&[
            &responder.to_der(),
            &time(produced_at)?,
            &asn1::sequence(&[&singles]),
            &extensions,
        ])))
    }

    /// What is signed.
    #[must_use]
    pub fn tbs(&self) -> &[u8] {
        &self.0
    }

    /// The whole response as DER: the data, its signature, and the certificate of who signed where that is not the CA.
    #[must_use]
    pub fn signed(
        &self,
        algorithm: SignatureAlgorithm,
        signature: &[u8],
        certificate: Option<&ParsedCertificate>,
    ) -> Vec<u8> {
        /// `id-pkix-ocsp-basic`.
        const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
        let certificates = certificate.map_or_else(Vec::new, |certificate| {
            asn1::explicit(0, &[&asn1::sequence(&[certificate.der()])])
        });
        let basic = asn1::sequence(&[
            &self.0,
            algorithm.to_der(),
            &asn1::bit_string(signature),
            &certificates,
        ]);
        let bytes = asn1::sequence(&[&asn1::object_identifier(BASIC), &asn1::octet_string(&basic)]);
        asn1::sequence(&[&[0x0a, 0x01, 0x00], &asn1::explicit(0, &[&bytes])])
    }
}

fn single(response: &SingleResponse<'_>) -> Result<Vec<u8>, Error> {
    let status = match response.status {
        CertStatus::Good => asn1::implicit(0, &[]),
        CertStatus::Unknown => asn1::implicit(2, &[]),
        CertStatus::Revoked { at, reason } => {
            // As on the list, unspecified is said by saying nothing.
            let reason = if reason == RevocationReason::Unspecified {
                Vec::new()
            } else {
                asn1::explicit(0, &[&[0x0a, 0x01, reason.code()]])
            };
            asn1::explicit(1, &[&time(at)?, &reason])
        }
    };
    Ok(asn1::sequence(&[
        response.id.der(),
        &status,
        &time(response.this_update)?,
        &asn1::explicit(0, &[&time(response.next_update)?]),
    ]))
}

/// `GeneralizedTime` in whole seconds; OCSP has no other.
fn time(at: Timestamp) -> Result<Vec<u8>, Error> {
    const OUT_OF_RANGE: Error = Error::malformed("time");
    let seconds = u64::try_from(at.as_seconds()).map_err(|_| OUT_OF_RANGE)?;
    let date = DateTime::from_unix_duration(std::time::Duration::from_secs(seconds))
        .map_err(|_| OUT_OF_RANGE)?;
    GeneralizedTime::from_date_time(date)
        .to_der()
        .map_err(|_| OUT_OF_RANGE)
}

/// A key with the certificate by which a CA lets it answer.
#[derive(Debug)]
pub struct Responder {
    key: PrivateKey,
    certificate: ParsedCertificate,
    id: ResponderId,
}

impl Responder {
    /// Takes a responder into use, known by its key.
    ///
    /// # Errors
    /// [`Error::KeyMismatch`] when the certificate is for another key.
    pub fn new(certificate: ParsedCertificate, key: PrivateKey) -> Result<Self, Error> {
        if !certificate.matches_key(&key) {
            return Err(Error::KeyMismatch);
        }
        Ok(Self {
            id: ResponderId::by_key(key.public_key()),
            key,
            certificate,
        })
    }

    /// Its certificate.
    #[must_use]
    pub const fn certificate(&self) -> &ParsedCertificate {
        &self.certificate
    }

    /// As whom it signs.
    #[must_use]
    pub const fn id(&self) -> &ResponderId {
        &self.id
    }

    /// The whole response as DER, with the responder's certificate in it.
    ///
    /// # Errors
    /// [`Error::Signing`].
    pub fn sign(&self, data: &ResponseData) -> Result<Vec<u8>, Error> {
        let signature = self.key.sign(data.tbs())?;
        let algorithm = self.key.signature_algorithm();
        Ok(data.signed(algorithm, &signature, Some(&self.certificate)))
    }
}
