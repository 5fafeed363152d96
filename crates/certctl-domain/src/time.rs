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

/// The last microsecond that X.509 can express (RFC 5280 §4.1.2.5).
const LAST_MICROSECOND: i64 = 253_402_300_799_999_999;

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

    /// Reads a bound of a range: like parsing, but what is before the epoch is the epoch, and what is after the last day is the
    /// last. Nothing that is stored lies outside, so the range holds the same.
    ///
    /// # Errors
    /// [`InvalidTimestamp`] for what is not RFC 3339.
    pub fn parse_bound(text: &str) -> Result<Self, InvalidTimestamp> {
        let micros = micros_of(text).ok_or(InvalidTimestamp)?;
        Ok(Self(micros.clamp(Self::UNIX_EPOCH.0, LAST_MICROSECOND)))
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
        let micros = micros_of(text).ok_or(InvalidTimestamp)?;
        if (Self::UNIX_EPOCH.0..=LAST_MICROSECOND).contains(&micros) {
            Ok(Self(micros))
        } else {
            Err(InvalidTimestamp)
        }
    }
}

/// The microseconds since the epoch that an RFC 3339 §5.6 text names, and nothing else: ISO 8601 has many more spellings, and
/// what one reader takes another refuses. Digits after the sixth of a fraction are cut off.
fn micros_of(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let (time, rest) = rest.strip_prefix(['T', 't'])?.split_at_checked(8)?;
    let [year, month, day] = numbers(date, [4, 2, 2], b'-')?;
    let [hour, minute, second] = numbers(time, [2, 2, 2], b':')?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|sign: char| !sign.is_ascii_digit())?),
        None => ("0", rest),
    };
    let offset_minutes = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => 0,
        (sign @ ("+" | "-"), offset) => {
            let [hours, minutes] = numbers(offset, [2, 2], b':')?;
            let far = (hours <= 23 && minutes <= 59).then_some(hours * 60 + minutes)?;
            if sign == "-" { -far } else { far }
        }
        _ => return None,
    };
    // A leap second is the second before it, as everywhere where days have 86,400 seconds.
    let second = if second == 60 { 59 } else { second };
    let [month, day, hour, minute, second] =
        [month, day, hour, minute, second].map(|number| i8::try_from(number).unwrap_or(i8::MAX));
    let civil = jiff::civil::DateTime::new(
        i16::try_from(year).ok()?,
        month,
        day,
        hour,
        minute,
        second,
        0,
    )
    .ok()?;
    let epoch = jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    let whole = civil.duration_since(epoch).as_secs() - i64::from(offset_minutes) * 60;
    Some(whole * 1_000_000 + fraction_micros(fraction)?)
}

/// Numbers of exactly so many digits, with a separator between them.
fn numbers<const N: usize>(text: &str, digits: [usize; N], separator: u8) -> Option<[i32; N]> {
    let mut parts = text.split(char::from(separator));
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        // `parse` would take a sign.
        let is_number = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = is_number.then(|| part.parse().ok()).flatten()?;
    }
    parts.next().is_none().then_some(numbers)
}

fn fraction_micros(digits: &str) -> Option<i64> {
    let kept = digits.get(..6).unwrap_or(digits);
    let scale = 10_i64.pow(6 - u32::try_from(kept.len()).ok()?);
    Some(kept.parse::<i64>().ok()? * scale)
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
    fn rfc_3339_is_read_and_nothing_else_of_iso_8601() {
        for (text, same) in [
            ("2026-02-03T04:05:06+00:00", "2026-02-03T04:05:06Z"),
            ("2026-02-03t04:05:06.5z", "2026-02-03T04:05:06.5Z"),
            ("2026-02-03T04:05:06-23:59", "2026-02-04T04:04:06Z"),
            ("2026-12-31T23:59:60Z", "2026-12-31T23:59:59Z"),
            (
                "9999-12-31T23:59:59.999999999999Z",
                "9999-12-31T23:59:59.999999Z",
            ),
            ("1969-12-31T23:59:59-00:01", "1970-01-01T00:00:59Z"),
        ] {
            let time = text.parse::<Timestamp>().map(Timestamp::to_rfc3339);
            assert_eq!(time.as_deref(), Ok(same), "{text}");
        }
        for text in [
            "",
            "2026-02-03",
            "2026-02-03 04:05:06Z",
            "2026-02-03T04:05:06",
            "2026-02-03T04:05Z",
            "20260203T040506Z",
            "2026-02-03T04:05:06,5Z",
            "2026-02-03T04:05:06.Z",
            "2026-02-03T04:05:06+0000",
            "2026-02-03T04:05:06+00",
            "2026-02-03T04:05:06+24:00",
            "2026-02-03T04:05:06Z[UTC]",
            "2026-02-30T04:05:06Z",
            "2026-02-03T24:00:00Z",
            "2026-02-03T04:05:61Z",
            "+026-02-03T04:05:06Z",
            "2026-02-03T04:05:06\u{e9}",
            "2026-02-0\u{e9}T04:05:06Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_bound_outside_what_is_stored_is_the_nearest_time() {
        assert_eq!(
            Timestamp::parse_bound(Timestamp::ZERO_ON_WIRE),
            Ok(Timestamp::UNIX_EPOCH)
        );
        let last = Timestamp::parse_bound("9999-12-31T23:59:59.999999-01:00");
        assert_eq!(
            last.map(Timestamp::to_rfc3339).as_deref(),
            Ok("9999-12-31T23:59:59.999999Z")
        );
        assert!(Timestamp::parse_bound("yesterday").is_err());
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::starting_at(Timestamp::from_seconds(10));
        assert_eq!(clock.now(), clock.now());
        clock.clone().advance(Duration::from_secs(5));
        assert_eq!(clock.now(), Timestamp::from_seconds(15));
    }
}
