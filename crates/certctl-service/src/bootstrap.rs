//! The first administrator, made over the API with a token of the configuration; once.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use certctl_domain::{
    access::{Actor, ActorType, ApiKey, KeyName, Permission, Scope, SeededRole},
    audit::EventCategory,
    id::{ActorRoleId, RoleId},
    secret::Secret,
};
use certctl_repository::{Conn, api_keys, installation, roles, transaction};
use serde_json::json;

use crate::{
    Error, Services,
    agents::same_secret,
    error::Expect as _,
    first_run::random_key,
    keys::new_key,
    services::{authorise, event, record},
};

/// The fact that tells every replica that it was done.
const DONE: &str = "bootstrap";

/// Whether this process has done it.
#[derive(Default)]
pub(crate) struct Bootstrapped(AtomicBool);

impl Services {
    /// Whether the first administrator can still be made: a token is configured, and nobody has used it, and there is no
    /// administrator yet.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database cannot be asked.
    pub async fn is_bootstrap_available(&self) -> Result<bool, Error> {
        Ok(self.bootstrap_is_open() && self.nobody_administers(&mut self.read().await?).await?)
    }

    /// Makes the first administrator and their key, whose value is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`Error::Gone`] when it cannot be done any more or no token is configured, [`Error::Unauthenticated`] with a wrong token,
    /// [`Error::Invalid`], [`Error::Conflict`] when the name is taken.
    pub async fn bootstrap(&self, token: &Secret, name: &str) -> Result<(ApiKey, Secret), Error> {
        if !self.is_bootstrap_available().await? {
            return Err(gone());
        }
        let now = self.now();
        let expected = self.config.bootstrap_token.as_ref();
        if !expected.is_some_and(|expected| same_secret(token.expose(), expected)) {
            let nobody = Actor::anonymous();
            transaction!(self.db, "refuse bootstrap", conn => {
                record(conn, event(&nobody, EventCategory::Auth, "bootstrap.consume_failed", ("bootstrap", DONE), json!({"reason": "wrong token"}), now)).await
            })?;
            return Err(Error::Unauthenticated("invalid_bootstrap_token".to_owned()));
        }
        let name = KeyName::parse_first("actor_name", name)?;
        if self.access.is_configured(name.as_str()) {
            return Err(Error::Conflict(format!(
                "the configuration has a key named {name}"
            )));
        }
        let value = Secret::new(random_key()?);
        let first = Actor::new(
            name.as_str(),
            ActorType::ApiKey,
            true,
            Vec::new(),
            Vec::new(),
        );
        let key = ApiKey {
            admin: true,
            ..new_key(&name, &value, &first, None, now)
        };
        let role_id = RoleId::from_stored(SeededRole::Admin.id());
        transaction!(self.db, "bootstrap", conn => {
            // The fact can be entered once, so of two replicas that come this far one goes on.
            if !self.nobody_administers(conn).await? || !installation::claim(conn, DONE, name.as_str(), now).await? {
                return Err(gone());
            }
            api_keys::insert(conn, &key).await.or_conflict(|| format!("a key named {name} exists"))?;
            roles::grant(conn, &roles::NewGrant {
                id: ActorRoleId::generate(now),
                actor_id: name.as_str(),
                actor_type: ActorType::ApiKey,
                role_id: &role_id,
                scope: Scope::Global,
                granted_by: "bootstrap",
                granted_at: now,
                expires_at: None,
            }).await?;
            record(conn, event(&first, EventCategory::Auth, "bootstrap.consume", ("api_key", key.id.as_str()), json!({"actor_id": name.as_str()}), now)).await
        })?;
        self.bootstrapped.0.store(true, Ordering::SeqCst);
        self.access.clear();
        Ok((key, value))
    }

    /// What of the configuration is not secret and concerns who may come in.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `auth.role.assign`.
    pub async fn runtime_config(&self, actor: &Actor) -> Result<BTreeMap<String, String>, Error> {
        authorise(actor, Permission::AuthRoleAssign)?;
        let now = self.now();
        transaction!(self.db, "read runtime config", conn => {
            record(conn, event(actor, EventCategory::Auth, "auth.runtime_config_read", ("config", "auth"), json!({}), now)).await
        })?;
        Ok(self.config.runtime.clone())
    }

    fn bootstrap_is_open(&self) -> bool {
        self.config.bootstrap_token.is_some() && !self.bootstrapped.0.load(Ordering::SeqCst)
    }

    /// Whether there is no administrator, and the token was never used on this database.
    async fn nobody_administers(&self, conn: &mut Conn) -> Result<bool, Error> {
        let is_configured = self.access.configured_keys().any(|(_, admin)| *admin);
        Ok(!is_configured
            && installation::get(conn, DONE).await?.is_none()
            && !roles::an_admin_can_enter(conn, self.now()).await?)
    }
}

fn gone() -> Error {
    Error::Gone("the first administrator cannot be made here: no token is configured, it was used, or there is an administrator".to_owned())
}
