//! Octets as text that may stand in a URL (RFC 4648 §5, without padding as RFC 7515 §2 wants it).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// The text is not the one spelling of any octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not base64url without padding")]
pub struct NotBase64Url;

/// Writes octets.
#[must_use]
pub fn encode(octets: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

/// Reads octets. There is one text for each: padding, white space, the other alphabet and bits left over that are not zero are
/// all refused, so that what is compared or remembered as text is what it stands for.
///
/// # Errors
/// [`NotBase64Url`].
pub fn decode(text: impl AsRef<[u8]>) -> Result<Vec<u8>, NotBase64Url> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| NotBase64Url)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{decode, encode};

    #[test]
    fn there_is_one_spelling_only() {
        assert_eq!(decode("").unwrap(), b"");
        assert_eq!(decode("-_8").unwrap(), [0xfb, 0xff]);
        for bad in ["-_8=", "+/8", "-_9", "A", "AA AA", "AAAA\n", "AÄ", "AA=="] {
            assert!(decode(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn octets_round_trip(octets: Vec<u8>) {
            prop_assert_eq!(decode(encode(&octets)).unwrap(), octets);
        }

        #[test]
        fn whatever_is_read_is_written_back(text in "[A-Za-z0-9_-]{0,24}") {
            if let Ok(octets) = decode(&text) {
                prop_assert_eq!(encode(octets), text);
            }
        }
    }
}
