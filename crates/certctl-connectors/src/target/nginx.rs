//! nginx: certificate, chain and key as files, checked by `nginx -t`, taken over by a reload (targets §3.1).

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use certctl_domain::{secret::Secret, target::TargetType, validation::InvalidField};
use certctl_pki::cert::ParsedCertificate;
use certctl_telemetry::ErrorChain;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::{
    DeploymentRequest, DeploymentResult, Error, TargetConnector, ValidationResult,
    config::{self, Account, Mode, PostDeployVerify, Span},
};
use crate::{
    deploy::{
        Access, Engine, HookFailure, Hooks, Plan, PlannedFile, Retention,
        command::{CommandLine, CommandRunner},
        first_account,
    },
    probe::{Endpoint, Prober},
};

/// The nginx connector.
pub struct Nginx {
    engine: Engine,
    runner: Arc<dyn CommandRunner>,
    prober: Prober,
}

/// The configuration as it is written.
#[derive(Debug, Clone, Deserialize)]
struct Fields {
    cert_path: PathBuf,
    key_path: Option<PathBuf>,
    chain_path: Option<PathBuf>,
    validate_command: String,
    reload_command: String,
    cert_file_mode: Option<Mode>,
    cert_file_owner: Option<Account>,
    cert_file_group: Option<Account>,
    key_file_mode: Option<Mode>,
    key_file_owner: Option<Account>,
    key_file_group: Option<Account>,
    chain_file_mode: Option<Mode>,
    chain_file_owner: Option<Account>,
    chain_file_group: Option<Account>,
    #[serde(default)]
    backup_retention: i64,
    #[serde(default)]
    post_deploy_verify: PostDeployVerify,
    #[serde(default = "default_attempts")]
    post_deploy_verify_attempts: u32,
    post_deploy_verify_backoff: Option<Span>,
    post_deploy_verify_max_backoff: Option<Span>,
}

const fn default_attempts() -> u32 {
    3
}

/// The configuration once it is known to make sense.
struct Config {
    fields: Fields,
    validate: CommandLine,
    reload: CommandLine,
    verify: Option<Endpoint>,
    /// Whose new files are, as user and group.
    account: Option<(String, String)>,
}

impl Nginx {
    /// A connector that works through this engine and this runner.
    #[must_use]
    pub fn new(engine: Engine, runner: Arc<dyn CommandRunner>, prober: Prober) -> Self {
        Self {
            engine,
            runner,
            prober,
        }
    }

    async fn put_in_place(&self, request: &DeploymentRequest) -> Result<DeploymentResult, Error> {
        let started = Instant::now();
        let config = Config::read(&request.target_config).await?;
        let plan = config.plan(request)?;
        let hooks = NginxHooks {
            connector: self,
            config: &config,
            fingerprint: leaf_fingerprint(&request.cert_pem)?,
        };
        let outcome = self.engine.apply(plan, &hooks).await?;
        let now = self.engine.clock().now();
        let verified = config.verify.is_some() && !outcome.idempotent;
        let mut metadata = BTreeMap::from([
            (
                "duration_ms".to_owned(),
                started.elapsed().as_millis().to_string(),
            ),
            ("idempotent".to_owned(), outcome.idempotent.to_string()),
            ("cert_path".to_owned(), config.address()),
        ]);
        if let Some(path) = &config.fields.key_path {
            metadata.insert("key_path".to_owned(), path.display().to_string());
        }
        if let Some(path) = &config.fields.chain_path {
            metadata.insert("chain_path".to_owned(), path.display().to_string());
        }
        let message = if outcome.idempotent {
            "already in place"
        } else if verified {
            "written, reloaded and seen to be served"
        } else {
            "written and reloaded"
        };
        Ok(DeploymentResult {
            target_address: config.address(),
            deployment_id: format!(
                "{}-{}",
                TargetType::Nginx.as_str().to_ascii_lowercase(),
                now.as_seconds()
            ),
            message: message.to_owned(),
            deployed_at: now,
            idempotent: outcome.idempotent,
            verified,
            metadata,
        })
    }

    /// What can be known beforehand: the request is complete and nginx accepts the configuration it has now.
    async fn try_out(&self, request: &DeploymentRequest) -> Result<(), Error> {
        let config = Config::read(&request.target_config).await?;
        config.plan(request)?;
        leaf_fingerprint(&request.cert_pem)?;
        self.runner
            .run(&config.validate, self.engine.hook_limit())
            .await
            .map_err(|HookFailure(said)| Error::DryRun(said))
    }

    async fn look(&self, config: &Value, serial: &str) -> Result<ValidationResult, Error> {
        let config = Config::read(config).await?;
        let path = config.fields.cert_path.clone();
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
        Ok(ValidationResult {
            valid: !found_serial.is_empty() && found_serial.eq_ignore_ascii_case(serial),
            serial: found_serial,
            target_address: config.address(),
            message,
            validated_at: self.engine.clock().now(),
            metadata: BTreeMap::new(),
        })
    }
}

impl TargetConnector for Nginx {
    fn validate_config<'a>(&'a self, config: &'a Value) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async { Config::read(config).await.map(drop) })
    }

    fn deploy<'a>(
        &'a self,
        request: &'a DeploymentRequest,
    ) -> BoxFuture<'a, Result<DeploymentResult, Error>> {
        Box::pin(self.put_in_place(request))
    }

    fn validate_only<'a>(
        &'a self,
        request: &'a DeploymentRequest,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.try_out(request))
    }

    fn validate_deployment<'a>(
        &'a self,
        config: &'a Value,
        serial: &'a str,
    ) -> BoxFuture<'a, Result<ValidationResult, Error>> {
        Box::pin(self.look(config, serial))
    }
}

impl Config {
    async fn read(config: &Value) -> Result<Self, Error> {
        let fields: Fields = config::read(config).map_err(Error::Config)?;
        // Paths may lie on a network file system.
        match spawn_blocking(move || Self::check(fields)).await {
            Ok(checked) => checked.map_err(Error::Config),
            Err(_) => Err(Error::Deploy(crate::deploy::Error::Interrupted)),
        }
    }

    fn check(fields: Fields) -> Result<Self, InvalidField> {
        config::check_path("cert_path", &fields.cert_path)?;
        if let Some(path) = &fields.key_path {
            config::check_path("key_path", path)?;
        }
        if let Some(path) = &fields.chain_path {
            config::check_path("chain_path", path)?;
        }
        let verify = if fields.post_deploy_verify.is_enabled() {
            fields
                .post_deploy_verify
                .endpoint()
                .map_err(|problem| InvalidField::new("post_deploy_verify", problem.to_string()))?
        } else {
            None
        };
        Ok(Self {
            validate: CommandLine::parse("validate_command", &fields.validate_command)?,
            reload: CommandLine::parse("reload_command", &fields.reload_command)?,
            verify,
            account: first_account(&["nginx", "www-data"]),
            fields,
        })
    }

    fn address(&self) -> String {
        self.fields.cert_path.display().to_string()
    }

    /// Certificate, chain, key, in this order.
    fn plan(&self, request: &DeploymentRequest) -> Result<Plan, Error> {
        let fields = &self.fields;
        let mut certificate = with_newline(&request.cert_pem);
        if fields.chain_path.is_none() {
            certificate.push_str(&with_newline(&request.chain_pem));
        }
        let mut files = vec![PlannedFile {
            path: fields.cert_path.clone(),
            bytes: certificate.into_bytes().into(),
            access: config::access(
                fields.cert_file_mode,
                fields.cert_file_owner.as_ref(),
                fields.cert_file_group.as_ref(),
            ),
            default_mode: Some(0o644),
            secret: false,
        }];
        // Servers refuse a chain file without a certificate, so where the CA is itself the root the file stays as it is.
        let chain_path = fields.chain_path.as_ref();
        if let Some(path) = chain_path.filter(|_| !request.chain_pem.trim().is_empty()) {
            files.push(PlannedFile {
                path: path.clone(),
                bytes: with_newline(&request.chain_pem).into_bytes().into(),
                access: config::access(
                    fields.chain_file_mode,
                    fields.chain_file_owner.as_ref(),
                    fields.chain_file_group.as_ref(),
                ),
                default_mode: Some(0o644),
                secret: false,
            });
        }
        if let Some(path) = &fields.key_path {
            let key = request.key_pem.as_ref().filter(|key| !key.is_empty());
            let key = key.map(Secret::expose).ok_or(Error::KeyMissing)?;
            files.push(PlannedFile {
                path: path.clone(),
                bytes: with_newline(key).into_bytes().into(),
                access: config::access(
                    fields.key_file_mode,
                    fields.key_file_owner.as_ref(),
                    fields.key_file_group.as_ref(),
                ),
                default_mode: Some(0o640),
                secret: true,
            });
        }
        let (owner, group) = self.account.clone().unzip();
        Ok(Plan {
            files,
            defaults: Access {
                mode: None,
                owner,
                group,
            },
            retention: Retention::from_setting(fields.backup_retention),
            skip_idempotent: false,
        })
    }
}

struct NginxHooks<'a> {
    connector: &'a Nginx,
    config: &'a Config,
    fingerprint: String,
}

impl Hooks for NginxHooks<'_> {
    async fn validate(&self) -> Result<(), HookFailure> {
        let limit = self.connector.engine.hook_limit();
        self.connector
            .runner
            .run(&self.config.validate, limit)
            .await
    }

    async fn reload(&self) -> Result<(), HookFailure> {
        let limit = self.connector.engine.hook_limit();
        self.connector.runner.run(&self.config.reload, limit).await
    }

    /// A reload command returns before the new workers serve, so one look is not enough.
    async fn verify(&self) -> Result<(), HookFailure> {
        const BACKOFF: Duration = Duration::from_secs(1);
        const MAX_BACKOFF: Duration = Duration::from_secs(16);
        let Some(endpoint) = &self.config.verify else {
            return Ok(());
        };
        let fields = &self.config.fields;
        let most = fields
            .post_deploy_verify_max_backoff
            .map_or(MAX_BACKOFF, |span| span.0);
        let mut pause = fields
            .post_deploy_verify_backoff
            .map_or(BACKOFF, |span| span.0);
        let attempts = fields.post_deploy_verify_attempts.clamp(1, 20);
        let mut problem = String::new();
        for attempt in 1..=attempts {
            let limit = fields.post_deploy_verify.timeout();
            problem = match self.connector.prober.probe(endpoint, limit).await {
                Ok(seen) if seen.fingerprint_sha256 == self.fingerprint => return Ok(()),
                Ok(seen) => format!(
                    "{endpoint} presents the certificate {} instead of {}",
                    seen.fingerprint_sha256, self.fingerprint
                ),
                Err(failure) => ErrorChain(&failure).to_string(),
            };
            if attempt < attempts {
                sleep(pause.min(most)).await;
                pause = pause.saturating_mul(2);
            }
        }
        Err(HookFailure(format!("{problem} (attempts: {attempts})")))
    }
}

fn leaf_fingerprint(pem_text: &str) -> Result<String, Error> {
    ParsedCertificate::from_pem(pem_text)
        .map(|leaf| leaf.fingerprint_sha256())
        .map_err(Error::BadCertificate)
}

/// Blocks of PEM that follow each other need a line end between them.
fn with_newline(text: &str) -> String {
    match text.trim_end() {
        "" => String::new(),
        text => format!("{text}\n"),
    }
}
