//! The key that protects what is stored (operations §9): whether it is the right one, and its change.
//!
//! A database whose values are sealed holds a canary, a known word sealed like them. When the canary does not open the key is
//! another one; when it opens and a value does not, the value is damaged.

mod reencrypt;

use std::sync::Arc;

use certctl_domain::time::Timestamp;
use certctl_pki::{Error as PkiError, seal::Sealer};
use certctl_repository::{
    Db, RetryHint, installation,
    sealed::{self, SealedColumn},
    transaction,
};

pub use reencrypt::{Step, Tally, finish, rows};

use crate::revising::aside;

/// The fact that holds the canary, in hex.
const CANARY: &str = "seal_canary";
const CANARY_PLACE: &str = "installation:value:seal_canary";
const CANARY_WORD: &[u8] = b"certctl";
/// Values of each column that are tried where there is no canary yet; one may be damaged.
const SAMPLE: u32 = 3;

/// Why what is stored cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something is sealed, and there is no key to open it with.
    #[error(
        "CERTCTL_CONFIG_ENCRYPTION_KEY is not set, and what is stored is sealed with one: {what}"
    )]
    KeyMissing {
        /// Where the first sealed value was found.
        what: String,
    },
    /// What is stored was sealed with another key.
    #[error(
        "what is stored was sealed with another key than CERTCTL_CONFIG_ENCRYPTION_KEY (or CERTCTL_CONFIG_ENCRYPTION_KEY_PREVIOUS)"
    )]
    WrongKey,
    /// What is stored was sealed by an older program.
    #[error("{what} is sealed in a format that is only imported: run certctl-server --reencrypt")]
    OldFormat {
        /// The column, written `table:column`.
        what: &'static str,
    },
    /// The database cannot be used.
    #[error("the database cannot be used")]
    Database(#[from] certctl_repository::Error),
    /// A use case failed.
    #[error("the encryption key could not be checked")]
    Service(#[from] crate::Error),
}

impl RetryHint for Error {
    fn is_contention(&self) -> bool {
        match self {
            Self::Database(error) => error.is_contention(),
            Self::Service(error) => error.is_contention(),
            Self::KeyMissing { .. } | Self::WrongKey | Self::OldFormat { .. } => false,
        }
    }

    fn spoils_connection(&self) -> bool {
        match self {
            Self::Database(error) => error.spoils_connection(),
            Self::Service(error) => error.spoils_connection(),
            Self::KeyMissing { .. } | Self::WrongKey | Self::OldFormat { .. } => false,
        }
    }
}

/// What the canary says of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// All is sealed with it, or nothing yet.
    Current,
    /// What is stored may still be sealed with the key before.
    Previous,
}

/// Checks at the start that what is stored can be opened; a database without a canary gets one.
///
/// # Errors
/// [`Error::KeyMissing`], [`Error::WrongKey`], [`Error::OldFormat`], and [`Error::Database`] when it cannot be asked.
pub async fn check(db: &Db, sealer: Option<&Arc<Sealer>>, now: Timestamp) -> Result<(), Error> {
    let Some(sealer) = sealer else {
        return check_nothing_is_sealed(db).await;
    };
    let verdict = match judge(db, sealer).await? {
        Some(verdict) => verdict,
        None => {
            check_sample(db, sealer).await?;
            place_canary(db, sealer, now).await?
        }
    };
    if verdict == Verdict::Previous {
        tracing::warn!(
            "what is stored is sealed with CERTCTL_CONFIG_ENCRYPTION_KEY_PREVIOUS still; certctl-server --reencrypt seals it anew"
        );
    }
    Ok(())
}

async fn check_nothing_is_sealed(db: &Db) -> Result<(), Error> {
    let mut conn = db.read().await?;
    for column in SealedColumn::ALL {
        if !sealed::page(&mut conn, *column, "", 1).await?.is_empty() {
            return Err(Error::KeyMissing {
                what: column.name().to_owned(),
            });
        }
    }
    Ok(())
}

/// What the canary says; nothing where there is none.
async fn judge(db: &Db, sealer: &Arc<Sealer>) -> Result<Option<Verdict>, Error> {
    let Some(canary) = installation::get(&mut db.read().await?, CANARY).await? else {
        return Ok(None);
    };
    let sealer = Arc::clone(sealer);
    let outcome = aside(move || {
        let blob = hex::decode(&canary).unwrap_or_default();
        Ok(sealer.reseal(CANARY_PLACE, &blob))
    });
    match outcome.await? {
        Ok(None) => Ok(Some(Verdict::Current)),
        Ok(Some(_)) => Ok(Some(Verdict::Previous)),
        Err(PkiError::Unsealable) => Err(Error::WrongKey),
        Err(other) => Err(crate::Error::from(other).into()),
    }
}

/// Tries the key on what an older program left, which knew no canary.
async fn check_sample(db: &Db, sealer: &Arc<Sealer>) -> Result<(), Error> {
    let mut refusal = None;
    for column in SealedColumn::ALL {
        let values = sealed::page(&mut db.read().await?, *column, "", SAMPLE).await?;
        for value in values {
            let (sealer, column) = (Arc::clone(sealer), *column);
            let opened = aside(move || {
                Ok(sealer
                    .open(&column.place(&value.row), &value.blob)
                    .map(drop))
            });
            match opened.await? {
                Ok(()) => return Ok(()),
                Err(PkiError::SealFormat { .. }) => {
                    refusal = Some(Error::OldFormat {
                        what: column.name(),
                    });
                }
                Err(_) => refusal = refusal.or(Some(Error::WrongKey)),
            }
        }
    }
    refusal.map_or(Ok(()), Err)
}

/// Two replicas may start at once, with different keys: the canary of the first decides.
async fn place_canary(db: &Db, sealer: &Arc<Sealer>, now: Timestamp) -> Result<Verdict, Error> {
    let canary = canary(sealer).await?;
    let placed: Result<bool, Error> = transaction!(db, "place seal canary", conn => {
        Ok(installation::claim(conn, CANARY, &canary, now).await?)
    });
    if placed? {
        return Ok(Verdict::Current);
    }
    Ok(judge(db, sealer).await?.unwrap_or(Verdict::Current))
}

/// The canary, sealed with the present key.
async fn canary(sealer: &Arc<Sealer>) -> Result<String, Error> {
    let sealer = Arc::clone(sealer);
    let sealed = aside(move || Ok(hex::encode(sealer.seal(CANARY_PLACE, CANARY_WORD)?)));
    Ok(sealed.await?)
}
