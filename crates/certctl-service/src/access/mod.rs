//! Who asks: keys, grants, and what is remembered of both.
//!
//! A key is looked up by its SHA-256: first among those of the configuration, then among agents' and stored ones. What was found
//! is kept (`cache`), so that a request costs no query.

pub(crate) mod cache;
mod uses;

use certctl_domain::{
    access::{Actor, ActorType, ApiKey, DEMO_ACTOR, Scope, SeededRole},
    id::{ActorRoleId, AgentId, RoleId},
    time::Timestamp,
};
use certctl_repository::{access_version, agents, api_keys, roles, transaction};

use self::cache::{Belief, Entry, Who};
use crate::{Error, Services};

/// SHA-256 of a key, lowercase hex: the only form in which a key is kept.
#[must_use]
pub fn key_hash(key: &str) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, key.as_bytes()))
}

impl Services {
    /// The actor of a key; none when there is no such key, or it has ended.
    ///
    /// # Errors
    /// [`Error::AgentRetired`] for the key of a retired agent, whatever it asks for; [`Error::Unavailable`] when the database
    /// cannot be asked.
    pub async fn authenticate(&self, key: &str) -> Result<Option<Actor>, Error> {
        let hash = key_hash(key);
        self.look_for_changes().await?;
        let now = self.now();
        let entry = match self.access.get(&hash, now) {
            Some(entry) => entry,
            None => {
                let epoch = self.access.epoch();
                let entry = self.look_up(&hash, now).await?;
                self.access.put(hash, entry.clone(), epoch);
                entry
            }
        };
        if let Some(key) = &entry.key {
            self.access.uses.used(key, now);
        }
        entry.actor()
    }

    /// Forgets what was found of keys where something changed elsewhere. One request looks; the others wait for it only when
    /// what is remembered can no longer be believed.
    async fn look_for_changes(&self) -> Result<(), Error> {
        match self.access.belief(self.now()) {
            Belief::Fresh => Ok(()),
            Belief::Due => {
                if let Ok(_alone) = self.access.looking.try_lock()
                    && let Err(error) = self.look().await
                {
                    tracing::warn!(error = %certctl_telemetry::ErrorChain(&error), "changes of keys and grants could not be looked for");
                }
                Ok(())
            }
            Belief::Stale => {
                let _alone = self.access.looking.lock().await;
                // Somebody else may have looked while this one waited.
                if self.access.belief(self.now()) == Belief::Stale {
                    self.look().await?;
                }
                Ok(())
            }
        }
    }

    async fn look(&self) -> Result<(), Error> {
        // The time before the question: what changes after the answer is not seen by it.
        let asked_at = self.now();
        let version = access_version::get(&mut self.read().await?).await?;
        self.access.looked(version, asked_at);
        Ok(())
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
        if let Some((name, admin)) = self.access.configured(hash) {
            return self.entry(name, ActorType::ApiKey, *admin, None, now).await;
        }
        let mut conn = self.read().await?;
        if let Some(agent) = agents::find_by_key_hash(&mut conn, hash).await? {
            drop(conn);
            if agent.retired_at.is_some() {
                return Ok(found(Who::Retired(agent.id), now));
            }
            let id = agent.id.as_str();
            return self.entry(id, ActorType::Agent, false, None, now).await;
        }
        let Some(key) = api_keys::find_by_hash(&mut conn, hash).await? else {
            return Ok(found(Who::Nobody, now));
        };
        drop(conn);
        let Some(end) = accepted_until(&key, hash, now) else {
            return Ok(found(Who::Nobody, now));
        };
        self.access.uses.learn(&key.id, key.last_used_at, now);
        let entry = self
            .entry(&key.name, ActorType::ApiKey, key.admin, end, now)
            .await?;
        Ok(Entry {
            until: earlier(entry.until, end),
            key: Some(key.id),
            ..entry
        })
    }

    /// What is found of an actor whose key is accepted until `end`, and who holds nothing for longer by it.
    async fn entry(
        &self,
        id: &str,
        actor_type: ActorType,
        admin: bool,
        end: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Entry, Error> {
        let held = roles::holdings(&mut self.read().await?, id, actor_type, now).await?;
        let permissions = held.permissions.into_iter().map(|one| one.ending(end));
        let actor = Actor::holding(id, actor_type, admin, held.roles, permissions.collect());
        Ok(Entry {
            until: held.until,
            ..found(Who::Actor(actor), now)
        })
    }

    /// Forgets what was found of keys, since something changed elsewhere.
    pub(crate) fn forget_keys(&self) {
        self.access.clear();
    }

    /// Gives the keys of the configuration their roles: `r-admin` where they are marked so, `r-viewer` otherwise.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database cannot be written.
    pub async fn grant_configured_keys(&self) -> Result<(), Error> {
        let now = self.now();
        for (name, admin) in self.access.configured_keys() {
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

fn found(who: Who, now: Timestamp) -> Entry {
    Entry {
        who,
        key: None,
        until: None,
        seen_at: now,
    }
}

/// Until when the value with this hash is accepted for a key (`Some(None)`: it has no end); nothing when it no longer is.
fn accepted_until(key: &ApiKey, hash: &str, now: Timestamp) -> Option<Option<Timestamp>> {
    let end = match &key.previous {
        Some(previous) if key.key_hash != hash => {
            earlier(key.expires_at, Some(previous.valid_until))
        }
        _ => key.expires_at,
    };
    end.is_none_or(|end| end > now).then_some(end)
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
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
