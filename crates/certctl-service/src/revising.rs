//! Changing a row by work that is too slow for a transaction.
//!
//! Checking and sealing a configuration may read files and stretch a passphrase, which takes tenths of a second, and SQLite has
//! one writer. So the row is read and its successor prepared outside, and written only when the row is still, in every column,
//! what it was prepared from.

use crate::Error;

/// How often a change is prepared before its caller is told that others were faster each time.
const MOST: u32 = 5;

/// Counts how often a change was prepared in vain.
pub(crate) struct Tries {
    what: &'static str,
    id: String,
    made: u32,
}

impl Tries {
    /// None made yet.
    pub(crate) fn new(what: &'static str, id: &impl ToString) -> Self {
        Self {
            what,
            id: id.to_string(),
            made: 0,
        }
    }

    /// The row changed in between.
    ///
    /// # Errors
    /// [`Error::Conflict`] when that happened too often.
    pub(crate) fn again(&mut self) -> Result<(), Error> {
        self.made += 1;
        if self.made < MOST {
            return Ok(());
        }
        Err(Error::Conflict(format!(
            "{} {} is being changed by others all the time; try again",
            self.what, self.id
        )))
    }
}

/// Runs what takes long away from the threads that serve requests.
///
/// # Errors
/// What the work says, and [`Error::Internal`] when it was interrupted.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::internal)?
}
