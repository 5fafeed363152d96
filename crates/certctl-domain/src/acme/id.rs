//! The ids of ACME objects. They stand in URLs that anybody may try, so they are random and not counted.

use crate::id::{CertificateId, text_id};

/// Random bytes behind an id: 80 bits, sixteen characters.
pub const SUFFIX_BYTES: usize = 10;

/// Crockford's alphabet in lower case: no letter that is taken for a digit.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn suffix(random: [u8; SUFFIX_BYTES]) -> String {
    let mut text = String::with_capacity(SUFFIX_BYTES * 8 / 5);
    let (mut buffer, mut bits) = (0_u32, 0);
    for byte in random {
        buffer = (buffer << 8) | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(buffer >> bits) as usize & 31]));
        }
    }
    text
}

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident = $prefix:literal;)+) => {$(
        text_id! { $(#[$meta])* $name }

        impl $name {
            /// What the id starts with.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an id from fresh random bytes.
            #[must_use]
            pub fn from_random(random: [u8; SUFFIX_BYTES]) -> Self {
                Self(format!("{}{}", Self::PREFIX, suffix(random)))
            }

            /// Reads the id of a URL: the prefix and sixteen characters of the alphabet; nothing else was ever given out.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let rest = text.strip_prefix(Self::PREFIX)?;
                let known = rest.len() == SUFFIX_BYTES * 8 / 5 && rest.bytes().all(|b| ALPHABET.contains(&b));
                known.then(|| Self(text.to_owned()))
            }
        }
    )+};
}

ids! {
    /// An order.
    AcmeOrderId = "acme-ord-";
    /// An authorisation.
    AcmeAuthorizationId = "acme-authz-";
    /// A challenge.
    AcmeChallengeId = "acme-chall-";
}

/// The id of the certificate that an order leads to.
#[must_use]
pub fn managed_certificate_id(random: [u8; SUFFIX_BYTES]) -> CertificateId {
    CertificateId::from_stored(format!("mc-acme-{}", suffix(random)))
}

text_id! {
    /// An account: `acme-acc-` and a digest of profile and key, so that one key may hold an account on each profile, and finding
    /// the account of a key needs no search.
    AcmeAccountId
}

impl AcmeAccountId {
    /// What the id starts with.
    pub const PREFIX: &'static str = "acme-acc-";

    /// Makes the id from the digest, base64url without padding.
    #[must_use]
    pub fn from_digest(digest: &str) -> Self {
        Self(format!("{}{digest}", Self::PREFIX))
    }

    /// Reads the id of a URL: the prefix and a SHA-256 as base64url, 43 characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(Self::PREFIX)?;
        let known = rest.len() == 43
            && rest
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        known.then(|| Self(text.to_owned()))
    }
}

text_id! {
    /// The name of a key for external account binding (RFC 8555 §7.3.4): what an operator chose, 1 to 128 visible ASCII characters.
    EabKeyId
}

impl EabKeyId {
    /// Reads a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        ((1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()))
            .then(|| Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::{ALPHABET, AcmeAccountId, AcmeOrderId, EabKeyId, managed_certificate_id};

    #[test]
    fn random_bytes_become_sixteen_characters_without_look_alikes() {
        assert_eq!(
            AcmeOrderId::from_random([0; 10]).as_str(),
            "acme-ord-0000000000000000"
        );
        assert_eq!(
            AcmeOrderId::from_random([255; 10]).as_str(),
            "acme-ord-zzzzzzzzzzzzzzzz"
        );
        let mixed = AcmeOrderId::from_random([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(mixed.as_str(), "acme-ord-041061050r3gg28a");
        assert_eq!(AcmeOrderId::parse(mixed.as_str()), Some(mixed));
        assert!(!ALPHABET.iter().any(|b| b"ilou".contains(b)));
        assert_eq!(
            managed_certificate_id([0; 10]).as_str(),
            "mc-acme-0000000000000000"
        );
    }

    #[test]
    fn what_was_never_given_out_is_no_id() {
        for bad in [
            "",
            "acme-ord-",
            "acme-ord-000000000000000",
            "acme-ord-00000000000000000",
            "acme-ord-000000000000000u",
            "acme-authz-0000000000000000",
            "acme-ord-0000000000000000\n",
        ] {
            assert_eq!(AcmeOrderId::parse(bad), None, "{bad:?}");
        }
        assert!(AcmeAccountId::parse(&format!("acme-acc-{}", "A".repeat(43))).is_some());
        assert!(AcmeAccountId::parse(&format!("acme-acc-{}", "A".repeat(42))).is_none());
        assert!(EabKeyId::parse("kid-1").is_some());
        assert!(EabKeyId::parse("a b").is_none());
    }
}
