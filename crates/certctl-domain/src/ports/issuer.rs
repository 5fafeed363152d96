//! The port to a CA.

use std::{sync::Arc, time::Duration};

use super::BoxFuture;
use crate::{
    id::IssuerId, name::SubjectAltName, profile::ExtendedKeyUsage, revocation::RevocationReason,
    secret::Secret, serial::SerialNumber, time::Timestamp,
};

/// What a CA is asked to certify. Everything a signature depends on is in here, so that asking again after a crash asks for
/// the very same certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuanceRequest {
    /// The subject's common name.
    pub common_name: String,
    /// All names, classified and without duplicates.
    pub sans: Vec<SubjectAltName>,
    /// The key to certify, as DER `SubjectPublicKeyInfo`; proof of possession was checked or the key is certctl's own.
    pub spki_der: Vec<u8>,
    /// The request as PEM, for CAs that want one; empty where the server made the key.
    pub csr_pem: String,
    /// Which usages to put in; empty means the CA's default.
    pub ekus: Vec<ExtendedKeyUsage>,
    /// Longest life in seconds; 0 for no bound but the CA's own.
    pub max_ttl_seconds: u32,
    /// Whether to put in the TLS feature extension (RFC 7633).
    pub must_staple: bool,
    /// The serial number to use, recorded before anything is signed; CAs that choose their own ignore it.
    pub serial: SerialNumber,
    /// The start of validity; CAs that choose their own ignore it.
    pub not_before: Timestamp,
}

/// What a CA answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// The leaf as DER.
    pub leaf_der: Vec<u8>,
    /// The leaf as PEM.
    pub leaf_pem: String,
    /// The intermediates as PEM, without the leaf; the root may be left out.
    pub chain_pem: String,
    /// Its serial number.
    pub serial: SerialNumber,
    /// The start of its validity.
    pub not_before: Timestamp,
    /// The end of its validity.
    pub not_after: Timestamp,
    /// SHA-256 of the leaf's DER, lowercase hex.
    pub fingerprint_sha256: String,
}

/// Why a CA did not issue; the classes are the labels of `certctl_issuance_failures_total`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// It did not answer in time.
    #[error("the issuer did not answer in time: {0}")]
    Timeout(String),
    /// It could not be reached.
    #[error("the issuer could not be reached: {0}")]
    Network(String),
    /// It refused the credentials.
    #[error("the issuer refused the credentials: {0}")]
    Auth(String),
    /// It asked to slow down.
    #[error("the issuer limits the rate: {message}")]
    RateLimited {
        /// What it said.
        message: String,
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
    },
    /// It refused the request as such.
    #[error("the issuer refused the request: {0}")]
    Validation(String),
    /// It failed itself.
    #[error("the issuer failed: {0}")]
    Upstream5xx(String),
    /// It refused in another way.
    #[error("the issuer refused: {0}")]
    Upstream4xx(String),
    /// It does not do this at all.
    #[error("not supported by this issuer; use the CA's own service")]
    NotSupported,
    /// Anything else.
    #[error("the issuer could not be used: {0}")]
    Other(String),
}

impl IssuerError {
    /// The label of the failure metric.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Network(_) => "network",
            Self::Auth(_) => "auth",
            Self::RateLimited { .. } => "rate_limited",
            Self::Validation(_) => "validation",
            Self::Upstream5xx(_) => "upstream_5xx",
            Self::Upstream4xx(_) => "upstream_4xx",
            Self::NotSupported | Self::Other(_) => "other",
        }
    }

    /// What went wrong in words of certctl's own. What a third party says may hold anything, secrets and markup included, so
    /// that is for the log only; this is for operators.
    #[must_use]
    pub const fn summary(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout: the issuer did not answer in time",
            Self::Network(_) => "network: the issuer could not be reached",
            Self::Auth(_) => "auth: the issuer refused the credentials",
            Self::RateLimited { .. } => "rate_limited: the issuer limits the rate of requests",
            Self::Validation(_) => "validation: the issuer refused the request as such",
            Self::Upstream5xx(_) => "upstream_5xx: the issuer failed itself",
            Self::Upstream4xx(_) => "upstream_4xx: the issuer refused the request",
            Self::NotSupported => "other: the issuer does not support this",
            Self::Other(_) => "other: the issuer could not be used",
        }
    }

    /// How long the issuer asks to be left alone.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether trying again later can help (scheduler §5).
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Timeout(_)
                | Self::Network(_)
                | Self::RateLimited { .. }
                | Self::Upstream5xx(_)
                | Self::Other(_)
        )
    }
}

/// A connected CA.
pub trait Issuer: Send + Sync {
    /// Certifies each request; the answers stand in the order of the requests. A batch lets a CA in this process sign many
    /// certificates on one hop to a worker thread.
    fn issue(
        &self,
        requests: Vec<IssuanceRequest>,
    ) -> BoxFuture<'_, Vec<Result<IssuedCertificate, IssuerError>>>;

    /// Tells the CA that a serial is revoked.
    fn revoke<'a>(
        &'a self,
        serial: &'a SerialNumber,
        reason: RevocationReason,
    ) -> BoxFuture<'a, Result<(), IssuerError>>;

    /// The CA's own certificate and chain as PEM, where it has one to show.
    fn ca_pem(&self) -> BoxFuture<'_, Result<String, IssuerError>>;

    /// What signs revocation lists and lets others answer OCSP in the CA's name: only where certctl holds the CA's key. Other CAs
    /// have status services of their own.
    fn status_signer(&self) -> Option<Arc<dyn StatusSigner>> {
        None
    }
}

/// A key to be certified for answering OCSP in a CA's name (issuers §4, delegated responder).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponderRequest {
    /// The key, as DER `SubjectPublicKeyInfo`.
    pub spki_der: Vec<u8>,
    /// The serial number.
    pub serial: SerialNumber,
    /// The first second of validity.
    pub not_before: Timestamp,
    /// The last second of validity, if the CA lives as long.
    pub not_after: Timestamp,
}

/// A CA whose key is in this process, as status services use it. Its functions work on the calling thread and do not wait for
/// anything; for a long list that may take a second.
pub trait StatusSigner: Send + Sync {
    /// The CA's certificate as DER.
    fn certificate_der(&self) -> &[u8];

    /// How [`StatusSigner::sign`] signs, as DER `AlgorithmIdentifier`.
    fn algorithm_der(&self) -> &[u8];

    /// Whether the CA's key usage admits revocation lists.
    fn may_sign_crls(&self) -> bool;

    /// Where its certificates say that the list is.
    fn crl_urls(&self) -> &[String];

    /// Into how many parts the list is split for new certificates; below 2 it is not.
    fn crl_shards(&self) -> u16;

    /// Signs the part of a revocation list or of an OCSP response that is signed.
    ///
    /// # Errors
    /// [`IssuerError::Other`] when the machine has no randomness.
    fn sign(&self, tbs: &[u8]) -> Result<Vec<u8>, IssuerError>;

    /// Certifies the key of a responder; the certificate as DER.
    ///
    /// # Errors
    /// [`IssuerError::Validation`] when the key is of no kind that is certified or the CA has expired, [`IssuerError::Other`] as
    /// above.
    fn certify_responder(&self, request: &ResponderRequest) -> Result<Vec<u8>, IssuerError>;
}

/// Keeps the keys of OCSP responders in files, where the configuration says so.
pub trait ResponderKeyFiles: Send + Sync {
    /// Where the key of an issuer's responder is; it need not exist.
    fn path(&self, issuer: &IssuerId) -> String;

    /// Reads a key, as PEM; nothing when there is none.
    fn load<'a>(
        &'a self,
        issuer: &'a IssuerId,
    ) -> BoxFuture<'a, Result<Option<Secret>, IssuerError>>;

    /// Puts a key, as PEM, in the place of the one before. It is there whole or not at all, and nobody else may read it.
    fn store<'a>(
        &'a self,
        issuer: &'a IssuerId,
        pem: Secret,
    ) -> BoxFuture<'a, Result<(), IssuerError>>;
}

/// Makes connected CAs from stored configurations.
pub trait IssuerFactory: Send + Sync {
    /// Checks a configuration without issuing anything.
    ///
    /// # Errors
    /// [`IssuerError::Validation`] naming the field that is wrong, [`IssuerError::NotSupported`] for a kind of issuer that this
    /// build does not connect to.
    fn validate(
        &self,
        issuer_type: crate::issuer::IssuerType,
        config: &serde_json::Value,
    ) -> Result<(), IssuerError>;

    /// Connects the issuer of `id` with its full configuration.
    ///
    /// # Errors
    /// As [`IssuerFactory::validate`], and what goes wrong on the way to the CA.
    fn connect<'a>(
        &'a self,
        id: &'a IssuerId,
        issuer_type: crate::issuer::IssuerType,
        config: &'a serde_json::Value,
    ) -> BoxFuture<'a, Result<Arc<dyn Issuer>, IssuerError>>;

    /// The fields of a configuration that hold secrets.
    fn secret_fields(&self, issuer_type: crate::issuer::IssuerType) -> &'static [&'static str];

    /// Destroys what is kept of a CA of certctl's own, its key above all, because its issuer was deleted. Nothing is done where
    /// nothing is kept, and a third party is not asked.
    fn destroy<'a>(&'a self, id: &'a IssuerId) -> BoxFuture<'a, Result<(), IssuerError>>;
}
