//! How often something may be done: sliding windows for single sites, token buckets for everything (operations §4).
//!
//! Both count in memory, or, when the database is PostgreSQL, for all replicas together without a query for each request:
//! `shared` says how windows do it, `buckets` how buckets do.

mod buckets;
mod ledger;
mod memory;
mod shared;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use certctl_domain::time::{Clock, Timestamp};
use certctl_repository::{Db, limits as rows, transaction};
use certctl_telemetry::metrics_names::RATE_LIMIT_TOTAL;
use metrics::counter;

use self::{memory::Memory, shared::Shared};
use crate::{Error, Services};

pub use self::buckets::{Buckets, Rate};

/// Longest key that is stored as it is, in bytes; longer ones are hashed.
const LONGEST_KEY: usize = 256;

/// What is limited by a sliding window.
#[derive(Debug)]
pub struct Site {
    /// Its name, in metrics and before its keys.
    pub name: &'static str,
    /// How long a permit counts after it was spent.
    pub window: Duration,
    /// Most keys that are remembered.
    pub max_keys: usize,
    /// What is done while the database cannot be asked.
    pub on_error: OnError,
}

/// What is done while the database cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Each replica counts by itself.
    Open,
    /// Nothing is admitted; for sites where guessing is what is limited.
    Closed,
}

/// Exports of certificates, by actor.
pub static CERTIFICATE_EXPORT: Site = Site {
    name: "certificate_export",
    window: Duration::from_secs(3600),
    max_keys: 50_000,
    on_error: OnError::Open,
};

/// Questions to the OCSP responder, by client address.
pub static OCSP: Site = Site {
    name: "ocsp",
    window: Duration::from_secs(60),
    max_keys: 50_000,
    on_error: OnError::Open,
};

/// The sites whose keys the janitor keeps within bounds.
static SITES: [&Site; 2] = [&CERTIFICATE_EXPORT, &OCSP];

/// How limits behave.
#[derive(Debug, Clone, Copy)]
pub struct LimitsConfig {
    /// Whether replicas count together, in the database.
    pub shared: bool,
    /// How long a token bucket that nobody takes from is remembered.
    pub bucket_ttl: Duration,
}

impl Default for LimitsConfig {
    /// Each process by itself, buckets for an hour.
    fn default() -> Self {
        Self {
            shared: false,
            bucket_ttl: Duration::from_secs(3600),
        }
    }
}

/// What became of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may be done.
    Allowed,
    /// It may not be done now.
    Limited {
        /// How long to wait before another one may be done.
        retry_after: Duration,
    },
}

impl Verdict {
    /// Seconds to wait, rounded up and at least one, as `Retry-After` has them; nothing when it may be done.
    #[must_use]
    pub fn retry_after_seconds(self) -> Option<u64> {
        match self {
            Self::Allowed => None,
            Self::Limited { retry_after } => {
                Some(retry_after.as_millis().div_ceil(1000).max(1) as u64)
            }
        }
    }
}

/// All limits of a process.
pub struct Limits {
    clock: Arc<dyn Clock>,
    memory: Memory,
    shared: Option<Shared>,
    db: Option<Db>,
    buckets: Mutex<Vec<Arc<Buckets>>>,
}

impl Limits {
    pub(crate) fn new(config: LimitsConfig, db: &Db, holder: &str, clock: Arc<dyn Clock>) -> Self {
        let db = config.shared.then(|| db.clone());
        Self {
            clock,
            memory: Memory::default(),
            shared: db.clone().map(|db| Shared::new(db, holder.to_owned())),
            db,
            buckets: Mutex::default(),
        }
    }

    /// Admits one more of a key at a site, unless `limit` were admitted within the site's window. Zero is no limit.
    pub async fn admit(&self, site: &'static Site, limit: u32, key: &str) -> Verdict {
        if limit == 0 {
            return Verdict::Allowed;
        }
        let key = stored_key(site.name, key);
        let here = || self.memory.admit(site, limit, &key, self.clock.now());
        let verdict = match &self.shared {
            None => here(),
            Some(shared) => match shared.admit(site, limit, &key).await {
                Ok(verdict) => verdict,
                Err(shared::Down) => {
                    count(site.name, "error");
                    match site.on_error {
                        OnError::Open => here(),
                        OnError::Closed => Verdict::Limited {
                            retry_after: Duration::from_secs(1),
                        },
                    }
                }
            },
        };
        count(
            site.name,
            match verdict {
                Verdict::Allowed => "allowed",
                Verdict::Limited { .. } => "limited",
            },
        );
        verdict
    }

    /// Makes a set of token buckets, at most `max_keys` of them. Sets of one name are the same at all replicas that count
    /// together.
    #[must_use]
    pub fn token_buckets(
        &self,
        name: &'static str,
        rate: Rate,
        idle_ttl: Duration,
        max_keys: usize,
    ) -> Arc<Buckets> {
        let set = Buckets::new(name, rate, idle_ttl, max_keys, self.db.clone());
        let set = Arc::new(set);
        if self.db.is_some() {
            self.sets().push(Arc::clone(&set));
        }
        set
    }

    fn sets(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Buckets>>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn flush(&self, now: Timestamp) {
        let sets = self.sets().clone();
        for set in sets {
            set.flush(now).await;
        }
    }
}

/// What replicas that count together do beside admitting.
impl Services {
    /// How often things may be done.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether replicas count together; otherwise there is nothing to flush, hear or sweep.
    #[must_use]
    pub fn shares_limits(&self) -> bool {
        self.limits.db.is_some()
    }

    /// Tells the database what was spent, and gives back what is held for too long; called every few hundred milliseconds. A
    /// database that cannot be asked is no failure: what is to be told waits.
    pub async fn flush_limits(&self) {
        self.limits.flush(self.now()).await;
        if let Some(shared) = &self.limits.shared {
            // The outage is logged where it is met.
            let _: Result<(), shared::Down> = shared.tend().await;
        }
    }

    /// Gives back all permits that this process holds; for its end.
    pub async fn give_back_permits(&self) {
        self.limits.flush(self.now()).await;
        if let Some(shared) = &self.limits.shared {
            let _: Result<(), shared::Down> = shared.give_back().await;
        }
    }

    /// Gives back permits that other replicas ask for, until the connection ends; what is said while nobody listens is lost, and
    /// the permits come back when their lease ends. Waits for ever where replicas do not count together.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database cannot be listened to.
    pub async fn hear_recalls(&self) -> Result<(), Error> {
        let (Some(shared), Some(db)) = (&self.limits.shared, &self.limits.db) else {
            return std::future::pending().await;
        };
        let mut listener = db.listen(&[rows::RECALL_CHANNEL]).await?;
        while let Some((_, key)) = listener.recv_word().await? {
            let _: Result<(), shared::Down> = shared.recalled(&key).await;
        }
        Ok(())
    }

    /// Removes counts that are out of date from the database, and those of a site beyond its cap; says how many.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn sweep_limits(&self) -> Result<usize, Error> {
        let idle = self.config.limits.bucket_ttl;
        let mut removed = 0;
        loop {
            let swept = transaction!(self.db, "sweep limits", conn => {
                let mut swept = rows::sweep(conn).await? + rows::sweep_tokens(conn, idle).await?;
                for site in SITES {
                    swept += rows::sweep_beyond(conn, site.name, site.max_keys).await?;
                }
                Ok::<_, Error>(swept)
            })?;
            removed += swept;
            if swept == 0 {
                return Ok(removed);
            }
        }
    }
}

fn count(site: &'static str, result: &'static str) {
    counter!(RATE_LIMIT_TOTAL.name, "site" => site, "result" => result).increment(1);
}

/// `<site>:<key>`; what is longer than a key may be is hashed, so that nobody fills the database with one request.
fn stored_key(site: &str, key: &str) -> String {
    if site.len() + 1 + key.len() <= LONGEST_KEY {
        return format!("{site}:{key}");
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    format!("{site}:sha256:{}", hex::encode(digest))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Verdict, stored_key};

    #[test]
    fn long_keys_are_hashed_and_stay_apart() {
        assert_eq!(stored_key("ocsp", "192.0.2.1"), "ocsp:192.0.2.1");
        let (long, other) = ("x".repeat(252), format!("{}y", "x".repeat(251)));
        assert_eq!(stored_key("ocsp", &"x".repeat(251)).len(), 256);
        assert_eq!(stored_key("ocsp", &long).len(), "ocsp:sha256:".len() + 64);
        assert_ne!(stored_key("ocsp", &long), stored_key("ocsp", &other));
    }

    #[test]
    fn the_wait_is_rounded_up_to_whole_seconds() {
        let wait = |milliseconds| {
            let retry_after = Duration::from_millis(milliseconds);
            Verdict::Limited { retry_after }.retry_after_seconds()
        };
        assert_eq!(
            [wait(0), wait(1), wait(1000), wait(1001)],
            [Some(1), Some(1), Some(1), Some(2)]
        );
        assert_eq!(Verdict::Allowed.retry_after_seconds(), None);
    }
}
