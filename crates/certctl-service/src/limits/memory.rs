//! Sliding windows of this process alone.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use certctl_domain::time::Timestamp;

use super::{Site, Verdict};

/// Points in time that a window is told apart by at the most; limits up to it are counted hit by hit.
const GRAINS: u32 = 256;

/// The windows of all sites; what this process forgets when it ends.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<HashMap<&'static str, Table>>);

/// The windows of one site.
#[derive(Debug, Default)]
struct Table {
    keys: HashMap<Arc<str>, Log>,
    /// By the newest hit, so that the key that hit longest ago is found without a search.
    order: BTreeMap<Rank, Arc<str>>,
    next: u64,
}

type Rank = (Timestamp, u64);

#[derive(Debug)]
struct Log {
    hits: VecDeque<Hits>,
    rank: Rank,
}

/// Hits that are counted together, from the last of them.
#[derive(Debug)]
struct Hits {
    first: Timestamp,
    last: Timestamp,
    count: u32,
}

impl Memory {
    /// Admits one more of a key, unless the window is full.
    pub(super) fn admit(&self, site: &Site, limit: u32, key: &str, now: Timestamp) -> Verdict {
        // A panic cannot leave a log half written, so a poisoned lock is as good as any.
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables
            .entry(site.name)
            .or_default()
            .admit(site, limit, key, now)
    }
}

impl Table {
    fn admit(&mut self, site: &Site, limit: u32, key: &str, now: Timestamp) -> Verdict {
        self.forget_two(site.window, now);
        let (key, mut log) = match self.keys.remove_entry(key) {
            Some((key, log)) => {
                self.order.remove(&log.rank);
                (key, log)
            }
            None => {
                if self.keys.len() >= site.max_keys
                    && let Some((_, oldest)) = self.order.pop_first()
                {
                    self.keys.remove(&oldest);
                }
                (Arc::from(key), Log::new())
            }
        };
        let verdict = log.admit(site.window, limit, now);
        if verdict == Verdict::Allowed {
            self.next += 1;
            log.rank = (now, self.next);
        }
        self.order.insert(log.rank, Arc::clone(&key));
        self.keys.insert(key, log);
        verdict
    }

    /// Forgets up to two keys whose windows are empty: more than one call adds, so memory follows what is in use.
    fn forget_two(&mut self, window: Duration, now: Timestamp) {
        for _ in 0..2 {
            match self.order.first_key_value() {
                Some(((newest, _), _)) if now.since(*newest) >= window => {
                    if let Some((_, key)) = self.order.pop_first() {
                        self.keys.remove(&key);
                    }
                }
                _ => return,
            }
        }
    }
}

impl Log {
    fn new() -> Self {
        Self {
            hits: VecDeque::new(),
            rank: (Timestamp::UNIX_EPOCH, 0),
        }
    }

    fn admit(&mut self, window: Duration, limit: u32, now: Timestamp) -> Verdict {
        // A clock that was set back must not lock anybody out for longer than the window.
        self.hits
            .retain(|hits| hits.last <= now && now.since(hits.last) < window);
        let taken: u64 = self.hits.iter().map(|hits| u64::from(hits.count)).sum();
        if taken >= u64::from(limit) {
            let oldest = self.hits.front().map_or(now, |hits| hits.last);
            return Verdict::Limited {
                retry_after: (oldest + window).since(now),
            };
        }
        let grain = if limit > GRAINS {
            window / GRAINS
        } else {
            Duration::ZERO
        };
        match self.hits.back_mut() {
            Some(hits) if now.since(hits.first) < grain => {
                hits.count += 1;
                hits.last = now;
            }
            _ => self.hits.push_back(Hits {
                first: now,
                last: now,
                count: 1,
            }),
        }
        Verdict::Allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use certctl_domain::time::Timestamp;

    use super::{Memory, Site, Verdict};
    use crate::limits::OnError;

    const START: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const SITE: Site = Site {
        name: "test",
        window: Duration::from_secs(3600),
        max_keys: 100,
        on_error: OnError::Open,
    };

    fn after(seconds: u64) -> Timestamp {
        START + Duration::from_secs(seconds)
    }

    #[test]
    fn the_window_slides_is_each_keys_own_and_says_how_long_to_wait() {
        let memory = Memory::default();
        let ask = |key, seconds| match memory.admit(&SITE, 2, key, after(seconds)) {
            Verdict::Allowed => None,
            Verdict::Limited { retry_after } => Some(retry_after.as_secs()),
        };
        assert_eq!(ask("a", 0), None);
        assert_eq!(ask("a", 10), None);
        assert_eq!(ask("a", 11), Some(3589));
        assert_eq!(ask("a", 3599), Some(1));
        assert_eq!(ask("b", 3599), None);
        assert_eq!(ask("a", 3600), None);
        assert_eq!(ask("a", 3601), Some(9));
        assert_eq!(
            ask("a", 0),
            None,
            "what a clock counted that was set back since does not count"
        );
    }

    #[test]
    fn a_large_limit_costs_little_memory_and_is_never_exceeded() {
        let memory = Memory::default();
        let mut allowed = Vec::new();
        for number in 0..40_000_u64 {
            let now = START + Duration::from_millis(number * 250);
            if memory.admit(&SITE, 5000, "a", now) == Verdict::Allowed {
                allowed.push(now);
            }
        }
        for (number, at) in allowed.iter().enumerate() {
            let within = allowed[..=number].iter().rev();
            assert!(
                within
                    .take_while(|hit| at.since(**hit) < SITE.window)
                    .count()
                    <= 5000
            );
        }
        assert!(allowed.len() > 10_000, "{}", allowed.len());
        let tables = memory.0.lock().unwrap();
        let hits = &tables[SITE.name].keys["a"].hits;
        assert!(hits.len() <= 257, "{}", hits.len());
    }

    #[test]
    fn of_too_many_keys_the_one_that_hit_longest_ago_is_forgotten() {
        let memory = Memory::default();
        for key in 0..100_u64 {
            memory.admit(&SITE, 1, &key.to_string(), after(key));
        }
        let ask = |key: &str| memory.admit(&SITE, 1, key, after(200));
        assert_ne!(ask("0"), Verdict::Allowed);
        assert_eq!(ask("new"), Verdict::Allowed);
        assert_ne!(ask("1"), Verdict::Allowed);
        assert_eq!(
            ask("0"),
            Verdict::Allowed,
            "it was forgotten for the new one"
        );
        let tables = memory.0.lock().unwrap();
        let table = &tables[SITE.name];
        assert_eq!((table.keys.len(), table.order.len()), (100, 100));
    }

    #[test]
    fn keys_whose_window_is_empty_go_by_themselves() {
        let memory = Memory::default();
        for key in 0..50_u64 {
            memory.admit(&SITE, 1, &key.to_string(), START);
        }
        for _ in 0..25 {
            memory.admit(&SITE, 1, "late", after(3600));
        }
        assert_eq!(memory.0.lock().unwrap()[SITE.name].keys.len(), 1);
    }
}
