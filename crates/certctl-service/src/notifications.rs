//! Notifications: what is written into the outbox, and what operators do with it.
//!
//! Nothing sends them yet: a notification stays `pending` until there is a connector for its channel.

use std::time::Duration;

use certctl_domain::{
    access::{Actor, Permission},
    audit::{AuditEvent, EventCategory},
    id::{CertificateId, JobId, NotificationId},
    job::{Job, JobStatus, JobType},
    notification::{Notification, NotificationType, Untold, alert_thresholds},
    page::{Page, PageRequest},
    renewal_policy::RenewalPolicy,
    revocation::RevocationReason,
    time::Timestamp,
};
use certctl_repository::{
    Conn, audit_events,
    jobs::{claim::Swept, complete::Completion},
    notifications::{self, ExpiryAlert, ExpiryWindow, Notice, NotificationFilter, SkippedWindow},
    renewal_policies, transaction,
};
use certctl_telemetry::metrics_names as names;
use metrics::counter;
use serde_json::json;

use crate::{
    Error, Services,
    error::Expect as _,
    services::{authorise, event, record},
    totals::Asked,
};

/// Alerts that one transaction writes, at most.
const ALERTS: i64 = 1000;
const DAY: Duration = Duration::from_secs(86_400);
/// How long after its end a certificate is still told to have expired; what ended longer ago was not seen to end here.
const EXPIRED_WITHIN: Duration = Duration::from_secs(30 * 86_400);

impl Services {
    /// Lists notifications: last sent first, and what is not sent at the end.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `notification.read`.
    pub async fn list_notifications(
        &self,
        actor: &Actor,
        filter: NotificationFilter,
        page: PageRequest,
    ) -> Result<Page<Notification>, Error> {
        authorise(actor, Permission::NotificationRead)?;
        let rows = notifications::list_page(&mut self.read().await?, filter, page).await?;
        let total = self.count(&Asked::Notifications(filter)).await?;
        Ok(Page { rows, total })
    }

    /// Reads a notification.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `notification.read`, [`Error::NotFound`].
    pub async fn get_notification(
        &self,
        actor: &Actor,
        id: &NotificationId,
    ) -> Result<Notification, Error> {
        authorise(actor, Permission::NotificationRead)?;
        notifications::find(&mut self.read().await?, id)
            .await
            .or_not_found("notification", id)
    }

    /// Notes that an operator has seen a notification; one that still waits is not sent any more.
    ///
    /// # Errors
    /// As [`Self::get_notification`].
    pub async fn read_notification(&self, actor: &Actor, id: &NotificationId) -> Result<(), Error> {
        authorise(actor, Permission::NotificationRead)?;
        let now = self.now();
        transaction!(self.db, "read notification", conn => {
            if notifications::mark_read(conn, id).await.or_not_found("notification", id)? {
                let resource = ("notification", id.as_str());
                record(conn, event(actor, EventCategory::CertLifecycle, "notification_read", resource, json!({}), now)).await?;
            }
            Ok::<_, Error>(())
        })
    }

    /// Has a notification sent again that failed or was given up; one that waits is left to wait.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `notification.edit`, [`Error::NotFound`], [`Error::Conflict`] when it was sent or read.
    pub async fn requeue_notification(
        &self,
        actor: &Actor,
        id: &NotificationId,
    ) -> Result<(), Error> {
        authorise(actor, Permission::NotificationEdit)?;
        let now = self.now();
        transaction!(self.db, "requeue notification", conn => {
            if !notifications::requeue(conn, id).await.or_not_found("notification", id)? {
                return Err(Error::Conflict("a notification that was sent or read is not sent again".to_owned()));
            }
            let resource = ("notification", id.as_str());
            record(conn, event(actor, EventCategory::CertLifecycle, "notification_requeued", resource, json!({}), now)).await?;
            Ok::<_, Error>(())
        })
    }

    /// Writes the alerts of certificates that have crossed a threshold of their policy, with their audit rows; returns how many
    /// (scheduler §4.1). An alert that was written before costs a look at the index of keys.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; what was written stays so.
    pub async fn alert_expiries(&self) -> Result<usize, Error> {
        let now = self.now();
        let mut written = 0;
        for windows in self.expiry_windows(now).await? {
            loop {
                if windows.told.is_empty() {
                    break;
                }
                let alerts = transaction!(self.db, "write expiry alerts", conn => {
                    let alerts = notifications::enqueue_expiry_alerts(conn, &windows.told, ALERTS, now).await?;
                    let events: Vec<AuditEvent> = alerts.iter().map(|one| alert_event(one, now)).collect();
                    audit_events::insert_all(conn, &events).await?;
                    Ok::<_, Error>(alerts)
                })?;
                for one in &alerts {
                    count_alert(one.channel.as_str(), one.threshold, "success");
                }
                written += alerts.len();
                if is_all(alerts.len()) {
                    break;
                }
            }
            self.skip_alerts(&windows.untold, now).await?;
        }
        Ok(written)
    }

    /// Writes down which alerts go no way; most policies have none.
    async fn skip_alerts(&self, windows: &[SkippedWindow], now: Timestamp) -> Result<(), Error> {
        while !windows.is_empty() {
            let skipped = transaction!(self.db, "record skipped alerts", conn => {
                Ok::<_, Error>(notifications::record_skipped(conn, windows, ALERTS, now).await?)
            })?;
            for threshold in &skipped {
                // What a policy calls a channel that there is not makes no label.
                count_alert("none", *threshold, "failure");
            }
            if is_all(skipped.len()) {
                break;
            }
        }
        Ok(())
    }

    /// The windows of all policies, those of a few hundred policies together.
    async fn expiry_windows(&self, now: Timestamp) -> Result<Vec<Windows>, Error> {
        let mut conn = self.read().await?;
        let per_page = PageRequest::MAX_PER_PAGE.to_string();
        let mut all = Vec::new();
        for number in 1_u32.. {
            let page = PageRequest::lenient(Some(&number.to_string()), Some(&per_page));
            let policies = renewal_policies::list(&mut conn, page).await?.rows;
            if policies.is_empty() {
                break;
            }
            let mut windows = Windows::default();
            for policy in &policies {
                windows.add(policy, now);
            }
            all.push(windows);
        }
        Ok(all)
    }
}

/// When certificates of some policies are told of, and when they are not although they should be.
#[derive(Default)]
struct Windows {
    told: Vec<ExpiryWindow>,
    untold: Vec<SkippedWindow>,
}

impl Windows {
    fn add(&mut self, policy: &RenewalPolicy, now: Timestamp) {
        for threshold in alert_thresholds(policy) {
            let after = threshold
                .tighter
                .map_or(now - EXPIRED_WITHIN, |days| now + days * DAY);
            let until = now + threshold.days * DAY;
            for channel in threshold.channels {
                self.told.push(ExpiryWindow {
                    policy_id: policy.id.clone(),
                    threshold: threshold.days,
                    channel,
                    after,
                    until,
                });
            }
            for (number, why) in threshold.untold.into_iter().enumerate() {
                let (action, channel) = match why {
                    Untold::InvalidChannel(name) => {
                        ("expiration_alert_skipped_invalid_channel", Some(name))
                    }
                    Untold::NoChannels => ("expiration_alert_skipped_no_channels", None),
                };
                self.untold.push(SkippedWindow {
                    policy_id: policy.id.clone(),
                    threshold: threshold.days,
                    number,
                    action,
                    channel,
                    after,
                    until,
                });
            }
        }
    }
}

/// Whether a statement that writes a limited number of rows has found all.
fn is_all(written: usize) -> bool {
    i64::try_from(written).is_ok_and(|count| count < ALERTS)
}

fn count_alert(channel: &'static str, threshold: u32, result: &'static str) {
    counter!(names::EXPIRY_ALERTS_TOTAL.name, "channel" => channel, "threshold" => threshold.to_string(), "result" => result)
        .increment(1);
}

fn alert_event(one: &ExpiryAlert, now: Timestamp) -> AuditEvent {
    let details = json!({"notification_id": one.id.as_str(), "threshold_days": one.threshold, "channel": one.channel.as_str()});
    event(
        &Actor::system(),
        EventCategory::CertLifecycle,
        "expiration_alert_sent",
        ("certificate", one.certificate_id.as_str()),
        details,
        now,
    )
}

/// A renewal that ended well.
pub(crate) fn of_completion(done: &Completion) -> Notice {
    let version = &done.version;
    Notice {
        kind: NotificationType::RenewalSuccess,
        certificate_id: version.certificate_id.clone(),
        message: format!(
            "was issued anew with serial number {}; it ends at {}",
            version.serial_number,
            version.not_after.to_rfc3339()
        ),
        key: format!("renewed:{}", version.id),
    }
}

/// A renewal that failed and is not tried again by itself.
pub(crate) fn of_failed_renewal(certificate: &CertificateId, job: &JobId, problem: &str) -> Notice {
    Notice {
        kind: NotificationType::RenewalFailure,
        certificate_id: certificate.clone(),
        message: format!("could not be renewed: {}", short(problem)),
        key: format!("renewal-failed:{job}"),
    }
}

/// Tells of jobs that a sweep ended for good, with why.
pub(crate) async fn tell_of_swept(
    conn: &mut Conn,
    swept: &[Swept],
    why: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let notices: Vec<Notice> = swept
        .iter()
        .filter(|one| one.failed_for_good())
        .filter_map(|one| {
            let certificate = one.certificate_id.as_ref()?;
            match JobType::parse(&one.kind).ok()? {
                JobType::Renewal | JobType::Issuance => {
                    Some(of_failed_renewal(certificate, &one.id, why))
                }
                JobType::Deployment => Some(of_failed_deployment(certificate, &one.id, why)),
                JobType::Validation => None,
            }
        })
        .collect();
    notifications::enqueue_all(conn, &notices, now).await?;
    Ok(())
}

fn of_failed_deployment(certificate: &CertificateId, job: &JobId, problem: &str) -> Notice {
    Notice {
        kind: NotificationType::DeploymentFailure,
        certificate_id: certificate.clone(),
        message: format!("could not be deployed: {}", short(problem)),
        key: format!("deployment-failed:{job}"),
    }
}

/// What became of a job that an agent reported; none where it is tried again, or is of no certificate.
pub(crate) fn of_report(
    job: &Job,
    to: JobStatus,
    problem: &str,
    is_tried_again: bool,
) -> Option<Notice> {
    let certificate_id = job.certificate_id.clone()?;
    let target = job
        .target_id
        .as_ref()
        .map_or("", certctl_domain::id::TargetId::as_str);
    match (job.job_type, to) {
        (JobType::Deployment, JobStatus::Completed) => Some(Notice {
            kind: NotificationType::DeploymentSuccess,
            certificate_id,
            message: format!("was deployed to {target}"),
            key: format!("deployed:{}", job.id),
        }),
        (JobType::Deployment, JobStatus::Failed) if !is_tried_again => {
            let problem = format!("{target}: {problem}");
            Some(of_failed_deployment(&certificate_id, &job.id, &problem))
        }
        (JobType::Renewal | JobType::Issuance, JobStatus::Failed) if !is_tried_again => {
            Some(of_failed_renewal(&certificate_id, &job.id, problem))
        }
        _ => None,
    }
}

/// A revocation; nothing brings a certificate back from it.
pub(crate) fn of_revocation(certificate: &CertificateId, reason: RevocationReason) -> Notice {
    Notice {
        kind: NotificationType::Revocation,
        certificate_id: certificate.clone(),
        message: format!("was revoked ({})", reason.as_str()),
        key: format!("revoked:{certificate}"),
    }
}

/// What a mail has room for; the job holds all of it.
fn short(problem: &str) -> String {
    problem.chars().take(500).collect()
}
