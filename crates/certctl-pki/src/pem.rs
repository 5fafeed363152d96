//! PEM blocks (RFC 7468) and fingerprints.
//!
//! Reading is lenient in what occurs in practice: text around blocks, CRLF, lines of any length. Writing is strict.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::Error;

/// The label of certificates.
pub const CERTIFICATE: &str = "CERTIFICATE";
/// The label of certification requests.
pub const CERTIFICATE_REQUEST: &str = "CERTIFICATE REQUEST";
/// The greatest length of a text that is searched for blocks, in bytes.
pub const MAX_TEXT: usize = 1024 * 1024;

/// One block: its label and the octets in it, wiped on drop because they may be a key.
pub struct Block {
    /// What stands between `BEGIN` and the dashes.
    pub label: String,
    /// The decoded octets.
    pub der: Zeroizing<Vec<u8>>,
}

/// Reads every block of a text, in order.
///
/// # Errors
/// [`Error::TooLarge`] above [`MAX_TEXT`]; [`Error::Malformed`] when a block does not end, or holds something other than
/// base64.
pub fn decode_all(text: &str) -> Result<Vec<Block>, Error> {
    const MALFORMED: Error = Error::malformed("PEM");
    if text.len() > MAX_TEXT {
        return Err(Error::TooLarge { limit: MAX_TEXT });
    }
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(label) = boundary(line, "-----BEGIN ") else {
            continue;
        };
        // With room for everything up front no copy of a key is left behind by growing.
        let mut body = Zeroizing::new(String::with_capacity(text.len()));
        loop {
            let line = lines.next().ok_or(MALFORMED)?;
            match boundary(line, "-----END ") {
                Some(end) if end == label => break,
                Some(_) => return Err(MALFORMED),
                // Encapsulated headers (RFC 1421 §4.6) mean encryption; such keys cannot be used here.
                None if line.contains(':') => return Err(MALFORMED),
                None => body.extend(line.split_ascii_whitespace()),
            }
        }
        let der = STANDARD.decode(body.as_bytes()).map_err(|_| MALFORMED)?;
        blocks.push(Block {
            label: label.to_owned(),
            der: Zeroizing::new(der),
        });
    }
    Ok(blocks)
}

/// The octets of every certificate of a text, in order; other blocks are passed over.
///
/// # Errors
/// As [`decode_all`]; [`Error::NotPem`] when there is no certificate.
pub fn decode_certificates(text: &str) -> Result<Vec<Vec<u8>>, Error> {
    let certificates: Vec<Vec<u8>> = decode_all(text)?
        .into_iter()
        .filter(|block| block.label == CERTIFICATE)
        .map(|block| block.der.to_vec())
        .collect();
    if certificates.is_empty() {
        return Err(Error::NotPem {
            expected: CERTIFICATE,
        });
    }
    Ok(certificates)
}

/// Writes one block with lines of 64 characters, ending in a newline.
#[must_use]
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(STANDARD.encode(der));
    let mut text = String::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 36);
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// Writes certificates one after the other.
#[must_use]
pub fn encode_chain<D: AsRef<[u8]>>(certificates: &[D]) -> String {
    certificates
        .iter()
        .map(|der| encode(CERTIFICATE, der.as_ref()))
        .collect()
}

/// SHA-256 of DER in lowercase hex.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, der))
}

fn boundary<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix("-----")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{decode_all, decode_certificates, encode, encode_chain, fingerprint};
    use crate::Error;

    #[test]
    fn text_around_blocks_crlf_and_odd_line_lengths_are_read() {
        let text = "subject=CN\r\n-----BEGIN CERTIFICATE-----\r\nAA\r\nEC\r\n-----END CERTIFICATE-----\r\ntrailer";
        assert_eq!(decode_certificates(text).unwrap(), [vec![0, 1, 2]]);
    }

    #[test]
    fn broken_blocks_are_refused() {
        for bad in [
            "-----BEGIN A-----\nAAEC\n",
            "-----BEGIN A-----\nAAEC\n-----END B-----\n",
            "-----BEGIN A-----\nA*EC\n-----END A-----\n",
            "-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\n\nAAEC\n-----END A-----\n",
        ] {
            assert!(decode_all(bad).is_err(), "{bad}");
        }
        assert_eq!(
            decode_certificates(&encode("PRIVATE KEY", b"x")),
            Err(Error::NotPem {
                expected: "CERTIFICATE"
            })
        );
    }

    #[test]
    fn a_fingerprint_is_sha256_in_lowercase_hex() {
        assert_eq!(
            fingerprint(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    proptest! {
        #[test]
        fn any_octets_round_trip(chain in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4)) {
            prop_assert_eq!(decode_certificates(&encode_chain(&chain)).unwrap(), chain);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,200}(-----BEGIN [A-Z]{1,3}-----\n)?\\PC{0,200}") {
            let _ = decode_all(&text);
        }
    }
}
