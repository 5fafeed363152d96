//! The certificate that proves control of a name by `tls-alpn-01` (RFC 8737 §3).

use certctl_domain::name::SubjectAltName;
use x509_cert::{
    der::{
        Decode,
        asn1::{ContextSpecific, ObjectIdentifier, OctetString},
        oid::AssociatedOid,
    },
    ext::{Extensions, pkix::SubjectAltName as San},
};

use super::MAX_LEN;
use crate::{
    Error,
    asn1::{self, Signed},
    general_name,
};

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
        let extensions = extensions(signed.tbs)?;
        let only = |id: ObjectIdentifier| {
            let mut found = extensions
                .iter()
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

/// The extensions, and nothing before them: there are programs that leave the other fields empty, such as a validity in the
/// year 1, and none of them is part of the proof.
fn extensions(tbs: &[u8]) -> Result<Extensions, Error> {
    /// `[3] EXPLICIT` (RFC 5280 §4.1).
    const TAG: u8 = 0xa3;
    let fields = asn1::elements(tbs, WHAT)?;
    let mut found = fields.iter().filter(|field| field.first() == Some(&TAG));
    match (found.next(), found.next()) {
        (None, _) => Ok(Extensions::default()),
        (Some(field), None) => ContextSpecific::<Extensions>::from_der(field)
            .map(|extensions| extensions.value)
            .map_err(|_| MALFORMED),
        (Some(_), Some(_)) => Err(MALFORMED),
    }
}

#[cfg(test)]
mod tests {
    use certctl_domain::name::SubjectAltName;
    use ring::digest;

    use super::TlsAlpnCertificate;

    /// What pebble-challtestsrv presents for www.example.com and the key authorisation `a.b`: no subject, a validity in the
    /// year 1.
    const GIVEN: &str = "\
    308201463081eea003020102020206c1300a06082a8648ce3d04030230003022180f30303031303130313030303030305a18\
    0f30303031303130313030303030305a30003059301306072a8648ce3d020106082a8648ce3d030107034200040cfc575f33\
    1d185ab3d716c6c5d4695ca30da93feb1c5a78849ba9bf7132da3939a3b136adbf925e40db285acde3d2ad05c56055104840\
    6b9b6ebf9a9bdcb198a3543052301d0603551d110101ff04133011820f7777772e6578616d706c652e636f6d303106082b06\
    01050507011f0101ff042204202e7336dc8eba87ef472df568c35482abf2575dc3e5eac0c5c62b8ffaeac2c934300a06082a\
    8648ce3d040302034700304402201439281c8401ef04ad2296dc3d502b8245120f89b2d7e087bd8dc3ea324e16b602206f38\
    99e263c0245dd23fd24ea2a2cf3d57efd1aa32d0b7bf6a519acd3ad6c904\
    ";

    fn given() -> Vec<u8> {
        hex::decode(GIVEN.trim()).unwrap()
    }

    #[test]
    fn what_another_program_makes_is_read() {
        let read = TlsAlpnCertificate::from_der(&given()).unwrap();
        assert_eq!(
            read.names,
            [Some(SubjectAltName::Dns("www.example.com".to_owned()))]
        );
        let identifier = read.identifier.unwrap();
        assert!(identifier.critical);
        let expected = digest::digest(&digest::SHA256, b"a.b");
        assert_eq!(identifier.value, expected.as_ref());
    }

    #[test]
    fn nothing_may_be_missing_or_follow() {
        let der = given();
        for length in 0..der.len() {
            assert!(TlsAlpnCertificate::from_der(&der[..length]).is_err());
        }
        let longer = [der.as_slice(), &[0]].concat();
        assert!(TlsAlpnCertificate::from_der(&longer).is_err());
    }

    #[test]
    fn no_changed_byte_breaks_the_reader() {
        for at in 0..given().len() {
            for value in [0, 1, 0x7f, 0x80, 0xa3, 0xff] {
                let mut der = given();
                der[at] = value;
                if let Ok(read) = TlsAlpnCertificate::from_der(&der) {
                    assert!(read.names.len() <= 1);
                }
            }
        }
    }
}
