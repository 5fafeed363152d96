//! The keys of the CAs that are kept as files: sealed as soon as there is a key to seal them with, brought into the database
//! where replicas share it, and sealed anew when the key changes.

use std::sync::Arc;

use certctl_connectors::issuer::ca_store::{CaStore, FileCaStore, StoredCa};
use certctl_domain::id::IssuerId;
use certctl_pki::seal::Sealer;
use certctl_service::encryption::{Error as EncryptionError, Step, Tally};
use zeroize::Zeroizing;

use crate::Error;

/// What such a key is called where its progress is told.
const WHAT: &str = "ca key files";

/// Brings what an earlier start left in order. Without an encryption key it only looks whether there is something sealed.
///
/// # Errors
/// [`Error::Encryption`] when a key is sealed and there is none to open it with; [`Error::CaKey`], [`Error::Pki`].
pub(crate) async fn tidy(
    files: &FileCaStore,
    sealer: Option<&Arc<Sealer>>,
    shared: Option<&dyn CaStore>,
) -> Result<(), Error> {
    for id in files.issuers().await.map_err(Error::CaKey)? {
        let Some(stored) = files.load(&id).await.map_err(Error::CaKey)? else {
            continue;
        };
        match sealer {
            None if !stored.is_plain() => {
                let what = format!("the key of the local CA of {id}");
                return Err(EncryptionError::KeyMissing { what }.into());
            }
            None => {}
            Some(sealer) => {
                if let Some(shared) = shared {
                    share(files, shared, sealer, &id, &stored).await?;
                }
                if stored.is_plain() {
                    reseal(files, sealer, &id, &stored).await?;
                    tracing::info!(issuer.id = %id, "the key of a local CA, kept in the clear until now, was sealed");
                }
            }
        }
    }
    Ok(())
}

/// Gives replicas the CA that this server made before there was a key to share it with; they would make another one otherwise,
/// and nobody trusts that. The first replica decides.
async fn share(
    files: &FileCaStore,
    shared: &dyn CaStore,
    sealer: &Arc<Sealer>,
    id: &IssuerId,
    stored: &StoredCa,
) -> Result<(), Error> {
    if let Some(known) = shared.load(id).await.map_err(Error::CaKey)? {
        if known.cert_pem != stored.cert_pem {
            tracing::warn!(issuer.id = %id, "the replicas share another local CA than the one in this server's folder, which is not used");
        }
        return Ok(());
    }
    let plain = plain(files, sealer, id, stored)?;
    let ca = StoredCa {
        cert_pem: stored.cert_pem.clone(),
        key_blob: Zeroizing::new(sealer.seal(&shared.place(id), &plain)?),
    };
    let kept = shared.insert_if_absent(id, ca).await;
    if kept.map_err(Error::CaKey)?.cert_pem == stored.cert_pem {
        tracing::info!(issuer.id = %id, "the local CA of this server is shared with all replicas now");
    }
    Ok(())
}

/// Seals the keys anew, and tells of it as of the rows of the database.
///
/// # Errors
/// [`Error::CaKey`], [`Error::Pki`].
pub(crate) async fn reencrypt(
    files: &FileCaStore,
    sealer: &Arc<Sealer>,
    report: &mut (dyn FnMut(Step<'_>) + Send),
) -> Result<Tally, Error> {
    let (mut tally, mut checked) = (Tally::default(), 0);
    for id in files.issuers().await.map_err(Error::CaKey)? {
        let Some(stored) = files.load(&id).await.map_err(Error::CaKey)? else {
            continue;
        };
        checked += 1;
        match reseal(files, sealer, &id, &stored).await {
            Ok(changed) => tally.rewritten += u64::from(changed),
            Err(Error::Pki(certctl_pki::Error::Unsealable)) => {
                tally.unreadable += 1;
                report(Step::Unreadable {
                    what: WHAT,
                    row: id.as_str(),
                });
            }
            Err(other) => return Err(other),
        }
    }
    if checked > 0 {
        report(Step::Batch {
            what: WHAT,
            checked,
            rewritten: tally.rewritten,
        });
    }
    Ok(tally)
}

/// Whether there was something to do.
async fn reseal(
    files: &FileCaStore,
    sealer: &Arc<Sealer>,
    id: &IssuerId,
    stored: &StoredCa,
) -> Result<bool, Error> {
    let place = files.place(id);
    let blob = if stored.is_plain() {
        Some(sealer.seal(&place, &stored.key_blob)?)
    } else {
        sealer.reseal(&place, &stored.key_blob)?
    };
    match blob {
        Some(blob) => files
            .replace_key(id, stored, Zeroizing::new(blob))
            .await
            .map_err(Error::CaKey),
        None => Ok(false),
    }
}

fn plain(
    files: &FileCaStore,
    sealer: &Sealer,
    id: &IssuerId,
    stored: &StoredCa,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    if stored.is_plain() {
        return Ok(stored.key_blob.clone());
    }
    Ok(sealer.open(&files.place(id), &stored.key_blob)?)
}
