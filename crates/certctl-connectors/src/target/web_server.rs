//! nginx and Apache: certificate, chain and key as files, checked and taken over by commands (targets §3.1, §3.2).

use std::{collections::BTreeMap, path::PathBuf};

use certctl_domain::{target::TargetType, validation::InvalidField};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::Value;

use super::{
    DeploymentRequest, DeploymentResult, Error, TargetConnector, ValidationResult,
    config::{self, Account, Mode},
    pem,
    reloaded::{Deployment, Means, Service, checked},
};
use crate::deploy::{Access, Plan, PlannedFile, Retention, first_account};

/// The connector of a web server.
pub struct WebServer {
    means: Means,
    habits: Habits,
}

/// In what the servers differ.
#[derive(Debug, Clone, Copy)]
struct Habits {
    target_type: TargetType,
    /// Whose new files are: the first of these accounts that exists.
    accounts: &'static [&'static str],
    /// The mode of a new key file.
    key_mode: u32,
    /// Whether the chain has a file of its own in every case.
    chain_required: bool,
}

/// nginx: its workers may read the key by its group (targets §3.1).
const NGINX: Habits = Habits {
    target_type: TargetType::Nginx,
    accounts: &["nginx", "www-data"],
    key_mode: 0o640,
    chain_required: false,
};

/// Apache reads the key as root before it gives its rights up (targets §3.2).
const APACHE: Habits = Habits {
    target_type: TargetType::Apache,
    accounts: &["apache", "www-data", "httpd"],
    key_mode: 0o600,
    chain_required: true,
};

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
}

/// The configuration once it is known to make sense.
struct Config {
    fields: Fields,
    service: Service,
    habits: Habits,
    /// Whose new files are, as user and group.
    account: Option<(String, String)>,
}

impl WebServer {
    /// The connector for nginx.
    #[must_use]
    pub fn nginx(means: Means) -> Self {
        Self {
            means,
            habits: NGINX,
        }
    }

    /// The connector for Apache httpd.
    #[must_use]
    pub fn apache(means: Means) -> Self {
        Self {
            means,
            habits: APACHE,
        }
    }

    async fn put_in_place(&self, request: &DeploymentRequest) -> Result<DeploymentResult, Error> {
        let config = Config::read(self.habits, &request.target_config).await?;
        let deployment = config.deployment(request)?;
        self.means.put_in_place(request, deployment).await
    }

    async fn try_out(&self, request: &DeploymentRequest) -> Result<(), Error> {
        let config = Config::read(self.habits, &request.target_config).await?;
        let deployment = config.deployment(request)?;
        self.means.try_out(request, &deployment.service).await
    }

    async fn look(&self, config: &Value, serial: &str) -> Result<ValidationResult, Error> {
        let config = Config::read(self.habits, config).await?;
        Ok(self.means.look(config.fields.cert_path, serial).await)
    }
}

impl TargetConnector for WebServer {
    fn validate_config<'a>(&'a self, config: &'a Value) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async { Config::read(self.habits, config).await.map(drop) })
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
    async fn read(habits: Habits, config: &Value) -> Result<Self, Error> {
        let fields: Fields = config::read(config).map_err(Error::Config)?;
        let service = Service::read(
            Some(&fields.validate_command),
            &fields.reload_command,
            config,
        );
        let service = service.map_err(Error::Config)?;
        checked(move || Self::check(habits, fields, service)).await
    }

    fn check(habits: Habits, fields: Fields, service: Service) -> Result<Self, InvalidField> {
        config::check_path("cert_path", &fields.cert_path)?;
        if let Some(path) = &fields.key_path {
            config::check_path("key_path", path)?;
        }
        match &fields.chain_path {
            Some(path) => config::check_path("chain_path", path)?,
            None if habits.chain_required => return Err(InvalidField::required("chain_path")),
            None => {}
        }
        Ok(Self {
            account: first_account(habits.accounts),
            service,
            habits,
            fields,
        })
    }

    fn deployment(self, request: &DeploymentRequest) -> Result<Deployment, Error> {
        let fields = &self.fields;
        let paths = [
            ("cert_path", Some(&fields.cert_path)),
            ("key_path", fields.key_path.as_ref()),
            ("chain_path", fields.chain_path.as_ref()),
        ];
        let paths: BTreeMap<String, String> = paths
            .into_iter()
            .filter_map(|(name, path)| Some((name.to_owned(), path?.display().to_string())))
            .collect();
        Ok(Deployment {
            target_type: self.habits.target_type,
            address: fields.cert_path.clone(),
            plan: self.plan(request)?,
            paths,
            service: self.service,
        })
    }

    /// Certificate, chain, key, in this order.
    fn plan(&self, request: &DeploymentRequest) -> Result<Plan, Error> {
        let fields = &self.fields;
        let mut certificate = pem::block(&request.cert_pem);
        if fields.chain_path.is_none() {
            certificate.push_str(&pem::block(&request.chain_pem));
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
                bytes: pem::block(&request.chain_pem).into_bytes().into(),
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
            files.push(PlannedFile {
                path: path.clone(),
                bytes: pem::block(request.key()?).into_bytes().into(),
                access: config::access(
                    fields.key_file_mode,
                    fields.key_file_owner.as_ref(),
                    fields.key_file_group.as_ref(),
                ),
                default_mode: Some(self.habits.key_mode),
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
