//! Certificate profiles: what a certificate may be.

use crate::{
    id::{IssuerId, ProfileId},
    key::{AllowedKey, KeyAlgorithm, KeySpec, preferred_spec},
    text_enum,
    time::Timestamp,
    validation::InvalidField,
};

text_enum! {
    /// An extended key usage that profiles may allow (RFC 5280 §4.2.1.12).
    pub enum ExtendedKeyUsage ("extended key usage") {
        /// TLS server.
        ServerAuth = "serverAuth",
        /// TLS client.
        ClientAuth = "clientAuth",
        /// Code signing.
        CodeSigning = "codeSigning",
        /// S/MIME.
        EmailProtection = "emailProtection",
        /// Time stamping.
        TimeStamping = "timeStamping",
    }
}

text_enum! {
    /// How the ACME server authorises identifiers under a profile.
    pub enum AcmeAuthMode ("ACME authorisation mode") {
        /// The authenticated account is trusted for every name the profile allows.
        TrustAuthenticated = "trust_authenticated",
        /// Each identifier is proved by a challenge.
        Challenge = "challenge",
    }
}

/// What certificates may be issued under this name (model §3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The id.
    pub id: ProfileId,
    /// The name, unique.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// Which keys may be certified; the first row is what certctl makes itself.
    pub allowed_key_algorithms: Vec<AllowedKey>,
    /// Longest life in seconds; 0 sets no bound of its own.
    pub max_ttl_seconds: u32,
    /// Which extended key usages are put in.
    pub allowed_ekus: Vec<ExtendedKeyUsage>,
    /// Regular expressions; every name, addresses included, must match one of them when there are any.
    pub required_san_patterns: Vec<String>,
    /// A SPIFFE id with `*` as wildcard that URI names must match; empty for none.
    pub spiffe_uri_pattern: String,
    /// Whether lives under an hour are meant.
    pub allow_short_lived: bool,
    /// Whether the TLS feature extension `status_request` is put in (RFC 7633).
    pub must_staple: bool,
    /// Attributes that EST clients are asked for.
    pub required_csr_attributes: Vec<String>,
    /// How ACME authorises.
    pub acme_auth_mode: AcmeAuthMode,
    /// Who signs for ACME accounts of this profile; none for the configured issuer, or the only enabled one.
    pub acme_issuer_id: Option<IssuerId>,
    /// Whether issuance, renewal and edits of this profile wait for a second person.
    pub requires_approval: bool,
    /// Whether it may be used.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Profile {
    /// Checks what the contract asks of a profile (api §21); patterns are compiled by the caller, which owns the engine.
    ///
    /// # Errors
    /// [`InvalidField`] naming the field.
    pub fn check(&self) -> Result<(), InvalidField> {
        if self.allow_short_lived && !(1..3600).contains(&self.max_ttl_seconds) {
            return Err(InvalidField::new(
                "max_ttl_seconds",
                "must be 1 to 3599 when allow_short_lived is set",
            ));
        }
        for key in &self.allowed_key_algorithms {
            AllowedKey::new(key.algorithm, key.min_size)?;
        }
        if self.spiffe_uri_pattern.len() > 512 {
            return Err(InvalidField::new(
                "spiffe_uri_pattern",
                "is longer than 512 characters",
            ));
        }
        if !self.spiffe_uri_pattern.is_empty() && !self.spiffe_uri_pattern.starts_with("spiffe://")
        {
            return Err(InvalidField::new(
                "spiffe_uri_pattern",
                "must start with spiffe://",
            ));
        }
        if self.required_san_patterns.len() > 64
            || self
                .required_san_patterns
                .iter()
                .any(|pattern| pattern.len() > 512)
        {
            return Err(InvalidField::new(
                "required_san_patterns",
                "holds more than 64 patterns or one longer than 512 characters",
            ));
        }
        Ok(())
    }

    /// Whether a key of this family and size may be certified; an empty list means the defaults.
    #[must_use]
    pub fn admits_key(&self, algorithm: KeyAlgorithm, bits: u32) -> bool {
        let rows: &[AllowedKey] = if self.allowed_key_algorithms.is_empty() {
            &AllowedKey::DEFAULT
        } else {
            &self.allowed_key_algorithms
        };
        rows.iter().any(|row| row.admits(algorithm, bits))
    }

    /// The kind of key that certctl or its agents make for this profile.
    #[must_use]
    pub fn key_spec(&self) -> KeySpec {
        preferred_spec(&self.allowed_key_algorithms)
    }

    /// Whether certificates of this profile live under an hour and so need no revocation information.
    #[must_use]
    pub fn is_short_lived(&self) -> bool {
        self.allow_short_lived && (1..3600).contains(&self.max_ttl_seconds)
    }
}
