//! Certificate revocation lists (RFC 5280 §5): written entry by entry, and read for tests.
//!
//! A list may name millions of serials, so what stands in memory is the list itself and nothing beside it: entries are appended to
//! the buffer that becomes the list, and the headers, whose lengths are known last, are put into room that was left before them.

mod parsed;

use certctl_domain::{revocation::RevocationReason, serial::SerialNumber, time::Timestamp};
use x509_cert::der::oid::db::rfc5280 as oid;

pub(crate) use self::parsed::reason_of;
pub use self::parsed::{Entry, ParsedCrl};
use crate::{
    Error, asn1,
    cert::{extension, tbs::time},
    key::SignatureAlgorithm,
};

/// What a list says beside its entries.
#[derive(Debug, Clone, Copy)]
pub struct CrlSpec<'a> {
    /// The name of the CA as DER, as its certificate has it.
    pub issuer_der: &'a [u8],
    /// The subject key identifier of the CA.
    pub authority_key_id: &'a [u8],
    /// How the CA signs.
    pub algorithm: SignatureAlgorithm,
    /// The number, greater than that of every list of the issuer before (§5.2.3).
    pub number: u64,
    /// When it was made; fractions are cut off.
    pub this_update: Timestamp,
    /// When there will be a newer one; fractions are cut off.
    pub next_update: Timestamp,
    /// Where certificates say that this part of the list is (§5.2.5); none for a list of everything.
    pub distribution_point: &'a [String],
}

/// A list being written.
#[derive(Debug)]
pub struct CrlBuilder {
    /// Room for what precedes the entries, then the entries.
    buffer: Vec<u8>,
    room: usize,
    prefix: Vec<u8>,
    extensions: Vec<u8>,
    algorithm: SignatureAlgorithm,
}

/// The greatest header: tag, length of the length, four octets of length.
const HEADER: usize = 6;
/// An entry with a serial of 20 octets and a reason, in bytes.
const ENTRY: usize = 53;
/// The signature with all around it is not above this, in bytes (RSA of 4096 bits).
const TAIL: usize = 600;

impl CrlBuilder {
    /// Begins a list; `expected` is how many entries there will be, about.
    ///
    /// # Errors
    /// [`Error::Malformed`] for times before 1970, [`Error::BadName`] for a distribution point that is not ASCII.
    pub fn new(spec: &CrlSpec<'_>, expected: usize) -> Result<Self, Error> {
        let prefix = [
            // Version 2, because there are extensions (§5.1.2.1).
            &[0x02, 0x01, 0x01][..],
            spec.algorithm.to_der(),
            spec.issuer_der,
            &time(spec.this_update)?,
            &time(spec.next_update)?,
        ]
        .concat();
        let number = asn1::unsigned(&spec.number.to_be_bytes());
        let mut extensions = vec![
            extension::authority_key_id(spec.authority_key_id)?,
            extension::whole(oid::ID_CE_CRL_NUMBER, false, &number),
        ];
        if !spec.distribution_point.is_empty() {
            extensions.push(issuing_distribution_point(spec.distribution_point)?);
        }
        let extensions: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
        let extensions = asn1::explicit(0, &[&asn1::sequence(&extensions)]);
        let room = 3 * HEADER + prefix.len();
        let mut buffer = Vec::with_capacity(room + expected * ENTRY + extensions.len() + TAIL);
        buffer.resize(room, 0);
        Ok(Self {
            buffer,
            room,
            prefix,
            extensions,
            algorithm: spec.algorithm,
        })
    }

    /// Adds a serial; each may be added once.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a time before 1970.
    pub fn push(
        &mut self,
        serial: &SerialNumber,
        revoked_at: Timestamp,
        reason: RevocationReason,
    ) -> Result<(), Error> {
        let serial = asn1::unsigned(&serial.to_be_bytes());
        let revoked_at = time(revoked_at)?;
        // §5.3.1: unspecified is said by saying nothing.
        let extensions: &[u8] = if reason == RevocationReason::Unspecified {
            &[]
        } else {
            &reason_extension(reason)
        };
        // At most 22 + 17 + 14 octets, so that the length takes one.
        let length = serial.len() + revoked_at.len() + extensions.len();
        let length = u8::try_from(length).map_err(|_| Error::malformed("revoked certificate"))?;
        self.buffer.extend_from_slice(&[0x30, length]);
        self.buffer.extend_from_slice(&serial);
        self.buffer.extend_from_slice(&revoked_at);
        self.buffer.extend_from_slice(extensions);
        Ok(())
    }

    /// Ends the list; what is left is to sign it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when it exceeds the 4 GiB that its length field has room for.
    pub fn finish(mut self) -> Result<UnsignedCrl, Error> {
        let entries = self.buffer.len() - self.room;
        // §5.1.2.6: without entries there is no list of them either.
        let entries_header = if entries == 0 {
            Vec::new()
        } else {
            sequence_header(entries)?
        };
        self.buffer.extend_from_slice(&self.extensions);
        let content = self.buffer.len() - self.room + entries_header.len() + self.prefix.len();
        let front = [sequence_header(content)?, self.prefix, entries_header].concat();
        let start = self.room - front.len();
        self.buffer[start..self.room].copy_from_slice(&front);
        Ok(UnsignedCrl {
            buffer: self.buffer,
            start,
            algorithm: self.algorithm,
        })
    }
}

/// A list that lacks only the signature.
#[derive(Debug)]
pub struct UnsignedCrl {
    buffer: Vec<u8>,
    start: usize,
    algorithm: SignatureAlgorithm,
}

impl UnsignedCrl {
    /// What is signed.
    #[must_use]
    pub fn tbs(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The whole list as DER.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when it exceeds the 4 GiB that its length field has room for.
    pub fn signed(mut self, signature: &[u8]) -> Result<Vec<u8>, Error> {
        self.buffer.extend_from_slice(self.algorithm.to_der());
        self.buffer.extend_from_slice(&asn1::bit_string(signature));
        let header = sequence_header(self.buffer.len() - self.start)?;
        let start = self.start - header.len();
        self.buffer[start..self.start].copy_from_slice(&header);
        self.buffer.drain(..start);
        Ok(self.buffer)
    }
}

/// Tag and length of a SEQUENCE; with four octets of length where the library that makes the others stops at 256 MiB.
fn sequence_header(length: usize) -> Result<Vec<u8>, Error> {
    const LIMIT: usize = u32::MAX as usize;
    let length = u32::try_from(length).map_err(|_| Error::TooLarge { limit: LIMIT })?;
    let octets = length.to_be_bytes();
    let mut header = vec![0x30];
    if length < 0x80 {
        header.push(octets[3]);
    } else {
        let significant = &octets[octets.iter().take_while(|octet| **octet == 0).count()..];
        // One to four octets.
        header.push(0x80 | significant.len() as u8);
        header.extend_from_slice(significant);
    }
    Ok(header)
}

/// `Extensions` of an entry with the reason alone.
const fn reason_extension(reason: RevocationReason) -> [u8; 14] {
    [
        0x30,
        0x0c,
        0x30,
        0x0a,
        0x06,
        0x03,
        0x55,
        0x1d,
        0x15,
        0x04,
        0x03,
        0x0a,
        0x01,
        reason.code(),
    ]
}

/// §5.2.5: critical, so that nobody takes a part for the whole.
fn issuing_distribution_point(urls: &[String]) -> Result<Vec<u8>, Error> {
    let names = urls
        .iter()
        .map(|url| {
            if !url.is_ascii() {
                return Err(Error::bad_name(url, "is not ASCII"));
            }
            Ok(asn1::implicit(6, url.as_bytes()))
        })
        .collect::<Result<Vec<_>, Error>>()?
        .concat();
    let full_name = asn1::explicit(0, &[&names]);
    let value = asn1::sequence(&[&asn1::explicit(0, &[&full_name])]);
    Ok(extension::whole(
        oid::ID_CE_ISSUING_DISTRIBUTION_POINT,
        true,
        &value,
    ))
}
