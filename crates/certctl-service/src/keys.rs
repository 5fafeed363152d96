//! API keys over the API: made, listed, rotated, deleted. The value of a key is shown once and kept nowhere.

use std::time::Duration;

use certctl_domain::{
    access::{Actor, ActorType, ApiKey, Held, KeyName, Permission, PreviousKey, Scope},
    audit::EventCategory,
    id::{ActorRoleId, ApiKeyId, RoleId},
    page::{Page, PageRequest},
    secret::Secret,
    time::Timestamp,
    validation::InvalidField,
};
use certctl_repository::{
    Conn, Error as RepositoryError, api_keys,
    grants::{self, Holder},
    roles, transaction,
};
use serde_json::json;

use crate::{
    Error, Services,
    access::key_hash,
    error::Expect as _,
    first_run::random_key,
    grants::{ends_later, may_grant, may_hand_on},
    services::{authorise, event, record},
};

/// The longest time for which a rotated key is accepted beside the new one.
pub const MAX_GRACE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Roles that a key can be given when it is made.
pub const MAX_ROLES: usize = 50;

/// What a caller says of a key.
#[derive(Debug, Clone, Default)]
pub struct KeyInput {
    /// The name, which is the actor's id; required, unique.
    pub name: String,
    /// The roles it holds from the start, for everything.
    pub role_ids: Vec<String>,
    /// When it ends; must be in the future.
    pub expires_at: Option<Timestamp>,
}

/// Somebody who holds roles, with the key where it is stored.
#[derive(Debug, Clone)]
pub struct KeyHolder {
    /// Who, and which roles.
    pub holder: Holder,
    /// The stored key.
    pub key: Option<ApiKey>,
    /// Whether the configuration of the server that answers has a key of this name.
    pub is_configured: bool,
}

/// A key that was made or rotated just now.
#[derive(Debug)]
pub struct ShownKey {
    /// The key as it is stored.
    pub key: ApiKey,
    /// The roles it holds.
    pub roles: Vec<RoleId>,
    /// The value, shown this once.
    pub value: Secret,
}

impl Services {
    /// Lists everybody who holds a role and every stored key, by id; with a kind of actor, only those.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `auth.key.list`.
    pub async fn list_keys(
        &self,
        actor: &Actor,
        kind: Option<ActorType>,
        page: PageRequest,
    ) -> Result<Page<KeyHolder>, Error> {
        authorise(actor, Permission::AuthKeyList)?;
        let mut conn = self.read().await?;
        let holders = grants::list(&mut conn, kind, page, self.now()).await?;
        let names: Vec<&str> = holders
            .rows
            .iter()
            .filter(|holder| holder.actor_type == ActorType::ApiKey)
            .map(|holder| holder.actor_id.as_str())
            .collect();
        let mut stored = api_keys::named(&mut conn, &names).await?;
        Ok(holders.map(|holder| {
            let of_key = holder.actor_type == ActorType::ApiKey;
            let key = stored
                .iter()
                .position(|key| of_key && key.name == holder.actor_id)
                .map(|place| stored.swap_remove(place));
            KeyHolder {
                key,
                is_configured: of_key && self.access.is_configured(&holder.actor_id),
                holder,
            }
        }))
    }

    /// Reads one key by its name or its id.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `auth.key.list`, [`Error::NotFound`] when there is no such key and nobody granted it anything.
    pub async fn get_key(&self, actor: &Actor, id: &str) -> Result<KeyHolder, Error> {
        authorise(actor, Permission::AuthKeyList)?;
        let mut conn = self.read().await?;
        let key = stored(&mut conn, id).await?;
        let name = key
            .as_ref()
            .map_or_else(|| id.to_owned(), |key| key.name.clone());
        let roles = held_roles(&mut conn, &name, self.now()).await?;
        let is_configured = self.access.is_configured(&name);
        if key.is_none() && !is_configured && roles.is_empty() {
            return Err(Error::not_found("API key", id));
        }
        Ok(KeyHolder {
            holder: Holder {
                actor_id: name,
                actor_type: ActorType::ApiKey,
                roles,
            },
            key,
            is_configured,
        })
    }

    /// Makes a key. Its value is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `auth.key.create`, [`Error::NotYours`] when the key would hold what the actor does not,
    /// [`Error::Invalid`], [`Error::Conflict`] when the name is taken.
    pub async fn create_key(&self, actor: &Actor, input: KeyInput) -> Result<ShownKey, Error> {
        authorise(actor, Permission::AuthKeyCreate)?;
        let now = self.now();
        let name = KeyName::parse("name", &input.name)?;
        let roles = role_ids(&input.role_ids)?;
        ends_later(input.expires_at, now)?;
        if self.access.is_configured(name.as_str()) {
            return Err(Error::Conflict(format!(
                "the configuration has a key named {name}"
            )));
        }
        let value = Secret::new(random_key()?);
        let key = new_key(&name, &value, actor, input.expires_at, now);
        let held = transaction!(self.db, "create API key", conn => {
            // Grants may be waiting for a key of this name; whoever makes the key comes into them.
            let waiting = roles::holdings(conn, name.as_str(), ActorType::ApiKey, now).await?;
            may_hand_on(actor, &by_key(waiting.permissions, input.expires_at))?;
            api_keys::insert(conn, &key).await.or_conflict(|| format!("a key named {name} exists"))?;
            for role in &roles {
                known_role(conn, role).await?;
                may_grant(conn, actor, role, &Scope::Global, input.expires_at).await?;
                grants::give(conn, &roles::NewGrant {
                    id: ActorRoleId::generate(now),
                    actor_id: name.as_str(),
                    actor_type: ActorType::ApiKey,
                    role_id: role,
                    scope: Scope::Global,
                    granted_by: actor.id(),
                    granted_at: now,
                    // With the key: a key of the configuration may get its name later.
                    expires_at: input.expires_at,
                }).await?;
            }
            let details = json!({"actor_id": name.as_str(), "role_ids": &input.role_ids, "expires_at": input.expires_at.map(Timestamp::to_rfc3339)});
            record(conn, event(actor, EventCategory::Auth, "auth.key_created", ("api_key", key.id.as_str()), details, now)).await?;
            held_roles(conn, name.as_str(), now).await
        })?;
        self.access.clear();
        Ok(ShownKey {
            key,
            roles: held,
            value,
        })
    }

    /// Gives a key a new value. The old one is accepted for `grace` longer, or not at all; one that was rotated before ends now.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `auth.key.rotate`, [`Error::NotYours`] when the key holds what the actor does not,
    /// [`Error::Invalid`] for a grace beyond [`MAX_GRACE`], [`Error::NotFound`], [`Error::Conflict`] for a key of the configuration
    /// and for one that has ended.
    pub async fn rotate_key(
        &self,
        actor: &Actor,
        id: &str,
        grace: Duration,
    ) -> Result<ShownKey, Error> {
        authorise(actor, Permission::AuthKeyRotate)?;
        if grace > MAX_GRACE {
            let most = MAX_GRACE.as_secs();
            return Err(InvalidField::new("grace_seconds", format!("is at most {most}")).into());
        }
        let now = self.now();
        let value = Secret::new(random_key()?);
        let hash = key_hash(value.expose());
        let (key, roles) = transaction!(self.db, "rotate API key", conn => {
            let mut key = self.stored_key(conn, id).await?;
            if key.has_ended(now) {
                return Err(Error::Conflict(format!("the key {} has ended; make another one", key.name)));
            }
            // Whoever has the new value is whom the key speaks for.
            let held = roles::holdings(conn, &key.name, ActorType::ApiKey, now).await?;
            may_hand_on(actor, &by_key(held.permissions, key.expires_at))?;
            let previous = (!grace.is_zero()).then(|| PreviousKey {
                key_hash: key.key_hash.clone(),
                valid_until: now + grace,
            });
            api_keys::rotate(conn, &key, &hash, previous.as_ref()).await.map_err(|error| match error {
                RepositoryError::NotFound => Error::Conflict("the key was changed at the same moment".to_owned()),
                other => other.into(),
            })?;
            key.key_hash.clone_from(&hash);
            key.previous = previous;
            let details = json!({"actor_id": key.name, "grace_seconds": grace.as_secs()});
            record(conn, event(actor, EventCategory::Auth, "auth.key_rotated", ("api_key", key.id.as_str()), details, now)).await?;
            Ok::<_, Error>((key, held.roles))
        })?;
        self.access.clear();
        Ok(ShownKey { key, roles, value })
    }

    /// Deletes a key with its grants: what is made later under its name begins with nothing.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `auth.key.delete`, [`Error::NotFound`], [`Error::Conflict`] for a key of the configuration and
    /// for the key that asks: the last administrator must not lock everybody out by a slip.
    pub async fn delete_key(&self, actor: &Actor, id: &str) -> Result<(), Error> {
        authorise(actor, Permission::AuthKeyDelete)?;
        let now = self.now();
        transaction!(self.db, "delete API key", conn => {
            let key = self.stored_key(conn, id).await?;
            if actor.actor_type() == ActorType::ApiKey && actor.id() == key.name {
                return Err(Error::Conflict("a key does not delete itself; another one can, and rotating it ends its value".to_owned()));
            }
            api_keys::delete(conn, &key.id).await.or_not_found("API key", id)?;
            // A key of the configuration with the same name goes on, and keeps what it was granted.
            if !self.access.is_configured(&key.name) {
                roles::revoke_all(conn, &key.name, ActorType::ApiKey).await?;
            }
            record(conn, event(actor, EventCategory::Auth, "auth.key_deleted", ("api_key", key.id.as_str()), json!({"actor_id": key.name}), now)).await
        })?;
        self.access.clear();
        Ok(())
    }

    /// The stored key of a name or an id; one of the configuration is changed where it stands.
    async fn stored_key(&self, conn: &mut Conn, id: &str) -> Result<ApiKey, Error> {
        match stored(conn, id).await? {
            Some(key) => Ok(key),
            None if self.access.is_configured(id) => Err(Error::Conflict(format!(
                "the key {id} is set by the configuration (CERTCTL_API_KEYS_NAMED, CERTCTL_AUTH_SECRET) and is changed there"
            ))),
            None => Err(Error::not_found("API key", id)),
        }
    }
}

/// The row of a new key.
pub(crate) fn new_key(
    name: &KeyName,
    value: &Secret,
    actor: &Actor,
    expires_at: Option<Timestamp>,
    now: Timestamp,
) -> ApiKey {
    ApiKey {
        id: ApiKeyId::generate(now),
        name: name.to_string(),
        key_hash: key_hash(value.expose()),
        previous: None,
        admin: false,
        created_by: actor.id().to_owned(),
        created_at: now,
        expires_at,
        last_used_at: None,
    }
}

/// What is held by a key that ends at `end`.
fn by_key(held: Vec<Held>, end: Option<Timestamp>) -> Vec<Held> {
    held.into_iter().map(|one| one.ending(end)).collect()
}

fn role_ids(given: &[String]) -> Result<Vec<RoleId>, InvalidField> {
    if given.len() > MAX_ROLES {
        return Err(InvalidField::new(
            "role_ids",
            format!("are at most {MAX_ROLES}"),
        ));
    }
    given
        .iter()
        .map(|id| {
            RoleId::parse(id).map_err(|error| InvalidField::new("role_ids", error.to_string()))
        })
        .collect()
}

async fn known_role(conn: &mut Conn, role: &RoleId) -> Result<(), Error> {
    match roles::find(conn, role).await {
        Ok(_) => Ok(()),
        Err(RepositoryError::NotFound) => {
            Err(InvalidField::new("role_ids", format!("{role} does not exist")).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// The stored key with a name, or else with an id.
async fn stored(conn: &mut Conn, id: &str) -> Result<Option<ApiKey>, Error> {
    let found = match api_keys::find_by_name(conn, id).await {
        Err(RepositoryError::NotFound) => {
            api_keys::find(conn, &ApiKeyId::from_stored(id.to_owned())).await
        }
        other => other,
    };
    match found {
        Ok(key) => Ok(Some(key)),
        Err(RepositoryError::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn held_roles(conn: &mut Conn, name: &str, now: Timestamp) -> Result<Vec<RoleId>, Error> {
    let mut roles = grants::roles_of(conn, &[name], now).await?;
    let of_key = (name.to_owned(), ActorType::ApiKey.as_str().to_owned());
    Ok(roles.remove(&of_key).unwrap_or_default())
}
