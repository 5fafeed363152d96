//! Deployment targets: one trait, one module per kind of service.
//!
//! Connectors run on agents only; the server never connects to a target (targets, head).

pub mod config;
mod nginx;

use std::{collections::BTreeMap, sync::Arc};

use certctl_domain::{
    secret::Secret, target::TargetType, time::Timestamp, validation::InvalidField,
};
use futures_util::future::BoxFuture;
use serde_json::Value;

pub use self::nginx::Nginx;
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
    /// The certificate that was given cannot be read.
    #[error("the certificate cannot be read")]
    BadCertificate(#[source] certctl_pki::Error),
    /// This kind of target has no way to try without doing.
    #[error("targets of this type have no dry run")]
    DryRunNotSupported,
    /// The dry run was refused.
    #[error("{0}")]
    DryRun(String),
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
            Self::BadCertificate(_) => "certificate_invalid",
            Self::DryRunNotSupported => "dry_run_not_supported",
            Self::DryRun(_) => "validate_failed",
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
        let prober = Prober::new();
        Self::default().with(
            TargetType::Nginx,
            Arc::new(Nginx::new(engine.clone(), Arc::clone(runner), prober)),
        )
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
