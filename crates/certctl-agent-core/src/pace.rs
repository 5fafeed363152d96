//! When a loop goes round again.

use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};

/// The longest pause after failures (agent §2).
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// An interval spread by a tenth to either side, so that a fleet started by one command does not come all at once.
pub(crate) fn spread(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(0.9 + 0.2 * random)
}

/// The pause after so many failures in a row: that many intervals, at most five minutes but never less than one interval.
pub(crate) fn backoff(failures: u32, interval: Duration) -> Duration {
    interval
        .saturating_mul(failures.max(1))
        .min(LONGEST_PAUSE.max(interval))
}

/// The pause before the next look for a certificate that was asked for: it is signed in a moment, and waiting for a regular
/// poll would leave it lying. Nothing after a quarter of a minute, for then the CA takes its time.
pub(crate) fn follow_up(looks: u32) -> Option<Duration> {
    (looks < 6).then(|| Duration::from_millis(250) * 2_u32.pow(looks))
}

/// A number from 0 up to 1; in the middle when the machine has no randomness, which spreads nothing and breaks nothing.
pub(crate) fn random() -> f64 {
    let mut bytes = [0; 4];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{backoff, follow_up, random, spread};

    #[test]
    fn an_interval_is_spread_by_a_tenth() {
        let minute = Duration::from_secs(60);
        assert_eq!(spread(minute, 0.0), Duration::from_secs(54));
        assert_eq!(spread(minute, 0.5), minute);
        assert!(spread(minute, 0.999_999) <= Duration::from_secs(66));
        assert!((0..1000).all(|_| (0.0..1.0).contains(&random())));
    }

    #[test]
    fn a_certificate_that_was_asked_for_is_looked_after_a_few_times() {
        let pauses: Vec<Duration> = (0..).map_while(follow_up).collect();
        assert_eq!(pauses.len(), 6);
        assert_eq!(pauses[0], Duration::from_millis(250));
        assert!(pauses.iter().sum::<Duration>() < Duration::from_secs(16));
    }

    #[test]
    fn failures_lengthen_the_pause_up_to_five_minutes() {
        let half = Duration::from_secs(30);
        let pauses = [0, 1, 2, 9, 10, 11, u32::MAX].map(|n| backoff(n, half).as_secs());
        assert_eq!(pauses, [30, 30, 60, 270, 300, 300, 300]);
        assert_eq!(backoff(4, Duration::from_secs(900)).as_secs(), 900);
    }
}
