//! Heads of batches, and the keys that sign them.

use certctl_domain::{key::KeySpec, secret::Secret, time::Timestamp};
use serde_json::{Value, json};

use super::{Hash, hash_from_hex, jcs, merkle};
use crate::{
    Error,
    key::{PrivateKey, PublicKey},
};

/// What is signed of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its number, from 1 without gaps.
    pub batch: i64,
    /// The position of its first row; the first row of all has 0.
    pub first_seq: i64,
    /// How many rows it has, at least one.
    pub row_count: i64,
    /// The root of the tree of its rows.
    pub root: Hash,
    /// The hash of the head before, [`super::GENESIS`] for the first.
    pub previous: Hash,
    /// When it was closed.
    pub sealed_at: Timestamp,
    /// Which key signed it.
    pub key_id: String,
}

impl Head {
    /// The head as an object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "batch": self.batch,
            "first_seq": self.first_seq,
            "row_count": self.row_count,
            "root": hex::encode(self.root),
            "previous": hex::encode(self.previous),
            "sealed_at": self.sealed_at.to_string(),
            "key_id": self.key_id,
        })
    }

    /// Reads what [`Head::to_json`] wrote.
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        let number = |name: &str| value.get(name)?.as_i64();
        let text = |name: &str| value.get(name)?.as_str();
        Some(Self {
            batch: number("batch")?,
            first_seq: number("first_seq")?,
            row_count: number("row_count")?,
            root: hash_from_hex(text("root")?)?,
            previous: hash_from_hex(text("previous")?)?,
            sealed_at: text("sealed_at")?.parse().ok()?,
            key_id: text("key_id")?.to_owned(),
        })
    }

    /// What is signed and hashed: the canonical form of the object.
    #[must_use]
    pub fn message(&self) -> String {
        jcs::canonical(&self.to_json())
    }

    /// What the next head holds of this one.
    #[must_use]
    pub fn hash(&self) -> Hash {
        merkle::sha256(self.message().as_bytes())
    }

    /// The position after its last row.
    #[must_use]
    pub const fn end_seq(&self) -> i64 {
        self.first_seq.saturating_add(self.row_count)
    }
}

/// A head with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// What is signed.
    pub head: Head,
    /// Ed25519 over [`Head::message`].
    pub signature: Vec<u8>,
}

impl SignedHead {
    /// The head as an object, with its signature and hash in hex.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut value = self.head.to_json();
        value["signature"] = hex::encode(&self.signature).into();
        value["hash"] = hex::encode(self.head.hash()).into();
        value
    }

    /// Reads what [`SignedHead::to_json`] wrote; the hash is computed, not believed.
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            head: Head::from_json(value)?,
            signature: hex::decode(value.get("signature")?.as_str()?).ok()?,
        })
    }
}

/// A key that signs heads: Ed25519, whose signatures need no randomness and are the same each time.
#[derive(Debug)]
pub struct TrailKey {
    id: String,
    key: PrivateKey,
}

impl TrailKey {
    /// Makes a key.
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn generate() -> Result<Self, Error> {
        Ok(Self::new(PrivateKey::generate(KeySpec::Ed25519)?))
    }

    /// Reads a key.
    ///
    /// # Errors
    /// As [`PrivateKey::from_pem`]; [`Error::UnsupportedKey`] for another kind than Ed25519.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let key = PrivateKey::from_pem(text)?;
        if key.spec() == KeySpec::Ed25519 {
            Ok(Self::new(key))
        } else {
            Err(Error::UnsupportedKey {
                what: format!(
                    "{}, where the audit trail is signed with Ed25519",
                    key.spec()
                ),
            })
        }
    }

    fn new(key: PrivateKey) -> Self {
        Self {
            id: key_id(key.public_key()),
            key,
        }
    }

    /// The key in PEM.
    #[must_use]
    pub fn to_pem(&self) -> Secret {
        self.key.to_pem()
    }

    /// What heads name it by.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public half.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    /// Signs a message of the trail.
    ///
    /// # Errors
    /// [`Error::Signing`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.key.sign(message)
    }

    /// Signs a head, which must name this key.
    ///
    /// # Errors
    /// [`Error::Signing`], also when it names another.
    pub fn sign_head(&self, head: Head) -> Result<SignedHead, Error> {
        if head.key_id != self.id {
            return Err(Error::Signing);
        }
        let signature = self.sign(head.message().as_bytes())?;
        Ok(SignedHead { head, signature })
    }
}

/// What a key is named by: its subject key identifier (RFC 7093 §2), so that a name fits one key only.
#[must_use]
pub fn key_id(key: &PublicKey) -> String {
    hex::encode(key.key_id())
}
