//! Points in time and the clock that tells them.
//!
//! Every point in time is a count of microseconds since the Unix epoch: the resolution that PostgreSQL's `timestamptz` and
//! SQLite's `INTEGER` both keep, so that a value read back equals the value written.

use std::{
    fmt,
    ops::{Add, Sub},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// A point in time in UTC, in whole microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

/// The text is no RFC 3339 point in time of the years 1970 to 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 timestamp of the years 1970 to 9999")]
pub struct InvalidTimestamp;

impl Timestamp {
    /// `0001-01-01T00:00:00Z`: what existing typed clients expect where a certificate has no expiry yet (api §11.2).
    pub const ZERO_ON_WIRE: &'static str = "0001-01-01T00:00:00Z";
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Self = Self(0);
    /// 9999-12-31T23:59:59Z, the greatest time RFC 5280 §4.1.2.5 can express.
    pub const MAX: Self = Self(253_402_300_799_000_000);

    /// From microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From whole seconds since the Unix epoch; saturates.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The same time without its fraction of a second, as X.509 keeps it.
    #[must_use]
    pub const fn truncated_to_seconds(self) -> Self {
        Self::from_seconds(self.as_seconds())
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(if micros < 0 { 0 } else { micros.unsigned_abs() })
    }

    /// RFC 3339 in UTC; the fraction is left out when it is zero.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        // Civil arithmetic, because `jiff::Timestamp` ends a day before the last instant of X.509.
        let epoch = jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
        match epoch.checked_add(jiff::SignedDuration::from_micros(self.0)) {
            Ok(time) => format!("{time}Z"),
            // Outside the years 1 to 9999; such a time can only come from a corrupt row.
            Err(_) => Self::ZERO_ON_WIRE.to_owned(),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    /// Nothing before the epoch and nothing after the last day that X.509 can express is taken: the arithmetic on times that
    /// the databases do (a window before an expiry) must not leave what they can hold.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<jiff::Timestamp>() {
            Ok(time) if time >= jiff::Timestamp::UNIX_EPOCH => Ok(Self(time.as_microsecond())),
            Ok(_) => Err(InvalidTimestamp),
            Err(_) => last_day(text).ok_or(InvalidTimestamp),
        }
    }
}

/// A time in UTC of the last day of the year 9999, which `jiff::Timestamp` ends before. "No end that is known" is such a time
/// (RFC 5280 §4.1.2.5).
fn last_day(text: &str) -> Option<Timestamp> {
    let civil: jiff::civil::DateTime = text.strip_suffix(['Z', 'z'])?.parse().ok()?;
    let epoch = jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    let micros = i64::try_from(civil.duration_since(epoch).as_micros()).ok()?;
    (micros > jiff::Timestamp::MAX.as_microsecond() && text.contains(':'))
        .then_some(Timestamp(micros))
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        )
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        )
    }
}

/// Tells the time. No code outside [`SystemClock`] reads the wall clock, so that tests decide what time it is.
pub trait Clock: Send + Sync + 'static {
    /// The present time.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::UNIX_EPOCH + since_epoch
    }
}

/// A clock that stands still until it is moved; for tests. Clones share the time.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows `start`.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(start.as_micros())))
    }

    /// Sets the clock to what another one shows, be it earlier.
    pub fn set(&self, other: &Self) {
        self.0.store(other.now().as_micros(), Ordering::SeqCst);
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(
            i64::try_from(by.as_micros()).unwrap_or(i64::MAX),
            Ordering::SeqCst,
        );
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Clock, ManualClock, Timestamp};

    #[test]
    fn rfc3339_round_trips_at_microsecond_resolution() {
        for micros in [
            0,
            1,
            999_999,
            1_700_000_000_123_456,
            Timestamp::MAX.as_micros() - 86_400_000_000,
            Timestamp::MAX.as_micros(),
        ] {
            let time = Timestamp::from_micros(micros);
            assert_eq!(time.to_rfc3339().parse::<Timestamp>(), Ok(time));
        }
        assert_eq!(
            Timestamp::from_seconds(1_700_000_000).to_rfc3339(),
            "2023-11-14T22:13:20Z"
        );
        assert_eq!(Timestamp::MAX.to_rfc3339(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn nanoseconds_on_input_are_truncated_the_same_way_for_every_database() {
        assert_eq!(
            "2026-01-01T00:00:00.123456789Z"
                .parse::<Timestamp>()
                .map(Timestamp::as_micros),
            Ok(1_767_225_600_123_456)
        );
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn only_times_that_both_databases_can_calculate_with_are_read() {
        for text in ["1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"] {
            assert!(text.parse::<Timestamp>().is_ok(), "{text}");
        }
        for text in [
            "1969-12-31T23:59:59.999999Z",
            "1969-12-31T23:59:59.9999999Z",
            Timestamp::ZERO_ON_WIRE,
            "-004713-01-01T00:00:00Z",
            "+010000-01-01T00:00:00Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::starting_at(Timestamp::from_seconds(10));
        assert_eq!(clock.now(), clock.now());
        clock.clone().advance(Duration::from_secs(5));
        assert_eq!(clock.now(), Timestamp::from_seconds(15));
    }
}
