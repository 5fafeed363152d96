//! HAProxy: leaf, chain and key in one file (targets §3.3).

use std::{collections::BTreeMap, path::PathBuf};

use certctl_domain::target::TargetType;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    DeploymentRequest, DeploymentResult, Error, TargetConnector, ValidationResult,
    config::{self, Account, Mode},
    pem,
    reloaded::{Deployment, Means, Service, checked},
};
use crate::deploy::{Access, Plan, PlannedFile, Retention, first_account};

/// Whose a new file is, where the configuration does not say.
const ACCOUNT: &str = "haproxy";

/// The HAProxy connector.
pub struct HaProxy {
    means: Means,
}

/// The configuration as it is written.
#[derive(Debug, Clone, Deserialize)]
struct Fields {
    pem_path: PathBuf,
    validate_command: Option<String>,
    reload_command: String,
    pem_file_mode: Option<Mode>,
    pem_file_owner: Option<Account>,
    pem_file_group: Option<Account>,
    #[serde(default)]
    backup_retention: i64,
}

/// The configuration once it is known to make sense.
struct Config {
    fields: Fields,
    service: Service,
    account: Option<(String, String)>,
}

impl HaProxy {
    /// The connector for HAProxy.
    #[must_use]
    pub fn new(means: Means) -> Self {
        Self { means }
    }

    async fn put_in_place(&self, request: &DeploymentRequest) -> Result<DeploymentResult, Error> {
        let config = Config::read(&request.target_config).await?;
        let deployment = config.deployment(request)?;
        self.means.put_in_place(request, deployment).await
    }

    async fn try_out(&self, request: &DeploymentRequest) -> Result<(), Error> {
        let config = Config::read(&request.target_config).await?;
        let deployment = config.deployment(request)?;
        self.means.try_out(request, &deployment.service).await
    }

    async fn look(&self, config: &Value, serial: &str) -> Result<ValidationResult, Error> {
        let config = Config::read(config).await?;
        Ok(self.means.look(config.fields.pem_path, serial).await)
    }
}

impl TargetConnector for HaProxy {
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
        // A blank command is none, as at the API.
        let validate = fields.validate_command.as_deref();
        let validate = validate.filter(|text| !text.trim().is_empty());
        let service = Service::read(validate, &fields.reload_command, config);
        let service = service.map_err(Error::Config)?;
        checked(move || {
            config::check_path("pem_path", &fields.pem_path)?;
            Ok(Self {
                account: first_account(&[ACCOUNT]),
                service,
                fields,
            })
        })
        .await
    }

    fn deployment(self, request: &DeploymentRequest) -> Result<Deployment, Error> {
        let fields = &self.fields;
        // Leaf, chain and key, each ending in exactly one newline.
        let mut bytes = Zeroizing::new(Vec::new());
        for text in [&request.cert_pem[..], &request.chain_pem, request.key()?] {
            bytes.extend_from_slice(Zeroizing::new(pem::block(text)).as_bytes());
        }
        let (owner, group) = self.account.clone().unzip();
        let plan = Plan {
            files: vec![PlannedFile {
                path: fields.pem_path.clone(),
                bytes,
                access: config::access(
                    fields.pem_file_mode,
                    fields.pem_file_owner.as_ref(),
                    fields.pem_file_group.as_ref(),
                ),
                default_mode: Some(0o600),
                secret: true,
            }],
            defaults: Access {
                mode: None,
                owner,
                group,
            },
            retention: Retention::from_setting(fields.backup_retention),
            skip_idempotent: false,
        };
        let path = fields.pem_path.clone();
        Ok(Deployment {
            target_type: TargetType::HaProxy,
            paths: BTreeMap::from([("pem_path".to_owned(), path.display().to_string())]),
            address: path,
            plan,
            service: self.service,
        })
    }
}
