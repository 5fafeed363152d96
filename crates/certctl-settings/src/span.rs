//! Durations as operators write them: `300ms`, `10s`, `7h30m`.

use std::time::Duration;

use crate::form::{Fault, Form};

/// The units, greatest first, with their length in milliseconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A duration of at least `min`.
#[derive(Debug)]
pub(crate) struct Span {
    /// The least duration accepted.
    pub min: Duration,
}

impl Span {
    /// Any duration, also none at all.
    pub(crate) const ANY: Self = Self {
        min: Duration::ZERO,
    };

    /// A duration of at least so many seconds.
    #[must_use]
    pub(crate) const fn at_least_seconds(seconds: u64) -> Self {
        Self {
            min: Duration::from_secs(seconds),
        }
    }
}

impl Form for Span {
    type Value = Duration;

    fn expected(&self) -> String {
        let examples = "300ms, 10s, 5m, 7h30m";
        if self.min.is_zero() {
            format!("a duration ({examples})")
        } else {
            format!(
                "a duration of at least {} ({examples})",
                format_duration(self.min)
            )
        }
    }

    fn parse(&self, text: &str) -> Result<Duration, Fault> {
        parse_duration(text.trim())
            .filter(|span| *span >= self.min)
            .ok_or_else(|| Fault::not(self))
    }
}

/// Reads whole amounts with units from the greatest unit to the least, none twice; `0` needs no unit.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (amount, tail) = rest.split_at(digits);
        let unit_len = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        // The iterator only moves forward, which is what refuses a unit that comes twice or too late.
        let (_, millis) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(amount.parse::<u64>().ok()?.checked_mul(*millis)?)?;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::from_millis(total))
}

/// Writes a duration the way it is read, to the millisecond: `7h30m`, `0s`.
#[must_use]
pub fn format_duration(span: Duration) -> String {
    let mut rest = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, millis) in UNITS {
        let amount = rest / millis;
        rest %= millis;
        if amount > 0 {
            text.push_str(&format!("{amount}{unit}"));
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Span, format_duration, parse_duration};
    use crate::form::Form;

    #[test]
    fn reads_the_forms_of_the_contract() {
        let cases = [
            ("300ms", 300),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7h30m", 27_000_000),
            ("168h", 604_800_000),
            ("1h1m1s1ms", 3_661_001),
            ("0", 0),
            ("0s", 0),
        ];
        for (text, millis) in cases {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "5",
            "m",
            "5 m",
            "-5m",
            "5d",
            "1.5h",
            "5m1h",
            "5m5m",
            "5M",
            "5ms5s",
            "18446744073709551615h",
            "5mx",
            "５s",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn says_the_minimum() {
        let refusal = Span::at_least_seconds(60)
            .parse("10s")
            .unwrap_err()
            .to_string();
        assert_eq!(
            refusal,
            "is not a duration of at least 1m (300ms, 10s, 5m, 7h30m)"
        );
        assert_eq!(
            Span::at_least_seconds(60).parse("60s").unwrap(),
            Duration::from_secs(60)
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(millis in 0..=u64::MAX / 2) {
            let span = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(span)), Some(span));
        }

        #[test]
        fn no_text_panics_and_what_is_read_is_stable(text in "[0-9hms .-]{0,24}") {
            if let Some(span) = parse_duration(&text) {
                prop_assert_eq!(parse_duration(&format_duration(span)), Some(span));
            }
        }
    }
}
