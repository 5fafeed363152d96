//! Signing certificates.

use certctl_domain::{key::KeyAlgorithm, profile::ExtendedKeyUsage, time::Timestamp};
use x509_cert::ext::pkix::KeyUsages;

use super::{
    CertificateSpec, ParsedCertificate, PathLength, ResponderSpec, RootSpec, extension,
    tbs::{Tbs, validity},
};
use crate::{
    Error, asn1, general_name,
    key::{PrivateKey, PublicKey, SignatureAlgorithm},
    lint, pem,
};

/// A certificate that was just signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCertificate {
    der: Vec<u8>,
}

impl SignedCertificate {
    /// The certificate as DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Gives the DER up.
    #[must_use]
    pub fn into_der(self) -> Vec<u8> {
        self.der
    }

    /// The certificate as PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.der)
    }

    /// SHA-256 of the DER in lowercase hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        pem::fingerprint(&self.der)
    }
}

/// A CA that is ready to sign: its certificate, its key, and what goes into every certificate encoded beforehand.
#[derive(Debug)]
pub struct CaSigner {
    certificate: ParsedCertificate,
    key: PrivateKey,
    authority_key_id: Vec<u8>,
    key_id: Vec<u8>,
}

impl CaSigner {
    /// Takes a CA into use. Whether it is in date is for the caller, who has a clock.
    ///
    /// # Errors
    /// [`Error::NotACa`] without `cA` or `keyCertSign`, [`Error::KeyMismatch`] when the key is another's.
    pub fn new(certificate: ParsedCertificate, key: PrivateKey) -> Result<Self, Error> {
        if !certificate.is_ca() {
            return Err(Error::NotACa {
                problem: "it is not marked as a CA",
            });
        }
        if !certificate.may_sign_certificates() {
            return Err(Error::NotACa {
                problem: "its key usage lacks keyCertSign",
            });
        }
        if !certificate.matches_key(&key) {
            return Err(Error::KeyMismatch);
        }
        // RFC 5280 §4.2.1.1: the identifier is the one in the issuer's certificate, however that was made.
        let key_id = match certificate.subject_key_id() {
            Some(id) => id.to_vec(),
            None => key.public_key().key_id().to_vec(),
        };
        Ok(Self {
            authority_key_id: extension::authority_key_id(&key_id)?,
            key_id,
            certificate,
            key,
        })
    }

    /// The CA's certificate.
    #[must_use]
    pub const fn certificate(&self) -> &ParsedCertificate {
        &self.certificate
    }

    /// Whether a signature takes some tens of microseconds; those of larger keys take a millisecond and more.
    #[must_use]
    pub const fn is_quick(&self) -> bool {
        self.key.bits() <= 256
    }

    /// Lints what `spec` comes to and signs it.
    ///
    /// # Errors
    /// [`Error::Lint`] with every rule that would be broken, and nothing is signed; [`Error::UnsupportedKey`] and the other
    /// errors of reading a public key; [`Error::BadName`] for a name or URL that is not ASCII; [`Error::Signing`].
    pub fn sign(&self, spec: &CertificateSpec<'_>) -> Result<SignedCertificate, Error> {
        let subject_key = PublicKey::from_spki_der(spec.spki_der)?;
        let subject = general_name::subject_der(spec.common_name);
        let mut extensions = vec![
            self.authority_key_id.clone(),
            extension::subject_key_id(&subject_key.key_id()),
        ];
        match spec.ca {
            Some(length) => extensions.extend(ca_extensions(length)?),
            None => extensions.extend(leaf_extensions(spec, &subject_key)?),
        }
        if !spec.sans.is_empty() {
            // An empty SEQUENCE is two octets; then the names are all there is (RFC 5280 §4.2.1.6).
            let is_critical = subject.len() == 2;
            extensions.push(extension::subject_alt_names(spec.sans, is_critical)?);
        }
        extensions.extend(pointers(spec)?);
        if spec.must_staple {
            extensions.push(extension::must_staple());
        }
        let tbs = Tbs {
            serial: asn1::unsigned(&spec.serial.to_be_bytes()),
            signature: self.key.signature_algorithm(),
            issuer: self.certificate.subject_der(),
            validity: validity(spec.not_before, spec.not_after)?,
            subject,
            spki: spec.spki_der,
            extensions,
        };
        finish(&tbs, &self.key, &self.as_issuer())
    }

    /// Lints and signs the certificate of an OCSP responder: nothing but digital signatures, nothing but OCSP, and no question
    /// whether it is revoked itself.
    ///
    /// # Errors
    /// As [`CaSigner::sign`].
    pub fn sign_responder(&self, spec: &ResponderSpec<'_>) -> Result<SignedCertificate, Error> {
        let key = PublicKey::from_spki_der(spec.spki_der)?;
        let tbs = Tbs {
            serial: asn1::unsigned(&spec.serial.to_be_bytes()),
            signature: self.key.signature_algorithm(),
            issuer: self.certificate.subject_der(),
            validity: validity(spec.not_before, spec.not_after)?,
            subject: general_name::subject_der(spec.common_name),
            spki: spec.spki_der,
            extensions: vec![
                self.authority_key_id.clone(),
                extension::subject_key_id(&key.key_id()),
                extension::key_usage(KeyUsages::DigitalSignature.into())?,
                extension::basic_constraints(None)?,
                extension::ocsp_signing(),
                extension::ocsp_nocheck(),
            ],
        };
        finish(&tbs, &self.key, &self.as_issuer())
    }

    /// How it signs.
    #[must_use]
    pub const fn signature_algorithm(&self) -> SignatureAlgorithm {
        self.key.signature_algorithm()
    }

    /// The identifier of its key, as everything that it signs names it.
    #[must_use]
    pub fn key_id(&self) -> &[u8] {
        &self.key_id
    }

    /// Signs the part of a revocation list or of an OCSP response that is signed. Whether the key usage admits lists is for the
    /// caller (RFC 5280 §6.3.3 (f)).
    ///
    /// # Errors
    /// [`Error::Signing`].
    pub fn sign_status(&self, tbs: &[u8]) -> Result<Vec<u8>, Error> {
        self.key.sign(tbs)
    }

    fn as_issuer(&self) -> lint::Issuer<'_> {
        lint::Issuer {
            not_after: self.certificate.not_after(),
            key_id: &self.key_id,
            path_length: self.certificate.path_length(),
        }
    }
}

/// Makes a root: signed by itself, `keyCertSign` and `cRLSign`, any number of CAs below it.
///
/// # Errors
/// [`Error::Lint`], [`Error::Signing`], [`Error::Malformed`] for a validity before 1970.
pub fn sign_root(spec: &RootSpec<'_>, key: &PrivateKey) -> Result<SignedCertificate, Error> {
    let subject = general_name::subject_der(spec.common_name);
    let key_id = key.public_key().key_id();
    let mut extensions = vec![
        extension::authority_key_id(&key_id)?,
        extension::subject_key_id(&key_id),
    ];
    extensions.extend(ca_extensions(PathLength::Unbounded)?);
    let tbs = Tbs {
        serial: asn1::unsigned(&spec.serial.to_be_bytes()),
        signature: key.signature_algorithm(),
        issuer: &subject,
        validity: validity(spec.not_before, spec.not_after)?,
        subject: subject.clone(),
        spki: key.spki_der(),
        extensions,
    };
    let itself = lint::Issuer {
        not_after: Timestamp::MAX,
        key_id: &key_id,
        path_length: None,
    };
    finish(&tbs, key, &itself)
}

fn finish(
    tbs: &Tbs<'_>,
    key: &PrivateKey,
    issuer: &lint::Issuer<'_>,
) -> Result<SignedCertificate, Error> {
    let tbs = tbs.to_der();
    let findings = lint::check(&tbs, issuer);
    if !findings.is_empty() {
        return Err(Error::Lint(findings));
    }
    let signature = key.sign(&tbs)?;
    Ok(SignedCertificate {
        der: asn1::sequence(&[
            &tbs,
            key.signature_algorithm().to_der(),
            &asn1::bit_string(&signature),
        ]),
    })
}

fn ca_extensions(length: PathLength) -> Result<[Vec<u8>; 2], Error> {
    let length = match length {
        PathLength::Unbounded => None,
        PathLength::AtMost(length) => Some(length),
    };
    Ok([
        extension::key_usage(KeyUsages::KeyCertSign | KeyUsages::CRLSign)?,
        extension::basic_constraints(Some(length))?,
    ])
}

/// The key usages of issuers §4.
fn leaf_extensions(spec: &CertificateSpec<'_>, key: &PublicKey) -> Result<Vec<Vec<u8>>, Error> {
    let has = |usage| spec.ekus.contains(&usage);
    let mut usages: extension::KeyUsageSet = KeyUsages::DigitalSignature.into();
    let is_tls = has(ExtendedKeyUsage::ServerAuth) || has(ExtendedKeyUsage::ClientAuth);
    // Only RSA keys encipher anything, in TLS 1.2's RSA key exchange (RFC 5246 §7.4.2).
    if is_tls && key.algorithm() == KeyAlgorithm::Rsa {
        usages |= KeyUsages::KeyEncipherment;
    }
    if has(ExtendedKeyUsage::EmailProtection) {
        usages |= KeyUsages::NonRepudiation;
    }
    let mut extensions = vec![
        extension::key_usage(usages)?,
        extension::basic_constraints(None)?,
    ];
    if !spec.ekus.is_empty() {
        extensions.push(extension::extended_key_usage(spec.ekus));
    }
    Ok(extensions)
}

fn pointers(spec: &CertificateSpec<'_>) -> Result<Vec<Vec<u8>>, Error> {
    let mut extensions = Vec::new();
    if !spec.crl_urls.is_empty() {
        extensions.push(extension::crl_distribution_points(spec.crl_urls)?);
    }
    if !spec.ocsp_urls.is_empty() || !spec.ca_issuers_urls.is_empty() {
        extensions.push(extension::authority_info_access(
            spec.ocsp_urls,
            spec.ca_issuers_urls,
        )?);
    }
    Ok(extensions)
}
