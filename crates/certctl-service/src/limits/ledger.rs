//! What a window admits, as a pure function of what was taken from it: no clock, no database.

use std::time::Duration;

use certctl_domain::time::Timestamp;
use certctl_repository::limits::{Lease, Slice};

/// How long after its end a lease may still be given back: its holder looks every few hundred milliseconds.
const GRACE: Duration = Duration::from_secs(2);
/// Points in time that a window is told apart by at the most. Limits up to it are counted hit by hit.
const GRAINS: u32 = 256;

/// What one replica says and asks about one window.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    /// Permits that the window admits.
    pub(super) limit: u32,
    /// How long a permit counts after it was spent.
    pub(super) window: Duration,
    /// How long permits may be held before they are spent.
    pub(super) lease: Duration,
    /// Permits wanted.
    pub(super) want: u32,
    /// What became of the permits held so far; what was not spent goes back.
    pub(super) settle: Option<Settle>,
}

/// What became of permits that were held.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settle {
    /// Permits spent.
    pub(super) used: u32,
    /// How long ago the last one was spent, at most.
    pub(super) age: Duration,
}

/// What became of an [`Ask`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// Permits that may be spent until the lease ends.
    pub(super) granted: u32,
    /// How long until a permit is free again, as far as is known; zero when there are some.
    pub(super) free_in: Duration,
    /// Whether another replica may hold permits that it has not spent.
    pub(super) held_by_others: bool,
}

/// Settles what the replica held and grants what it wants. Near the end slices get smaller, so that what is left moves between
/// replicas less often.
pub(super) fn exchange(slices: &mut Vec<Slice>, holder: &str, now: Timestamp, ask: &Ask) -> Answer {
    if let Some(settle) = ask.settle {
        // All it has of its own: a lease whose grant it never learned of was not spent.
        slices.retain(|slice| lease_of(slice).is_none_or(|lease| lease.holder != holder));
        if settle.used > 0 {
            slices.push(Slice {
                permits: settle.used,
                frees_at: now - settle.age + ask.window,
                lease: None,
            });
        }
    }
    slices.retain(|slice| slice.frees_at > now);
    if ask.limit > GRAINS {
        merge(slices, ask.window / GRAINS);
    }
    let taken: u64 = slices.iter().map(|slice| u64::from(slice.permits)).sum();
    let free = u32::try_from(u64::from(ask.limit).saturating_sub(taken)).unwrap_or(u32::MAX);
    let granted = ask.want.min((free / 4).max(1)).min(free);
    let first = slices.iter().map(|slice| slice.frees_at).min();
    let free_in = match first {
        Some(first) if free == 0 => first.since(now),
        _ => Duration::ZERO,
    };
    let held_by_others = slices
        .iter()
        .filter_map(lease_of)
        .any(|lease| lease.holder != holder && lease.until + GRACE > now);
    if granted > 0 {
        let until = now + ask.lease;
        slices.push(Slice {
            permits: granted,
            frees_at: until + ask.window,
            lease: Some(Lease {
                holder: holder.to_owned(),
                until,
            }),
        });
    }
    Answer {
        granted,
        free_in,
        held_by_others,
    }
}

fn lease_of(slice: &Slice) -> Option<&Lease> {
    slice.lease.as_ref()
}

/// Puts spent slices together that end within one grain: they count until the last of them ends, so never too short.
fn merge(slices: &mut Vec<Slice>, grain: Duration) {
    let (mut leased, mut spent): (Vec<_>, Vec<_>) =
        slices.drain(..).partition(|slice| slice.lease.is_some());
    spent.sort_by_key(|slice: &Slice| slice.frees_at);
    let mut begun: Option<Timestamp> = None;
    for slice in spent {
        match (begun, leased.last_mut()) {
            (Some(first), Some(last))
                if last.lease.is_none() && slice.frees_at.since(first) < grain =>
            {
                last.permits += slice.permits;
                last.frees_at = slice.frees_at;
            }
            _ => {
                begun = Some(slice.frees_at);
                leased.push(slice);
            }
        }
    }
    *slices = leased;
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const WINDOW: Duration = Duration::from_secs(60);
    const LEASE: Duration = Duration::from_secs(10);

    fn ask(limit: u32, want: u32, settle: Option<(u32, u64)>) -> Ask {
        Ask {
            limit,
            window: WINDOW,
            lease: LEASE,
            want,
            settle: settle.map(|(used, age)| Settle {
                used,
                age: Duration::from_secs(age),
            }),
        }
    }

    #[test]
    fn what_is_held_counts_and_what_was_not_spent_goes_back() {
        let mut slices = Vec::new();
        let at = |seconds| START + Duration::from_secs(seconds);
        let first = exchange(&mut slices, "a", at(0), &ask(12, 10, None));
        assert_eq!(first.granted, 3, "a quarter of what is free");
        for expected in [2, 1, 1, 1, 1, 1, 1, 1] {
            let other = exchange(&mut slices, "b", at(1), &ask(12, 10, None));
            assert_eq!(other.granted, expected);
        }
        let none = exchange(&mut slices, "b", at(2), &ask(12, 10, Some((9, 1))));
        assert_eq!(
            (none.granted, none.held_by_others),
            (0, true),
            "a holds three"
        );
        let back = exchange(&mut slices, "a", at(3), &ask(12, 0, Some((1, 2))));
        assert_eq!(back.granted, 0);
        let rest = exchange(&mut slices, "b", at(4), &ask(12, 10, None));
        assert_eq!(rest.granted, 1);
        let last = exchange(&mut slices, "b", at(4), &ask(12, 10, Some((1, 0))));
        assert_eq!(last.granted, 1);
        let over = exchange(&mut slices, "b", at(4), &ask(12, 10, Some((1, 0))));
        assert_eq!(
            over,
            Answer {
                granted: 0,
                free_in: Duration::from_secs(57),
                held_by_others: false
            },
            "the one of a, spent at 1, frees at 61"
        );
        assert_eq!(
            exchange(&mut slices, "c", at(61), &ask(12, 10, None)).granted,
            2,
            "nine of b and one of a are free again"
        );
    }

    #[test]
    fn what_a_dead_replica_held_counts_until_it_cannot_have_been_spent_within_the_window() {
        let mut slices = Vec::new();
        assert_eq!(
            exchange(&mut slices, "dead", START, &ask(1, 1, None)).granted,
            1
        );
        let later = |seconds, slices: &mut Vec<Slice>| {
            exchange(
                slices,
                "b",
                START + Duration::from_secs(seconds),
                &ask(1, 1, None),
            )
        };
        assert!(later(11, &mut slices).held_by_others);
        let over = later(13, &mut slices);
        assert_eq!(
            (over.granted, over.held_by_others, over.free_in),
            (0, false, Duration::from_secs(57))
        );
        assert_eq!(later(69, &mut slices).granted, 0);
        assert_eq!(later(70, &mut slices).granted, 1);
    }

    /// A generator of numbers that is the same in every run.
    struct Draw(u64);

    impl Draw {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }
    }

    #[test]
    fn no_window_ever_sees_more_than_its_limit() {
        for (seed, limit) in [(1, 5), (2, 40), (3, 1000)] {
            let mut draw = Draw(seed);
            let (mut slices, mut now) = (Vec::new(), START);
            // Of each replica: what it holds, until when, what it spent of it, and when last.
            let mut held = [(0_u32, START, 0_u32, START); 3];
            let mut spent: Vec<(Timestamp, u32)> = Vec::new();
            for _ in 0..3000 {
                now = now + Duration::from_millis(draw.below(400));
                let replica = usize::try_from(draw.below(3)).unwrap();
                let (left, until, used, last) = &mut held[replica];
                if *left > 0 && now < *until && draw.below(8) > 0 {
                    let some = 1 + u32::try_from(draw.below(u64::from(*left))).unwrap();
                    *left -= some;
                    *used += some;
                    *last = now;
                    spent.push((now, some));
                    let begin = now - WINDOW;
                    let within = spent.iter().filter(|(at, _)| *at > begin);
                    let sum: u32 = within.map(|(_, permits)| permits).sum();
                    assert!(sum <= limit, "{sum} of {limit} within a window");
                    continue;
                }
                let settle = Settle {
                    used: *used,
                    age: now.since(*last),
                };
                let ask = Ask {
                    settle: Some(settle),
                    ..ask(limit, 1 + limit / 10, None)
                };
                let name = ["a", "b", "c"][replica];
                let answer = exchange(&mut slices, name, now, &ask);
                (*left, *until, *used) = (answer.granted, now + LEASE, 0);
                assert!(slices.len() < 2 * GRAINS as usize, "{}", slices.len());
            }
            let all: u32 = spent.iter().map(|(_, permits)| permits).sum();
            assert!(all > 3 * limit, "the window was full many times: {all}");
        }
    }
}
