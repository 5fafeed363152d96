//! What this process remembers of keys, and how it learns that it is no longer so.
//!
//! A change made through this process empties the memory at once. One made elsewhere is told by `NOTIFY` when it is committed; and
//! since such a word can be lost, nothing remembered is believed for longer than a second without a look at the number that
//! counts all changes: one small query for all keys together, every half second while requests come in.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use certctl_domain::{
    access::Actor,
    id::{AgentId, ApiKeyId},
    time::Timestamp,
};

use super::{key_hash, uses::KeyUses};
use crate::{Error, config::ServiceConfig};

/// After this long the number of changes is looked at again by one of the requests that come in; the others do not wait for it.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// After this long nothing is believed before it was looked at.
const BELIEVED: Duration = Duration::from_secs(1);
/// How long the hash of a key that does not exist is remembered, so that guessing does not load the database. An agent that
/// registers is no change that is counted, so this bounds how long its key may be taken for a wrong one.
const UNKNOWN_FRESH: Duration = Duration::from_millis(500);
/// How long an entry is kept at the most: what the triggers could miss (a restored database, rows loaded with triggers off) heals.
const KEPT: Duration = Duration::from_secs(60);
/// Keys remembered at the most; beyond it the cache starts over.
const CAPACITY: usize = 100_000;

/// What was found of keys.
pub(crate) struct AccessCache {
    /// Keys of the configuration by hash: name and whether it is an administrator's.
    configured: HashMap<String, (String, bool)>,
    known: Mutex<Known>,
    /// Held by the request that looks at the number of changes.
    pub(super) looking: tokio::sync::Mutex<()>,
    pub(super) uses: KeyUses,
}

#[derive(Default)]
struct Known {
    /// Counts how often everything was forgotten, so that what was read before such a moment is not entered after it.
    epoch: u64,
    /// The number of changes at the last look.
    version: Option<i64>,
    looked_at: Option<Timestamp>,
    found: HashMap<String, Entry>,
}

/// What was found of one key.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) who: Who,
    /// The stored key, whose use is noted.
    pub(super) key: Option<ApiKeyId>,
    /// When the key or one of its grants ends, and all this has to be found anew.
    pub(super) until: Option<Timestamp>,
    pub(super) seen_at: Timestamp,
}

/// Whose key it is.
#[derive(Clone)]
pub(super) enum Who {
    /// Nobody's.
    Nobody,
    /// An actor's.
    Actor(Actor),
    /// That of an agent which is retired. It is told so, and nothing else, so that it can end (agent §8).
    Retired(AgentId),
}

impl Entry {
    /// A clock that was set back must not keep what was found for longer than was meant, so what was found in the future is not
    /// believed.
    fn is_fresh(&self, now: Timestamp) -> bool {
        let kept = match self.who {
            Who::Nobody => UNKNOWN_FRESH,
            Who::Actor(_) | Who::Retired(_) => KEPT,
        };
        self.seen_at <= now
            && now.since(self.seen_at) < kept
            && self.until.is_none_or(|end| end > now)
    }

    pub(super) fn actor(self) -> Result<Option<Actor>, Error> {
        match self.who {
            Who::Nobody => Ok(None),
            Who::Retired(id) => Err(Error::AgentRetired(id.into_string())),
            Who::Actor(actor) => Ok(Some(actor)),
        }
    }
}

/// How far what is remembered may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belief {
    /// It was looked at just now.
    Fresh,
    /// Somebody should look.
    Due,
    /// Nobody may rely on it.
    Stale,
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
            known: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            uses: KeyUses::default(),
        }
    }

    /// Name and admin flag of a key of the configuration.
    pub(super) fn configured(&self, hash: &str) -> Option<&(String, bool)> {
        self.configured.get(hash)
    }

    /// The keys of the configuration: names and admin flags.
    pub(crate) fn configured_keys(&self) -> impl Iterator<Item = &(String, bool)> {
        self.configured.values()
    }

    /// Whether the configuration has a key of this name.
    pub(crate) fn is_configured(&self, name: &str) -> bool {
        self.configured_keys().any(|(one, _)| one == name)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything; after keys, roles, grants or agents changed.
    pub(crate) fn clear(&self) {
        let mut known = self.known();
        known.epoch += 1;
        known.found.clear();
    }

    pub(super) fn belief(&self, now: Timestamp) -> Belief {
        match self.known().looked_at {
            Some(at) if at <= now && now.since(at) < LOOK_AGAIN => Belief::Fresh,
            Some(at) if at <= now && now.since(at) < BELIEVED => Belief::Due,
            _ => Belief::Stale,
        }
    }

    /// Takes note of the number of changes, as it was asked for at `asked_at`.
    pub(super) fn looked(&self, version: i64, asked_at: Timestamp) {
        let mut known = self.known();
        if known.version != Some(version) {
            known.epoch += 1;
            known.found.clear();
            known.version = Some(version);
        }
        known.looked_at = Some(asked_at);
    }

    pub(super) fn epoch(&self) -> u64 {
        self.known().epoch
    }

    pub(super) fn get(&self, hash: &str, now: Timestamp) -> Option<Entry> {
        let known = self.known();
        let entry = known.found.get(hash);
        entry.filter(|entry| entry.is_fresh(now)).cloned()
    }

    /// Enters what was found, unless everything was forgotten since the search began.
    pub(super) fn put(&self, hash: String, entry: Entry, epoch: u64) {
        let mut known = self.known();
        if known.epoch != epoch {
            return;
        }
        if known.found.len() >= CAPACITY {
            known.found.clear();
        }
        known.found.insert(hash, entry);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use certctl_domain::time::Timestamp;

    use super::{AccessCache, Belief, Entry, Known, Who};

    const NOW: Timestamp = Timestamp::from_seconds(1_780_272_000);

    fn cache() -> AccessCache {
        AccessCache {
            configured: Default::default(),
            known: Known::default().into(),
            looking: Default::default(),
            uses: Default::default(),
        }
    }

    fn entry(until: Option<Timestamp>) -> Entry {
        Entry {
            who: Who::Actor(certctl_domain::access::Actor::anonymous()),
            key: None,
            until,
            seen_at: NOW,
        }
    }

    #[test]
    fn what_was_read_before_a_change_is_not_entered_after_it() {
        let cache = cache();
        let before = cache.epoch();
        cache.clear();
        cache.put("a".into(), entry(None), before);
        assert!(cache.get("a", NOW).is_none());
        cache.put("a".into(), entry(None), cache.epoch());
        assert!(cache.get("a", NOW).is_some());
        // The same number as before forgets nothing, another one does.
        cache.looked(7, NOW);
        cache.put("a".into(), entry(None), cache.epoch());
        cache.looked(7, NOW);
        assert!(cache.get("a", NOW).is_some());
        let before = cache.epoch();
        cache.looked(8, NOW);
        cache.put("a".into(), entry(None), before);
        assert!(cache.get("a", NOW).is_none());
    }

    #[test]
    fn nothing_is_believed_for_longer_than_a_second_or_from_the_future() {
        let cache = cache();
        assert_eq!(cache.belief(NOW), Belief::Stale);
        cache.looked(1, NOW);
        for (millis, belief) in [
            (0, Belief::Fresh),
            (499, Belief::Fresh),
            (500, Belief::Due),
            (999, Belief::Due),
            (1000, Belief::Stale),
        ] {
            assert_eq!(
                cache.belief(NOW + Duration::from_millis(millis)),
                belief,
                "{millis}"
            );
        }
        assert_eq!(cache.belief(NOW - Duration::from_millis(1)), Belief::Stale);
    }

    #[test]
    fn an_entry_ends_with_its_key_and_after_a_minute() {
        let cache = cache();
        let end = NOW + Duration::from_secs(10);
        cache.put("a".into(), entry(Some(end)), 0);
        cache.put("b".into(), entry(None), 0);
        assert!(cache.get("a", end - Duration::from_micros(1)).is_some());
        assert!(cache.get("a", end).is_none());
        assert!(cache.get("b", NOW + Duration::from_secs(59)).is_some());
        assert!(cache.get("b", NOW + Duration::from_secs(60)).is_none());
        assert!(cache.get("b", NOW - Duration::from_secs(1)).is_none());
    }
}
