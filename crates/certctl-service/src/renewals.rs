//! Renewals: asked for by somebody, or found due by the scan.

use std::{collections::BTreeSet, time::Duration};

use certctl_domain::{
    access::{Actor, Permission},
    approval::Approval,
    audit::{AuditEvent, EventCategory},
    certificate::{Certificate, CertificateEvent, CertificateSource, CertificateStatus},
    id::{CertificateId, JobId, TargetId},
    job::{JobStatus, JobType},
    target::Target,
    time::Timestamp,
    validation::InvalidField,
};
use certctl_repository::{
    Conn, agents, audit_events, certificates,
    jobs::{self, NewJob, agent},
    profiles, renewal_policies,
    renewals::{self, DuePage, Position},
    targets, transaction, versions,
};
use serde_json::json;

use crate::{
    Error, Services,
    approvals::{Gated, count_bypassed},
    config::KeygenMode,
    engine::WAKE_CHANNEL,
    error::Expect as _,
    policies,
    services::{authorise, event, record},
};

/// Certificates that one step of the scan enqueues, in one transaction.
const SCAN_STEP: i64 = 1000;

/// What a renewal that was asked for became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalTriggered {
    /// The job.
    pub job_id: JobId,
    /// The request that waits for a second person, if one must agree.
    pub approval_id: Option<String>,
}

/// What a scan did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanSummary {
    /// Renewals enqueued.
    pub enqueued: usize,
    /// Certificates found past their end.
    pub expired: usize,
    /// Certificates found inside their window.
    pub expiring: usize,
    /// Rows of others whose renewal was planned.
    pub planned: usize,
    /// Alerts written of ends that are near.
    pub alerts: usize,
}

impl Services {
    /// Asks for a renewal, or for the first issuance where nothing is issued yet.
    ///
    /// A renewal that is under way already is answered with its job when `force` is set, so that asking twice never signs twice.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `cert.issue`, [`Error::NotFound`], [`Error::BadRequest`] for one that is archived, revoked, or
    /// expired without `force`, [`Error::Conflict`] while a renewal is under way without `force`.
    pub async fn renew_certificate(
        &self,
        actor: &Actor,
        id: &CertificateId,
        force: bool,
    ) -> Result<RenewalTriggered, Error> {
        authorise(actor, Permission::CertIssue)?;
        let now = self.now();
        let renewed = transaction!(self.db, "renew certificate", conn => {
            let certificate = certificates::find_for_update(conn, id).await.or_not_found("certificate", id)?;
            let next = admit(&certificate, force)?;
            if let Some(open) = jobs::open_renewal(conn, id).await? {
                return if force {
                    Ok((RenewalTriggered { job_id: open.id, approval_id: None }, Vec::new()))
                } else {
                    Err(Error::Conflict("a renewal of this certificate is under way".to_owned()))
                };
            }
            certificates::set_status(conn, id, certificate.status, next, now).await?;
            let (triggered, asked) = self.enqueue(conn, actor, &certificate, now).await?;
            certctl_repository::notify(conn, WAKE_CHANNEL).await?;
            let details = json!({"job_id": triggered.job_id.as_str(), "force": force});
            record(conn, event(actor, EventCategory::CertLifecycle, "renewal_triggered", ("certificate", id.as_str()), details, now)).await?;
            policies::evaluate(conn, actor, std::slice::from_ref(id), now).await?;
            Ok::<_, Error>((triggered, asked))
        });
        let (triggered, asked) = renewed?;
        count_bypassed(&asked);
        self.wake.ring();
        Ok(triggered)
    }

    /// Makes the job of one renewal, in the state its profile and the key mode say.
    async fn enqueue(
        &self,
        conn: &mut Conn,
        actor: &Actor,
        certificate: &Certificate,
        now: Timestamp,
    ) -> Result<(RenewalTriggered, Vec<Approval>), Error> {
        let policy = renewal_policies::find(conn, &certificate.renewal_policy_id).await?;
        let profile = match &certificate.profile_id {
            Some(id) => Some(profiles::find(conn, id).await?),
            None => None,
        };
        let gated = profile.is_some_and(|profile| profile.requires_approval);
        let is_first = certificate.expires_at.is_none();
        let job = self.renewal(&certificate.id, is_first, gated, policy.max_retries, now);
        jobs::insert_all(conn, std::slice::from_ref(&job))
            .await
            .or_conflict(|| "a renewal of this certificate is under way".to_owned())?;
        let unoffered = agent::mark_unoffered(conn, std::slice::from_ref(&job.id)).await?;
        warn_unoffered(&unoffered);
        let waiting = gated.then(|| Gated {
            job_id: job.id.clone(),
            certificate_id: certificate.id.clone(),
        });
        let asked = self
            .request_approvals(conn, actor, waiting.as_slice(), now)
            .await?;
        let triggered = RenewalTriggered {
            job_id: job.id,
            approval_id: asked.first().map(|one| one.id.to_string()),
        };
        Ok((triggered, asked))
    }

    /// The job of a renewal, whoever asks for it.
    fn renewal(
        &self,
        certificate: &CertificateId,
        is_first: bool,
        gated: bool,
        max_retries: u32,
        now: Timestamp,
    ) -> NewJob {
        NewJob {
            id: JobId::generate(now),
            job_type: if is_first {
                JobType::Issuance
            } else {
                JobType::Renewal
            },
            certificate_id: certificate.clone(),
            target_id: None,
            agent_id: None,
            status: self.first_status(gated),
            max_attempts: max_retries.max(1),
            created_at: now,
        }
    }

    /// The state a renewal begins in, first that applies (api §11.3).
    pub(crate) fn first_status(&self, gated: bool) -> JobStatus {
        match self.config.keygen_mode {
            _ if gated && !self.config.approval_bypass => JobStatus::AwaitingApproval,
            KeygenMode::Agent => JobStatus::AwaitingCsr,
            KeygenMode::Server => JobStatus::Pending,
        }
    }

    /// Asks for the latest version to be brought to one target or to all the certificate is mapped to.
    ///
    /// Targets that are disabled or retired are passed over. A deployment to a target whose agent has been silent for more than
    /// five minutes, or is retired, would only wait and fail (scheduler §5): when that is so of all of them nothing is enqueued and
    /// the caller is told which agents are missing; when some can be deployed to the others are enqueued too, and wait.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `cert.edit`, [`Error::NotFound`], [`Error::BadRequest`] for a certificate that is archived or
    /// revoked, [`Error::Invalid`] for a target it is not mapped to, [`Error::Conflict`] while nothing is issued, no target is
    /// enabled, or none of their agents is online.
    pub async fn deploy_certificate(
        &self,
        actor: &Actor,
        id: &CertificateId,
        target: Option<&str>,
    ) -> Result<Vec<JobId>, Error> {
        authorise(actor, Permission::CertEdit)?;
        let now = self.now();
        let made = transaction!(self.db, "deploy certificate", conn => {
            let certificate = certificates::find(conn, id).await.or_not_found("certificate", id)?;
            if matches!(certificate.status, CertificateStatus::Archived | CertificateStatus::Revoked) {
                return Err(Error::BadRequest(format!("a certificate that is {} cannot be deployed", certificate.status)));
            }
            let wanted = wanted_targets(&certificate, target)?;
            if versions::latest(conn, id).await?.is_none() {
                return Err(Error::Conflict("nothing is issued for this certificate yet".to_owned()));
            }
            let policy = renewal_policies::find(conn, &certificate.renewal_policy_id).await?;
            let enabled = deployable(conn, &wanted, now).await?;
            let new: Vec<NewJob> = enabled
                .into_iter()
                .map(|target| deployment(id, target.id, target.agent_id, policy.max_retries, now))
                .collect();
            jobs::insert_all(conn, &new).await?;
            let details = json!({"jobs": new.len()});
            record(conn, event(actor, EventCategory::CertLifecycle, "deployment_triggered", ("certificate", id.as_str()), details, now)).await?;
            Ok::<_, Error>(new.into_iter().map(|job| job.id).collect::<Vec<_>>())
        })?;
        Ok(made)
    }

    /// Finds what is due and enqueues it: a few statements for each thousand, none for each certificate. Also brings states up
    /// to date with the clock.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; what was enqueued stays so.
    pub async fn scan_renewals(&self) -> Result<ScanSummary, Error> {
        let planned = transaction!(self.db, "plan renewals", conn => {
            Ok::<_, Error>(renewals::plan_unplanned(conn).await?)
        })?;
        let mut summary = ScanSummary {
            planned,
            ..ScanSummary::default()
        };
        let mut from = Some(Position::start());
        while let Some(position) = from {
            let (enqueued, next) = self.scan_step(&position).await?;
            summary.enqueued += enqueued;
            if enqueued > 0 {
                self.wake.ring();
            }
            from = next;
        }
        let now = self.now();
        (summary.expired, summary.expiring) = transaction!(self.db, "apply expiry", conn => {
            Ok::<_, Error>(renewals::apply_expiry(conn, now).await?)
        })?;
        summary.alerts = self.alert_expiries().await?;
        Ok(summary)
    }

    /// Enqueues one page; says how many, and where the next one begins.
    async fn scan_step(&self, from: &Position) -> Result<(usize, Option<Position>), Error> {
        let now = self.now();
        let system = Actor::system();
        let scanned = transaction!(self.db, "enqueue due renewals", conn => {
            let DuePage { due, next } = renewals::due(conn, from, SCAN_STEP, now).await?;
            let ids: Vec<CertificateId> = due.iter().map(|one| one.id.clone()).collect();
            let mut new = Vec::with_capacity(due.len());
            let mut events: Vec<AuditEvent> = Vec::with_capacity(due.len());
            for one in &due {
                let job = self.renewal(&one.id, one.is_first, one.requires_approval, one.max_retries, now);
                let details = json!({"job_id": job.id.as_str(), "renewal_trigger": "policy"});
                events.push(event(&system, EventCategory::CertLifecycle, "renewal_job_created", ("certificate", one.id.as_str()), details, now));
                new.push(job);
            }
            jobs::insert_all(conn, &new).await?;
            let gated: Vec<Gated> = due
                .iter()
                .zip(&new)
                .filter(|(one, _)| one.requires_approval)
                .map(|(one, job)| Gated { job_id: job.id.clone(), certificate_id: one.id.clone() })
                .collect();
            let asked = self.request_approvals(conn, &system, &gated, now).await?;
            let jobs: Vec<JobId> = new.iter().map(|job| job.id.clone()).collect();
            let unoffered = agent::mark_unoffered(conn, &jobs).await?;
            warn_unoffered(&unoffered);
            renewals::mark_in_progress(conn, &ids, now).await?;
            audit_events::insert_all(conn, &events).await?;
            policies::evaluate(conn, &system, &ids, now).await?;
            if !due.is_empty() {
                certctl_repository::notify(conn, WAKE_CHANNEL).await?;
            }
            Ok::<_, Error>((due.len(), next, asked))
        });
        let (enqueued, next, asked) = scanned?;
        count_bypassed(&asked);
        Ok((enqueued, next))
    }
}

/// Whether a certificate may be renewed now, and the state it goes to (api §11.3).
fn admit(certificate: &Certificate, force: bool) -> Result<CertificateStatus, Error> {
    if certificate.source == CertificateSource::Acme {
        // Only the client has the key, and it asks by itself (RFC 9773).
        return Err(Error::BadRequest(
            "a certificate of ACME is renewed by its client".to_owned(),
        ));
    }
    certificate
        .status
        .transition(CertificateEvent::Renew { force })
        .map_err(|refused| match refused.from {
            CertificateStatus::RenewalInProgress => {
                Error::Conflict("a renewal of this certificate is under way".to_owned())
            }
            CertificateStatus::Expired => {
                Error::BadRequest("the certificate is expired; renew it with force".to_owned())
            }
            state => Error::BadRequest(format!("a certificate that is {state} cannot be renewed")),
        })
}

fn wanted_targets(certificate: &Certificate, target: Option<&str>) -> Result<Vec<TargetId>, Error> {
    match target.filter(|target| !target.is_empty()) {
        Some(target) => match certificate
            .target_ids
            .iter()
            .find(|mapped| mapped.as_str() == target)
        {
            Some(mapped) => Ok(vec![mapped.clone()]),
            None => Err(InvalidField::new(
                "target_id",
                "the certificate is not mapped to this target",
            )
            .into()),
        },
        None if certificate.target_ids.is_empty() => {
            Err(InvalidField::new("target_id", "the certificate is mapped to no target").into())
        }
        None => Ok(certificate.target_ids.clone()),
    }
}

/// Those of the targets that take deployments.
///
/// # Errors
/// [`Error::Conflict`] when there is none, or none whose agent was heard of lately.
async fn deployable(
    conn: &mut Conn,
    wanted: &[TargetId],
    now: Timestamp,
) -> Result<Vec<Target>, Error> {
    let mut enabled = targets::find_many(conn, wanted).await?;
    enabled.retain(|target| target.enabled && target.retired_at.is_none());
    if enabled.is_empty() {
        return Err(Error::Conflict(
            "no target of this certificate is enabled".to_owned(),
        ));
    }
    let mut missing = BTreeSet::new();
    for target in &enabled {
        let agent = agents::find(conn, &target.agent_id).await?;
        if agent.is_deployable(now) {
            return Ok(enabled);
        }
        missing.insert(agent.id.into_string());
    }
    let missing: Vec<String> = missing.into_iter().collect();
    Err(Error::Conflict(format!(
        "agent is offline: {}",
        missing.join(", ")
    )))
}

/// Says which renewals wait for a request that no agent is offered.
pub(crate) fn warn_unoffered(jobs: &[(JobId, CertificateId)]) {
    if let Some((job, certificate)) = jobs.first() {
        tracing::warn!(jobs = jobs.len(), job.first = %job, certificate.first = %certificate,
            "no agent-bound target; an operator may submit a request");
    }
}

/// A deployment that waits for its agent.
pub(crate) fn deployment(
    certificate: &CertificateId,
    target: TargetId,
    agent: certctl_domain::id::AgentId,
    max_retries: u32,
    now: Timestamp,
) -> NewJob {
    NewJob {
        id: JobId::generate(now),
        job_type: JobType::Deployment,
        certificate_id: certificate.clone(),
        target_id: Some(target),
        agent_id: Some(agent),
        status: JobStatus::Pending,
        max_attempts: max_retries.max(1),
        created_at: now,
    }
}

/// A random number from 0 to 1, to spread what would otherwise happen at once. It decides nothing that must be unpredictable.
pub(crate) fn jitter() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    // 53 bits are what an f64 holds exactly.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let number = bits as f64;
    number / (1_u64 << 53) as f64
}

/// The policy's retry interval; seeds may hold 0, which would retry without end at once.
pub(crate) fn retry_interval(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds.max(1)))
}
