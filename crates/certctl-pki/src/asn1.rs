//! The few pieces of DER that are put together and taken apart by hand.
//!
//! What is hashed and signed is kept as the bytes that were received or made: a structure that is decoded and encoded again
//! is not always the same bytes (SETs are sorted, for one), and a signature covers bytes.

use certctl_domain::time::Timestamp;
use x509_cert::{
    der::{
        Decode, Encode, Header, Length, Reader as _, SliceReader, Tag, TagNumber,
        asn1::ObjectIdentifier,
    },
    time::Time,
};

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

/// An OCTET STRING.
pub(crate) fn octet_string(bytes: &[u8]) -> Vec<u8> {
    tlv(Tag::OctetString, &[bytes])
}

/// An OBJECT IDENTIFIER of its encoded arcs.
pub(crate) fn object_identifier(arcs: &[u8]) -> Vec<u8> {
    tlv(Tag::ObjectIdentifier, &[arcs])
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

/// `[number] EXPLICIT` around the concatenation of `parts`.
pub(crate) fn explicit(number: u32, parts: &[&[u8]]) -> Vec<u8> {
    let tag = Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    };
    tlv(tag, parts)
}

/// `[number] IMPLICIT` of a primitive type with this content.
pub(crate) fn implicit(number: u32, content: &[u8]) -> Vec<u8> {
    let tag = Tag::ContextSpecific {
        constructed: false,
        number: TagNumber(number),
    };
    tlv(tag, &[content])
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

/// Reads TLVs one after the other.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads TLVs that stand beside each other.
    pub(crate) fn new(der: &'a [u8], what: &'static str) -> Self {
        Self { rest: der, what }
    }

    /// Reads what a SEQUENCE consists of; nothing may follow it.
    pub(crate) fn sequence(der: &'a [u8], what: &'static str) -> Result<Self, Error> {
        let mut outer = Self::new(der, what);
        let content = outer.optional(0x30)?.ok_or(Error::malformed(what))?;
        outer.end()?;
        Ok(Self::new(content, what))
    }

    fn malformed(&self) -> Error {
        Error::malformed(self.what)
    }

    /// The tag that comes next.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Tag octet, content and the whole of the next TLV.
    fn next(&mut self) -> Result<(u8, &'a [u8], &'a [u8]), Error> {
        let mut reader = SliceReader::new(self.rest).map_err(|_| self.malformed())?;
        let whole = reader.tlv_bytes().map_err(|_| self.malformed())?;
        let mut inside = SliceReader::new(whole).map_err(|_| self.malformed())?;
        let header = Header::decode(&mut inside).map_err(|_| self.malformed())?;
        let length = usize::try_from(u32::from(header.length())).map_err(|_| self.malformed())?;
        self.rest = &self.rest[whole.len()..];
        Ok((whole[0], &whole[whole.len() - length..], whole))
    }

    /// The whole of the next TLV.
    pub(crate) fn any(&mut self) -> Result<&'a [u8], Error> {
        self.next().map(|(_, _, whole)| whole)
    }

    /// The content of the next TLV when it has this tag octet.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Error> {
        if self.peek() == Some(tag) {
            self.next().map(|(_, content, _)| Some(content))
        } else {
            Ok(None)
        }
    }

    /// The content of the next TLV, which must have this tag octet.
    pub(crate) fn required(&mut self, tag: u8) -> Result<&'a [u8], Error> {
        self.optional(tag)?.ok_or(self.malformed())
    }

    /// A non-negative INTEGER in its shortest form, as its octets.
    pub(crate) fn integer(&mut self) -> Result<&'a [u8], Error> {
        match self.required(0x02)? {
            [] | [0x80..=0xff, ..] | [0, 0..=0x7f, ..] => Err(self.malformed()),
            octets => Ok(octets),
        }
    }

    /// A `Time` of X.509.
    pub(crate) fn time(&mut self) -> Result<Timestamp, Error> {
        let time = Time::from_der(self.any()?).map_err(|_| self.malformed())?;
        let seconds =
            i64::try_from(time.to_unix_duration().as_secs()).map_err(|_| self.malformed())?;
        Ok(Timestamp::from_seconds(seconds))
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), Error> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.malformed())
        }
    }
}

/// Id, criticality and value of an `Extension`.
pub(crate) fn extension<'a>(
    der: &'a [u8],
    what: &'static str,
) -> Result<(ObjectIdentifier, bool, &'a [u8]), Error> {
    let mut fields = Reader::sequence(der, what)?;
    let id =
        ObjectIdentifier::from_bytes(fields.required(0x06)?).map_err(|_| Error::malformed(what))?;
    let is_critical = match fields.optional(0x01)? {
        None => false,
        Some([0xff]) => true,
        // DER leaves the default out.
        Some(_) => return Err(Error::malformed(what)),
    };
    let value = fields.required(0x04)?;
    fields.end()?;
    Ok((id, is_critical, value))
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
