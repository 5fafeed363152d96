//! The keys that sign the audit trail: sealed in the database where there is a key to seal with, else on this machine.

use std::sync::Arc;

use certctl_domain::{
    access::{Actor, Permission},
    audit::EventCategory,
    secret::Secret,
    time::Timestamp,
};
use certctl_pki::{
    key::PublicKey,
    pem,
    seal::Sealer,
    trail::{Keys, TrailKey, key_id},
};
use certctl_repository::{
    audit_keys::{self, AuditKey},
    transaction,
};
use serde_json::json;

use crate::{
    Error, Services,
    services::{authorise, event, record},
};

/// The entry of the vault that holds a key where there is nothing to seal it with.
const VAULT_KEY: &str = "audit-signing-key.pem";

/// A key as it may be shown.
#[derive(Debug, Clone)]
pub struct TrailKeyView {
    /// What heads name it by.
    pub key_id: String,
    /// The public half, PEM.
    pub public_key_pem: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When another took its place.
    pub retired_at: Option<Timestamp>,
}

impl From<AuditKey> for TrailKeyView {
    fn from(key: AuditKey) -> Self {
        Self {
            public_key_pem: pem::encode("PUBLIC KEY", &key.public_key),
            key_id: key.key_id,
            created_at: key.created_at,
            retired_at: key.retired_at,
        }
    }
}

/// Where a key is sealed for.
fn place(key_id: &str) -> String {
    format!("audit_keys:private_key:{key_id}")
}

impl Services {
    /// Lists the keys that have signed the audit trail, newest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `audit.read`.
    pub async fn list_audit_keys(&self, actor: &Actor) -> Result<Vec<TrailKeyView>, Error> {
        authorise(actor, Permission::AuditRead)?;
        let keys = audit_keys::list(&mut self.read().await?).await?;
        Ok(keys.into_iter().map(Into::into).collect())
    }

    /// Puts a new signing key in place of the present one, whose heads stay valid.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `auth.key.rotate`.
    pub async fn rotate_audit_key(&self, actor: &Actor) -> Result<TrailKeyView, Error> {
        authorise(actor, Permission::AuthKeyRotate)?;
        let key = TrailKey::generate()?;
        let row = self.row_of(&key)?;
        let now = row.created_at;
        let rotated = event(
            actor,
            EventCategory::Auth,
            "audit_key_rotated",
            ("audit_key", key.id()),
            json!({"key_id": key.id()}),
            now,
        );
        // The one who seals waits at the lease, so no head is signed by the old key once this is known.
        let mut cached = self.audit.key.lock().await;
        if self.sealer.is_none() {
            let pem = key.to_pem();
            self.vault
                .replace(VAULT_KEY, pem)
                .await
                .map_err(Error::internal)?;
        }
        transaction!(self.db, "rotate audit key", conn => {
            audit_keys::insert(conn, &row).await?;
            audit_keys::retire_others(conn, &row.key_id, now).await?;
            record(conn, rotated.clone()).await?;
            Ok::<_, Error>(())
        })?;
        *cached = Some(Arc::new(key));
        Ok(row.into())
    }

    /// The key that signs now; made when there is none.
    pub(super) async fn trail_key(&self) -> Result<Arc<TrailKey>, Error> {
        let mut cached = self.audit.key.lock().await;
        if self.sealer.is_none()
            && let Some(key) = &*cached
        {
            return Ok(Arc::clone(key));
        }
        let rows = audit_keys::list(&mut self.read().await?).await?;
        let key = match &self.sealer {
            Some(sealer) => {
                let active = active(&rows);
                if let (Some(key), Some(row)) = (&*cached, active)
                    && key.id() == row.key_id
                {
                    return Ok(Arc::clone(key));
                }
                match active {
                    Some(row) => open(sealer, row)?,
                    None => self.first_sealed_key(sealer).await?,
                }
            }
            None => self.key_of_this_machine(&rows).await?,
        };
        let key = Arc::new(key);
        *cached = Some(Arc::clone(&key));
        Ok(key)
    }

    /// Seals the key of this machine into the database, or a new one; of two replicas at it the database picks one.
    async fn first_sealed_key(&self, sealer: &Sealer) -> Result<TrailKey, Error> {
        let kept = self.vault.read(VAULT_KEY).await.map_err(Error::internal)?;
        let key = match kept {
            Some(pem) => TrailKey::from_pem(pem.expose())?,
            None => TrailKey::generate()?,
        };
        let row = self.row_of(&key)?;
        let rows = transaction!(self.db, "keep audit key", conn => {
            audit_keys::insert(conn, &row).await?;
            Ok::<_, Error>(audit_keys::list(conn).await?)
        })?;
        match active(&rows) {
            Some(chosen) if chosen.key_id != key.id() => open(sealer, chosen),
            _ => Ok(key),
        }
    }

    async fn key_of_this_machine(&self, rows: &[AuditKey]) -> Result<TrailKey, Error> {
        let mut kept = self.vault.read(VAULT_KEY).await.map_err(Error::internal)?;
        if kept.is_none() {
            let pem = TrailKey::generate()?.to_pem();
            kept = Some(
                self.vault
                    .keep_first(VAULT_KEY, pem)
                    .await
                    .map_err(Error::internal)?,
            );
        }
        let key = TrailKey::from_pem(kept.as_ref().map_or("", Secret::expose))?;
        if !rows.iter().any(|row| row.key_id == key.id()) {
            let row = self.row_of(&key)?;
            transaction!(self.db, "keep audit key", conn => {
                audit_keys::insert(conn, &row).await?;
                Ok::<_, Error>(())
            })?;
        }
        Ok(key)
    }

    fn row_of(&self, key: &TrailKey) -> Result<AuditKey, Error> {
        let private_key = match &self.sealer {
            Some(sealer) => Some(sealer.seal(&place(key.id()), key.to_pem().expose().as_bytes())?),
            None => None,
        };
        Ok(AuditKey {
            key_id: key.id().to_owned(),
            public_key: key.public_key().spki_der().to_vec(),
            private_key,
            created_at: self.now(),
            retired_at: None,
        })
    }

    /// The keys whose signatures are believed. With an encryption key these are the ones it opens, since whoever can write to the
    /// database can enter a public key but cannot seal a private one, and the one of this machine. Without one, those the
    /// database names; there the newest head that this machine keeps is what a forger cannot reach.
    pub(super) async fn trusted_keys(&self) -> Result<Keys, Error> {
        let mut keys = Keys::default();
        for row in audit_keys::list(&mut self.read().await?).await? {
            match (&self.sealer, &row.private_key) {
                (Some(sealer), Some(_)) => match open(sealer, &row) {
                    Ok(key) => keys.add(key.public_key().clone()),
                    Err(_) => {
                        tracing::error!(key_id = %row.key_id, "a signing key of the audit trail does not open; heads it signed are not believed");
                    }
                },
                (Some(_), None) => {}
                (None, _) => {
                    if let Ok(key) = PublicKey::from_spki_der(&row.public_key)
                        && key_id(&key) == row.key_id
                    {
                        keys.add(key);
                    }
                }
            }
        }
        if let Some(pem) = self.vault.read(VAULT_KEY).await.map_err(Error::internal)?
            && let Ok(key) = TrailKey::from_pem(pem.expose())
        {
            keys.add(key.public_key().clone());
        }
        Ok(keys)
    }
}

/// The newest key that signs and is sealed in the database.
fn active(rows: &[AuditKey]) -> Option<&AuditKey> {
    rows.iter()
        .find(|row| row.retired_at.is_none() && row.private_key.is_some())
}

fn open(sealer: &Sealer, row: &AuditKey) -> Result<TrailKey, Error> {
    let sealed = row.private_key.as_deref().unwrap_or_default();
    let pem = sealer.open(&place(&row.key_id), sealed)?;
    let pem = std::str::from_utf8(&pem).map_err(Error::internal)?;
    Ok(TrailKey::from_pem(pem)?)
}
