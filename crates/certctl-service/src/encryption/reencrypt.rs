//! Sealing everything anew: from the key before, or from an older format, to the newest format under the present key.
//!
//! Nothing is remembered of how far it came: a value that is sealed as it should be shows that itself, and is passed over in
//! microseconds. So it may be ended at any moment and run again, and run beside servers that serve; what they write meanwhile
//! is never overwritten, because a value is replaced only where it is still the one that was read.

use std::{fmt, sync::Arc, thread};

use certctl_domain::{access::Actor, audit::EventCategory, time::Timestamp};
use certctl_pki::{Error as PkiError, seal::Sealer};
use certctl_repository::{
    Db, installation,
    sealed::{self, SealedColumn, SealedValue},
    transaction,
};
use serde_json::json;

use super::{CANARY, Error, Verdict, canary, judge};
use crate::{
    revising::aside,
    services::{event, record},
};

/// Values that are read, sealed anew and written at a time: little is lost when it is ended, and few commits are needed.
const BATCH: u32 = 100;
/// Rounds over everything: what servers that still have the old key write behind the first is found by the next.
const MOST_ROUNDS: u32 = 3;

/// What is told while it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'a> {
    /// A part of the values of a kind was gone through and is stored.
    Batch {
        /// Which kind, written `table:column`.
        what: &'a str,
        /// Values gone through so far.
        checked: u64,
        /// Values sealed anew so far.
        rewritten: u64,
    },
    /// A value cannot be opened; it stays as it is.
    Unreadable {
        /// Which kind.
        what: &'a str,
        /// The key of its row.
        row: &'a str,
    },
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch {
                what,
                checked,
                rewritten,
            } => write!(f, "{what}: {checked} checked, {rewritten} sealed anew"),
            Self::Unreadable { what, row } => write!(
                f,
                "{what}: {row} cannot be opened with the present key nor with the one before"
            ),
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Values sealed anew.
    pub rewritten: u64,
    /// Values that cannot be opened.
    pub unreadable: u64,
}

/// Seals every value in the database anew that is not sealed as it should be, and tells `report` of each batch that is stored.
///
/// # Errors
/// [`Error::WrongKey`] when neither key is the one that the canary is sealed with, before anything is changed;
/// [`Error::Database`].
pub async fn rows(
    db: &Db,
    sealer: &Arc<Sealer>,
    report: &mut (dyn FnMut(Step<'_>) + Send),
) -> Result<Tally, Error> {
    judge(db, sealer).await?;
    let mut all = Tally::default();
    for _ in 0..MOST_ROUNDS {
        let mut round = Tally::default();
        for column in SealedColumn::ALL {
            let done = values(db, sealer, *column, report).await?;
            round.rewritten += done.rewritten;
            round.unreadable += done.unreadable;
        }
        all.rewritten += round.rewritten;
        all.unreadable = round.unreadable;
        if round.rewritten == 0 {
            break;
        }
    }
    Ok(all)
}

/// Says that everything is sealed with the present key, unless something could not be opened; enters it in the audit log.
///
/// # Errors
/// [`Error::Database`], [`Error::Service`].
pub async fn finish(
    db: &Db,
    sealer: &Arc<Sealer>,
    tally: Tally,
    now: Timestamp,
) -> Result<(), Error> {
    let of_before = judge(db, sealer).await? != Some(Verdict::Current);
    let canary = if of_before && tally.unreadable == 0 {
        Some(canary(sealer).await?)
    } else {
        None
    };
    if canary.is_none() && tally.rewritten == 0 {
        return Ok(());
    }
    let details = json!({"rewritten": tally.rewritten, "unreadable": tally.unreadable});
    transaction!(db, "finish reencrypt", conn => {
        if let Some(canary) = &canary {
            installation::set(conn, CANARY, canary, now).await?;
        }
        record(conn, event(&Actor::system(), EventCategory::Config, "reencrypt_secrets", ("installation", CANARY), details.clone(), now)).await?;
        Ok::<_, Error>(())
    })
}

/// One column, batch after batch.
async fn values(
    db: &Db,
    sealer: &Arc<Sealer>,
    column: SealedColumn,
    report: &mut (dyn FnMut(Step<'_>) + Send),
) -> Result<Tally, Error> {
    let what = column.name();
    let (mut tally, mut checked, mut after) = (Tally::default(), 0, String::new());
    loop {
        let values = sealed::page(&mut db.read().await?, column, &after, BATCH).await?;
        let Some(last) = values.last() else {
            return Ok(tally);
        };
        after.clone_from(&last.key);
        checked += values.len() as u64;
        let sealer = Arc::clone(sealer);
        let resealed = aside(move || Ok(reseal_all(&sealer, column, values))).await?;
        let mut changed = Vec::new();
        for (value, outcome) in resealed {
            match outcome {
                Ok(Some(blob)) => changed.push((value, blob)),
                Ok(None) => {}
                Err(PkiError::Unsealable) => {
                    tally.unreadable += 1;
                    let row = &value.key;
                    report(Step::Unreadable { what, row });
                }
                Err(other) => return Err(crate::Error::from(other).into()),
            }
        }
        tally.rewritten += replace_all(db, column, &changed).await?;
        report(Step::Batch {
            what,
            checked,
            rewritten: tally.rewritten,
        });
    }
}

/// One transaction for the whole batch; values that changed meanwhile are left for the next round.
async fn replace_all(
    db: &Db,
    column: SealedColumn,
    changed: &[(SealedValue, Vec<u8>)],
) -> Result<u64, Error> {
    if changed.is_empty() {
        return Ok(0);
    }
    transaction!(db, "reencrypt", conn => {
        let mut replaced = 0;
        for (value, blob) in changed {
            replaced += u64::from(sealed::replace(conn, column, value, blob).await?);
        }
        Ok::<_, Error>(replaced)
    })
}

type Resealed = (SealedValue, Result<Option<Vec<u8>>, PkiError>);

/// On as many threads as the machine runs at once: older formats stretch the passphrase for each value.
fn reseal_all(sealer: &Sealer, column: SealedColumn, values: Vec<SealedValue>) -> Vec<Resealed> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = values.len().div_ceil(threads).max(1);
    let one = |value: &SealedValue| sealer.reseal(&column.place(&value.row), &value.blob);
    let outcomes: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = values
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(one).collect::<Vec<_>>()))
            .collect();
        running
            .into_iter()
            .flat_map(|part| {
                part.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    values.into_iter().zip(outcomes).collect()
}
