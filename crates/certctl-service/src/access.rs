//! Who asks: keys, grants and the cache of both.
//!
//! A key is looked up by its SHA-256: first among those of the configuration, then among agents' and stored ones. What was found
//! is kept for a moment, so that a request costs no query; a change made through this process empties the cache at once, one
//! made elsewhere is seen when the entry is a second old.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use certctl_domain::{
    access::{Actor, ActorType, ApiKey, Scope, SeededRole},
    id::{ActorRoleId, AgentId, RoleId},
    time::Timestamp,
};
use certctl_repository::{agents, api_keys, roles, transaction};

use crate::{Error, Services, config::ServiceConfig};

/// How long what was found of a key is believed.
const FRESH: Duration = Duration::from_secs(1);
/// How long the hash of a key that does not exist is remembered, so that guessing does not load the database.
const UNKNOWN_FRESH: Duration = Duration::from_millis(500);
/// Keys remembered at the most; beyond it the cache starts over.
const CAPACITY: usize = 100_000;
/// How often the use of a key is noted.
const TOUCH: Duration = Duration::from_secs(60);

/// What was found of keys.
pub(crate) struct AccessCache {
    /// Keys of the configuration by hash: name and whether it is an administrator's.
    configured: HashMap<String, (String, bool)>,
    found: Mutex<HashMap<String, Entry>>,
}

#[derive(Clone)]
struct Entry {
    who: Who,
    expires_at: Option<Timestamp>,
    seen_at: Timestamp,
}

/// Whose key it is.
#[derive(Clone)]
enum Who {
    /// Nobody's.
    Nobody,
    /// An actor's.
    Actor(Actor),
    /// That of an agent which is retired. It is told so, and nothing else, so that it can end (agent §8).
    Retired(AgentId),
}

impl Entry {
    /// Whether what was found is still believed. A clock that was set back must not keep it for longer than was meant, so what
    /// was found in the future is not believed either.
    fn is_fresh(&self, now: Timestamp) -> bool {
        let fresh = match self.who {
            Who::Nobody => UNKNOWN_FRESH,
            Who::Actor(_) | Who::Retired(_) => FRESH,
        };
        self.seen_at <= now && now.since(self.seen_at) < fresh
    }

    /// The actor, as long as the key has not ended.
    fn actor(self, now: Timestamp) -> Result<Option<Actor>, Error> {
        match self.who {
            Who::Nobody => Ok(None),
            Who::Retired(id) => Err(Error::AgentRetired(id.into_string())),
            Who::Actor(actor) => {
                Ok(Some(actor).filter(|_| self.expires_at.is_none_or(|end| end > now)))
            }
        }
    }
}

impl AccessCache {
    pub(crate) fn new(config: &ServiceConfig) -> Self {
        let configured = config
            .api_keys
            .iter()
            .map(|key| (key_hash(key.key.expose()), (key.name.clone(), key.admin)))
            .collect();
        Self {
            configured,
            found: Mutex::default(),
        }
    }

    /// Forgets everything; after keys, roles, grants or agents changed.
    pub(crate) fn clear(&self) {
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn get(&self, hash: &str, now: Timestamp) -> Option<Entry> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(hash).filter(|entry| entry.is_fresh(now)).cloned()
    }

    fn put(&self, hash: String, entry: Entry) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= CAPACITY {
            found.clear();
        }
        found.insert(hash, entry);
    }
}

/// SHA-256 of a key, lowercase hex: the only form in which a key is kept.
#[must_use]
pub fn key_hash(key: &str) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, key.as_bytes()))
}

/// The actor of `CERTCTL_AUTH_TYPE=none`.
const DEMO_ACTOR: &str = "actor-demo-anon";

impl Services {
    /// The actor of a key; none when there is no such key, or it has ended.
    ///
    /// # Errors
    /// [`Error::AgentRetired`] for the key of a retired agent, whatever it asks for; [`Error::Unavailable`] when the database
    /// cannot be asked.
    pub async fn authenticate(&self, key: &str) -> Result<Option<Actor>, Error> {
        let hash = key_hash(key);
        let now = self.now();
        if let Some(entry) = self.access.get(&hash, now) {
            return entry.actor(now);
        }
        let entry = self.look_up(&hash, now).await?;
        self.access.put(hash, entry.clone());
        entry.actor(now)
    }

    /// The actor of a server that asks nobody who they are; none on a server that does.
    #[must_use]
    pub fn demo_actor(&self) -> Option<Actor> {
        if !self.config.auth_none {
            return None;
        }
        let permissions = Actor::system().permissions().to_vec();
        Some(Actor::new(
            DEMO_ACTOR,
            ActorType::Anonymous,
            true,
            vec![RoleId::from_stored(SeededRole::Admin.id())],
            permissions,
        ))
    }

    async fn look_up(&self, hash: &str, now: Timestamp) -> Result<Entry, Error> {
        let unknown = Entry {
            who: Who::Nobody,
            expires_at: None,
            seen_at: now,
        };
        if let Some((name, admin)) = self.access.configured.get(hash) {
            let actor = self.actor(name, ActorType::ApiKey, *admin, now).await?;
            return Ok(Entry {
                who: Who::Actor(actor),
                ..unknown
            });
        }
        let mut conn = self.read().await?;
        if let Some(agent) = agents::find_by_key_hash(&mut conn, hash).await? {
            drop(conn);
            if agent.retired_at.is_some() {
                return Ok(Entry {
                    who: Who::Retired(agent.id),
                    ..unknown
                });
            }
            let actor = self
                .actor(agent.id.as_str(), ActorType::Agent, false, now)
                .await?;
            return Ok(Entry {
                who: Who::Actor(actor),
                ..unknown
            });
        }
        let Some(key) = api_keys::find_by_hash(&mut conn, hash).await? else {
            return Ok(unknown);
        };
        drop(conn);
        let actor = self
            .actor(&key.name, ActorType::ApiKey, key.admin, now)
            .await?;
        self.note_use(&key, now).await;
        Ok(Entry {
            who: Who::Actor(actor),
            expires_at: key.expires_at,
            seen_at: now,
        })
    }

    async fn actor(
        &self,
        id: &str,
        actor_type: ActorType,
        admin: bool,
        now: Timestamp,
    ) -> Result<Actor, Error> {
        let held = roles::holdings(&mut self.read().await?, id, actor_type, now).await?;
        Ok(Actor::new(
            id,
            actor_type,
            admin,
            held.roles,
            held.permissions,
        ))
    }

    /// Notes that a key is used, at most once a minute; that it could not be noted keeps nobody out.
    async fn note_use(&self, key: &ApiKey, now: Timestamp) {
        if key.last_used_at.is_some_and(|last| now.since(last) < TOUCH)
            || key.expires_at.is_some_and(|end| end <= now)
        {
            return;
        }
        let noted: Result<(), Error> = transaction!(self.db, "note key use", conn => {
            api_keys::touch(conn, &key.id, now).await?;
            Ok::<_, Error>(())
        });
        if let Err(error) = noted {
            tracing::warn!(key = %key.name, error = %certctl_telemetry::ErrorChain(&error), "the use of an API key could not be noted");
        }
    }

    /// Gives the keys of the configuration their roles: `r-admin` where they are marked so, `r-viewer` otherwise.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database cannot be written.
    pub async fn grant_configured_keys(&self) -> Result<(), Error> {
        let now = self.now();
        for (name, admin) in self.access.configured.values() {
            let (role, other) = if *admin {
                (SeededRole::Admin, SeededRole::Viewer)
            } else {
                (SeededRole::Viewer, SeededRole::Admin)
            };
            let (role_id, other_id) = (
                RoleId::from_stored(role.id()),
                RoleId::from_stored(other.id()),
            );
            transaction!(self.db, "grant configured key", conn => {
                let grant = roles::NewGrant {
                    id: ActorRoleId::generate(now),
                    actor_id: name,
                    actor_type: ActorType::ApiKey,
                    role_id: &role_id,
                    scope: Scope::Global,
                    granted_by: "system",
                    granted_at: now,
                    expires_at: None,
                };
                roles::grant(conn, &grant).await?;
                // A key that is no longer marked must not stay an administrator's.
                roles::revoke_own_grant(conn, name, ActorType::ApiKey, &other_id).await?;
                Ok::<_, Error>(())
            })?;
        }
        self.access.clear();
        Ok(())
    }
}

/// Refuses an agent's own key that asks for another agent (agent §3).
pub(crate) fn own_agent_only(actor: &Actor, agent: &AgentId) -> Result<(), Error> {
    if actor.actor_type() == ActorType::Agent && actor.id() != agent.as_str() {
        return Err(Error::NotYours(
            "an agent's key works for its own agent only".to_owned(),
        ));
    }
    Ok(())
}
