//! Jobs as operators see them: reading, calling off, and what was seen of deployments.

use certctl_domain::{
    access::{Actor, ActorType, Permission},
    approval::ApprovalState,
    audit::EventCategory,
    id::{AgentId, CertificateId, JobId, TargetId},
    job::{Job, JobEvent, JobStatus, JobType, VerificationStatus},
    page::{Page, PageRequest},
    time::Timestamp,
    validation::{InvalidField, optional_text},
};
use certctl_repository::{
    Conn, agents,
    approvals::{self, Decision},
    jobs::{self, JobChange, JobFilter, agent},
    renewals, targets, transaction,
};
use serde_json::json;

use crate::{
    Error, Services,
    access::own_agent_only,
    acme,
    engine::end_intents,
    error::Expect as _,
    services::{authorise, event, record},
    totals::Asked,
};

/// What an agent says it saw at a target.
#[derive(Debug, Clone, Default)]
pub struct VerificationInput {
    /// The target; required.
    pub target_id: String,
    /// What should be served: SHA-256 of the leaf, lowercase hex.
    pub expected_fingerprint: String,
    /// What is served; empty when nothing could be seen.
    pub actual_fingerprint: String,
    /// Whether they are the same.
    pub verified: bool,
    /// Why nothing could be seen.
    pub error: Option<String>,
}

/// What was made of what an agent says it saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Whether the target serves what it should; said by the fingerprints, not by whoever reports them.
    pub verified: bool,
    /// When it was stored.
    pub at: Timestamp,
}

impl Services {
    /// Lists jobs, newest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `job.read`.
    pub async fn list_jobs(
        &self,
        actor: &Actor,
        filter: JobFilter,
        page: PageRequest,
    ) -> Result<Page<Job>, Error> {
        authorise(actor, Permission::JobRead)?;
        let rows = jobs::list_page(&mut self.read().await?, filter, page).await?;
        let total = self.count(&Asked::Jobs(filter)).await?;
        Ok(Page { rows, total })
    }

    /// Reads a job.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `job.read`, [`Error::NotFound`].
    pub async fn get_job(&self, actor: &Actor, id: &JobId) -> Result<Job, Error> {
        authorise(actor, Permission::JobRead)?;
        jobs::find(&mut self.read().await?, id)
            .await
            .or_not_found("job", id)
    }

    /// Calls a job off; the certificate of a renewal goes back to the state its expiry says, and a request for approval ends.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `job.cancel`, [`Error::NotFound`], [`Error::Conflict`] when it has ended already.
    pub async fn cancel_job(&self, actor: &Actor, id: &JobId) -> Result<(), Error> {
        authorise(actor, Permission::JobCancel)?;
        let now = self.now();
        let orders = transaction!(self.db, "cancel job", conn => {
            let job = jobs::find(conn, id).await.or_not_found("job", id)?;
            let to = job.status.transition(JobEvent::Cancel).map_err(|refused| Error::Conflict(refused.to_string()))?;
            let change = JobChange { id, from: job.status, to, error: Some("cancelled"), next_attempt_at: None, now };
            if !jobs::change(conn, &change).await? {
                return Err(Error::Conflict("the job changed at the same moment".to_owned()));
            }
            let called_off = called_off(actor, "the job was cancelled", now);
            approvals::close_for_jobs(conn, std::slice::from_ref(id), &called_off).await?;
            if let Some(certificate) = &job.certificate_id {
                end_intents(conn, actor, std::slice::from_ref(certificate), now).await?;
            }
            let mut orders = Vec::new();
            if let (JobType::Renewal | JobType::Issuance, Some(certificate)) = (job.job_type, &job.certificate_id) {
                renewals::restore_status(conn, std::slice::from_ref(certificate), now).await?;
                orders = acme::orders_given_up(conn, std::slice::from_ref(certificate), now).await?;
            }
            record(conn, event(actor, EventCategory::CertLifecycle, "job_cancelled", ("job", id.as_str()), json!({}), now)).await?;
            Ok::<_, Error>(orders)
        })?;
        self.orders_ended(&orders);
        Ok(())
    }

    /// Stores what was seen at a target after a deployment.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `verification.run`, [`Error::NotFound`], [`Error::NotYours`] for another agent's job,
    /// [`Error::AgentRetired`], [`Error::Invalid`] for a fingerprint that is none.
    pub async fn verify_job(
        &self,
        actor: &Actor,
        id: &JobId,
        input: VerificationInput,
    ) -> Result<Verified, Error> {
        authorise(actor, Permission::VerificationRun)?;
        self.refuse_retired(actor).await?;
        let now = self.now();
        let failed = input
            .error
            .as_deref()
            .is_some_and(|error| !error.is_empty());
        let target = TargetId::parse(&input.target_id)
            .map_err(|error| InvalidField::new("target_id", error.to_string()))?;
        check_fingerprint("expected_fingerprint", &input.expected_fingerprint, failed)?;
        check_fingerprint("actual_fingerprint", &input.actual_fingerprint, failed)?;
        let error = input
            .error
            .as_deref()
            .map(|error| optional_text("error", error, 4096))
            .transpose()?;
        // What is claimed must be what the fingerprints say.
        let served = input.verified
            && !input.actual_fingerprint.is_empty()
            && input.expected_fingerprint == input.actual_fingerprint;
        let seen = agent::Verification {
            status: if served {
                VerificationStatus::Success
            } else {
                VerificationStatus::Failed
            },
            expected: &input.expected_fingerprint,
            actual: &input.actual_fingerprint,
            error: error.as_deref(),
            at: now,
        };
        transaction!(self.db, "verify job", conn => {
            let job = jobs::find(conn, id).await.or_not_found("job", id)?;
            if job.target_id.as_ref() != Some(&target) {
                return Err(InvalidField::new("target_id", "is not the target of this job").into());
            }
            let agent = match &job.agent_id {
                Some(agent) => agent.clone(),
                None => targets::find(conn, &target).await?.agent_id,
            };
            own_agent_only(actor, &agent)?;
            agent::set_verification(conn, id, &seen).await?;
            let action = if served { "job_verification_success" } else { "job_verification_failed" };
            let details = json!({"target_id": target.as_str(), "expected": seen.expected, "actual": seen.actual});
            record(conn, event(actor, EventCategory::CertLifecycle, action, ("job", id.as_str()), details, now)).await?;
            Ok::<_, Error>(Verified { verified: served, at: now })
        })
    }

    /// A retired agent is told so on every call it makes (api §16.3).
    async fn refuse_retired(&self, actor: &Actor) -> Result<(), Error> {
        if actor.actor_type() != ActorType::Agent {
            return Ok(());
        }
        let id = AgentId::from_stored(actor.id().to_owned());
        match agents::find(&mut self.read().await?, &id).await {
            Ok(agent) if agent.retired_at.is_some() => Err(Error::AgentRetired(id.to_string())),
            Ok(_) | Err(certctl_repository::Error::NotFound) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads what was seen at a target.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `verification.read`, [`Error::NotFound`] when there is no job or nothing was looked at.
    pub async fn get_verification(&self, actor: &Actor, id: &JobId) -> Result<Job, Error> {
        authorise(actor, Permission::VerificationRead)?;
        let job = jobs::find(&mut self.read().await?, id)
            .await
            .or_not_found("job", id)?;
        if job.verified_at.is_none() {
            return Err(Error::not_found("verification of job", id));
        }
        Ok(job)
    }
}

/// Calls off what waits for a certificate that ends: its jobs, the request for approval of its renewal, and the serial that a
/// try of it may have had signed.
pub(crate) async fn call_off_waiting(
    conn: &mut Conn,
    actor: &Actor,
    certificate: &CertificateId,
    reason: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let renewal = jobs::open_renewal(conn, certificate).await?;
    jobs::cancel_waiting(conn, certificate, reason, now).await?;
    // One that runs ends by itself, and what it signs is recorded and revoked then.
    if let Some(job) = renewal.filter(|job| job.status != JobStatus::Running) {
        let jobs = std::slice::from_ref(&job.id);
        approvals::close_for_jobs(conn, jobs, &called_off(actor, reason, now)).await?;
        acme::orders_given_up(conn, std::slice::from_ref(certificate), now).await?;
    }
    end_intents(conn, actor, std::slice::from_ref(certificate), now).await
}

/// How a request for approval ends whose job is called off.
fn called_off<'a>(actor: &'a Actor, reason: &'a str, now: Timestamp) -> Decision<'a> {
    Decision {
        state: ApprovalState::Rejected,
        by: actor.id(),
        note: Some(reason),
        now,
    }
}

/// SHA-256 as lowercase hex; empty only when the look itself failed.
fn check_fingerprint(
    field: &'static str,
    text: &str,
    may_be_empty: bool,
) -> Result<(), InvalidField> {
    let is_hex = text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if is_hex || (text.is_empty() && may_be_empty) {
        Ok(())
    } else {
        Err(InvalidField::new(
            field,
            "is not a SHA-256 in lowercase hex",
        ))
    }
}
