//! What services have in common that read files and are told to read them again: nginx, Apache, HAProxy.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use certctl_domain::{target::TargetType, validation::InvalidField};
use certctl_pki::cert::ParsedCertificate;
use certctl_telemetry::ErrorChain;
use serde_json::Value;
use tokio::{task::spawn_blocking, time::Instant};

use super::{
    DeploymentRequest, DeploymentResult, Error, ValidationResult, leaf_fingerprint,
    verify::Verification,
};
use crate::{
    deploy::{
        self, Engine, HookFailure, Hooks, Plan,
        command::{CommandLine, CommandRunner},
    },
    probe::Prober,
};

/// What a connector of such a service works through.
#[derive(Clone)]
pub struct Means {
    /// Replaces the files.
    pub engine: Engine,
    /// Runs the commands.
    pub runner: Arc<dyn CommandRunner>,
    /// Looks at what is served.
    pub prober: Prober,
}

/// How a service is told, as its configuration says.
pub(super) struct Service {
    pub(super) validate: Option<CommandLine>,
    pub(super) reload: CommandLine,
    pub(super) verify: Option<Verification>,
}

/// A deployment to such a service, once its configuration is known to make sense.
pub(super) struct Deployment {
    pub(super) target_type: TargetType,
    pub(super) service: Service,
    /// Where the certificate lies.
    pub(super) address: PathBuf,
    /// Names and paths of the files, for the report.
    pub(super) paths: BTreeMap<String, String>,
    pub(super) plan: Plan,
}

impl Service {
    /// Reads the commands and the verification.
    ///
    /// # Errors
    /// [`InvalidField`] naming the field.
    pub(super) fn read(
        validate: Option<&str>,
        reload: &str,
        config: &Value,
    ) -> Result<Self, InvalidField> {
        Ok(Self {
            validate: validate
                .map(|text| CommandLine::parse("validate_command", text))
                .transpose()?,
            reload: CommandLine::parse("reload_command", reload)?,
            verify: Verification::read(config)?,
        })
    }
}

impl Means {
    /// Replaces the files, has the service check and use them, and looks.
    pub(super) async fn put_in_place(
        &self,
        request: &DeploymentRequest,
        deployment: Deployment,
    ) -> Result<DeploymentResult, Error> {
        let started = Instant::now();
        let hooks = ServiceHooks {
            means: self,
            service: &deployment.service,
            fingerprint: leaf_fingerprint(&request.cert_pem)?,
        };
        let outcome = self.engine.apply(deployment.plan, &hooks).await?;
        let now = self.engine.clock().now();
        let verified = deployment.service.verify.is_some() && !outcome.idempotent;
        let mut metadata = deployment.paths;
        metadata.insert(
            "duration_ms".to_owned(),
            started.elapsed().as_millis().to_string(),
        );
        metadata.insert("idempotent".to_owned(), outcome.idempotent.to_string());
        let message = match (outcome.idempotent, verified) {
            (true, _) => "already in place",
            (false, true) => "written, reloaded and seen to be served",
            (false, false) => "written and reloaded",
        };
        Ok(DeploymentResult {
            target_address: deployment.address.display().to_string(),
            deployment_id: super::deployment_id(deployment.target_type, now),
            message: message.to_owned(),
            deployed_at: now,
            idempotent: outcome.idempotent,
            verified,
            metadata,
        })
    }

    /// What can be known beforehand: the request is complete, and the service accepts the configuration it has now.
    pub(super) async fn try_out(
        &self,
        request: &DeploymentRequest,
        service: &Service,
    ) -> Result<(), Error> {
        leaf_fingerprint(&request.cert_pem)?;
        let Some(command) = &service.validate else {
            return Err(Error::DryRunNotSupported);
        };
        self.runner
            .run(command, self.engine.hook_limit())
            .await
            .map_err(|HookFailure(said)| Error::DryRun(said))
    }

    /// Looks whether the file at `path` begins with the certificate of this serial number.
    pub(super) async fn look(&self, path: PathBuf, serial: &str) -> ValidationResult {
        let address = path.display().to_string();
        let found = spawn_blocking(move || fs::read_to_string(path)).await;
        let (found_serial, message) = match found {
            Ok(Ok(text)) => match ParsedCertificate::from_pem(&text) {
                Ok(leaf) => (
                    leaf.serial().to_string(),
                    "the certificate file was read".to_owned(),
                ),
                Err(reason) => (
                    String::new(),
                    format!("the certificate file is damaged: {}", ErrorChain(&reason)),
                ),
            },
            Ok(Err(reason)) => (
                String::new(),
                format!("the certificate file cannot be read: {reason}"),
            ),
            Err(_) => (String::new(), "the program is stopping".to_owned()),
        };
        ValidationResult {
            valid: !found_serial.is_empty() && found_serial.eq_ignore_ascii_case(serial),
            serial: found_serial,
            target_address: address,
            message,
            validated_at: self.engine.clock().now(),
            metadata: BTreeMap::new(),
        }
    }
}

/// Runs a check that may look at a network file system.
pub(super) async fn checked<T: Send + 'static>(
    check: impl FnOnce() -> Result<T, InvalidField> + Send + 'static,
) -> Result<T, Error> {
    match spawn_blocking(check).await {
        Ok(checked) => checked.map_err(Error::Config),
        Err(_) => Err(Error::Deploy(deploy::Error::Interrupted)),
    }
}

struct ServiceHooks<'a> {
    means: &'a Means,
    service: &'a Service,
    fingerprint: String,
}

impl ServiceHooks<'_> {
    async fn run(&self, command: &CommandLine) -> Result<(), HookFailure> {
        let limit = self.means.engine.hook_limit();
        self.means.runner.run(command, limit).await
    }
}

impl Hooks for ServiceHooks<'_> {
    async fn validate(&self) -> Result<(), HookFailure> {
        match &self.service.validate {
            Some(command) => self.run(command).await,
            None => Ok(()),
        }
    }

    async fn reload(&self) -> Result<(), HookFailure> {
        self.run(&self.service.reload).await
    }

    async fn verify(&self) -> Result<(), HookFailure> {
        match &self.service.verify {
            Some(verification) => {
                let prober = &self.means.prober;
                verification.look(prober, &self.fingerprint).await
            }
            None => Ok(()),
        }
    }
}
