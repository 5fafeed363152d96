//! The keys that protect what is stored.

use certctl_domain::secret::Secret;

use crate::{
    form::SecretText,
    reader::Reader,
    setting::{DefaultValue::Unset, settings},
};

settings!(ENCRYPTION, "Encryption at rest" {
    CONFIG_ENCRYPTION_KEY: SecretText = SecretText { min_bytes: 32 }, Unset, SERVER,
        "The key that protects stored secrets and CA keys. Without it, secrets of issuers and targets cannot be stored.";
    CONFIG_ENCRYPTION_KEY_PREVIOUS: SecretText = SecretText { min_bytes: 32 }, Unset, SERVER,
        "The key before the present one, for reading only, while keys are changed.";
});

/// The keys that protect what is stored.
#[derive(Debug, Clone)]
pub struct EncryptionSettings {
    /// The key that protects what is written; at least 32 bytes.
    pub key: Option<Secret>,
    /// The key before it; at least 32 bytes, never without the present one and never the same.
    pub previous: Option<Secret>,
}

impl EncryptionSettings {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            key: reader.find(&CONFIG_ENCRYPTION_KEY),
            previous: reader.find(&CONFIG_ENCRYPTION_KEY_PREVIOUS),
        }
    }
}
