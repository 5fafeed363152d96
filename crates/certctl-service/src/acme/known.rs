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

pub(super) struct KnownAccounts(Mutex<Kept>);

struct Kept {
    accounts: Generations<AcmeAccountId, Arc<Known>>,
    /// How often something was written or forgotten.
    epoch: u64,
}

impl KnownAccounts {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Kept {
            accounts: Generations::of(CAPACITY),
            epoch: 0,
        }))
    }

    fn get(&self, id: &AcmeAccountId) -> Option<Arc<Known>> {
        self.lock().accounts.get(id)
    }

    /// To be asked for before an account is read that is to be kept.
    pub(super) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// Remembers an account as it was written.
    pub(super) fn keep(&self, account: &Account) -> Result<(), Error> {
        let known = known(account)?;
        let mut kept = self.lock();
        kept.epoch += 1;
        kept.accounts.keep(account.id.clone(), known);
        Ok(())
    }

    /// Remembers an account as it was read since that epoch, unless one was written meanwhile: it might be this one.
    pub(super) fn keep_read(&self, account: &Account, epoch: u64) -> Result<Arc<Known>, Error> {
        let known = known(account)?;
        let mut kept = self.lock();
        if kept.epoch == epoch {
            kept.accounts.keep(account.id.clone(), Arc::clone(&known));
        }
        Ok(known)
    }

    pub(super) fn forget(&self, id: &AcmeAccountId) {
        let mut kept = self.lock();
        kept.epoch += 1;
        kept.accounts.take(id);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Whatever was being written when a thread panicked is a whole entry or none.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn known(account: &Account) -> Result<Arc<Known>, Error> {
    Ok(Arc::new(Known {
        account: account.clone(),
        key: Jwk::from_pem(&account.jwk_pem).map_err(Error::internal)?,
    }))
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
        let epoch = self.state.known.epoch();
        let found = accounts::find(&mut self.services.read().await?, id).await?;
        match found {
            Some(account) => self.state.known.keep_read(&account, epoch).map(Some),
            None => {
                self.state.known.forget(id);
                Ok(None)
            }
        }
    }
}
