//! Encryption at rest (operations §9).
//!
//! A blob is sealed for one place, `table:column:row_id`, and opens there only, so that nobody who can write to the database
//! can move a sealed value to a row where it does something else.
//!
//! ```text
//! v4: 0x04 ‖ salt[16] ‖ nonce[12] ‖ ciphertext ‖ tag[16]    AAD = place
//! v3: 0x03 ‖ salt[16] ‖ nonce[12] ‖ ciphertext ‖ tag[16]    no AAD; read only
//! v2: 0x02 ‖ salt[16] ‖ nonce[12] ‖ ciphertext ‖ tag[16]    no AAD, fewer rounds; imported only
//! v1:                   nonce[12] ‖ ciphertext ‖ tag[16]    no AAD, fewer rounds, one salt for all; imported only
//! ```
//!
//! The key of a v4 blob comes by HKDF from a master key that is stretched once; older formats stretch the passphrase for each
//! blob, which takes tenths of a second.

#[cfg(test)]
mod tests;

use std::{fmt, num::NonZeroU32, sync::OnceLock};

use certctl_domain::secret::Secret;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
    pbkdf2,
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

use crate::Error;

const V4: u8 = 4;
const V3: u8 = 3;
const V2: u8 = 2;
const SALT_LEN: usize = 16;
const HEADER_LEN: usize = 1 + SALT_LEN + NONCE_LEN;
const TAG_LEN: usize = 16;
const ITERATIONS: NonZeroU32 = NonZeroU32::new(600_000).expect("it is not zero");
/// What v1 and v2 thought enough.
const OLD_ITERATIONS: NonZeroU32 = NonZeroU32::new(100_000).expect("it is not zero");
/// The one salt of v1.
const V1_SALT: &[u8] = b"certctl-config-encryption-v1";

/// The salt of the one slow derivation per process. It is fixed because every replica and every restart must come to the
/// same master key without having stored anything, and because 600 000 rounds per blob would make reading a table of sealed
/// rows take minutes. What a random salt is for is not lost: each blob has one of its own, in the HKDF step that makes its
/// key, so no two blobs share a key and nonces cannot collide. What is lost is that one dictionary could be computed against
/// several installations; the passphrase is required to be too long for dictionaries.
const MASTER_SALT: &[u8] = b"certctl/seal/v4/master";
const BLOB_INFO: &[u8] = b"certctl/seal/v4/aes-256-gcm";

/// Seals and opens what is stored, under the configured passphrase.
///
/// The master key is derived when it is first needed, which takes some tenths of a second, and kept.
pub struct Sealer {
    current: Option<Passphrase>,
    previous: Option<Passphrase>,
}

impl Sealer {
    /// A sealer under a passphrase; with an empty one every operation fails with [`Error::NoEncryptionKey`].
    #[must_use]
    pub fn new(passphrase: &Secret) -> Self {
        Self {
            current: Passphrase::new(passphrase),
            previous: None,
        }
    }

    /// Also opens what was sealed under the passphrase before this one, while it is being rotated.
    #[must_use]
    pub fn with_previous(mut self, passphrase: Option<&Secret>) -> Self {
        self.previous = passphrase.and_then(Passphrase::new);
        self
    }

    /// Seals `plain` for the place `place`, written `table:column:row_id`. The same value sealed twice gives different blobs.
    ///
    /// # Errors
    /// [`Error::NoEncryptionKey`], [`Error::Randomness`].
    pub fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let current = self.current.as_ref().ok_or(Error::NoEncryptionKey)?;
        let mut random = [0; SALT_LEN + NONCE_LEN];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| Error::Randomness)?;
        let (salt, nonce) = random.split_at(SALT_LEN);

        // The room for the tag is there from the start, so the plaintext is never copied by growing and left behind.
        let mut blob = Vec::with_capacity(HEADER_LEN + plain.len() + TAG_LEN);
        blob.push(V4);
        blob.extend_from_slice(&random);
        blob.extend_from_slice(plain);
        let tag = current
            .v4_key(salt)
            .seal_in_place_separate_tag(
                nonce_of(nonce)?,
                Aad::from(place.as_bytes()),
                &mut blob[HEADER_LEN..],
            )
            .map_err(|_| Error::Signing)?;
        blob.extend_from_slice(tag.as_ref());
        Ok(blob)
    }

    /// Opens a blob that was sealed for `place`, under the current passphrase or the one before.
    ///
    /// # Errors
    /// [`Error::NoEncryptionKey`]; [`Error::SealFormat`] for a format other than v4 and v3; [`Error::Unsealable`] when it was
    /// sealed for another place, under another passphrase, or is not as it was.
    pub fn open(&self, place: &str, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let marker = *blob.first().ok_or(Error::Unsealable)?;
        let format = match marker {
            V4 => Format::V4,
            V3 => Format::V3,
            _ => return Err(Error::SealFormat { marker }),
        };
        self.open_as(format, place, blob)
    }

    /// Opens a blob of any format that there ever was, as a change of keys does. Not for reading: what proves nothing about its
    /// place, and was sealed with few rounds, is to be sealed anew before it is used.
    ///
    /// # Errors
    /// [`Error::NoEncryptionKey`], [`Error::Unsealable`].
    pub fn import(&self, place: &str, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let marked = match blob.first() {
            Some(&V4) => Some(Format::V4),
            Some(&V3) => Some(Format::V3),
            Some(&V2) => Some(Format::V2),
            _ => None,
        };
        // v1 begins with a nonce, whose first byte may be the marker of another format.
        let formats = marked.into_iter().chain([Format::V1]);
        let mut last = Error::Unsealable;
        for format in formats {
            match self.open_as(format, place, blob) {
                Err(error) => last = error,
                opened => return opened,
            }
        }
        Err(last)
    }

    /// The blob as it would be sealed today: in the newest format, under the current passphrase; nothing when it is already.
    ///
    /// # Errors
    /// As [`Sealer::import`] and [`Sealer::seal`].
    pub fn reseal(&self, place: &str, blob: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let current = self.current.as_ref().ok_or(Error::NoEncryptionKey)?;
        if blob.first() == Some(&V4) && Format::V4.open(current, place, blob).is_some() {
            return Ok(None);
        }
        let plain = self.import(place, blob)?;
        self.seal(place, &plain).map(Some)
    }

    fn open_as(
        &self,
        format: Format,
        place: &str,
        blob: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let current = self.current.as_ref().ok_or(Error::NoEncryptionKey)?;
        std::iter::once(current)
            .chain(&self.previous)
            .find_map(|passphrase| format.open(passphrase, place, blob))
            .ok_or(Error::Unsealable)
    }
}

/// How a blob is laid out and what its key is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    V4,
    V3,
    V2,
    V1,
}

impl Format {
    fn open(self, passphrase: &Passphrase, place: &str, blob: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let header = if self == Self::V1 { 0 } else { 1 + SALT_LEN };
        let (header, rest) = blob.split_at_checked(header)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let length = sealed.len().checked_sub(TAG_LEN)?;
        let salt = header.get(1..).unwrap_or_default();
        let (key, aad) = match self {
            Self::V4 => (passphrase.v4_key(salt), place.as_bytes()),
            Self::V3 => (aes(&passphrase.stretch(salt, ITERATIONS)), &[][..]),
            Self::V2 => (aes(&passphrase.stretch(salt, OLD_ITERATIONS)), &[][..]),
            Self::V1 => (aes(passphrase.v1_key()), &[][..]),
        };
        let mut plain = Zeroizing::new(sealed.to_vec());
        key.open_in_place(nonce_of(nonce).ok()?, Aad::from(aad), &mut plain)
            .ok()?;
        plain.truncate(length);
        Some(plain)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(<redacted>)")
    }
}

struct Passphrase {
    text: Secret,
    master: OnceLock<Zeroizing<[u8; 32]>>,
    v1: OnceLock<Zeroizing<[u8; 32]>>,
}

impl Passphrase {
    fn new(text: &Secret) -> Option<Self> {
        (!text.is_empty()).then(|| Self {
            text: text.clone(),
            master: OnceLock::new(),
            v1: OnceLock::new(),
        })
    }

    fn v4_key(&self, salt: &[u8]) -> LessSafeKey {
        let master = self
            .master
            .get_or_init(|| self.stretch(MASTER_SALT, ITERATIONS));
        let key = Salt::new(HKDF_SHA256, salt).extract(&master[..]);
        let info = [BLOB_INFO];
        let okm = key
            .expand(&info, &AES_256_GCM)
            .expect("32 octets are far below the 255 hashes that HKDF can give");
        LessSafeKey::new(UnboundKey::from(okm))
    }

    /// The same for every blob.
    fn v1_key(&self) -> &[u8; 32] {
        self.v1
            .get_or_init(|| self.stretch(V1_SALT, OLD_ITERATIONS))
    }

    fn stretch(&self, salt: &[u8], iterations: NonZeroU32) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            salt,
            self.text.expose().as_bytes(),
            &mut key[..],
        );
        key
    }
}

fn aes(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes exactly these 32 octets"),
    )
}

fn nonce_of(bytes: &[u8]) -> Result<Nonce, Error> {
    Nonce::try_assume_unique_for_key(bytes).map_err(|_| Error::Unsealable)
}
