//! Making certification requests.

use certctl_domain::name::SubjectAltName;
use x509_cert::der::{Tag, TagNumber, oid::db::rfc5912::ID_EXTENSION_REQ};

use crate::{Error, asn1, cert::extension, general_name, key::PrivateKey, pem};

/// What a new request asks for.
#[derive(Debug, Clone, Default)]
pub struct CsrBuilder {
    common_name: String,
    sans: Vec<SubjectAltName>,
    must_staple: bool,
}

impl CsrBuilder {
    /// A request for a common name; an empty one leaves the subject empty. A name above 64 characters has no place in a
    /// subject (RFC 5280 appendix A, ub-common-name) and is left out of it, so it must be among the [`CsrBuilder::sans`].
    #[must_use]
    pub fn new(common_name: impl Into<String>) -> Self {
        Self {
            common_name: common_name.into(),
            ..Self::default()
        }
    }

    /// The alternative names to ask for.
    #[must_use]
    pub fn sans(mut self, sans: Vec<SubjectAltName>) -> Self {
        self.sans = sans;
        self
    }

    /// Whether to ask for the TLS feature `status_request` (RFC 7633).
    #[must_use]
    pub const fn must_staple(mut self, wanted: bool) -> Self {
        self.must_staple = wanted;
        self
    }

    /// Signs the request and gives it as DER.
    ///
    /// # Errors
    /// [`Error::BadName`] for a name that is not ASCII, [`Error::Signing`].
    pub fn sign_der(&self, key: &PrivateKey) -> Result<Vec<u8>, Error> {
        let info = asn1::sequence(&[
            &[0x02, 0x01, 0x00],
            &general_name::subject_der(&self.common_name),
            key.spki_der(),
            &self.attributes()?,
        ]);
        let signature = key.sign(&info)?;
        Ok(asn1::sequence(&[
            &info,
            key.signature_algorithm().to_der(),
            &asn1::bit_string(&signature),
        ]))
    }

    /// Signs the request and gives it as PEM.
    ///
    /// # Errors
    /// As [`CsrBuilder::sign_der`].
    pub fn sign_pem(&self, key: &PrivateKey) -> Result<String, Error> {
        Ok(pem::encode(pem::CERTIFICATE_REQUEST, &self.sign_der(key)?))
    }

    /// `[0] IMPLICIT SET OF Attribute`, there even when empty (RFC 2986 §4.1).
    fn attributes(&self) -> Result<Vec<u8>, Error> {
        let mut extensions = Vec::new();
        if !self.sans.is_empty() {
            let is_critical = general_name::subject_der(&self.common_name).len() == 2;
            extensions.extend(extension::subject_alt_names(&self.sans, is_critical)?);
        }
        if self.must_staple {
            extensions.extend(extension::must_staple());
        }
        let set = Tag::ContextSpecific {
            constructed: true,
            number: TagNumber(0),
        };
        if extensions.is_empty() {
            return Ok(asn1::tlv(set, &[]));
        }
        let id = asn1::tlv(Tag::ObjectIdentifier, &[ID_EXTENSION_REQ.as_bytes()]);
        let values = asn1::tlv(Tag::Set, &[&asn1::sequence(&[&extensions])]);
        Ok(asn1::tlv(set, &[&asn1::sequence(&[&id, &values])]))
    }
}
