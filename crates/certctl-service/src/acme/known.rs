//! Accounts that were seen lately, so that a signature can be verified before the database is asked.
//!
//! What is remembered may be old: whoever writes looks again in its transaction, and a signature that does not verify is tried
//! with what the database says now.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use certctl_acme::jwk::Jwk;
use certctl_domain::acme::{Account, AcmeAccountId};
use certctl_repository::acme::accounts;

use super::{Acme, generations::Generations};
use crate::Error;

/// Accounts in each of two generations.
const CAPACITY: usize = 10_000;

/// An account with its key, read.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) account: Account,
    pub(super) key: Jwk,
}

pub(super) struct KnownAccounts(Mutex<Generations<AcmeAccountId, Arc<Known>>>);

impl KnownAccounts {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Generations::of(CAPACITY)))
    }

    fn get(&self, id: &AcmeAccountId) -> Option<Arc<Known>> {
        self.lock().get(id)
    }

    /// Remembers an account as the database has it.
    pub(super) fn keep(&self, account: &Account) -> Result<Arc<Known>, Error> {
        let key = Jwk::from_pem(&account.jwk_pem).map_err(Error::internal)?;
        let known = Arc::new(Known {
            account: account.clone(),
            key,
        });
        self.lock().keep(account.id.clone(), Arc::clone(&known));
        Ok(known)
    }

    pub(super) fn forget(&self, id: &AcmeAccountId) {
        self.lock().take(id);
    }

    fn lock(&self) -> MutexGuard<'_, Generations<AcmeAccountId, Arc<Known>>> {
        // Whatever was being written when a thread panicked is a whole entry or none.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Acme {
    /// An account as it was when it was last read.
    pub(super) async fn known(&self, id: &AcmeAccountId) -> Result<Option<Arc<Known>>, Error> {
        match self.state.known.get(id) {
            Some(known) => Ok(Some(known)),
            None => self.read_known(id).await,
        }
    }

    /// An account as it is now.
    pub(super) async fn read_known(&self, id: &AcmeAccountId) -> Result<Option<Arc<Known>>, Error> {
        let found = accounts::find(&mut self.services.read().await?, id).await?;
        match found {
            Some(account) => self.state.known.keep(&account).map(Some),
            None => {
                self.state.known.forget(id);
                Ok(None)
            }
        }
    }
}
