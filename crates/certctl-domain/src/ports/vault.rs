//! A few small texts kept on this machine, outside of the database.

use std::io;

use super::BoxFuture;
use crate::secret::Secret;

/// Keeps texts by name, readable by their owner only. Whoever can write to the database cannot change what is kept here, which
/// is what it is for.
pub trait Vault: Send + Sync + 'static {
    /// Reads a text; nothing when there is none.
    ///
    /// # Errors
    /// What the machine says.
    fn read<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Option<Secret>>>;

    /// Keeps a text where there is none, and answers the one that is kept now.
    ///
    /// # Errors
    /// What the machine says.
    fn keep_first<'a>(&'a self, name: &'a str, text: Secret) -> BoxFuture<'a, io::Result<Secret>>;

    /// Keeps a text in place of the one before.
    ///
    /// # Errors
    /// What the machine says.
    fn replace<'a>(&'a self, name: &'a str, text: Secret) -> BoxFuture<'a, io::Result<()>>;
}
