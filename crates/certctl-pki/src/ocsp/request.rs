//! Requests (RFC 6960 §4.1).

use super::{CertId, NONCE_OID, WHAT};
use crate::{
    Error,
    asn1::{self, Reader},
    cert::extension,
};

/// The greatest request that is read, in bytes.
pub const MAX_REQUEST: usize = 64 * 1024;
/// Certificates that one request may ask about: each costs a look-up, and honest clients ask about one.
pub const MAX_CERTIFICATES: usize = 20;
/// The greatest nonce that is repeated, in octets (RFC 8954 §2.1).
const MAX_NONCE: usize = 32;

/// A request that was read. Signatures of requests are not looked at: anyone may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    certificates: Vec<CertId>,
    nonce: Nonce,
}

/// The nonce of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nonce {
    /// None: the response may be one that was made before.
    Absent,
    /// 1 to 32 octets, which the response repeats.
    Present(Vec<u8>),
    /// Empty, longer, or no OCTET STRING.
    Malformed,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_REQUEST`] and for a request about more than [`MAX_CERTIFICATES`]; [`Error::Malformed`] for
    /// bad DER and for a request about nothing.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        if der.len() > MAX_REQUEST {
            return Err(Error::TooLarge { limit: MAX_REQUEST });
        }
        let mut outer = Reader::sequence(der, WHAT)?;
        let mut fields = Reader::sequence(outer.any()?, WHAT)?;
        // The signature, whatever it is.
        outer.optional(0xa0)?;
        outer.end()?;
        if fields
            .optional(0xa0)?
            .is_some_and(|version| version != [2, 1, 0])
        {
            return Err(Error::malformed(WHAT));
        }
        // The name of who asks.
        fields.optional(0xa1)?;
        let list = asn1::elements(fields.any()?, WHAT)?;
        if list.is_empty() {
            return Err(Error::malformed(WHAT));
        }
        if list.len() > MAX_CERTIFICATES {
            return Err(Error::TooLarge {
                limit: MAX_CERTIFICATES,
            });
        }
        let certificates = list
            .into_iter()
            .map(certificate)
            .collect::<Result<_, _>>()?;
        let mut nonce = Nonce::Absent;
        if let Some(extensions) = fields.optional(0xa2)? {
            for one in asn1::elements(extensions, WHAT)? {
                let (id, _, value) = asn1::extension(one, WHAT)?;
                if id == NONCE_OID {
                    nonce = read_nonce(value);
                }
            }
        }
        fields.end()?;
        Ok(Self {
            certificates,
            nonce,
        })
    }

    /// What is asked about: 1 to [`MAX_CERTIFICATES`].
    #[must_use]
    pub fn certificates(&self) -> &[CertId] {
        &self.certificates
    }

    /// The nonce.
    #[must_use]
    pub const fn nonce(&self) -> &Nonce {
        &self.nonce
    }
}

fn certificate(der: &[u8]) -> Result<CertId, Error> {
    let mut fields = Reader::sequence(der, WHAT)?;
    let id = CertId::from_der(fields.any()?)?;
    // Extensions of single requests; the one there is (service locator) is for responders that pass requests on.
    fields.optional(0xa0)?;
    fields.end()?;
    Ok(id)
}

/// RFC 8954 §2.1: `Nonce ::= OCTET STRING (SIZE (1..32))` inside of the extension's own.
fn read_nonce(value: &[u8]) -> Nonce {
    let mut fields = Reader::new(value, WHAT);
    let octets = fields
        .required(0x04)
        .and_then(|octets| fields.end().map(|()| octets));
    match octets {
        Ok(octets) if (1..=MAX_NONCE).contains(&octets.len()) => Nonce::Present(octets.to_vec()),
        _ => Nonce::Malformed,
    }
}

/// A request about certificates, as clients make it.
#[must_use]
pub fn encode_request(certificates: &[CertId], nonce: Option<&[u8]>) -> Vec<u8> {
    let list: Vec<u8> = certificates
        .iter()
        .flat_map(|id| asn1::sequence(&[id.der()]))
        .collect();
    let extensions = nonce.map_or_else(Vec::new, |nonce| {
        asn1::explicit(2, &[&asn1::sequence(&[&nonce_extension(nonce)])])
    });
    asn1::sequence(&[&asn1::sequence(&[&asn1::sequence(&[&list]), &extensions])])
}

pub(super) fn nonce_extension(nonce: &[u8]) -> Vec<u8> {
    extension::whole(NONCE_OID, false, &asn1::octet_string(nonce))
}
