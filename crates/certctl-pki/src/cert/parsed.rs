//! Reading certificates.

use certctl_domain::{
    key::KeyAlgorithm, name::SubjectAltName, serial::SerialNumber, time::Timestamp,
};
use x509_cert::{
    TbsCertificate,
    der::{Decode, asn1::ObjectIdentifier, oid::AssociatedOid},
    ext::pkix::{
        AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage,
        SubjectAltName as San, SubjectKeyIdentifier,
    },
    time::Time,
};

use crate::{
    Error, asn1,
    asn1::Signed,
    general_name,
    key::{PrivateKey, PublicKey, SignatureAlgorithm},
    pem,
};

/// The greatest certificate that is read, in bytes.
pub const MAX_LEN: usize = 256 * 1024;

/// A certificate that was read, from whatever CA. Reading it proves nothing: see [`ParsedCertificate::verify_signed_by`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedCertificate {
    der: Vec<u8>,
    subject_der: Vec<u8>,
    issuer_der: Vec<u8>,
    subject: String,
    issuer: String,
    common_name: Option<String>,
    serial: SerialNumber,
    not_before: Timestamp,
    not_after: Timestamp,
    sans: Vec<SubjectAltName>,
    spki_der: Vec<u8>,
    public_key: Result<PublicKey, Error>,
    basic_constraints: Option<BasicConstraints>,
    key_usage: Option<KeyUsage>,
    extended_key_usages: Vec<ObjectIdentifier>,
    subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
}

const WHAT: &str = "certificate";
const MALFORMED: Error = Error::malformed(WHAT);

impl ParsedCertificate {
    /// Reads one certificate.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_LEN`], [`Error::Malformed`] for bad DER. A key of a kind certctl does not handle is
    /// no error here, only in [`ParsedCertificate::public_key`].
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        if der.len() > MAX_LEN {
            return Err(Error::TooLarge { limit: MAX_LEN });
        }
        let signed = Signed::split(der, WHAT)?;
        let tbs = TbsCertificate::from_der(signed.tbs).map_err(|_| MALFORMED)?;
        let fields = asn1::elements(signed.tbs, WHAT)?;
        // Version 1 leaves the version out, and then every field stands one place earlier.
        let first = usize::from(fields.first().and_then(|field| field.first()) == Some(&0xa0));
        let field = |index: usize| fields.get(first + index).copied().ok_or(MALFORMED);
        let serial = tbs.serial_number().as_bytes();

        Ok(Self {
            der: der.to_vec(),
            subject_der: field(4)?.to_vec(),
            issuer_der: field(2)?.to_vec(),
            subject: tbs.subject().to_string(),
            issuer: tbs.issuer().to_string(),
            common_name: general_name::common_names(tbs.subject())?.pop(),
            serial: SerialNumber::from_be_bytes(serial).map_err(|_| MALFORMED)?,
            not_before: timestamp(tbs.validity().not_before),
            not_after: timestamp(tbs.validity().not_after),
            sans: match value_of(&tbs, San::OID)? {
                Some(value) => general_name::decode_lenient(value)?,
                None => Vec::new(),
            },
            spki_der: field(5)?.to_vec(),
            public_key: PublicKey::from_spki_der(field(5)?),
            basic_constraints: decoded::<BasicConstraints>(&tbs)?,
            key_usage: decoded::<KeyUsage>(&tbs)?,
            extended_key_usages: decoded::<ExtendedKeyUsage>(&tbs)?
                .map(|usages| usages.0)
                .unwrap_or_default(),
            subject_key_id: decoded::<SubjectKeyIdentifier>(&tbs)?
                .map(|id| id.0.as_bytes().to_vec()),
            authority_key_id: decoded::<AuthorityKeyIdentifier>(&tbs)?
                .and_then(|id| id.key_identifier)
                .map(|id| id.as_bytes().to_vec()),
        })
    }

    /// Reads the first certificate of a text.
    ///
    /// # Errors
    /// [`Error::NotPem`] when there is none; otherwise as [`ParsedCertificate::from_der`].
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let ders = pem::decode_certificates(text)?;
        Self::from_der(ders.first().ok_or(MALFORMED)?)
    }

    /// Reads every certificate of a text, in its order: leaf first, as chains are written.
    ///
    /// # Errors
    /// As [`ParsedCertificate::from_pem`].
    pub fn chain_from_pem(text: &str) -> Result<Vec<Self>, Error> {
        pem::decode_certificates(text)?
            .iter()
            .map(|der| Self::from_der(der))
            .collect()
    }

    /// The certificate as it was read.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate as PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.der)
    }

    /// SHA-256 of the DER in lowercase hex.
    #[must_use]
    pub fn fingerprint_sha256(&self) -> String {
        pem::fingerprint(&self.der)
    }

    /// The subject in the form of RFC 4514.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The subject as DER, byte for byte.
    #[must_use]
    pub fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    /// The issuer in the form of RFC 4514.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The issuer as DER, byte for byte.
    #[must_use]
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer_der
    }

    /// The subject's last common name.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The serial number.
    #[must_use]
    pub const fn serial(&self) -> &SerialNumber {
        &self.serial
    }

    /// The first second of validity.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second of validity, itself included.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether it is in date at a point in time.
    #[must_use]
    pub fn is_valid_at(&self, time: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&time.truncated_to_seconds())
    }

    /// The host names, addresses, mailboxes and URIs among the alternative names, as they stand there.
    #[must_use]
    pub fn sans(&self) -> &[SubjectAltName] {
        &self.sans
    }

    /// The key.
    ///
    /// # Errors
    /// What [`PublicKey::from_spki_der`] said to it.
    pub fn public_key(&self) -> Result<&PublicKey, Error> {
        self.public_key.as_ref().map_err(Clone::clone)
    }

    /// The family of the key; none for a kind certctl does not handle.
    #[must_use]
    pub fn key_algorithm(&self) -> Option<KeyAlgorithm> {
        self.public_key.as_ref().ok().map(PublicKey::algorithm)
    }

    /// The size of the key in bits; 0 for a kind certctl does not handle.
    #[must_use]
    pub fn key_bits(&self) -> u32 {
        self.public_key.as_ref().map_or(0, PublicKey::bits)
    }

    /// The key as DER `SubjectPublicKeyInfo`, byte for byte.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    /// Whether it is marked as a CA (RFC 5280 §4.2.1.9).
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.basic_constraints.as_ref().is_some_and(|bc| bc.ca)
    }

    /// How many CAs may stand between it and a leaf; none is no bound.
    #[must_use]
    pub fn path_length(&self) -> Option<u8> {
        self.basic_constraints
            .as_ref()
            .and_then(|bc| bc.path_len_constraint)
    }

    /// The key usages as RFC 5280 §4.2.1.3 numbers their bits; none when the certificate says nothing of them.
    #[must_use]
    pub fn key_usage_bits(&self) -> Option<u16> {
        self.key_usage.as_ref().map(|usage| usage.0.bits())
    }

    /// Whether its key may sign certificates.
    #[must_use]
    pub fn may_sign_certificates(&self) -> bool {
        self.key_usage.as_ref().is_some_and(KeyUsage::key_cert_sign)
    }

    /// Whether its key may sign revocation lists.
    #[must_use]
    pub fn may_sign_crls(&self) -> bool {
        self.key_usage.as_ref().is_some_and(KeyUsage::crl_sign)
    }

    /// The extended key usages in dotted form.
    #[must_use]
    pub fn extended_key_usages(&self) -> Vec<String> {
        self.extended_key_usages
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// The subject key identifier.
    #[must_use]
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.subject_key_id.as_deref()
    }

    /// The authority key identifier.
    #[must_use]
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.authority_key_id.as_deref()
    }

    /// Whether this is the certificate of a key.
    #[must_use]
    pub fn matches_key(&self, key: &PrivateKey) -> bool {
        // Compared by what they are, because one SPKI can be encoded in more than one way.
        self.public_key
            .as_ref()
            .is_ok_and(|own| own.is_same_key(key.public_key()))
    }

    /// Checks that `issuer` made this certificate: the names chain and the signature verifies. Validity, constraints and
    /// revocation are not looked at.
    ///
    /// # Errors
    /// [`Error::BadSignature`]; [`Error::UnsupportedKey`] or [`Error::UnsupportedSignature`] when it cannot be checked here.
    pub fn verify_signed_by(&self, issuer: &Self) -> Result<(), Error> {
        if self.issuer_der != issuer.subject_der {
            return Err(Error::BadSignature);
        }
        let signed = Signed::split(&self.der, WHAT)?;
        let fields = asn1::elements(signed.tbs, WHAT)?;
        let first = usize::from(fields.first().and_then(|field| field.first()) == Some(&0xa0));
        // RFC 5280 §4.1.1.2: the algorithm outside the signature must be the one inside.
        if fields.get(first + 1) != Some(&signed.algorithm) {
            return Err(Error::BadSignature);
        }
        let algorithm = SignatureAlgorithm::from_der(signed.algorithm)?;
        issuer
            .public_key()?
            .verify(algorithm, signed.tbs, signed.signature)
    }
}

fn timestamp(time: Time) -> Timestamp {
    Timestamp::from_seconds(i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX))
}

/// The octets of the one extension of this id; RFC 5280 §4.2 forbids a second.
fn value_of(tbs: &TbsCertificate, id: ObjectIdentifier) -> Result<Option<&[u8]>, Error> {
    let mut found = tbs
        .extensions()
        .into_iter()
        .flatten()
        .filter(|extension| extension.extn_id == id);
    let first = found.next();
    if found.next().is_some() {
        return Err(MALFORMED);
    }
    Ok(first.map(|extension| extension.extn_value.as_bytes()))
}

fn decoded<'a, T: Decode<'a> + AssociatedOid>(tbs: &'a TbsCertificate) -> Result<Option<T>, Error> {
    value_of(tbs, T::OID)?
        .map(|value| T::from_der(value).map_err(|_| MALFORMED))
        .transpose()
}
