//! Accounts that were seen lately, so that a signature can be verified before the database is asked.
//!
//! What is remembered may be old: whoever writes looks again in its transaction, and a signature that does not verify is tried
//! with what the database says now.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use certctl_acme::jwk::Jwk;
use certctl_domain::acme::{Account, AcmeAccountId};
use certctl_repository::acme::accounts;

use super::Acme;
use crate::Error;

/// Accounts in each of two generations.
const CAPACITY: usize = 10_000;

/// An account with its key, read.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) account: Account,
    pub(super) key: Jwk,
}

#[derive(Default)]
pub(super) struct KnownAccounts(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<AcmeAccountId, Arc<Known>>,
    old: HashMap<AcmeAccountId, Arc<Known>>,
}

impl KnownAccounts {
    fn get(&self, id: &AcmeAccountId) -> Option<Arc<Known>> {
        let mut generations = self.lock();
        if let Some(known) = generations.young.get(id) {
            return Some(Arc::clone(known));
        }
        let known = generations.old.remove(id)?;
        generations.keep(&known);
        Some(known)
    }

    /// Remembers an account as the database has it.
    pub(super) fn keep(&self, account: &Account) -> Result<Arc<Known>, Error> {
        let key = Jwk::from_pem(&account.jwk_pem).map_err(Error::internal)?;
        let known = Arc::new(Known {
            account: account.clone(),
            key,
        });
        self.lock().keep(&known);
        Ok(known)
    }

    pub(super) fn forget(&self, id: &AcmeAccountId) {
        let mut generations = self.lock();
        generations.young.remove(id);
        generations.old.remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        // Whatever was being written when a thread panicked is a whole entry or none.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn keep(&mut self, known: &Arc<Known>) {
        if self.young.len() >= CAPACITY {
            self.old = std::mem::take(&mut self.young);
        }
        self.young
            .insert(known.account.id.clone(), Arc::clone(known));
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
