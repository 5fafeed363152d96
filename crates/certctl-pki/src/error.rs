//! The one error of this crate.

use crate::lint::Finding;

/// Why bytes were not accepted or not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text does not hold the PEM block that is wanted.
    #[error("not a PEM block of type {expected}")]
    NotPem {
        /// The label of the block that is wanted.
        expected: &'static str,
    },
    /// The input is longer than anything honest.
    #[error("longer than {limit} bytes")]
    TooLarge {
        /// The greatest length that is read, in bytes.
        limit: usize,
    },
    /// The bytes are no DER of the structure that is wanted, or break its rules.
    #[error("malformed {what}")]
    Malformed {
        /// What was being read.
        what: &'static str,
    },
    /// A signature does not verify: for a CSR, possession of the key is not proved.
    #[error("the signature does not verify")]
    BadSignature,
    /// A signature algorithm outside RSA PKCS#1 v1.5 and ECDSA with SHA-2, and Ed25519.
    #[error("unsupported signature algorithm {oid}")]
    UnsupportedSignature {
        /// The object identifier in dotted form.
        oid: String,
    },
    /// A kind of key that certctl does not handle.
    #[error("unsupported key: {what}")]
    UnsupportedKey {
        /// What it is instead.
        what: String,
    },
    /// A key of a supported kind that is too weak to be certified.
    #[error("weak key: {problem}")]
    WeakKey {
        /// What is weak about it.
        problem: String,
    },
    /// A name that shows as something other than what it is (issuers §4, name safety).
    #[error("the name {name:?} {problem}")]
    DeceptiveName {
        /// The name, cut to 64 characters.
        name: String,
        /// What is deceptive about it, as the end of a sentence.
        problem: &'static str,
    },
    /// A name that is not well-formed for its kind, or of a kind that certctl does not certify.
    #[error("the name {name:?} {problem}")]
    BadName {
        /// The name, cut to 64 characters.
        name: String,
        /// What is wrong with it, as the end of a sentence.
        problem: &'static str,
    },
    /// A certificate and a private key do not belong together.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// A certificate that should sign others may not.
    #[error("the certificate cannot sign others: {problem}")]
    NotACa {
        /// Why not.
        problem: &'static str,
    },
    /// A certificate was about to be signed that breaks a rule.
    #[error("the certificate would break a rule: {}", list(.0))]
    Lint(Vec<Finding>),
    /// The machine's source of randomness failed.
    #[error("no randomness available")]
    Randomness,
    /// A private key did not sign.
    #[error("signing failed")]
    Signing,
    /// There is no encryption key, so nothing is sealed or opened (operations §9: never plaintext).
    #[error("no encryption key is configured")]
    NoEncryptionKey,
    /// A sealed blob is cut, altered, in another place than it was sealed for, or sealed under another key.
    #[error("the sealed value cannot be opened with the configured encryption keys")]
    Unsealable,
    /// A sealed blob of a format that is only read by the re-encryption command.
    #[error("sealed in the unsupported format {marker:#04x}")]
    SealFormat {
        /// The first byte.
        marker: u8,
    },
}

impl Error {
    pub(crate) const fn malformed(what: &'static str) -> Self {
        Self::Malformed { what }
    }

    pub(crate) fn bad_name(name: &str, problem: &'static str) -> Self {
        Self::BadName {
            name: name.chars().take(64).collect(),
            problem,
        }
    }
}

fn list(findings: &[Finding]) -> String {
    findings
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}
