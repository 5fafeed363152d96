//! What the use cases count, and the counts that come from the database.

use std::time::Duration;

use certctl_domain::{
    access::{Actor, Permission},
    id::ProfileId,
    issuer::IssuerType,
    job::{JobStatus, JobType},
    ports::issuer::{IssuedCertificate, IssuerError},
    target::TargetType,
    time::Timestamp,
};
use certctl_repository::{
    jobs::claim::ClaimedJob,
    metrics::{self as counted, Counts},
};
use certctl_telemetry::metrics_names as names;
use metrics::{counter, histogram};
use serde_json::Value;

use crate::{Error, Services, services::authorise};

impl Services {
    /// Counts everything there is, by one aggregate for each table; at most a second old.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `metrics.read`.
    pub async fn counts(&self, actor: &Actor) -> Result<Counts, Error> {
        authorise(actor, Permission::MetricsRead)?;
        self.recent_counts().await
    }

    /// The counts of at most a second ago. However many ask, one statement is under way at a time, and the others wait for it.
    pub(crate) async fn recent_counts(&self) -> Result<Counts, Error> {
        let mut last = self.counts.0.lock().await;
        let now = self.now();
        if let Some((at, counts)) = *last
            // Not when they were made in the future, by a clock set back since.
            && at <= now
            && now.since(at) < FRESH
        {
            return Ok(counts);
        }
        let counts = counted::counts(&mut self.read().await?, now).await?;
        *last = Some((now, counts));
        Ok(counts)
    }
}

/// How long counts are taken for what there is.
const FRESH: Duration = Duration::from_secs(1);

/// The last counts and when they were made.
#[derive(Default)]
pub(crate) struct RecentCounts(tokio::sync::Mutex<Option<(Timestamp, Counts)>>);

/// Notes the size of a claim and how long its jobs had been due.
pub(crate) fn observe_claim(claimed: &[ClaimedJob], now: Timestamp) {
    if claimed.is_empty() {
        return;
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a claim has at most 100,000 jobs"
    )]
    histogram!(names::JOB_CLAIM_SIZE.name).record(claimed.len() as f64);
    for one in claimed {
        let waited = now.since(one.job.scheduled_at).as_secs_f64();
        histogram!(names::JOB_WAIT_SECONDS.name, "type" => one.job.job_type.as_str())
            .record(waited);
    }
}

/// Counts how a request for approval ended, and how old it was where somebody had to decide.
pub(crate) fn count_decision(outcome: &'static str, profile: &ProfileId, age: Option<Duration>) {
    counter!(names::APPROVAL_DECISIONS_TOTAL.name, "outcome" => outcome, "profile_id" => profile.to_string())
        .increment(1);
    if let Some(age) = age {
        histogram!(names::APPROVAL_PENDING_AGE_SECONDS.name).record(age.as_secs_f64());
    }
}

/// Counts requests for approval of one profile that ended alike without anybody deciding.
pub(crate) fn count_decisions(outcome: &'static str, profile: &ProfileId, total: u64) {
    counter!(names::APPROVAL_DECISIONS_TOTAL.name, "outcome" => outcome, "profile_id" => profile.to_string())
        .increment(total);
}

/// How a run of a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunEnd {
    /// Well.
    Completed,
    /// Badly, and for good.
    Failed,
    /// Badly, and it is tried again.
    Retry,
    /// It was given back before its end.
    Released,
}

impl RunEnd {
    /// A failure, by whether it is tried again.
    pub(crate) const fn failure(again: bool) -> Self {
        if again { Self::Retry } else { Self::Failed }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Retry => "retry",
            Self::Released => "released",
        }
    }
}

/// Notes how long a run of a job took from its claim to its end; what was never claimed has no run.
pub(crate) fn observe_run(kind: &str, started_at: Option<Timestamp>, end: RunEnd, now: Timestamp) {
    // The stored text becomes a label only where it is one of those there are.
    let (Some(started_at), Ok(kind)) = (started_at, JobType::parse(kind)) else {
        return;
    };
    histogram!(names::JOB_DURATION_SECONDS.name, "type" => kind.as_str(), "outcome" => end.as_str())
        .record(now.since(started_at).as_secs_f64());
}

/// Counts jobs whose worker died.
pub(crate) fn count_expired_leases(jobs: usize) {
    counter!(names::JOB_LEASES_EXPIRED_TOTAL.name).increment(jobs as u64);
}

/// Counts what an issuer answered to one batch.
pub(crate) fn observe_issuance(
    kind: IssuerType,
    took: Duration,
    answers: &[Result<IssuedCertificate, IssuerError>],
) {
    let kind = kind.as_str();
    for answer in answers {
        count_answer(kind, took, answer.as_ref().err());
    }
}

/// Counts a certificate that was signed before anything was written of it, and is stored.
pub(crate) fn observe_signed_ahead(kind: IssuerType, took: Duration) {
    count_answer(kind.as_str(), took, None);
}

fn count_answer(kind: &'static str, took: Duration, error: Option<&IssuerError>) {
    let outcome = if error.is_none() {
        "success"
    } else {
        "failure"
    };
    counter!(names::ISSUANCE_TOTAL.name, "issuer_type" => kind, "outcome" => outcome).increment(1);
    if let Some(error) = error {
        counter!(names::ISSUANCE_FAILURES_TOTAL.name, "issuer_type" => kind, "error_class" => error.class()).increment(1);
    }
    histogram!(names::ISSUANCE_DURATION_SECONDS.name, "issuer_type" => kind)
        .record(took.as_secs_f64());
}

/// Counts how a deployment ended, by the report of its agent (targets §2).
pub(crate) fn count_deployment(target: TargetType, status: JobStatus, report: Option<&Value>) {
    let target = target.as_str();
    let result = match status {
        JobStatus::Completed => "success",
        JobStatus::Failed => "failure",
        _ => return,
    };
    counter!(names::DEPLOY_ATTEMPTS_TOTAL.name, "target_type" => target, "result" => result)
        .increment(1);
    let field = |name: &str| report.and_then(|report| report.get(name));
    let text = |name: &str| field(name).and_then(Value::as_str);
    let failures = match text("outcome") {
        Some("validate_failed") => Some(&names::DEPLOY_VALIDATE_FAILURES_TOTAL),
        Some("reload_failed") => Some(&names::DEPLOY_RELOAD_FAILURES_TOTAL),
        Some("verify_failed") => Some(&names::DEPLOY_POST_VERIFY_FAILURES_TOTAL),
        _ => None,
    };
    if let Some(metric) = failures {
        counter!(metric.name, "target_type" => target).increment(1);
    }
    match text("rollback") {
        Some("restored") => counter!(names::DEPLOY_ROLLBACK_TOTAL.name, "target_type" => target, "outcome" => "restored").increment(1),
        Some("also_failed") => counter!(names::DEPLOY_ROLLBACK_TOTAL.name, "target_type" => target, "outcome" => "also_failed").increment(1),
        _ => {}
    }
    if field("idempotent").and_then(Value::as_bool) == Some(true) {
        counter!(names::DEPLOY_IDEMPOTENT_SKIP_TOTAL.name, "target_type" => target).increment(1);
    }
}
