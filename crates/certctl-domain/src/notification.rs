//! Notifications: what somebody is to be told of a certificate.

use crate::{
    id::{CertificateId, NotificationId},
    renewal_policy::RenewalPolicy,
    text_enum,
    time::Timestamp,
};

text_enum! {
    /// What a notification tells (model §2).
    pub enum NotificationType ("notification type") {
        /// A certificate ends soon.
        ExpirationWarning = "ExpirationWarning",
        /// A certificate was issued or renewed.
        RenewalSuccess = "RenewalSuccess",
        /// A renewal failed for good.
        RenewalFailure = "RenewalFailure",
        /// A version was brought to a target.
        DeploymentSuccess = "DeploymentSuccess",
        /// A deployment failed for good.
        DeploymentFailure = "DeploymentFailure",
        /// A rule is violated.
        PolicyViolation = "PolicyViolation",
        /// A certificate was revoked.
        Revocation = "Revocation",
    }
}

text_enum! {
    /// The way a notification goes (model §2).
    pub enum NotificationChannel ("notification channel") {
        /// E-mail.
        Email = "Email",
        /// A POST of our own form.
        Webhook = "Webhook",
        /// Slack.
        Slack = "Slack",
        /// Microsoft Teams.
        Teams = "Teams",
        /// PagerDuty.
        PagerDuty = "PagerDuty",
        /// OpsGenie.
        OpsGenie = "OpsGenie",
    }
}

text_enum! {
    /// Where a notification stands (model §5.4).
    pub enum NotificationStatus ("notification status") {
        /// Waits to be sent.
        Pending = "pending",
        /// Was sent.
        Sent = "sent",
        /// Could not be sent and is tried again.
        Failed = "failed",
        /// Was given up.
        Dead = "dead",
        /// An operator has seen it.
        Read = "read",
    }
}

impl NotificationStatus {
    /// Whether an operator may have it sent again: it was not sent, and asking twice asks for the same (model §5.4).
    #[must_use]
    pub const fn may_requeue(self) -> bool {
        matches!(self, Self::Pending | Self::Failed | Self::Dead)
    }
}

/// A notification (model §3.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The id.
    pub id: NotificationId,
    /// What it tells.
    pub kind: NotificationType,
    /// The certificate it tells of; none where it is of no single one.
    pub certificate_id: Option<CertificateId>,
    /// The way it goes.
    pub channel: NotificationChannel,
    /// Who is told: the owner's e-mail address, or the owner's id where there is none.
    pub recipient: String,
    /// What is told.
    pub message: String,
    /// When it was sent.
    pub sent_at: Option<Timestamp>,
    /// Where it stands.
    pub status: NotificationStatus,
    /// Why it was given up.
    pub error: Option<String>,
    /// Attempts after the first that failed.
    pub retry_count: u32,
    /// When it is tried again.
    pub next_retry_at: Option<Timestamp>,
    /// What the last attempt met.
    pub last_error: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A threshold of a policy with the channels of its alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertThreshold {
    /// Days before the end at which it is crossed.
    pub days: u32,
    /// The next tighter one, whose alerts take the place of these.
    pub tighter: Option<u32>,
    /// The ways its alerts go, in the order of the policy; unknown ones are left out.
    pub channels: Vec<NotificationChannel>,
    /// Why it is told by fewer ways than the policy names, or by none.
    pub untold: Vec<Untold>,
}

/// Why an alert does not go a way, or any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Untold {
    /// The policy names a channel that there is not; only rows of others do.
    InvalidChannel(String),
    /// The policy names channels, and none for the tier of this threshold.
    NoChannels,
}

/// The thresholds of a policy, tightest first: at the first sight of a certificate only the tightest that it has crossed fires
/// (scheduler §4.1). Without channels in the policy every tier goes by e-mail; with some, a tier without any is told to nobody.
#[must_use]
pub fn alert_thresholds(policy: &RenewalPolicy) -> Vec<AlertThreshold> {
    let mut days = policy.alert_thresholds_days.clone();
    days.sort_unstable();
    days.dedup();
    let tighter = std::iter::once(None).chain(days.iter().copied().map(Some));
    days.iter()
        .zip(tighter)
        .map(|(days, tighter)| {
            let (channels, untold) = channels(policy, policy.tier_at(*days));
            AlertThreshold {
                days: *days,
                tighter,
                channels,
                untold,
            }
        })
        .collect()
}

fn channels(policy: &RenewalPolicy, tier: &str) -> (Vec<NotificationChannel>, Vec<Untold>) {
    if policy.alert_channels.is_empty() {
        return (vec![NotificationChannel::Email], Vec::new());
    }
    let named = policy
        .alert_channels
        .get(tier)
        .map_or(&[][..], Vec::as_slice);
    if named.is_empty() {
        return (Vec::new(), vec![Untold::NoChannels]);
    }
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for name in named {
        match NotificationChannel::parse(name) {
            Ok(channel) if known.contains(&channel) => {}
            Ok(channel) => known.push(channel),
            Err(_) => unknown.push(Untold::InvalidChannel(name.clone())),
        }
    }
    (known, unknown)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{NotificationChannel as C, NotificationStatus as S, Untold, alert_thresholds};
    use crate::{id::RenewalPolicyId, renewal_policy::RenewalPolicy, time::Timestamp};

    fn policy(thresholds: &[u32]) -> RenewalPolicy {
        RenewalPolicy {
            id: RenewalPolicyId::from_stored("rp-x".into()),
            name: "x".into(),
            renewal_window_days: 30,
            auto_renew: true,
            max_retries: 3,
            retry_interval_seconds: 60,
            alert_thresholds_days: thresholds.to_vec(),
            alert_channels: BTreeMap::new(),
            alert_severity_map: BTreeMap::new(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_was_sent_is_not_sent_again() {
        let requeued: Vec<_> = S::ALL.iter().filter(|one| one.may_requeue()).collect();
        assert_eq!(requeued, [&S::Pending, &S::Failed, &S::Dead]);
    }

    #[test]
    fn thresholds_end_where_the_next_tighter_one_begins() {
        let found: Vec<_> = alert_thresholds(&policy(&[30, 7, 14, 7, 0]))
            .into_iter()
            .map(|one| (one.days, one.tighter, one.channels))
            .collect();
        let email = vec![C::Email];
        let expected = [
            (0, None, email.clone()),
            (7, Some(0), email.clone()),
            (14, Some(7), email.clone()),
            (30, Some(14), email),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn channels_follow_the_tier_and_unknown_ones_are_left_out() {
        let mut policy = policy(&[30, 14, 0]);
        let named = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        policy
            .alert_channels
            .insert("critical".into(), named(&["pagerduty", "Fax", "PagerDuty"]));
        policy
            .alert_channels
            .insert("warning".into(), named(&["Slack"]));
        policy
            .alert_severity_map
            .insert("14".into(), "critical".into());
        let found: Vec<_> = alert_thresholds(&policy)
            .into_iter()
            .map(|one| (one.days, one.channels, one.untold))
            .collect();
        let fax = || vec![Untold::InvalidChannel("Fax".into())];
        let expected = [
            (0, vec![C::PagerDuty], fax()),
            (14, vec![C::PagerDuty], fax()),
            (30, vec![], vec![Untold::NoChannels]),
        ];
        assert_eq!(found, expected);
    }
}
