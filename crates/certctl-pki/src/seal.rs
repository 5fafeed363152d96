//! Encryption at rest (operations §9).
//!
//! A blob is sealed for one place, `table:column:row_id`, and opens there only, so that nobody who can write to the database
//! can move a sealed value to a row where it does something else.
//!
//! ```text
//! v4: 0x04 ‖ salt[16] ‖ nonce[12] ‖ ciphertext ‖ tag[16]    AAD = place
//! v3: 0x03 ‖ salt[16] ‖ nonce[12] ‖ ciphertext ‖ tag[16]    no AAD; read only
//! ```

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
const SALT_LEN: usize = 16;
const HEADER_LEN: usize = 1 + SALT_LEN + NONCE_LEN;
const TAG_LEN: usize = 16;
const ITERATIONS: NonZeroU32 = match NonZeroU32::new(600_000) {
    Some(iterations) => iterations,
    None => unreachable!(),
};

/// The salt of the one slow derivation per process. It is fixed because every replica and every restart must come to the
/// same master key without having stored anything, and because 600 000 rounds per blob would make reading a table of sealed
/// rows take minutes. What a random salt is for is not lost: each blob has one of its own, in the HKDF step that makes its
/// key, so no two blobs share a key and nonces cannot collide. What is lost is that one dictionary could be computed against
/// several installations; the passphrase is required to be too long for dictionaries.
const MASTER_SALT: &[u8] = b"certctl/seal/v4/master";
const BLOB_INFO: &[u8] = b"certctl/seal/v4/aes-256-gcm";

/// Seals and opens what is stored, under the configured passphrase.
///
/// The master key is derived when it is first needed, which takes some tenths of a second, and kept: a server that seals
/// nothing starts without that wait.
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
        let current = self.current.as_ref().ok_or(Error::NoEncryptionKey)?;
        let marker = *blob.first().ok_or(Error::Unsealable)?;
        if marker != V4 && marker != V3 {
            return Err(Error::SealFormat { marker });
        }
        if blob.len() < HEADER_LEN + TAG_LEN {
            return Err(Error::Unsealable);
        }
        let (salt, rest) = blob[1..].split_at(SALT_LEN);
        let (nonce, sealed) = rest.split_at(NONCE_LEN);
        for passphrase in std::iter::once(current).chain(&self.previous) {
            let (key, aad) = if marker == V4 {
                (passphrase.v4_key(salt), place.as_bytes())
            } else {
                (passphrase.v3_key(salt), &[][..])
            };
            let mut plain = Zeroizing::new(sealed.to_vec());
            let opened = key.open_in_place(nonce_of(nonce)?, Aad::from(aad), &mut plain);
            if opened.is_ok() {
                plain.truncate(sealed.len() - TAG_LEN);
                return Ok(plain);
            }
        }
        Err(Error::Unsealable)
    }

    /// Whether a blob should be sealed again: it is of an older format, or under the passphrase before the current one.
    ///
    /// # Errors
    /// As [`Sealer::open`].
    pub fn is_stale(&self, place: &str, blob: &[u8]) -> Result<bool, Error> {
        if blob.first() != Some(&V4) {
            return self.open(place, blob).map(|_| true);
        }
        let only_current = Self {
            current: self.current.clone(),
            previous: None,
        };
        match only_current.open(place, blob) {
            Err(Error::Unsealable) => self.open(place, blob).map(|_| true),
            other => other.map(|_| false),
        }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(<redacted>)")
    }
}

#[derive(Clone)]
struct Passphrase {
    text: Secret,
    master: OnceLock<Zeroizing<[u8; 32]>>,
}

impl Passphrase {
    fn new(text: &Secret) -> Option<Self> {
        (!text.is_empty()).then(|| Self {
            text: text.clone(),
            master: OnceLock::new(),
        })
    }

    fn v4_key(&self, salt: &[u8]) -> LessSafeKey {
        let master = self.master.get_or_init(|| self.stretch(MASTER_SALT));
        let key = Salt::new(HKDF_SHA256, salt).extract(&master[..]);
        let info = [BLOB_INFO];
        let okm = key
            .expand(&info, &AES_256_GCM)
            .expect("32 octets are far below the 255 hashes that HKDF can give");
        LessSafeKey::new(UnboundKey::from(okm))
    }

    fn v3_key(&self, salt: &[u8]) -> LessSafeKey {
        let key = self.stretch(salt);
        LessSafeKey::new(
            UnboundKey::new(&AES_256_GCM, &key[..]).expect("AES-256 takes exactly these 32 octets"),
        )
    }

    fn stretch(&self, salt: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            ITERATIONS,
            salt,
            self.text.expose().as_bytes(),
            &mut key[..],
        );
        key
    }
}

fn nonce_of(bytes: &[u8]) -> Result<Nonce, Error> {
    Nonce::try_assume_unique_for_key(bytes).map_err(|_| Error::Unsealable)
}
