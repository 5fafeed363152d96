//! What a database gets once in its life: the first key, shown once.

use certctl_domain::{
    access::{ActorType, ApiKey, Scope, SeededRole},
    audit::EventCategory,
    id::{ActorRoleId, ApiKeyId, IssuerId, RoleId},
    issuer::ConfigSource,
    secret::Secret,
};
use certctl_repository::{api_keys, installation, issuers, roles, transaction};
use serde_json::json;

use crate::{
    Error, Services,
    access::key_hash,
    services::{event, record},
};

/// The local CA that every installation starts with.
pub const LOCAL_ISSUER: &str = "iss-local";

/// The name of the first administrator's key.
pub const FIRST_KEY: &str = "first-admin";

impl Services {
    /// Makes the first administrator's key where nobody could get in otherwise; nothing when it was made before or the
    /// configuration names keys or the token that makes the first administrator. The key is in no other place: whoever loses it makes a new database or configures one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database cannot be written.
    pub async fn make_first_key(&self) -> Result<Option<Secret>, Error> {
        let config = &self.config;
        if config.auth_none || !config.api_keys.is_empty() || config.bootstrap_token.is_some() {
            return Ok(None);
        }
        let now = self.now();
        let key = Secret::new(random_key()?);
        let row = ApiKey {
            id: ApiKeyId::generate(now),
            name: FIRST_KEY.to_owned(),
            key_hash: key_hash(key.expose()),
            previous: None,
            admin: true,
            created_by: "system".to_owned(),
            created_at: now,
            expires_at: None,
            last_used_at: None,
        };
        let role_id = RoleId::from_stored(SeededRole::Admin.id());
        let made = transaction!(self.db, "make first key", conn => {
            if roles::an_admin_can_enter(conn, now).await? || !installation::claim(conn, "first_key", FIRST_KEY, now).await? {
                return Ok(false);
            }
            api_keys::insert(conn, &row).await?;
            let grant = roles::NewGrant {
                id: ActorRoleId::generate(now),
                actor_id: FIRST_KEY,
                actor_type: ActorType::ApiKey,
                role_id: &role_id,
                scope: Scope::Global,
                granted_by: "system",
                granted_at: now,
                expires_at: None,
            };
            roles::grant(conn, &grant).await?;
            let system = certctl_domain::access::Actor::system();
            record(conn, event(&system, EventCategory::Auth, "bootstrap.consume", ("api_key", row.id.as_str()), json!({}), now)).await?;
            Ok::<_, Error>(true)
        })?;
        self.access.clear();
        Ok(made.then_some(key))
    }
}

impl Services {
    /// Gives the local CA that every installation starts with the configuration of the environment. An issuer that somebody
    /// changed over the API is left alone, as is an installation that has removed it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database cannot be written.
    pub async fn configure_local_issuer(&self, config: &serde_json::Value) -> Result<(), Error> {
        let id = IssuerId::from_stored(LOCAL_ISSUER.to_owned());
        let now = self.now();
        transaction!(self.db, "configure local issuer", conn => {
            let mut issuer = match issuers::find(conn, &id).await {
                Ok(issuer) if issuer.source == ConfigSource::Env && issuer.config != *config => issuer,
                Ok(_) | Err(certctl_repository::Error::NotFound) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            issuer.config = config.clone();
            issuer.updated_at = now;
            issuers::update(conn, &issuer).await?;
            let system = certctl_domain::access::Actor::system();
            record(conn, event(&system, EventCategory::Config, "update_issuer", ("issuer", id.as_str()), json!({"source": "env"}), now)).await?;
            Ok::<_, Error>(())
        })
    }
}

/// 256 random bits as hex.
pub(crate) fn random_key() -> Result<String, Error> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0_u8; 32];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::internal("the system gave no random bytes"))?;
    Ok(hex::encode(bytes))
}
