//! Renewal policies, and when a certificate is due for renewal.

use std::{collections::BTreeMap, time::Duration};

use crate::{id::RenewalPolicyId, time::Timestamp, validation::InvalidField};

/// How and when certificates are renewed (model §3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalPolicy {
    /// The id, `rp-` and a slug of the name.
    pub id: RenewalPolicyId,
    /// The name, unique.
    pub name: String,
    /// Days before expiry at which renewal begins, 1 to 365.
    pub renewal_window_days: u32,
    /// Whether the renewal scan renews at all.
    pub auto_renew: bool,
    /// Attempts of a job beyond which it stays failed, 0 to 10.
    pub max_retries: u32,
    /// Seconds before the first retry, 60 to 86,400.
    pub retry_interval_seconds: u32,
    /// Days before expiry at which alerts go out, each 0 to 365.
    pub alert_thresholds_days: Vec<u32>,
    /// Tier to channels; empty means e-mail for every tier.
    pub alert_channels: BTreeMap<String, Vec<String>>,
    /// Threshold to tier; empty means the defaults.
    pub alert_severity_map: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl RenewalPolicy {
    /// Checks the bounds of the contract (api §20); rows of the seed may lie below them and are read all the same.
    ///
    /// # Errors
    /// [`InvalidField`] naming the first field out of bounds.
    pub fn check_bounds(&self) -> Result<(), InvalidField> {
        in_bounds("renewal_window_days", self.renewal_window_days, 1, 365)?;
        in_bounds("max_retries", self.max_retries, 0, 10)?;
        in_bounds(
            "retry_interval_seconds",
            self.retry_interval_seconds,
            60,
            86_400,
        )?;
        if self.alert_thresholds_days.len() > 32 {
            return Err(InvalidField::new(
                "alert_thresholds_days",
                "has more than 32 entries",
            ));
        }
        for days in &self.alert_thresholds_days {
            in_bounds("alert_thresholds_days", *days, 0, 365)?;
        }
        for (tier, channels) in &self.alert_channels {
            if !TIERS.contains(&tier.as_str()) {
                return Err(InvalidField::new(
                    "alert_channels",
                    format!("{tier:?} is no tier ({})", TIERS.join(", ")),
                ));
            }
            if let Some(channel) = channels
                .iter()
                .find(|channel| !CHANNELS.contains(&channel.as_str()))
            {
                return Err(InvalidField::new(
                    "alert_channels",
                    format!("{channel:?} is no channel ({})", CHANNELS.join(", ")),
                ));
            }
        }
        for (threshold, tier) in &self.alert_severity_map {
            let days = threshold.parse::<u32>().map_err(|_| {
                InvalidField::new(
                    "alert_severity_map",
                    format!("{threshold:?} is no number of days"),
                )
            })?;
            in_bounds("alert_severity_map", days, 0, 365)?;
            if !TIERS.contains(&tier.as_str()) {
                return Err(InvalidField::new(
                    "alert_severity_map",
                    format!("{tier:?} is no tier ({})", TIERS.join(", ")),
                ));
            }
        }
        Ok(())
    }

    /// The tier of a certificate that ends at `end`: that of the tightest threshold it has come to, and the mildest before the
    /// first.
    #[must_use]
    pub fn tier(&self, end: Timestamp, now: Timestamp) -> &str {
        let crossed = self
            .alert_thresholds_days
            .iter()
            .filter(|threshold| end <= now + days(**threshold))
            .min();
        crossed.map_or(TIERS[0], |threshold| self.tier_at(*threshold))
    }

    /// The tier of a threshold; one without a tier of the policy's own has that of the defaults (model §3.4).
    #[must_use]
    pub fn tier_at(&self, threshold: u32) -> &str {
        match self.alert_severity_map.get(&threshold.to_string()) {
            Some(tier) => tier,
            None => match threshold {
                0 => TIERS[2],
                1..=14 => TIERS[1],
                _ => TIERS[0],
            },
        }
    }

    /// [`Self::tier`] for certificates in bulk: those that end after the first time and not after the second have the tier, those
    /// that end later than all of them the mildest.
    #[must_use]
    pub fn tiers(&self, now: Timestamp) -> Vec<(Timestamp, Timestamp, &str)> {
        let mut thresholds = self.alert_thresholds_days.clone();
        thresholds.sort_unstable();
        thresholds.dedup();
        let mut after = Timestamp::UNIX_EPOCH;
        thresholds
            .into_iter()
            .map(|threshold| {
                let until = now + days(threshold);
                let band = (after, until, self.tier_at(threshold));
                after = until;
                band
            })
            .collect()
    }

    /// The window as a duration.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_secs(u64::from(self.renewal_window_days) * DAY_SECONDS)
    }
}

fn days(count: u32) -> Duration {
    Duration::from_secs(u64::from(count) * DAY_SECONDS)
}

/// Alert tiers.
pub const TIERS: [&str; 3] = ["informational", "warning", "critical"];
/// Notification channels.
pub const CHANNELS: [&str; 6] = [
    "Email",
    "Webhook",
    "Slack",
    "Teams",
    "PagerDuty",
    "OpsGenie",
];
const DAY_SECONDS: u64 = 86_400;

/// The slug of a policy's name, which makes its id: `rp-` and at most 61 characters of `a-z 0-9 -`.
#[must_use]
pub fn slug(name: &str) -> String {
    let mut slug = String::from("rp-");
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() == 64 {
            break;
        }
    }
    let trimmed = slug.trim_end_matches('-');
    if trimmed == "rp" {
        "rp-policy".to_owned()
    } else {
        trimmed.to_owned()
    }
}

/// When a version becomes due for renewal.
///
/// The window opens `window` before expiry, but never earlier than after two thirds of the version's life: a policy of 30
/// days on a 7-day certificate would otherwise renew it for ever. Inside the first tenth of the window, at most a day wide,
/// the instant is chosen by `jitter` (0 to 1), so that certificates issued together are not renewed together
/// (RFC 9773 §4.2 asks the same of ACME clients).
#[must_use]
pub fn renew_at(
    not_before: Timestamp,
    not_after: Timestamp,
    window: Duration,
    jitter: f64,
) -> Timestamp {
    let life = not_after.since(not_before);
    let effective = window.min(life / 3);
    let spread = (effective / 10).min(Duration::from_secs(DAY_SECONDS));
    not_after - effective + spread.mul_f64(jitter.clamp(0.0, 1.0))
}

fn in_bounds(field: &'static str, value: u32, low: u32, high: u32) -> Result<(), InvalidField> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(InvalidField::new(
            field,
            format!("{value} is not within {low} to {high}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{renew_at, slug};
    use crate::time::Timestamp;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn renewal_is_due_when_the_window_opens_and_within_its_first_tenth() {
        let start = Timestamp::from_seconds(0);
        let end = start + 90 * DAY;
        assert_eq!(renew_at(start, end, 30 * DAY, 0.0), start + 60 * DAY);
        assert_eq!(renew_at(start, end, 30 * DAY, 1.0), start + 61 * DAY);
    }

    #[test]
    fn a_window_longer_than_the_life_does_not_renew_at_once() {
        let start = Timestamp::from_seconds(0);
        assert_eq!(
            renew_at(start, start + 6 * DAY, 30 * DAY, 0.0),
            start + 4 * DAY
        );
    }

    #[test]
    fn slugs_are_short_and_plain() {
        assert_eq!(slug("Standard 30-day"), "rp-standard-30-day");
        assert_eq!(slug("  "), "rp-policy");
        assert!(slug(&"x y".repeat(100)).len() <= 64);
    }
}
