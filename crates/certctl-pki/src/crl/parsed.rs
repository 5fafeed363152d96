//! Reading lists.

use certctl_domain::{revocation::RevocationReason, serial::SerialNumber, time::Timestamp};
use x509_cert::der::oid::{ObjectIdentifier, db::rfc5280 as oid};

use crate::{
    Error,
    asn1::{self, Reader, Signed},
    cert::ParsedCertificate,
    key::SignatureAlgorithm,
};

const WHAT: &str = "certificate revocation list";

/// A revoked serial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The serial.
    pub serial: SerialNumber,
    /// When it was revoked.
    pub revoked_at: Timestamp,
    /// Why; unspecified where the list does not say.
    pub reason: RevocationReason,
}

/// A list that was read. Reading it proves nothing: see [`ParsedCrl::verify_signed_by`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedCrl {
    tbs: Vec<u8>,
    algorithm: Vec<u8>,
    inner_algorithm: Vec<u8>,
    signature: Vec<u8>,
    issuer_der: Vec<u8>,
    /// When it was made.
    pub this_update: Timestamp,
    /// When there will be a newer one.
    pub next_update: Option<Timestamp>,
    /// Its number.
    pub number: Option<u64>,
    /// The identifier of the key that signed.
    pub authority_key_id: Option<Vec<u8>>,
    /// The URLs of the part it is, when it is one.
    pub distribution_point: Option<Vec<String>>,
    /// What is revoked.
    pub entries: Vec<Entry>,
}

impl ParsedCrl {
    /// Reads a list of version 2.
    ///
    /// # Errors
    /// [`Error::Malformed`] for bad DER and for a critical extension other than the issuing distribution point.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let signed = Signed::split(der, WHAT)?;
        let mut fields = Reader::sequence(signed.tbs, WHAT)?;
        if fields.integer()? != [1] {
            return Err(Error::malformed(WHAT));
        }
        let inner_algorithm = fields.any()?.to_vec();
        let issuer_der = fields.any()?.to_vec();
        let this_update = fields.time()?;
        let next_update = match fields.peek() {
            Some(0x17 | 0x18) => Some(fields.time()?),
            _ => None,
        };
        let entries = match fields.peek() {
            Some(0x30) => entries(fields.any()?)?,
            _ => Vec::new(),
        };
        let mut crl = Self {
            tbs: signed.tbs.to_vec(),
            algorithm: signed.algorithm.to_vec(),
            inner_algorithm,
            signature: signed.signature.to_vec(),
            issuer_der,
            this_update,
            next_update,
            number: None,
            authority_key_id: None,
            distribution_point: None,
            entries,
        };
        if let Some(extensions) = fields.optional(0xa0)? {
            for extension in asn1::elements(extensions, WHAT)? {
                crl.take(extension)?;
            }
        }
        fields.end()?;
        Ok(crl)
    }

    fn take(&mut self, extension: &[u8]) -> Result<(), Error> {
        let (id, is_critical, value) = asn1::extension(extension, WHAT)?;
        match id {
            oid::ID_CE_CRL_NUMBER => {
                let octets = Reader::new(value, WHAT).integer()?.to_vec();
                if octets.len() > 9 {
                    return Err(Error::malformed(WHAT));
                }
                let number = octets
                    .iter()
                    .fold(0, |number: u64, octet| (number << 8) | u64::from(*octet));
                self.number = Some(number);
            }
            oid::ID_CE_AUTHORITY_KEY_IDENTIFIER => {
                let mut fields = Reader::sequence(value, WHAT)?;
                self.authority_key_id = fields.optional(0x80)?.map(<[u8]>::to_vec);
            }
            oid::ID_CE_ISSUING_DISTRIBUTION_POINT => {
                self.distribution_point = Some(urls(value)?);
            }
            _ if is_critical => return Err(Error::malformed(WHAT)),
            _ => {}
        }
        Ok(())
    }

    /// Checks that `ca` signed it: by name, by both algorithms, by signature.
    ///
    /// # Errors
    /// [`Error::BadSignature`], and what is wrong with key or algorithm.
    pub fn verify_signed_by(&self, ca: &ParsedCertificate) -> Result<(), Error> {
        if self.issuer_der != ca.subject_der() || self.algorithm != self.inner_algorithm {
            return Err(Error::BadSignature);
        }
        let algorithm = SignatureAlgorithm::from_der(&self.algorithm)?;
        ca.public_key()?
            .verify(algorithm, &self.tbs, &self.signature)
    }

    /// The entry of a serial.
    #[must_use]
    pub fn find(&self, serial: &SerialNumber) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.serial == *serial)
    }
}

fn entries(der: &[u8]) -> Result<Vec<Entry>, Error> {
    asn1::elements(der, WHAT)?
        .into_iter()
        .map(|entry| {
            let mut fields = Reader::sequence(entry, WHAT)?;
            let serial = SerialNumber::from_be_bytes(fields.integer()?)
                .map_err(|_| Error::malformed(WHAT))?;
            let revoked_at = fields.time()?;
            let mut reason = RevocationReason::Unspecified;
            if fields.peek().is_some() {
                for extension in asn1::elements(fields.any()?, WHAT)? {
                    let (id, _, value) = asn1::extension(extension, WHAT)?;
                    if id == REASON {
                        reason = reason_of(value)?;
                    }
                }
            }
            fields.end()?;
            Ok(Entry {
                serial,
                revoked_at,
                reason,
            })
        })
        .collect()
}

const REASON: ObjectIdentifier = oid::ID_CE_CRL_REASONS;

/// An `ENUMERATED` of §5.3.1.
pub(crate) fn reason_of(der: &[u8]) -> Result<RevocationReason, Error> {
    match der {
        [0x0a, 0x01, code] => RevocationReason::ALL
            .into_iter()
            .find(|reason| reason.code() == *code)
            .ok_or(Error::malformed(WHAT)),
        _ => Err(Error::malformed(WHAT)),
    }
}

fn urls(value: &[u8]) -> Result<Vec<String>, Error> {
    let mut fields = Reader::sequence(value, WHAT)?;
    let point = fields.optional(0xa0)?.ok_or(Error::malformed(WHAT))?;
    let names = Reader::new(point, WHAT)
        .optional(0xa0)?
        .ok_or(Error::malformed(WHAT))?;
    let mut names = Reader::new(names, WHAT);
    let mut urls = Vec::new();
    while names.peek().is_some() {
        let url = names.optional(0x86)?.ok_or(Error::malformed(WHAT))?;
        urls.push(String::from_utf8(url.to_vec()).map_err(|_| Error::malformed(WHAT))?);
    }
    Ok(urls)
}
