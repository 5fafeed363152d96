//! Issuers: connections to the CAs that certificates come from.
//!
//! The port is [`certctl_domain::ports::issuer`]; a kind of issuer is one module here and one arm in [`Factory`].

pub mod ca_store;
pub mod local_ca;
pub mod responder_keys;

use std::sync::Arc;

use certctl_domain::{
    id::IssuerId,
    issuer::IssuerType,
    ports::{
        BoxFuture,
        issuer::{Issuer, IssuerError, IssuerFactory},
    },
    time::Clock,
};
use certctl_pki::seal::Sealer;
use serde_json::Value;

use self::{ca_store::CaStore, local_ca::LocalCa};

/// Makes connected issuers from stored configurations.
pub struct Factory {
    store: Arc<dyn CaStore>,
    sealer: Option<Arc<Sealer>>,
    clock: Arc<dyn Clock>,
}

impl Factory {
    /// `store` keeps the keys of CAs that certctl makes itself, sealed when there is a `sealer`.
    #[must_use]
    pub fn new(
        store: Arc<dyn CaStore>,
        sealer: Option<Arc<Sealer>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            store,
            sealer,
            clock,
        }
    }

    async fn open(
        &self,
        id: &IssuerId,
        issuer_type: IssuerType,
        config: &Value,
    ) -> Result<Arc<dyn Issuer>, IssuerError> {
        match issuer_type {
            IssuerType::GenericCa => {
                let config = local_ca::Config::parse(config)?;
                let now = self.clock.now();
                let ca = LocalCa::connect(id, config, &self.store, self.sealer.clone(), now);
                Ok(Arc::new(ca.await?))
            }
            other => Err(not_connected(other)),
        }
    }
}

impl IssuerFactory for Factory {
    /// For a CA in files this reads them, which blocks for as long as two small reads take.
    fn validate(&self, issuer_type: IssuerType, config: &Value) -> Result<(), IssuerError> {
        match issuer_type {
            IssuerType::GenericCa => {
                let config = local_ca::Config::parse(config)?;
                local_ca::check_files(&config, self.clock.now())
            }
            other => Err(not_connected(other)),
        }
    }

    fn connect<'a>(
        &'a self,
        id: &'a IssuerId,
        issuer_type: IssuerType,
        config: &'a Value,
    ) -> BoxFuture<'a, Result<Arc<dyn Issuer>, IssuerError>> {
        Box::pin(self.open(id, issuer_type, config))
    }

    /// What issuers §4 to §15 mark as secret.
    fn secret_fields(&self, issuer_type: IssuerType) -> &'static [&'static str] {
        match issuer_type {
            IssuerType::Acme => &["eab_hmac"],
            IssuerType::StepCa => &["provisioner_password"],
            IssuerType::VaultPki | IssuerType::Ejbca => &["token"],
            IssuerType::DigiCert => &["api_key"],
            IssuerType::Sectigo => &["customer_uri", "login", "password"],
            IssuerType::GlobalSign => &["api_key", "api_secret"],
            IssuerType::GenericCa
            | IssuerType::OpenSsl
            | IssuerType::GoogleCas
            | IssuerType::AwsAcmPca
            | IssuerType::Entrust => &[],
        }
    }

    fn destroy<'a>(&'a self, id: &'a IssuerId) -> BoxFuture<'a, Result<(), IssuerError>> {
        self.store.remove(id)
    }
}

fn not_connected(issuer_type: IssuerType) -> IssuerError {
    tracing::warn!(
        issuer.r#type = %issuer_type,
        "this build does not connect to {issuer_type} issuers yet"
    );
    IssuerError::NotSupported
}

/// A refusal of one field of a configuration.
fn invalid(field: &str, problem: impl std::fmt::Display) -> IssuerError {
    IssuerError::Validation(format!("{field}: {problem}"))
}
