//! When keys were last used: gathered in memory, and written for all of them together, each at most once a minute.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use certctl_domain::{id::ApiKeyId, time::Timestamp};
use certctl_repository::{api_keys, api_keys::KeyUse, transaction};

use crate::{Error, Services};

/// How often the use of one key is written.
const NOTE: Duration = Duration::from_secs(60);
/// Keys that were not used for so long are forgotten; what was written of them is in the database.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Keys written by one statement at the most.
const CHUNK: usize = 2000;

/// Uses that may have to be written.
#[derive(Default)]
pub(crate) struct KeyUses(Mutex<HashMap<ApiKeyId, Use>>);

#[derive(Clone, Copy)]
struct Use {
    last: Timestamp,
    noted: Option<Timestamp>,
}

impl KeyUses {
    fn uses(&self) -> MutexGuard<'_, HashMap<ApiKeyId, Use>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stored key was found that was last used, as far as the database knows, at `noted`.
    pub(super) fn learn(&self, key: &ApiKeyId, noted: Option<Timestamp>, now: Timestamp) {
        let mut uses = self.uses();
        let one = uses.entry(key.clone()).or_insert(Use { last: now, noted });
        one.noted = one.noted.max(noted);
    }

    /// A key was used.
    pub(super) fn used(&self, key: &ApiKeyId, now: Timestamp) {
        if let Some(one) = self.uses().get_mut(key) {
            one.last = one.last.max(now);
        }
    }

    /// What is to be written now.
    fn due(&self, now: Timestamp) -> Vec<KeyUse> {
        let mut uses = self.uses();
        uses.retain(|_, one| now.since(one.last) < REMEMBERED);
        let mut due: Vec<KeyUse> = uses
            .iter()
            .filter(|(_, one)| one.noted.is_none_or(|noted| one.last.since(noted) >= NOTE))
            .map(|(key, one)| (key.clone(), one.last))
            .collect();
        // A fixed order, so that two replicas never lock the same rows crosswise.
        due.sort();
        due
    }

    fn noted(&self, written: &[KeyUse]) {
        let mut uses = self.uses();
        for (key, at) in written {
            if let Some(one) = uses.get_mut(key) {
                one.noted = Some(*at);
            }
        }
    }
}

impl Services {
    /// Writes when keys were last used, where that is due; how many keys that were. Called every few seconds and at the end.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; it is tried again with the next call.
    pub async fn flush_key_uses(&self) -> Result<usize, Error> {
        let due = self.access.uses.due(self.now());
        for chunk in due.chunks(CHUNK) {
            transaction!(self.db, "note key uses", conn => {
                Ok::<_, Error>(api_keys::note_uses(conn, chunk).await?)
            })?;
            self.access.uses.noted(chunk);
        }
        Ok(due.len())
    }
}
