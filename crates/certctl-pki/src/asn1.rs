//! The few pieces of DER that are put together and taken apart by hand.
//!
//! What is hashed and signed is kept as the bytes that were received or made: a structure that is decoded and encoded again
//! is not always the same bytes (SETs are sorted, for one), and a signature covers bytes.

use x509_cert::der::{Encode, Header, Length, Reader, SliceReader, Tag};

use crate::Error;

/// One tag-length-value of `tag` around the concatenation of `parts`.
pub(crate) fn tlv(tag: Tag, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let header = Length::try_from(length)
        .and_then(|length| Header::new(tag, length).to_der())
        .expect("nothing certctl encodes comes near the 256 MiB that a DER length may be");
    let mut out = Vec::with_capacity(header.len() + length);
    out.extend_from_slice(&header);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// A SEQUENCE of the concatenation of `parts`.
pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(Tag::Sequence, parts)
}

/// A BIT STRING without unused bits.
pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    tlv(Tag::BitString, &[&[0], bytes])
}

/// A non-negative INTEGER of big-endian octets, with leading zeros or without.
pub(crate) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let start = bytes
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(bytes.len());
    let digits = &bytes[start..];
    // The top bit is the sign, so a number that has it set gets a zero octet in front (X.690 §8.3).
    match digits.first() {
        None => tlv(Tag::Integer, &[&[0]]),
        Some(first) if *first >= 0x80 => tlv(Tag::Integer, &[&[0], digits]),
        Some(_) => tlv(Tag::Integer, &[digits]),
    }
}

/// What `SIGNED{}` of X.509 and PKCS#10 has in common: the signed bytes, the algorithm and the signature, each as received.
pub(crate) struct Signed<'a> {
    /// The whole TLV of what is signed.
    pub(crate) tbs: &'a [u8],
    /// The whole TLV of the `AlgorithmIdentifier`.
    pub(crate) algorithm: &'a [u8],
    /// The octets of the signature.
    pub(crate) signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Takes `der` apart; nothing may follow it.
    pub(crate) fn split(der: &'a [u8], what: &'static str) -> Result<Self, Error> {
        let read = || -> Result<Self, x509_cert::der::Error> {
            let mut reader = SliceReader::new(der)?;
            let signed = reader.sequence(|inner| {
                let tbs = inner.tlv_bytes()?;
                let algorithm = inner.tlv_bytes()?;
                let signature: x509_cert::der::asn1::BitStringRef<'a> = inner.decode()?;
                Ok::<_, x509_cert::der::Error>((tbs, algorithm, signature))
            })?;
            reader.finish()?;
            let (tbs, algorithm, signature) = signed;
            let signature = signature
                .as_bytes()
                .ok_or_else(|| x509_cert::der::Error::from(Tag::BitString.value_error()))?;
            Ok(Self {
                tbs,
                algorithm,
                signature,
            })
        };
        read().map_err(|_| Error::malformed(what))
    }
}

/// The whole TLVs that a SEQUENCE consists of; nothing may follow it.
pub(crate) fn elements<'a>(der: &'a [u8], what: &'static str) -> Result<Vec<&'a [u8]>, Error> {
    let read = || -> Result<Vec<&'a [u8]>, x509_cert::der::Error> {
        let mut reader = SliceReader::new(der)?;
        let all = reader.sequence(|inner| {
            let mut all = Vec::new();
            while !inner.is_finished() {
                all.push(inner.tlv_bytes()?);
            }
            Ok::<_, x509_cert::der::Error>(all)
        })?;
        reader.finish()?;
        Ok(all)
    };
    read().map_err(|_| Error::malformed(what))
}

#[cfg(test)]
mod tests {
    use super::{elements, unsigned};

    #[test]
    fn integers_are_shortest_and_never_negative() {
        assert_eq!(unsigned(&[]), [2, 1, 0]);
        assert_eq!(unsigned(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[0x7f, 0xff]), [2, 2, 0x7f, 0xff]);
    }

    #[test]
    fn elements_refuses_what_follows_the_sequence() {
        assert_eq!(elements(&[0x30, 2, 5, 0], "x").unwrap(), [&[5u8, 0][..]]);
        assert!(elements(&[0x30, 2, 5, 0, 0], "x").is_err());
        assert!(elements(&[0x30, 3, 5, 0], "x").is_err());
    }
}
