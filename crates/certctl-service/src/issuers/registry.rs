//! Connected issuers, kept for as long as their rows do not change.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use certctl_domain::{
    id::IssuerId,
    issuer,
    ports::issuer::{Issuer, IssuerError, IssuerFactory},
    time::Timestamp,
};
use certctl_repository::issuers;
use certctl_telemetry::ErrorChain;

use crate::{Error, Services, error::Expect as _, secrets};

/// How long a row is believed to be unchanged.
const FRESH: Duration = Duration::from_secs(1);

/// How long the files of a CA are believed to be unchanged.
const REREAD_FILES: Duration = Duration::from_secs(60);
/// The field of a configuration that names the certificate of a CA in a file.
const CA_FILE: &str = "ca_cert_path";

/// Connects to issuers and keeps the connections.
pub(crate) struct IssuerRegistry {
    factory: Arc<dyn IssuerFactory>,
    connected: Mutex<Kept<Entry>>,
}

/// What was read of issuers.
///
/// A row may change between the read and the [`put`](Self::put): what was read before somebody said [`forget`](Self::forget) is
/// then not kept, or it would outlive the change it was forgotten for.
struct Kept<T> {
    of: HashMap<IssuerId, T>,
    /// How often something was forgotten.
    epoch: u64,
}

impl<T: Clone> Kept<T> {
    fn new() -> Self {
        Self {
            of: HashMap::new(),
            epoch: 0,
        }
    }

    /// What is kept of an issuer, and what [`put`](Self::put) wants to know of whoever reads it now.
    fn get(&self, id: &IssuerId) -> (Option<T>, u64) {
        (self.of.get(id).cloned(), self.epoch)
    }

    fn forget(&mut self, id: &IssuerId) {
        self.epoch += 1;
        self.of.remove(id);
    }

    /// Keeps what was read in this epoch, if that is the present one.
    fn put(&mut self, id: IssuerId, read: T, epoch: u64) {
        if epoch == self.epoch {
            self.of.insert(id, read);
        }
    }
}

#[derive(Clone)]
struct Entry {
    issuer: Arc<dyn Issuer>,
    kind: issuer::IssuerType,
    enabled: bool,
    updated_at: Timestamp,
    seen_at: Timestamp,
    connected_at: Timestamp,
    /// Whether it was made of files, which change without the row.
    of_files: bool,
}

impl Entry {
    /// Whether the row is still believed to be as it was seen; not when it was seen in the future, by a clock set back since.
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.seen_at <= now && now.since(self.seen_at) < FRESH
    }

    /// Whether the connection still stands for what it was made of.
    fn is_current(&self, row: &issuer::Issuer, now: Timestamp) -> bool {
        let files_are_old = self.of_files
            && (self.connected_at > now || now.since(self.connected_at) >= REREAD_FILES);
        self.updated_at == row.updated_at && !files_are_old
    }
}

/// An issuer that can be asked.
#[derive(Clone)]
pub(crate) struct Connected {
    /// The connection.
    pub(crate) issuer: Arc<dyn Issuer>,
    /// Its kind.
    pub(crate) kind: issuer::IssuerType,
    /// Whether it may issue.
    pub(crate) enabled: bool,
}

impl IssuerRegistry {
    pub(crate) fn new(factory: Arc<dyn IssuerFactory>) -> Self {
        Self {
            factory,
            connected: Mutex::new(Kept::new()),
        }
    }

    pub(crate) fn factory(&self) -> &dyn IssuerFactory {
        &*self.factory
    }

    /// Forgets an issuer whose row changed; who has read the row already uses it once and keeps it not.
    pub(crate) fn forget(&self, id: &IssuerId) {
        self.kept().forget(id);
    }

    fn kept(&self) -> MutexGuard<'_, Kept<Entry>> {
        self.connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why an issuer is not at hand.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The row or its secrets could not be read.
    #[error(transparent)]
    Row(#[from] Error),
    /// The third party, or its configuration.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
}

impl Services {
    /// An issuer, connected; the row is asked for changes at most once a second.
    pub(crate) async fn connected_issuer(&self, id: &IssuerId) -> Result<Connected, ConnectError> {
        let now = self.now();
        let (known, epoch) = self.issuers.kept().get(id);
        if let Some(entry) = &known
            && entry.is_fresh(now)
        {
            return Ok(Connected {
                issuer: Arc::clone(&entry.issuer),
                kind: entry.kind,
                enabled: entry.enabled,
            });
        }
        let row = issuers::find(&mut self.read().await?, id)
            .await
            .or_not_found("issuer", id)?;
        let (issuer, connected_at) = match known {
            Some(entry) if entry.is_current(&row, now) => (entry.issuer, entry.connected_at),
            // Only its files may have changed: while they cannot be used, be it that they are being replaced, the one at hand can.
            Some(entry) if entry.updated_at == row.updated_at => match self.connect(&row).await {
                Ok(issuer) => (issuer, now),
                Err(error) => {
                    tracing::error!(issuer.id = %id, error = %ErrorChain(&error), "the files of a CA cannot be read again");
                    (entry.issuer, now)
                }
            },
            _ => (self.connect(&row).await?, now),
        };
        let entry = Entry {
            issuer: Arc::clone(&issuer),
            kind: row.issuer_type,
            enabled: row.enabled,
            updated_at: row.updated_at,
            seen_at: now,
            connected_at,
            of_files: row.config.get(CA_FILE).is_some(),
        };
        self.issuers.kept().put(id.clone(), entry, epoch);
        Ok(Connected {
            issuer,
            kind: row.issuer_type,
            enabled: row.enabled,
        })
    }

    async fn connect(&self, row: &issuer::Issuer) -> Result<Arc<dyn Issuer>, ConnectError> {
        let config = secrets::full(row, self.sealer.as_deref())?;
        Ok(self
            .issuers
            .factory()
            .connect(&row.id, row.issuer_type, &config)
            .await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_change_is_not_kept() {
        let id = IssuerId::generate(Timestamp::UNIX_EPOCH);
        let mut kept = Kept::new();
        let (none, before) = kept.get(&id);
        assert_eq!(none, None);
        kept.forget(&id);
        kept.put(id.clone(), "the row before the change", before);
        let (none, after) = kept.get(&id);
        assert_eq!(none, None);
        kept.put(id.clone(), "the row after it", after);
        assert_eq!(kept.get(&id).0, Some("the row after it"));
    }
}
