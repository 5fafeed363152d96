//! Token buckets in bounded memory.

use std::{
    collections::HashMap,
    hash::Hash,
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use certctl_domain::time::Timestamp;

use crate::settings::Rate;

/// A bucket for each key.
///
/// Buckets live in two generations. A bucket that is used moves to the young one; when the young one is full or as old as the
/// idle time, it becomes the old one and the former old one is forgotten. So forgetting costs nothing per request, however
/// many keys an attacker invents, and memory has a hard bound. The cost: an idle bucket lives up to twice the idle time.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    rate: Rate,
    idle_ttl: Duration,
    max_keys: usize,
    generations: Mutex<Generations<K>>,
}

#[derive(Debug)]
struct Generations<K> {
    young: HashMap<K, Bucket>,
    old: HashMap<K, Bucket>,
    begun: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    updated: Timestamp,
}

impl<K: Hash + Eq> Buckets<K> {
    /// Buckets that fill at `rate`; at most `max_keys` of them.
    pub(super) fn new(rate: Rate, idle_ttl: Duration, max_keys: usize) -> Self {
        let generations = Generations {
            young: HashMap::new(),
            old: HashMap::new(),
            begun: Timestamp::UNIX_EPOCH,
        };
        Self {
            rate,
            idle_ttl,
            max_keys,
            generations: Mutex::new(generations),
        }
    }

    /// Takes a token from the bucket of `key`; says whether there was one.
    pub(super) fn take(&self, key: K, now: Timestamp) -> bool {
        // A panic cannot leave a bucket half written, so a poisoned lock is as good as any.
        let mut generations = self
            .generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        generations.turn_over(now, self.idle_ttl, self.max_keys / 2);
        let Generations { young, old, .. } = &mut *generations;
        let full = Bucket {
            tokens: self.rate.burst,
            updated: now,
        };
        let bucket = match young.remove_entry(&key) {
            Some((_, bucket)) => bucket,
            None => old.remove(&key).unwrap_or(full),
        };
        let (bucket, taken) = bucket.take(now, self.rate);
        young.insert(key, bucket);
        taken
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let generations = self.generations.lock().unwrap();
        generations.young.len() + generations.old.len()
    }
}

impl<K> Generations<K> {
    fn turn_over(&mut self, now: Timestamp, idle_ttl: Duration, capacity: usize) {
        if self.young.len() >= capacity || now.since(self.begun) >= idle_ttl {
            self.old = mem::take(&mut self.young);
            self.begun = now;
        }
    }
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
            },
            taken,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use certctl_domain::time::Timestamp;

    use super::Buckets;
    use crate::settings::Rate;

    const HOUR: Duration = Duration::from_secs(3600);
    const START: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn buckets(max_keys: usize) -> Buckets<u32> {
        Buckets::new(
            Rate {
                per_second: 2.0,
                burst: 3.0,
            },
            HOUR,
            max_keys,
        )
    }

    #[test]
    fn a_bucket_holds_its_burst_and_fills_at_its_rate() {
        let buckets = buckets(100);
        let taken = |at| buckets.take(1, at);
        assert_eq!(
            [taken(START), taken(START), taken(START), taken(START)],
            [true, true, true, false]
        );
        assert!(!taken(START + Duration::from_millis(499)));
        assert!(taken(START + Duration::from_millis(500)));
        assert!(!taken(START + Duration::from_millis(500)));
        assert!(buckets.take(2, START), "another key has its own");
        let later = START + HOUR * 3;
        assert_eq!(
            [taken(later), taken(later), taken(later), taken(later)],
            [true, true, true, false]
        );
    }

    #[test]
    fn a_clock_that_is_set_back_gives_nothing_and_takes_nothing() {
        let buckets = buckets(100);
        for _ in 0..3 {
            assert!(buckets.take(1, START));
        }
        let back = Timestamp::from_seconds(START.as_seconds() - 86_400);
        assert!(!buckets.take(1, back));
        assert!(
            buckets.take(1, back + Duration::from_secs(1)),
            "it fills from where the clock stands"
        );
    }

    #[test]
    fn invented_keys_cannot_grow_the_memory() {
        let buckets = buckets(100);
        for key in 0..10_000 {
            buckets.take(key, START);
            assert!(buckets.len() <= 100);
        }
    }

    #[test]
    fn a_key_in_use_survives_a_flood_of_others() {
        let buckets = buckets(100);
        for _ in 0..3 {
            assert!(buckets.take(0, START));
        }
        for key in 1..10_000 {
            buckets.take(key, START);
            if key % 20 == 0 {
                assert!(
                    !buckets.take(0, START),
                    "its bucket is still empty after {key} others"
                );
            }
        }
    }

    #[test]
    fn an_idle_bucket_is_forgotten() {
        let buckets = buckets(100);
        buckets.take(1, START);
        buckets.take(2, START + HOUR);
        buckets.take(2, START + HOUR * 2);
        assert_eq!(buckets.len(), 1);
    }
}
