//! Nonces that nobody has to remember until they are used (RFC 8555 §6.5).
//!
//! A nonce is the time at which it was made, encrypted and authenticated (AES-256-GCM) under a key that all replicas share.
//! Making one touches nothing but the processor; whether one was made here and is still good can be told from itself.
//! Whether it was used cannot: whoever redeems one remembers its [`SealedNonce::id`] until [`SealedNonce::expires_at`].

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use certctl_domain::{
    acme::{Problem, ProblemType},
    time::Timestamp,
};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// How many fresh random octets a nonce takes.
pub const RANDOM_BYTES: usize = NONCE_LEN;

/// Says what is sealed, so that nothing else that is ever sealed under the key passes for a nonce.
const PURPOSE: &[u8] = b"certctl acme nonce 1";
/// The octets of a time.
const TIME: usize = 8;
/// Random octets, the time, the tag.
const SEALED: usize = NONCE_LEN + TIME + 16;
/// The characters of a nonce.
const TEXT: usize = SEALED / 3 * 4;
/// How far the clock of the replica that made a nonce may be ahead.
const MAX_SKEW: Duration = Duration::from_secs(60);

const _: () = assert!(SEALED.is_multiple_of(3), "the text needs no padding");

/// Makes nonces and opens them.
pub struct NonceMint {
    key: LessSafeKey,
    lifetime: Duration,
}

/// A nonce that was made here, or by another replica with the same key, and is neither too old nor from the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedNonce {
    /// What to remember it by once it is used.
    pub id: [u8; RANDOM_BYTES],
    /// When it was made.
    pub minted_at: Timestamp,
    /// From when on it is refused; until then it has to be remembered.
    pub expires_at: Timestamp,
}

/// Why a nonce is no good; all of it is `badNonce` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadNonce {
    /// It was not made with this key.
    #[error("the nonce was not made by this server")]
    Unknown,
    /// It is older than nonces may get.
    #[error("the nonce is too old")]
    Expired,
    /// It was made later than now.
    #[error("the nonce is from the future")]
    FromTheFuture,
}

impl From<BadNonce> for Problem {
    fn from(reason: BadNonce) -> Self {
        Self::new(ProblemType::BadNonce, reason.to_string())
    }
}

impl NonceMint {
    /// Makes nonces that are good for a time.
    #[must_use]
    pub fn new(key: &[u8; 32], lifetime: Duration) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("the key has the length of the cipher");
        Self {
            key: LessSafeKey::new(key),
            lifetime,
        }
    }

    /// Makes a nonce: 48 characters. The random octets must come from the machine's source of randomness, fresh for each: they
    /// are the nonce of the cipher. Equal ones are to be expected after some 2^48 nonces.
    #[must_use]
    pub fn mint(&self, now: Timestamp, random: [u8; RANDOM_BYTES]) -> String {
        let mut sealed = [0; SEALED];
        let (start, rest) = sealed.split_at_mut(NONCE_LEN);
        let (time, tag) = rest.split_at_mut(TIME);
        start.copy_from_slice(&random);
        time.copy_from_slice(&now.as_micros().to_be_bytes());
        let made = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(random),
                Aad::from(PURPOSE),
                time,
            )
            .expect("eight octets are not too many for the cipher");
        tag.copy_from_slice(made.as_ref());
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// Opens a nonce.
    ///
    /// # Errors
    /// [`BadNonce`]; a nonce that was used already is not noticed here.
    pub fn open(&self, text: &str, now: Timestamp) -> Result<SealedNonce, BadNonce> {
        let mut sealed = [0; SEALED];
        if text.len() != TEXT {
            return Err(BadNonce::Unknown);
        }
        // Strict as everything here: bits left over would give one nonce two spellings.
        match URL_SAFE_NO_PAD.decode_slice(text, &mut sealed) {
            Ok(SEALED) => {}
            _ => return Err(BadNonce::Unknown),
        }
        let (start, rest) = sealed.split_at_mut(NONCE_LEN);
        let id = <[u8; NONCE_LEN]>::try_from(&*start).map_err(|_| BadNonce::Unknown)?;
        let time = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(id), Aad::from(PURPOSE), rest)
            .ok()
            .and_then(|time| <[u8; TIME]>::try_from(&*time).ok())
            .ok_or(BadNonce::Unknown)?;
        let minted_at = Timestamp::from_micros(i64::from_be_bytes(time));
        let expires_at = minted_at + self.lifetime;
        if now >= expires_at {
            return Err(BadNonce::Expired);
        }
        if minted_at > now + MAX_SKEW {
            return Err(BadNonce::FromTheFuture);
        }
        Ok(SealedNonce {
            id,
            minted_at,
            expires_at,
        })
    }

    /// How long nonces are good for.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        self.lifetime
    }
}

impl fmt::Debug for NonceMint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NonceMint")
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use certctl_domain::time::Timestamp;
    use proptest::prelude::*;

    use super::{BadNonce, MAX_SKEW, NonceMint};
    use crate::base64url;

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);
    const LIFETIME: Duration = Duration::from_secs(300);

    fn mint() -> NonceMint {
        NonceMint::new(&[7; 32], LIFETIME)
    }

    #[test]
    fn a_nonce_is_opened_by_every_replica_with_the_key() {
        let text = mint().mint(NOW, [1; 12]);
        assert_eq!(text.len(), 48);
        let opened = mint().open(&text, NOW).unwrap();
        assert_eq!((opened.id, opened.minted_at), ([1; 12], NOW));
        assert_eq!(opened.expires_at, NOW + LIFETIME);
        let other = NonceMint::new(&[8; 32], LIFETIME);
        assert_eq!(other.open(&text, NOW), Err(BadNonce::Unknown));
    }

    #[test]
    fn a_nonce_is_good_until_the_last_moment_of_its_lifetime() {
        let text = mint().mint(NOW, [1; 12]);
        let last = NOW + LIFETIME - Duration::from_micros(1);
        assert!(mint().open(&text, last).is_ok());
        assert_eq!(mint().open(&text, NOW + LIFETIME), Err(BadNonce::Expired));
    }

    #[test]
    fn clocks_of_replicas_may_differ_a_little() {
        let text = mint().mint(NOW, [1; 12]);
        assert!(mint().open(&text, NOW - MAX_SKEW).is_ok());
        let before = NOW - MAX_SKEW - Duration::from_micros(1);
        assert_eq!(mint().open(&text, before), Err(BadNonce::FromTheFuture));
    }

    #[test]
    fn what_was_never_made_here_is_unknown() {
        let good = mint().mint(NOW, [1; 12]);
        for bad in [
            "",
            "AAAA",
            &good[1..],
            &format!("{good}A"),
            &format!("{good}AAAA"),
            &"ä".repeat(24),
            &"A".repeat(48),
        ] {
            assert_eq!(mint().open(bad, NOW), Err(BadNonce::Unknown), "{bad}");
        }
    }

    #[test]
    fn the_key_is_not_printed() {
        assert_eq!(format!("{:?}", mint()), "NonceMint { lifetime: 300s, .. }");
    }

    proptest! {
        #[test]
        fn nonces_round_trip_and_no_bit_may_change(random: [u8; 12], seconds in 0_i64..4_000_000_000, bit in 0_usize..288) {
            let now = Timestamp::from_seconds(seconds);
            let text = mint().mint(now, random);
            let opened = mint().open(&text, now).unwrap();
            prop_assert_eq!((opened.id, opened.minted_at), (random, now));
            let mut octets = base64url::decode(&text).unwrap();
            octets[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(mint().open(&base64url::encode(octets), now), Err(BadNonce::Unknown));
        }
    }
}
