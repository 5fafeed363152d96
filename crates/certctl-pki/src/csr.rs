//! Certification requests (PKCS#10, RFC 2986).

mod builder;

use certctl_domain::{key::KeyAlgorithm, name::SubjectAltName, validation::MAX_COMMON_NAME};
use x509_cert::{
    der::{
        Decode, Encode,
        oid::{
            ObjectIdentifier,
            db::{rfc5280::ID_CE_SUBJECT_ALT_NAME as SUBJECT_ALT_NAME, rfc5912::ID_EXTENSION_REQ},
        },
    },
    ext::{Extension, Extensions},
    request::CertReqInfo,
};

pub use self::builder::CsrBuilder;
use crate::{
    Error,
    asn1::Signed,
    cert::extension::{MUST_STAPLE_OID, MUST_STAPLE_VALUE},
    general_name,
    key::{PublicKey, SignatureAlgorithm},
    pem,
};

/// The greatest request that is read, in bytes; an honest one with RSA 8192 and a hundred names has a tenth of it.
pub const MAX_LEN: usize = 64 * 1024;

/// A request whose sender has proved to hold the private key. There is no way to make one without that proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    common_name: Option<String>,
    sans: Vec<SubjectAltName>,
    must_staple: bool,
    public_key: PublicKey,
    der: Vec<u8>,
}

impl Csr {
    /// Reads the one request of a text.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_LEN`], [`Error::NotPem`] unless there is exactly one block and it is a request;
    /// otherwise as [`Csr::parse_der`].
    pub fn parse_pem(text: &str) -> Result<Self, Error> {
        const NOT_PEM: Error = Error::NotPem {
            expected: pem::CERTIFICATE_REQUEST,
        };
        if text.len() > MAX_LEN {
            return Err(Error::TooLarge { limit: MAX_LEN });
        }
        let blocks = pem::decode_all(text)?;
        match &blocks[..] {
            // RFC 7468 §7: parsers may take the older label for the same.
            [block]
                if block.label == pem::CERTIFICATE_REQUEST
                    || block.label == "NEW CERTIFICATE REQUEST" =>
            {
                Self::parse_der(&block.der)
            }
            _ => Err(NOT_PEM),
        }
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_LEN`]; [`Error::Malformed`] for bad DER, a repeated extension or a common name longer
    /// than 253 characters; [`Error::UnsupportedKey`], [`Error::WeakKey`], [`Error::UnsupportedSignature`];
    /// [`Error::BadSignature`] when possession of the key is not proved; [`Error::DeceptiveName`], [`Error::BadName`].
    pub fn parse_der(der: &[u8]) -> Result<Self, Error> {
        if der.len() > MAX_LEN {
            return Err(Error::TooLarge { limit: MAX_LEN });
        }
        let signed = Signed::split(der, "certification request")?;
        let info = CertReqInfo::from_der(signed.tbs)
            .map_err(|_| Error::malformed("certification request"))?;

        let spki = info
            .public_key
            .to_der()
            .map_err(|_| Error::malformed("public key"))?;
        let public_key = PublicKey::from_spki_der(&spki)?;
        public_key.check_strength()?;
        let algorithm = SignatureAlgorithm::from_der(signed.algorithm)?;
        public_key.verify(algorithm, signed.tbs, signed.signature)?;

        let extensions = requested_extensions(&info)?;
        Ok(Self {
            common_name: common_name(&info)?,
            sans: match find(&extensions, SUBJECT_ALT_NAME)? {
                Some(extension) => general_name::decode_strict(extension.extn_value.as_bytes())?,
                None => Vec::new(),
            },
            must_staple: find(&extensions, MUST_STAPLE_OID)?
                .is_some_and(|extension| extension.extn_value.as_bytes() == MUST_STAPLE_VALUE),
            public_key,
            der: der.to_vec(),
        })
    }

    /// The subject's common name, where it has one.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The names it asks for, without duplicates, in its order; the common name is not added.
    #[must_use]
    pub fn sans(&self) -> &[SubjectAltName] {
        &self.sans
    }

    /// Whether it asks for the TLS feature `status_request` (RFC 7633).
    #[must_use]
    pub const fn must_staple(&self) -> bool {
        self.must_staple
    }

    /// The key to certify.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The family of the key.
    #[must_use]
    pub const fn key_algorithm(&self) -> KeyAlgorithm {
        self.public_key.algorithm()
    }

    /// The size of the key in bits.
    #[must_use]
    pub const fn key_bits(&self) -> u32 {
        self.public_key.bits()
    }

    /// The key as DER `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        self.public_key.spki_der()
    }

    /// The request as it was received.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The request as PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode(pem::CERTIFICATE_REQUEST, &self.der)
    }
}

/// What the request wants to see in the certificate (RFC 2985 §5.4.2).
fn requested_extensions(info: &CertReqInfo) -> Result<Extensions, Error> {
    const MALFORMED: Error = Error::malformed("extension request");
    let mut requests = info
        .attributes
        .iter()
        .filter(|attribute| attribute.oid == ID_EXTENSION_REQ);
    let Some(request) = requests.next() else {
        return Ok(Extensions::new());
    };
    if requests.next().is_some() || request.values.len() != 1 {
        return Err(MALFORMED);
    }
    let value = request.values.get(0).ok_or(MALFORMED)?;
    value.decode_as::<Extensions>().map_err(|_| MALFORMED)
}

/// The one extension of this id; two of them would let the request say two things.
fn find(extensions: &[Extension], id: ObjectIdentifier) -> Result<Option<&Extension>, Error> {
    let mut found = extensions
        .iter()
        .filter(|extension| extension.extn_id == id);
    let first = found.next();
    if found.next().is_some() {
        return Err(Error::malformed("extension request"));
    }
    Ok(first)
}

fn common_name(info: &CertReqInfo) -> Result<Option<String>, Error> {
    let mut names = general_name::common_names(&info.subject)?;
    let Some(name) = names.pop() else {
        return Ok(None);
    };
    if !names.is_empty() || name.chars().count() > MAX_COMMON_NAME {
        return Err(Error::malformed("common name"));
    }
    general_name::refuse_deceptive(&name)?;
    // An empty value means the same as none.
    Ok(Some(name).filter(|name| !name.is_empty()))
}
