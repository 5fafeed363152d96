//! Issuers.

pub(crate) mod registry;

use std::time::Duration;

use certctl_domain::{
    access::{Actor, Permission, Scope},
    audit::EventCategory,
    id::IssuerId,
    issuer::{ConfigSource, HierarchyMode, Issuer, IssuerType, TestStatus},
    page::{Page, PageRequest},
    ports::issuer::IssuerError,
    validation::{InvalidField, MAX_NAME, required_text},
};
use certctl_repository::{issuers, locks, transaction};
use certctl_telemetry::ErrorChain;
use serde_json::{Value, json};

use crate::{
    Error, Services,
    error::Expect as _,
    first_run::LOCAL_ISSUER,
    input::{deleted, new_id, one_of},
    revising::{Tries, aside},
    secrets,
    services::{authorise, authorise_for, event, record},
};

/// How long an issuer may take to be tested.
const TEST_WITHIN: Duration = Duration::from_secs(30);

/// What a caller says of an issuer; on an update absent fields stay as they are. It holds secrets, so it does not print.
#[derive(Clone, Default)]
pub struct IssuerInput {
    /// The id; made when absent. Not read on an update.
    pub id: Option<String>,
    /// The name; required on creation.
    pub name: Option<String>,
    /// The kind; required on creation. A different kind on an update starts from an empty configuration.
    pub issuer_type: Option<String>,
    /// The configuration, an object; a value of `********` keeps what is stored.
    pub config: Option<Value>,
    /// Whether it may issue; yes.
    pub enabled: Option<bool>,
    /// `single` or `tree`.
    pub hierarchy_mode: Option<String>,
}

impl Services {
    /// Lists issuers, newest first, their secrets masked.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `issuer.read`.
    pub async fn list_issuers(
        &self,
        actor: &Actor,
        page: PageRequest,
    ) -> Result<Page<Issuer>, Error> {
        authorise(actor, Permission::IssuerRead)?;
        let page = issuers::list(&mut self.read().await?, page).await?;
        Ok(page.map(|issuer| self.shown_issuer(issuer)))
    }

    /// Reads an issuer, its secrets masked.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `issuer.read` for it, [`Error::NotFound`].
    pub async fn get_issuer(&self, actor: &Actor, id: &IssuerId) -> Result<Issuer, Error> {
        authorise_for(actor, Permission::IssuerRead, &scope(id))?;
        let issuer = issuers::find(&mut self.read().await?, id).await;
        Ok(self.shown_issuer(issuer.or_not_found("issuer", id)?))
    }

    /// Makes an issuer.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `issuer.edit`, [`Error::Invalid`] naming the field, also for a kind that this build does not
    /// connect to, [`Error::BadRequest`] for a secret without a key to seal it with, [`Error::Conflict`] when the id or name is
    /// taken.
    pub async fn create_issuer(&self, actor: &Actor, input: IssuerInput) -> Result<Issuer, Error> {
        authorise(actor, Permission::IssuerEdit)?;
        let now = self.now();
        let required = |field, text: &Option<String>| {
            text.clone()
                .filter(|text| !text.is_empty())
                .ok_or_else(|| InvalidField::required(field))
        };
        let kind = required("type", &input.issuer_type)?;
        let issuer = Issuer {
            id: new_id(input.id.as_deref(), IssuerId::parse, || {
                IssuerId::generate(now)
            })?,
            name: required("name", &input.name)?,
            issuer_type: one_of("type", &kind, IssuerType::parse)?,
            config: json!({}),
            encrypted_config: None,
            enabled: true,
            last_tested_at: None,
            test_status: TestStatus::Untested,
            source: ConfigSource::Database,
            hierarchy_mode: HierarchyMode::Single,
            created_at: now,
            updated_at: now,
        };
        // Without a configuration the empty one is what is checked.
        let config = Some(input.config.clone().unwrap_or_default());
        let issuer = self
            .revised_issuer(issuer, IssuerInput { config, ..input })
            .await?;
        transaction!(self.db, "create issuer", conn => {
            issuers::insert(conn, &issuer).await.or_conflict(|| format!("an issuer named {:?} or with this id exists", issuer.name))?;
            let details = json!({"type": issuer.issuer_type.as_str(), "enabled": issuer.enabled});
            record(conn, event(actor, EventCategory::Config, "create_issuer", ("issuer", issuer.id.as_str()), details, now)).await?;
            Ok::<_, Error>(())
        })?;
        self.issuers.forget(&issuer.id);
        Ok(self.shown_issuer(issuer))
    }

    /// Changes an issuer; absent fields and masked values stay as they are. A new configuration is untested.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `issuer.edit` for it, [`Error::NotFound`], [`Error::Invalid`] naming the field,
    /// [`Error::BadRequest`] for a secret without a key to seal it with, [`Error::Conflict`] when the name is taken, or others
    /// keep changing it at the same time.
    pub async fn update_issuer(
        &self,
        actor: &Actor,
        id: &IssuerId,
        input: IssuerInput,
    ) -> Result<Issuer, Error> {
        authorise_for(actor, Permission::IssuerEdit, &scope(id))?;
        let mut tries = Tries::new("issuer", id);
        let issuer = loop {
            let before = issuers::find(&mut self.read().await?, id)
                .await
                .or_not_found("issuer", id)?;
            let mut after = self.revised_issuer(before.clone(), input.clone()).await?;
            let now = self.now();
            after.updated_at = now;
            let written = transaction!(self.db, "update issuer", conn => {
                locks::issuer(conn, id).await.or_not_found("issuer", id)?;
                if issuers::find(conn, id).await.or_not_found("issuer", id)? != before {
                    return Ok(false);
                }
                issuers::update(conn, &after).await.or_conflict(|| format!("an issuer named {:?} exists", after.name))?;
                let details = json!({"type": after.issuer_type.as_str(), "enabled": after.enabled});
                record(conn, event(actor, EventCategory::Config, "update_issuer", ("issuer", id.as_str()), details, now)).await?;
                Ok::<_, Error>(true)
            })?;
            if written {
                break after;
            }
            tries.again()?;
        };
        self.issuers.forget(id);
        Ok(self.shown_issuer(issuer))
    }

    /// Deletes an issuer that nothing refers to, and with it the CA that certctl made for it, key and all. That of the first local
    /// issuer stays, because the server's own certificate comes from it.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `issuer.delete` for it, [`Error::NotFound`], [`Error::Conflict`] while certificates or
    /// revocations refer to it, and while anything that it signed is valid or being signed: without its key nobody could say of
    /// that whether it is revoked.
    pub async fn delete_issuer(&self, actor: &Actor, id: &IssuerId) -> Result<(), Error> {
        authorise_for(actor, Permission::IssuerDelete, &scope(id))?;
        let now = self.now();
        transaction!(self.db, "delete issuer", conn => {
            locks::issuer(conn, id).await.or_not_found("issuer", id)?;
            if issuers::is_signing(conn, id).await? {
                return Err(Error::Conflict("this issuer is about to sign a certificate".to_owned()));
            }
            if issuers::vouches(conn, id, now).await? {
                return Err(Error::Conflict("certificates that this issuer signed are still valid".to_owned()));
            }
            deleted(issuers::delete(conn, id).await, "issuer", id, "certificates or revocations refer to this issuer")?;
            record(conn, event(actor, EventCategory::Config, "delete_issuer", ("issuer", id.as_str()), json!({}), now)).await?;
            Ok::<_, Error>(())
        })?;
        self.issuers.forget(id);
        if id.as_str() != LOCAL_ISSUER {
            self.destroy_ca(id).await;
        }
        Ok(())
    }

    /// What is left when this fails is a key that vouches for nothing; that the issuer is deleted holds all the same.
    async fn destroy_ca(&self, id: &IssuerId) {
        if let Err(error) = self.issuers.factory().destroy(id).await {
            tracing::error!(issuer.id = %id, error = %ErrorChain(&error), "the key of a deleted issuer could not be removed; remove it by hand");
        }
    }

    /// Connects to an issuer anew and asks it for its own certificate; notes what came of it.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `issuer.edit` for it, [`Error::NotFound`], [`Error::BadGateway`] when the test fails, which
    /// is noted all the same.
    pub async fn test_issuer(&self, actor: &Actor, id: &IssuerId) -> Result<(), Error> {
        authorise_for(actor, Permission::IssuerEdit, &scope(id))?;
        let tested = issuers::find(&mut self.read().await?, id)
            .await
            .or_not_found("issuer", id)?;
        let outcome = tokio::time::timeout(TEST_WITHIN, self.try_issuer(&tested))
            .await
            .unwrap_or_else(|_| {
                Err(TestFailure {
                    cause: IssuerError::Timeout("the test took too long".to_owned()),
                    is_ours: false,
                })
            });
        let (status, action, details) = match &outcome {
            Ok(()) => (
                TestStatus::Success,
                "issuer_test_connection_success",
                json!({}),
            ),
            Err(error) => (
                TestStatus::Failed,
                "issuer_test_connection_failed",
                json!({"error_class": error.cause.class()}),
            ),
        };
        let now = self.now();
        transaction!(self.db, "test issuer", conn => {
            locks::issuer(conn, id).await.or_not_found("issuer", id)?;
            let mut issuer = issuers::find(conn, id).await.or_not_found("issuer", id)?;
            // What was found of a configuration that has changed since says nothing of the new one.
            if issuer.updated_at == tested.updated_at {
                issuer.test_status = status;
                issuer.last_tested_at = Some(now);
                issuers::update(conn, &issuer).await?;
            }
            record(conn, event(actor, EventCategory::Config, action, ("issuer", id.as_str()), details.clone(), now)).await?;
            Ok::<_, Error>(())
        })?;
        outcome.map_err(|failure| {
            tracing::warn!(issuer.id = %id, error = %ErrorChain(&failure.cause), "the test of an issuer failed");
            Error::BadGateway(failure.told(tested.issuer_type))
        })
    }

    async fn try_issuer(&self, issuer: &Issuer) -> Result<(), TestFailure> {
        let ours = |cause| TestFailure {
            cause,
            is_ours: true,
        };
        let config = secrets::full(issuer, self.sealer.as_deref()).map_err(|_| {
            ours(IssuerError::Other(
                "its configuration cannot be opened with the present CERTCTL_CONFIG_ENCRYPTION_KEY"
                    .to_owned(),
            ))
        })?;
        let factory = self.issuers.factory();
        factory
            .validate(issuer.issuer_type, &config)
            .map_err(ours)?;
        let is_local = issuer.issuer_type == IssuerType::GenericCa;
        self.ask_issuer(issuer, &config)
            .await
            .map_err(|cause| TestFailure {
                // The local CA is no third party: what it refuses is a field of its configuration.
                is_ours: is_local && matches!(cause, IssuerError::Validation(_)),
                cause,
            })
    }

    async fn ask_issuer(&self, issuer: &Issuer, config: &Value) -> Result<(), IssuerError> {
        let factory = self.issuers.factory();
        let connected = factory
            .connect(&issuer.id, issuer.issuer_type, config)
            .await?;
        match connected.ca_pem().await {
            // Many CAs have none to show; being connected to is all that can be asked of them here.
            Ok(_) | Err(IssuerError::NotSupported) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// [`Services::merge_issuer`] where it holds nobody up: it may read files and stretch passphrases.
    async fn revised_issuer(
        &self,
        mut issuer: Issuer,
        input: IssuerInput,
    ) -> Result<Issuer, Error> {
        let services = self.clone();
        aside(move || {
            services.merge_issuer(&mut issuer, input)?;
            Ok(issuer)
        })
        .await
    }

    /// Puts what the caller said over what is there, and checks and seals the configuration when it is a new one.
    fn merge_issuer(&self, issuer: &mut Issuer, input: IssuerInput) -> Result<(), Error> {
        if let Some(name) = &input.name {
            issuer.name = required_text("name", name, MAX_NAME)?;
        }
        if let Some(enabled) = input.enabled {
            issuer.enabled = enabled;
        }
        if let Some(mode) = input.hierarchy_mode.as_deref().filter(|m| !m.is_empty()) {
            issuer.hierarchy_mode = one_of("hierarchy_mode", mode, HierarchyMode::parse)?;
        }
        let kind = match input.issuer_type.as_deref().filter(|kind| !kind.is_empty()) {
            Some(kind) => one_of("type", kind, IssuerType::parse)?,
            None => issuer.issuer_type,
        };
        let same_kind = kind == issuer.issuer_type;
        if input.config.is_none() && same_kind {
            return Ok(());
        }
        let (factory, sealer) = (self.issuers.factory(), self.sealer.as_deref());
        let config = secrets::merged(secrets::object(input.config)?, issuer, same_kind, sealer)?;
        factory
            .validate(kind, &config)
            .map_err(|error| refused(kind, error))?;
        secrets::put(issuer, &config, factory.secret_fields(kind), sealer)?;
        issuer.issuer_type = kind;
        issuer.test_status = TestStatus::Untested;
        // The environment no longer decides over it.
        issuer.source = ConfigSource::Database;
        Ok(())
    }

    fn shown_issuer(&self, issuer: Issuer) -> Issuer {
        let fields = self.issuers.factory().secret_fields(issuer.issuer_type);
        secrets::shown(issuer, fields)
    }
}

/// Why a test of an issuer failed.
struct TestFailure {
    cause: IssuerError,
    /// Whether the words are certctl's own, about the configuration.
    is_ours: bool,
}

impl TestFailure {
    /// What the caller is told. What a third party says may quote what was sent to it, addresses and paths; that is for the log.
    fn told(&self, kind: IssuerType) -> String {
        match &self.cause {
            IssuerError::NotSupported => not_connected(kind),
            ours if self.is_ours => ours.to_string(),
            third => format!("{}; the log of the server says more", in_general(third)),
        }
    }
}

/// A failure of a third party without its words.
fn in_general(error: &IssuerError) -> &'static str {
    match error {
        IssuerError::Timeout(_) => "the issuer did not answer in time",
        IssuerError::Network(_) => "the issuer could not be reached",
        IssuerError::Auth(_) => "the issuer refused the credentials",
        IssuerError::RateLimited { .. } => "the issuer limits the rate",
        IssuerError::Validation(_) => "the issuer refused the request",
        IssuerError::Upstream5xx(_) => "the issuer failed",
        IssuerError::Upstream4xx(_) => "the issuer refused",
        IssuerError::NotSupported => "not supported by this issuer",
        IssuerError::Other(_) => "the issuer could not be used",
    }
}

fn scope(id: &IssuerId) -> Scope {
    Scope::Issuer(id.to_string())
}

fn refused(kind: IssuerType, error: IssuerError) -> Error {
    match error {
        IssuerError::NotSupported => InvalidField::new("type", not_connected(kind)),
        IssuerError::Validation(problem) => InvalidField::new("config", problem),
        other => InvalidField::new("config", in_general(&other)),
    }
    .into()
}

fn not_connected(kind: IssuerType) -> String {
    format!("this build does not connect to {kind} issuers yet")
}
