//! Deployment targets: one trait, one module per kind of service.
//!
//! Connectors run on agents only; the server never connects to a target (targets, head).

pub mod config;
mod f5;
mod haproxy;
mod pem;
mod reloaded;
mod verify;
mod web_server;

use std::{collections::BTreeMap, sync::Arc};

use certctl_domain::{
    secret::Secret, target::TargetType, time::Timestamp, validation::InvalidField,
};
use certctl_pki::{cert::ParsedCertificate, key::PrivateKey};
use futures_util::future::BoxFuture;
use serde_json::Value;

pub use self::{
    f5::{F5, F5Error},
    haproxy::HaProxy,
    reloaded::Means,
    web_server::WebServer,
};
use crate::{
    deploy::{self, Engine, command::CommandRunner},
    probe::Prober,
};

/// Why a target did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connector for this kind of target is in this build.
    #[error("targets of type {0} are not supported by this agent")]
    Unsupported(TargetType),
    /// The configuration of the target is wrong.
    #[error("the target's configuration is wrong: {0}")]
    Config(InvalidField),
    /// The target installs a key and was given none.
    #[error("the target installs a private key and none was given")]
    KeyMissing,
    /// The key that was given is that of another certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// The certificate that was given cannot be read.
    #[error("the certificate cannot be read")]
    BadCertificate(#[source] certctl_pki::Error),
    /// This kind of target has no way to try without doing.
    #[error("targets of this type have no dry run")]
    DryRunNotSupported,
    /// The dry run was refused.
    #[error("{0}")]
    DryRun(String),
    /// The appliance could not be reached or refused, before anything that is live was touched.
    #[error("the appliance did not do what was asked")]
    F5(#[source] F5Error),
    /// The deployment failed.
    #[error(transparent)]
    Deploy(#[from] deploy::Error),
}

impl Error {
    /// A stable name of the failure, as it is reported (targets §2 and what comes before a deployment).
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unsupported(_) => "unsupported",
            Self::Config(_) => "config_invalid",
            Self::KeyMissing => "key_missing",
            Self::KeyMismatch => "key_mismatch",
            Self::BadCertificate(_) => "certificate_invalid",
            Self::DryRunNotSupported => "dry_run_not_supported",
            Self::DryRun(_) => "validate_failed",
            Self::F5(_) => deploy::Kind::WriteFailed.as_str(),
            Self::Deploy(failure) => failure.kind().as_str(),
        }
    }

    /// What became of what was live before.
    #[must_use]
    pub fn rollback(&self) -> deploy::Rollback {
        match self {
            Self::Deploy(failure) => failure.rollback(),
            _ => deploy::Rollback::None,
        }
    }
}

/// What is to be deployed.
#[derive(Debug, Clone)]
pub struct DeploymentRequest {
    /// The leaf, PEM.
    pub cert_pem: String,
    /// Its private key, PEM.
    pub key_pem: Option<Secret>,
    /// The issuers' certificates, PEM; may be empty.
    pub chain_pem: String,
    /// The unsealed configuration of the target.
    pub target_config: Value,
    /// `certificate_id` and `job_id`, for those who record them.
    pub metadata: BTreeMap<String, String>,
}

impl DeploymentRequest {
    /// The key, for the types that install one; it is that of the certificate.
    ///
    /// Services would say so, too, but Apache only when it is too late: it checks nothing before a reload and ends with it.
    fn key(&self) -> Result<&str, Error> {
        let key = self.key_pem.as_ref().filter(|key| !key.is_empty());
        let text = key.map(Secret::expose).ok_or(Error::KeyMissing)?;
        let leaf = ParsedCertificate::from_pem(&self.cert_pem).map_err(Error::BadCertificate)?;
        // A key of a kind that is not known here is for the service to judge.
        match PrivateKey::from_pem(text) {
            Ok(key) if !leaf.matches_key(&key) => Err(Error::KeyMismatch),
            _ => Ok(text),
        }
    }
}

/// SHA-256 of the leaf, lowercase hex.
fn leaf_fingerprint(pem_text: &str) -> Result<String, Error> {
    ParsedCertificate::from_pem(pem_text)
        .map(|leaf| leaf.fingerprint_sha256())
        .map_err(Error::BadCertificate)
}

/// `<type>-<unix seconds>`.
fn deployment_id(target_type: TargetType, now: Timestamp) -> String {
    let name = target_type.as_str().to_ascii_lowercase();
    format!("{name}-{}", now.as_seconds())
}

/// A deployment that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentResult {
    /// The service in words, as in the path of the certificate.
    pub target_address: String,
    /// `<type>-<unix seconds>`.
    pub deployment_id: String,
    /// What happened, in words.
    pub message: String,
    /// When.
    pub deployed_at: Timestamp,
    /// Whether everything was in place already and nothing was done.
    pub idempotent: bool,
    /// Whether the service itself was seen to present the certificate.
    pub verified: bool,
    /// Paths and what else is particular to the type.
    pub metadata: BTreeMap<String, String>,
}

/// Whether a target holds a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationResult {
    /// Whether it does.
    pub valid: bool,
    /// The serial number that was found, lowercase hex; empty when none was.
    pub serial: String,
    /// The service in words.
    pub target_address: String,
    /// What was found, in words.
    pub message: String,
    /// When it was looked at.
    pub validated_at: Timestamp,
    /// What else is particular to the type.
    pub metadata: BTreeMap<String, String>,
}

/// A kind of service that certificates are put into.
pub trait TargetConnector: Send + Sync {
    /// Checks a configuration, including what is cheap to look up on this host.
    fn validate_config<'a>(&'a self, config: &'a Value) -> BoxFuture<'a, Result<(), Error>>;

    /// Puts a certificate in place and into use, or leaves everything as it was.
    fn deploy<'a>(
        &'a self,
        request: &'a DeploymentRequest,
    ) -> BoxFuture<'a, Result<DeploymentResult, Error>>;

    /// Tries what can be tried without changing anything.
    fn validate_only<'a>(
        &'a self,
        request: &'a DeploymentRequest,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Looks whether a certificate of this serial number (lowercase hex) is in place.
    fn validate_deployment<'a>(
        &'a self,
        config: &'a Value,
        serial: &'a str,
    ) -> BoxFuture<'a, Result<ValidationResult, Error>>;
}

/// The connectors of a program.
#[derive(Clone, Default)]
pub struct Registry {
    connectors: BTreeMap<TargetType, Arc<dyn TargetConnector>>,
}

impl Registry {
    /// Every connector there is, working through this engine and this runner.
    #[must_use]
    pub fn standard(engine: &Engine, runner: &Arc<dyn CommandRunner>) -> Self {
        let means = Means {
            engine: engine.clone(),
            runner: Arc::clone(runner),
            prober: Prober::new(),
        };
        Self::default()
            .with(TargetType::Nginx, Arc::new(WebServer::nginx(means.clone())))
            .with(
                TargetType::Apache,
                Arc::new(WebServer::apache(means.clone())),
            )
            .with(TargetType::HaProxy, Arc::new(HaProxy::new(means.clone())))
            .with(TargetType::F5, Arc::new(F5::new(means)))
    }

    /// The same registry with another connector for a type.
    #[must_use]
    pub fn with(mut self, target_type: TargetType, connector: Arc<dyn TargetConnector>) -> Self {
        self.connectors.insert(target_type, connector);
        self
    }

    /// The connector of a type.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming the type.
    pub fn connector(&self, target_type: TargetType) -> Result<Arc<dyn TargetConnector>, Error> {
        self.connectors
            .get(&target_type)
            .map(Arc::clone)
            .ok_or(Error::Unsupported(target_type))
    }
}
