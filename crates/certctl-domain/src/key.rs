//! Which kinds of keys there are and which of them a profile allows.

use crate::{text_enum, validation::InvalidField};

text_enum! {
    /// The family of a public key, as profiles and certificate versions name it.
    pub enum KeyAlgorithm ("key algorithm") {
        /// RSA; the size is the modulus length in bits.
        Rsa = "RSA",
        /// ECDSA on a NIST curve; the size is the field length in bits.
        Ecdsa = "ECDSA" | "EC",
        /// Ed25519; its size is reported as 256.
        Ed25519 = "Ed25519",
    }
}

text_enum! {
    /// A kind of key that certctl and its agents can make.
    pub enum KeySpec ("key spec") {
        /// ECDSA on P-256.
        EcdsaP256 = "ECDSA-P256" | "P256" | "ECDSA",
        /// ECDSA on P-384.
        EcdsaP384 = "ECDSA-P384" | "P384",
        /// RSA with a 2048-bit modulus.
        Rsa2048 = "RSA-2048" | "RSA2048" | "RSA",
        /// RSA with a 3072-bit modulus.
        Rsa3072 = "RSA-3072" | "RSA3072",
        /// RSA with a 4096-bit modulus.
        Rsa4096 = "RSA-4096" | "RSA4096",
        /// Ed25519 (RFC 8410).
        Ed25519 = "Ed25519",
    }
}

impl KeySpec {
    /// The family of this kind of key.
    #[must_use]
    pub const fn algorithm(self) -> KeyAlgorithm {
        match self {
            Self::EcdsaP256 | Self::EcdsaP384 => KeyAlgorithm::Ecdsa,
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => KeyAlgorithm::Rsa,
            Self::Ed25519 => KeyAlgorithm::Ed25519,
        }
    }

    /// The size in bits as it is reported.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::EcdsaP256 | Self::Ed25519 => 256,
            Self::EcdsaP384 => 384,
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
        }
    }
}

/// One row of a profile's list of allowed keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedKey {
    /// The family.
    pub algorithm: KeyAlgorithm,
    /// The least size in bits; 0 for Ed25519, which has one size only.
    pub min_size: u32,
}

impl AllowedKey {
    /// The defaults of a profile that names none (model §3.4).
    pub const DEFAULT: [Self; 2] = [
        Self {
            algorithm: KeyAlgorithm::Ecdsa,
            min_size: 256,
        },
        Self {
            algorithm: KeyAlgorithm::Rsa,
            min_size: 2048,
        },
    ];

    /// Checks the floor of each family: RSA 2048, ECDSA 256, Ed25519 0.
    ///
    /// # Errors
    /// [`InvalidField`] when the size is below the floor or no size of the family.
    pub fn new(algorithm: KeyAlgorithm, min_size: u32) -> Result<Self, InvalidField> {
        let fits = match algorithm {
            KeyAlgorithm::Rsa => (2048..=8192).contains(&min_size),
            KeyAlgorithm::Ecdsa => (256..=521).contains(&min_size),
            KeyAlgorithm::Ed25519 => min_size == 0 || min_size == 256,
        };
        if !fits {
            return Err(InvalidField::new(
                "allowed_key_algorithms",
                format!(
                    "{algorithm} cannot have min_size {min_size} (RSA at least 2048, ECDSA at least 256, Ed25519 0)"
                ),
            ));
        }
        Ok(Self {
            algorithm,
            min_size,
        })
    }

    /// Whether a key of this family and size may be used.
    #[must_use]
    pub fn admits(&self, algorithm: KeyAlgorithm, bits: u32) -> bool {
        self.algorithm == algorithm && (algorithm == KeyAlgorithm::Ed25519 || bits >= self.min_size)
    }
}

/// The kind of key to make for a list of allowed keys: the first row decides, at the least size it allows.
///
/// An empty list means the default, ECDSA P-256.
#[must_use]
pub fn preferred_spec(allowed: &[AllowedKey]) -> KeySpec {
    match allowed.first() {
        None => KeySpec::EcdsaP256,
        Some(row) => match row.algorithm {
            KeyAlgorithm::Ecdsa if row.min_size <= 256 => KeySpec::EcdsaP256,
            KeyAlgorithm::Ecdsa => KeySpec::EcdsaP384,
            KeyAlgorithm::Rsa if row.min_size <= 2048 => KeySpec::Rsa2048,
            KeyAlgorithm::Rsa if row.min_size <= 3072 => KeySpec::Rsa3072,
            KeyAlgorithm::Rsa => KeySpec::Rsa4096,
            KeyAlgorithm::Ed25519 => KeySpec::Ed25519,
        },
    }
}
