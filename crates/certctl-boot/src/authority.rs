//! The CAs of replicas that share a database and no disk.

use certctl_connectors::issuer::ca_store::{CaStore, FileCaStore, StoredCa};
use certctl_domain::{
    id::IssuerId,
    ports::{BoxFuture, issuer::IssuerError},
    time::Clock,
};
use certctl_repository::{
    Db, Error,
    authorities::{self, Authority},
    sealed::SealedColumn,
    transaction,
};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Keeps CAs in the database: the first replica that makes one wins, and all sign with it. Keys are only ever kept sealed there
/// (operations §9), which the connector sees to.
pub(crate) struct DatabaseCaStore {
    pub(crate) db: Db,
    pub(crate) clock: Arc<dyn Clock>,
    /// Where this server may have made one before there was a key to share it with; the next start would share it again.
    pub(crate) files: FileCaStore,
}

impl CaStore for DatabaseCaStore {
    fn load<'a>(
        &'a self,
        id: &'a IssuerId,
    ) -> BoxFuture<'a, Result<Option<StoredCa>, IssuerError>> {
        Box::pin(async move {
            let mut conn = self.db.read().await.map_err(unavailable)?;
            Ok(authorities::find(&mut conn, id)
                .await
                .map_err(unavailable)?
                .map(stored))
        })
    }

    fn insert_if_absent<'a>(
        &'a self,
        id: &'a IssuerId,
        ca: StoredCa,
    ) -> BoxFuture<'a, Result<StoredCa, IssuerError>> {
        Box::pin(async move {
            let authority = Authority {
                certificate_pem: ca.cert_pem,
                private_key: ca.key_blob.to_vec(),
            };
            let now = self.clock.now();
            let kept: Result<Authority, Error> = transaction!(self.db, "keep local ca", conn => {
                authorities::insert_if_absent(conn, id, &authority, now).await
            });
            kept.map(stored).map_err(unavailable)
        })
    }

    fn remove<'a>(&'a self, id: &'a IssuerId) -> BoxFuture<'a, Result<(), IssuerError>> {
        Box::pin(async move {
            self.files.remove(id).await?;
            let removed: Result<(), Error> = transaction!(self.db, "remove local ca", conn => {
                authorities::remove(conn, id).await
            });
            removed.map_err(unavailable)
        })
    }

    fn place(&self, id: &IssuerId) -> String {
        SealedColumn::AuthorityKeys.place(id.as_str())
    }
}

fn stored(authority: Authority) -> StoredCa {
    StoredCa {
        cert_pem: authority.certificate_pem,
        key_blob: Zeroizing::new(authority.private_key),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as a function of map_err"
)]
fn unavailable(error: Error) -> IssuerError {
    IssuerError::Other(certctl_telemetry::ErrorChain(&error).to_string())
}
