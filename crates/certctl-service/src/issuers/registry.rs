//! Connected issuers, kept for as long as their rows do not change.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
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
    connected: Mutex<HashMap<IssuerId, Entry>>,
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
            connected: Mutex::default(),
        }
    }

    pub(crate) fn factory(&self) -> &dyn IssuerFactory {
        &*self.factory
    }

    /// Forgets an issuer whose row changed.
    pub(crate) fn forget(&self, id: &IssuerId) {
        self.connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
    }

    fn get(&self, id: &IssuerId) -> Option<Entry> {
        self.connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    fn put(&self, id: IssuerId, entry: Entry) {
        self.connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, entry);
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
        let known = self.issuers.get(id);
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
        self.issuers.put(id.clone(), entry);
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
