//! What a report of an agent does to a job.

use certctl_domain::{
    access::Actor,
    audit::EventCategory,
    id::AgentId,
    job::{Job, JobEvent, JobStatus, JobType, retry_delay},
    time::Timestamp,
};
use certctl_repository::{
    Conn, certificates,
    jobs::{self, JobChange, agent},
    notifications, renewal_policies,
};
use serde_json::{Value, json};

use crate::{
    Error,
    engine::end_intents,
    metrics::RunEnd,
    notifications as told,
    renewals::{jitter, retry_interval},
    services::{event, record},
};

/// A report that was read.
pub(super) struct Said<'a> {
    /// The state it says the job is in.
    pub(super) status: JobStatus,
    /// Why it failed; empty where it did not.
    pub(super) problem: &'a str,
    /// How the deployment went.
    pub(super) deploy: Option<&'a Value>,
}

/// What a report of an agent does to a job. An agent runs the deployments that a poll gave it, and gives up renewals that wait
/// for its request; that a renewal runs or is complete is for the server alone to say, since it is the server that signs.
fn reported_event(
    job_type: JobType,
    present: JobStatus,
    status: JobStatus,
) -> Result<JobEvent, Error> {
    match (job_type, present, status) {
        (JobType::Deployment, JobStatus::Running, JobStatus::Completed) => Ok(JobEvent::Complete),
        (JobType::Deployment, JobStatus::Running, JobStatus::Failed)
        | (JobType::Renewal | JobType::Issuance, JobStatus::AwaitingCsr, JobStatus::Failed) => {
            Ok(JobEvent::Fail)
        }
        (_, present, _) => Err(Error::Conflict(format!(
            "a job that is {present} cannot be reported as {status}"
        ))),
    }
}

/// Whether a deployment was taken back from an agent whose lease ran out, and waits to be given out again. One that failed and is
/// to be tried again was scheduled anew since it began.
fn was_taken_back(job: &Job, agent: &AgentId) -> bool {
    job.job_type == JobType::Deployment
        && job.status == JobStatus::Pending
        && job.agent_id.as_ref() == Some(agent)
        && job.started_at.is_some_and(|at| at >= job.scheduled_at)
}

/// When a job that failed is tried again, by the policy of its certificate; none when its attempts are used up.
pub(super) async fn next_try(
    conn: &mut Conn,
    job: &Job,
    attempts: u32,
    now: Timestamp,
) -> Result<Option<Timestamp>, Error> {
    let Some(certificate) = job
        .certificate_id
        .as_ref()
        .filter(|_| attempts < job.max_attempts)
    else {
        return Ok(None);
    };
    let certificate = certificates::find(conn, certificate).await?;
    let policy = renewal_policies::find(conn, &certificate.renewal_policy_id).await?;
    let interval = retry_interval(policy.retry_interval_seconds);
    Ok(Some(now + retry_delay(attempts, interval, jitter())))
}

/// Another agent may still make the request that this one cannot: the renewal waits on, and is offered to this one no more.
async fn others_remain(
    conn: &mut Conn,
    actor: &Actor,
    agent: &AgentId,
    job: &Job,
    problem: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let details =
        json!({"status": job.status.as_str(), "agent_id": agent.as_str(), "error": problem});
    let resource = ("job", job.id.as_str());
    let category = EventCategory::CertLifecycle;
    let event = event(
        actor,
        category,
        "job_status_reported",
        resource,
        details,
        now,
    );
    record(conn, event).await
}

/// Carries a report out and tells how the run ended; none when it says what is already so.
pub(super) async fn apply(
    conn: &mut Conn,
    actor: &Actor,
    agent: &AgentId,
    job: &Job,
    said: &Said<'_>,
    now: Timestamp,
) -> Result<Option<RunEnd>, Error> {
    let Said {
        status,
        problem,
        deploy,
    } = *said;
    if job.status == status {
        if status == JobStatus::Running {
            agent::extend_lease(conn, &job.id, agent, now).await?;
        }
        return Ok(None);
    }
    // The agent was slow but not gone: what it says of its work counts, as long as nobody else has taken it up.
    let seen = if was_taken_back(job, agent) {
        JobStatus::Running
    } else {
        job.status
    };
    let event_of = reported_event(job.job_type, seen, status)?;
    let to = seen
        .transition(event_of)
        .map_err(|refused| Error::Conflict(refused.to_string()))?;
    if job.status == JobStatus::AwaitingCsr {
        let refused = agent::refuse_csr(conn, job, agent, now).await?;
        if refused.others_remain {
            if refused.is_new {
                others_remain(conn, actor, agent, job, problem, now).await?;
            }
            return Ok(None);
        }
    }
    let attempts = job.attempts + u32::from(job.status == JobStatus::AwaitingCsr);
    let again = match to {
        JobStatus::Failed => next_try(conn, job, attempts, now).await?,
        _ => None,
    };
    let error = (!problem.is_empty()).then_some(problem);
    let change = JobChange {
        id: &job.id,
        from: job.status,
        to,
        error,
        next_attempt_at: again,
        now,
    };
    let changed = match job.status {
        // Handing a renewal to an agent counts no attempt, so that giving it up must; otherwise it would be tried for ever.
        JobStatus::AwaitingCsr => agent::give_up_csr(conn, &job.id, error, again, now).await?,
        _ => jobs::change(conn, &change).await?,
    };
    if !changed {
        return Err(Error::Conflict(
            "the job changed at the same moment".to_owned(),
        ));
    }
    if let Some(deploy) = deploy {
        agent::set_deployment_result(conn, &job.id, deploy).await?;
    }
    let action = match (job.job_type, to) {
        (JobType::Deployment, JobStatus::Completed) => {
            if let Some(certificate) = &job.certificate_id {
                certificates::set_deployed(conn, certificate, now).await?;
            }
            "deployment_job_completed"
        }
        (JobType::Deployment, JobStatus::Failed) => "deployment_job_failed",
        _ => "job_status_reported",
    };
    let details = json!({"status": to.as_str(), "error": error});
    record(
        conn,
        event(
            actor,
            EventCategory::CertLifecycle,
            action,
            ("job", job.id.as_str()),
            details,
            now,
        ),
    )
    .await?;
    if let Some(notice) = told::of_report(job, to, problem, again.is_some()) {
        notifications::enqueue_all(conn, &[notice], now).await?;
    }
    if to == JobStatus::Failed
        && again.is_none()
        && job.job_type != JobType::Deployment
        && let Some(certificate) = &job.certificate_id
    {
        jobs::complete::fail_certificates(conn, std::slice::from_ref(certificate), now).await?;
        end_intents(conn, actor, std::slice::from_ref(certificate), now).await?;
    }
    Ok(Some(match to {
        JobStatus::Completed => RunEnd::Completed,
        _ => RunEnd::failure(again.is_some()),
    }))
}
