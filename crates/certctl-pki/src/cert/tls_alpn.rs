//! The certificate that proves control of a name by `tls-alpn-01` (RFC 8737 §3).

use certctl_domain::name::SubjectAltName;
use x509_cert::{
    TbsCertificate,
    der::{Decode, asn1::OctetString, oid::AssociatedOid, oid::ObjectIdentifier},
    ext::pkix::SubjectAltName as San,
};

use super::MAX_LEN;
use crate::{Error, asn1::Signed, general_name};

const WHAT: &str = "certificate of a challenge";
const MALFORMED: Error = Error::malformed(WHAT);

/// `id-pe-acmeIdentifier` (RFC 8737 §6.1).
const ACME_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.31");

/// What such a certificate says. Who signed it, and until when it is valid, is of no interest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsAlpnCertificate {
    /// Every alternative name, as it stands there; none for each that is neither host name, address, mailbox nor URI.
    pub names: Vec<Option<SubjectAltName>>,
    /// The extension with the proof.
    pub identifier: Option<AcmeIdentifier>,
}

/// The extension `acmeIdentifier`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeIdentifier {
    /// Whether it is critical, as it has to be: no verifier that does not know it may take the certificate for another.
    pub critical: bool,
    /// The content of its OCTET STRING; SHA-256 of the key authorisation, when all is right.
    pub value: Vec<u8>,
}

impl TlsAlpnCertificate {
    /// Reads one.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_LEN`], [`Error::Malformed`] for bad DER, for an extension that occurs twice (RFC 5280
    /// §4.2), and for an `acmeIdentifier` that is no OCTET STRING.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        if der.len() > MAX_LEN {
            return Err(Error::TooLarge { limit: MAX_LEN });
        }
        let signed = Signed::split(der, WHAT)?;
        let tbs = TbsCertificate::from_der(signed.tbs).map_err(|_| MALFORMED)?;
        let only = |id: ObjectIdentifier| {
            let mut found = tbs
                .extensions()
                .into_iter()
                .flatten()
                .filter(|extension| extension.extn_id == id);
            let first = found.next();
            match found.next() {
                None => Ok(first),
                Some(_) => Err(MALFORMED),
            }
        };
        let names = match only(San::OID)? {
            Some(extension) => general_name::decode_all(extension.extn_value.as_bytes())?,
            None => Vec::new(),
        };
        let identifier = only(ACME_IDENTIFIER)?
            .map(|extension| {
                let value = OctetString::from_der(extension.extn_value.as_bytes())
                    .map_err(|_| MALFORMED)?;
                Ok::<_, Error>(AcmeIdentifier {
                    critical: extension.critical,
                    value: value.as_bytes().to_vec(),
                })
            })
            .transpose()?;
        Ok(Self { names, identifier })
    }
}
