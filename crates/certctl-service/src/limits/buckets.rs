//! Token buckets in bounded memory, which replicas may share.
//!
//! A shared bucket is spent on credit: a replica gives out up to ten tokens before it tells the database, and the database tells
//! it what is left. So a request never waits for a query but one in ten of a key that asks much, and three replicas admit at
//! most thirty more than one would, once; what was spent beyond a bucket's content is paid back before anything is admitted
//! again.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use certctl_domain::time::Timestamp;
use certctl_repository::{
    Db,
    limits::{self, Debit},
    transaction,
};
use certctl_telemetry::ErrorChain;
use tokio::time::{Instant, timeout};

use crate::Error;

/// Tokens of a bucket that a replica gives out before it tells the database.
const CREDIT: u32 = 10;
/// How long the database may take, and how long it is left alone when it took longer.
const DATABASE: Duration = Duration::from_millis(500);
const LEFT_ALONE: Duration = Duration::from_secs(1);
/// Buckets in one statement at the most.
const BATCH: usize = 2000;

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Tokens a second.
    pub per_second: f64,
    /// Tokens at most; a request takes one.
    pub burst: f64,
}

/// A bucket for each key.
///
/// Buckets live in two generations. A bucket that is used moves to the young one; when the young one is full or as old as the
/// idle time, it becomes the old one and the former old one is forgotten. So forgetting costs nothing per request, however
/// many keys an attacker invents, and memory has a hard bound. The cost: an idle bucket lives up to twice the idle time.
pub struct Buckets {
    name: &'static str,
    rate: Rate,
    idle_ttl: Duration,
    max_keys: usize,
    generations: Mutex<Generations>,
    shared: Option<Shared>,
}

/// What buckets that replicas share need beside their content.
struct Shared {
    db: Db,
    /// One debit at a time; what is spent meanwhile goes with the next.
    turn: tokio::sync::Mutex<()>,
    down_until: Mutex<Option<Instant>>,
    warned: AtomicBool,
}

struct Generations {
    young: HashMap<String, Bucket>,
    old: HashMap<String, Bucket>,
    /// Keys of buckets that owe.
    owing: HashSet<String>,
    begun: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    updated: Timestamp,
    /// Tokens that the database has not been told of.
    owed: u32,
}

impl Buckets {
    /// Buckets that fill at `rate`, forgotten when nobody took from them for `idle_ttl`; at most `max_keys` of them. With a
    /// database, all replicas' buckets of this name are the same.
    pub(super) fn new(
        name: &'static str,
        rate: Rate,
        idle_ttl: Duration,
        max_keys: usize,
        db: Option<Db>,
    ) -> Self {
        let generations = Generations {
            young: HashMap::new(),
            old: HashMap::new(),
            owing: HashSet::new(),
            begun: Timestamp::UNIX_EPOCH,
        };
        Self {
            name,
            rate,
            idle_ttl,
            max_keys,
            generations: Mutex::new(generations),
            shared: db.map(|db| Shared {
                db,
                turn: tokio::sync::Mutex::default(),
                down_until: Mutex::default(),
                warned: AtomicBool::default(),
            }),
        }
    }

    /// Takes a token from the bucket of `key`; says whether there was one. When the database cannot be asked, this replica
    /// counts by itself.
    pub async fn take(&self, key: String, now: Timestamp) -> bool {
        if let Some(shared) = &self.shared
            && self.owed(&key) >= CREDIT
            && !shared.is_down()
        {
            let _turn = shared.turn.lock().await;
            // Whoever had the turn before may have paid for this key too.
            if self.owed(&key) >= CREDIT && !shared.is_down() {
                self.pay(shared, now).await;
            }
        }
        self.take_here(key, now)
    }

    /// How long until the bucket of `key` has a token again; nothing when it has one.
    #[must_use]
    pub fn wait(&self, key: &str, now: Timestamp) -> Duration {
        let generations = self.generations();
        let bucket = generations
            .young
            .get(key)
            .or_else(|| generations.old.get(key));
        let Some(bucket) = bucket else {
            return Duration::ZERO;
        };
        let filled = now.since(bucket.updated).as_secs_f64() * self.rate.per_second;
        let missing = 1.0 - (bucket.tokens + filled).min(self.rate.burst);
        if missing <= 0.0 || self.rate.per_second <= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(missing / self.rate.per_second).unwrap_or(Duration::MAX)
    }

    /// Tells the database what was spent since it was told last.
    pub(super) async fn flush(&self, now: Timestamp) {
        let Some(shared) = &self.shared else { return };
        if shared.is_down() {
            return;
        }
        let _turn = shared.turn.lock().await;
        while !self.generations().owing.is_empty() && self.pay(shared, now).await {}
    }

    fn take_here(&self, key: String, now: Timestamp) -> bool {
        let mut generations = self.generations();
        generations.turn_over(now, self.idle_ttl, self.max_keys / 2);
        let full = Bucket {
            tokens: self.rate.burst,
            updated: now,
            owed: 0,
        };
        let found = generations.remove(&key).unwrap_or(full);
        let (mut bucket, taken) = found.take(now, self.rate);
        if taken && self.shared.is_some() {
            bucket.owed = bucket.owed.saturating_add(1);
            if bucket.owed == 1 {
                generations.owing.insert(key.clone());
            }
        }
        generations.young.insert(key, bucket);
        taken
    }

    /// Tells the database of up to 2,000 buckets at once; false when it did not answer.
    async fn pay(&self, shared: &Shared, now: Timestamp) -> bool {
        let debits = self.generations().debits(self.name, self.rate);
        if debits.is_empty() {
            return true;
        }
        let asked = timeout(DATABASE, debit(&shared.db, &debits)).await;
        let mut generations = self.generations();
        match asked {
            Ok(Ok(balances)) => {
                shared.warned.store(false, Ordering::Relaxed);
                for (key, tokens) in balances {
                    generations.settle(local(self.name, &key), tokens, now);
                }
                true
            }
            failed => {
                for debit in debits {
                    generations.owe_again(local(self.name, &debit.key), debit.spent);
                }
                drop(generations);
                shared.is_gone(failed.ok().and_then(Result::err).as_ref());
                false
            }
        }
    }

    fn owed(&self, key: &str) -> u32 {
        let generations = self.generations();
        let bucket = generations.young.get(key);
        bucket
            .or_else(|| generations.old.get(key))
            .map_or(0, |bucket| bucket.owed)
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        // A panic cannot leave a bucket half written, so a poisoned lock is as good as any.
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let generations = self.generations();
        generations.young.len() + generations.old.len()
    }
}

async fn debit(db: &Db, debits: &[Debit]) -> Result<Vec<(String, i64)>, Error> {
    transaction!(db, "debit tokens", conn => { Ok::<_, Error>(limits::debit(conn, debits).await?) })
}

/// The key of a bucket without the name of its set.
fn local<'a>(name: &str, key: &'a str) -> &'a str {
    key.strip_prefix(name)
        .and_then(|rest| rest.strip_prefix(':'))
        .unwrap_or(key)
}

impl Shared {
    fn is_down(&self) -> bool {
        let until = *self
            .down_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn is_gone(&self, error: Option<&Error>) {
        let until = Some(Instant::now() + LEFT_ALONE);
        *self
            .down_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = until;
        metrics::counter!(certctl_telemetry::metrics_names::RATE_LIMIT_TOTAL.name, "site" => "tokens", "result" => "error")
            .increment(1);
        // Once for each outage, not once for each second of it.
        if self.warned.swap(true, Ordering::Relaxed) {
            return;
        }
        match error {
            Some(error) => {
                tracing::warn!(error = %ErrorChain(error), "token buckets cannot be shared; each replica counts by itself");
            }
            None => tracing::warn!(
                "token buckets cannot be shared, the database takes too long; each replica counts by itself"
            ),
        }
    }
}

impl Generations {
    fn turn_over(&mut self, now: Timestamp, idle_ttl: Duration, capacity: usize) {
        if self.young.len() >= capacity || now.since(self.begun) >= idle_ttl {
            self.old = mem::take(&mut self.young);
            self.begun = now;
        }
    }

    fn remove(&mut self, key: &str) -> Option<Bucket> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    fn get_mut(&mut self, key: &str) -> Option<&mut Bucket> {
        match self.young.get_mut(key) {
            Some(bucket) => Some(bucket),
            None => self.old.get_mut(key),
        }
    }

    /// What is owed, which is owed no more; by key in order.
    fn debits(&mut self, name: &str, rate: Rate) -> Vec<Debit> {
        let mut keys: Vec<String> = self.owing.iter().take(BATCH).cloned().collect();
        keys.sort();
        let mut debits = Vec::with_capacity(keys.len());
        for key in keys {
            self.owing.remove(&key);
            let Some(bucket) = self.get_mut(&key) else {
                continue;
            };
            let spent = mem::take(&mut bucket.owed);
            debits.push(Debit {
                key: format!("{name}:{key}"),
                spent,
                burst: scaled(rate.burst, 1e6),
                per_second: scaled(rate.per_second, 1e3),
            });
        }
        debits
    }

    /// What the database says is left, less what was spent since it was asked.
    fn settle(&mut self, key: &str, tokens: i64, now: Timestamp) {
        if let Some(bucket) = self.get_mut(key) {
            bucket.tokens = tokens as f64 / 1e6 - f64::from(bucket.owed);
            bucket.updated = now;
        }
    }

    fn owe_again(&mut self, key: &str, spent: u32) {
        if let Some(bucket) = self.get_mut(key) {
            bucket.owed = bucket.owed.saturating_add(spent);
            self.owing.insert(key.to_owned());
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast from a float saturates, and rates are a million at the most"
)]
fn scaled(value: f64, by: f64) -> i64 {
    (value * by).round() as i64
}

impl Bucket {
    /// Fills up to now and takes one token. A clock that was set back fills nothing, and counts from where it stands.
    fn take(self, now: Timestamp, rate: Rate) -> (Self, bool) {
        let filled = now.since(self.updated).as_secs_f64() * rate.per_second;
        let tokens = (self.tokens + filled).min(rate.burst);
        let taken = tokens >= 1.0;
        (
            Self {
                tokens: if taken { tokens - 1.0 } else { tokens },
                updated: now,
                owed: self.owed,
            },
            taken,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use certctl_domain::time::Timestamp;

    use super::{Buckets, Rate};

    const HOUR: Duration = Duration::from_secs(3600);
    const START: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn buckets(max_keys: usize) -> Buckets {
        Buckets::new(
            "test",
            Rate {
                per_second: 2.0,
                burst: 3.0,
            },
            HOUR,
            max_keys,
            None,
        )
    }

    #[test]
    fn a_bucket_holds_its_burst_and_fills_at_its_rate() {
        let buckets = buckets(100);
        let taken = |at| buckets.take_here(1.to_string(), at);
        assert_eq!(
            [taken(START), taken(START), taken(START), taken(START)],
            [true, true, true, false]
        );
        assert!(!taken(START + Duration::from_millis(499)));
        assert!(taken(START + Duration::from_millis(500)));
        assert!(!taken(START + Duration::from_millis(500)));
        assert!(
            buckets.take_here(2.to_string(), START),
            "another key has its own"
        );
        let later = START + HOUR * 3;
        assert_eq!(
            [taken(later), taken(later), taken(later), taken(later)],
            [true, true, true, false]
        );
    }

    #[test]
    fn the_wait_is_for_the_rest_of_a_token() {
        let buckets = buckets(100);
        assert_eq!(buckets.wait("1", START), Duration::ZERO);
        for _ in 0..3 {
            assert_eq!(buckets.wait("1", START), Duration::ZERO);
            assert!(buckets.take_here("1".to_owned(), START));
        }
        assert_eq!(buckets.wait("1", START), Duration::from_millis(500));
        let later = START + Duration::from_millis(200);
        assert_eq!(buckets.wait("1", later), Duration::from_millis(300));
        assert_eq!(buckets.wait("1", START + HOUR), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_is_set_back_gives_nothing_and_takes_nothing() {
        let buckets = buckets(100);
        for _ in 0..3 {
            assert!(buckets.take_here(1.to_string(), START));
        }
        let back = Timestamp::from_seconds(START.as_seconds() - 86_400);
        assert!(!buckets.take_here(1.to_string(), back));
        assert!(
            buckets.take_here(1.to_string(), back + Duration::from_secs(1)),
            "it fills from where the clock stands"
        );
    }

    #[test]
    fn invented_keys_cannot_grow_the_memory() {
        let buckets = buckets(100);
        for key in 0..10_000 {
            buckets.take_here(key.to_string(), START);
            assert!(buckets.len() <= 100);
        }
    }

    #[test]
    fn a_key_in_use_survives_a_flood_of_others() {
        let buckets = buckets(100);
        for _ in 0..3 {
            assert!(buckets.take_here(0.to_string(), START));
        }
        for key in 1..10_000 {
            buckets.take_here(key.to_string(), START);
            if key % 20 == 0 {
                assert!(
                    !buckets.take_here(0.to_string(), START),
                    "its bucket is still empty after {key} others"
                );
            }
        }
    }

    #[test]
    fn an_idle_bucket_is_forgotten() {
        let buckets = buckets(100);
        buckets.take_here(1.to_string(), START);
        buckets.take_here(2.to_string(), START + HOUR);
        buckets.take_here(2.to_string(), START + HOUR * 2);
        assert_eq!(buckets.len(), 1);
    }
}
