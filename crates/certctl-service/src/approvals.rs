//! The second person: requests for approval, decisions on them, and what becomes of those that nobody decides (scheduler §6).
//!
//! A job is always locked before its request, here as everywhere, so that of two decisions at one moment, or of a decision and
//! a time-out, exactly one is made and the other is told.

use std::collections::{BTreeMap, HashMap};

use certctl_domain::{
    access::{Actor, ActorType, Permission},
    approval::{Approval, ApprovalKind, ApprovalState, BYPASS, REAPER, second_person},
    audit::{AuditEvent, EventCategory},
    certificate::Certificate,
    id::{ApprovalId, CertificateId, JobId, RenewalPolicyId},
    job::JobStatus,
    page::{Page, PageRequest},
    renewal_policy::RenewalPolicy,
    time::Timestamp,
    validation::optional_text,
};
use certctl_repository::{
    Conn,
    approvals::{self, ApprovalFilter, Decision},
    audit_events, certificates,
    jobs::{
        self, JobChange,
        claim::{self, Swept},
    },
    owners, renewal_policies, renewals, transaction,
};
use serde_json::json;

use crate::{
    Error, Services, acme,
    engine::{WAKE_CHANNEL, end_intents},
    error::Expect as _,
    maintenance::{end_swept, timeout_events},
    metrics::count_decision,
    notifications::tell_of_swept,
    profiles,
    services::{authorise, event, record},
    totals::Asked,
};

/// Longest note to a decision, in characters.
pub const MAX_NOTE: usize = 1000;
/// Requests that one step of the expiry ends, in one transaction (scheduler §6).
const EXPIRY_STEP: i64 = 500;

/// What somebody decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// That it is done.
    Approve,
    /// That it is not.
    Reject,
}

impl Verdict {
    const fn permission(self) -> Permission {
        match self {
            Self::Approve => Permission::ApprovalApprove,
            Self::Reject => Permission::ApprovalReject,
        }
    }

    const fn state(self) -> ApprovalState {
        match self {
            Self::Approve => ApprovalState::Approved,
            Self::Reject => ApprovalState::Rejected,
        }
    }
}

/// By which door a decision came in; the job remembers it in its own words (api §17, §18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Approval,
    Job,
}

/// What is decided, by whom and when.
struct Deciding<'a> {
    actor: &'a Actor,
    verdict: Verdict,
    note: Option<&'a str>,
    door: Door,
    now: Timestamp,
}

/// A job that waits for a second person.
#[derive(Debug, Clone)]
pub(crate) struct Gated {
    /// The job.
    pub(crate) job_id: JobId,
    /// Its certificate.
    pub(crate) certificate_id: CertificateId,
}

impl Services {
    /// Lists requests, newest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `approval.read`.
    pub async fn list_approvals(
        &self,
        actor: &Actor,
        filter: &ApprovalFilter,
        page: PageRequest,
    ) -> Result<Page<Approval>, Error> {
        authorise(actor, Permission::ApprovalRead)?;
        let rows = approvals::list_page(&mut self.read().await?, filter, page).await?;
        let total = self.count(&Asked::Approvals(filter.clone())).await?;
        Ok(Page { rows, total })
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `approval.read`, [`Error::NotFound`].
    pub async fn get_approval(&self, actor: &Actor, id: &ApprovalId) -> Result<Approval, Error> {
        authorise(actor, Permission::ApprovalRead)?;
        approvals::find(&mut self.read().await?, id)
            .await
            .or_not_found("approval", id)
    }

    /// Decides a request: what was asked for is done, or called off, with it.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `approval.approve` or `approval.reject`, [`Error::NotFound`], [`Error::Invalid`] for a note that
    /// is too long, [`Error::NotYours`] for who asked and for the owner of the certificate, [`Error::Conflict`] when it is decided or
    /// too late, or when what was asked for cannot be done any more.
    pub async fn decide_approval(
        &self,
        actor: &Actor,
        id: &ApprovalId,
        verdict: Verdict,
        note: Option<&str>,
    ) -> Result<(), Error> {
        authorise(actor, verdict.permission())?;
        let note = note_of("note", note)?;
        let now = self.now();
        let deciding = Deciding {
            actor,
            verdict,
            note: note.as_deref(),
            door: Door::Approval,
            now,
        };
        let approval = transaction!(self.db, "decide approval", conn => {
            let approval = approvals::find(conn, id).await.or_not_found("approval", id)?;
            self.check_open(&approval, now)?;
            deciding.check(conn, Some(&approval.requested_by), approval.certificate_id.as_ref()).await?;
            match (approval.kind, &approval.job_id) {
                (ApprovalKind::CertIssuance, Some(job)) => deciding.decide_job(conn, job, approval.certificate_id.as_ref()).await?,
                (ApprovalKind::CertIssuance, None) => return Err(Error::internal("a request for issuance without a job")),
                (ApprovalKind::ProfileEdit, _) => deciding.decide_edit(conn, &approval).await?,
            }
            deciding.close(conn, &approval).await?;
            Ok::<_, Error>(approval)
        })?;
        self.decided(&approval, verdict);
        Ok(())
    }

    /// Decides the request of a job that waits for approval.
    ///
    /// # Errors
    /// As [`Services::decide_approval`], but [`Error::BadRequest`] for a job that does not wait for approval (api §17).
    pub async fn decide_job(
        &self,
        actor: &Actor,
        id: &JobId,
        verdict: Verdict,
        reason: Option<&str>,
    ) -> Result<(), Error> {
        authorise(actor, verdict.permission())?;
        let reason = note_of("reason", reason)?;
        let now = self.now();
        let deciding = Deciding {
            actor,
            verdict,
            note: reason.as_deref(),
            door: Door::Job,
            now,
        };
        let approval = transaction!(self.db, "decide job", conn => {
            let job = jobs::find(conn, id).await.or_not_found("job", id)?;
            if job.status != JobStatus::AwaitingApproval {
                return Err(Error::BadRequest(format!("a job that is {} does not wait for approval", job.status)));
            }
            // Rows of others may wait without a request.
            let approval = approvals::pending_of_job(conn, id).await?;
            if let Some(approval) = &approval {
                self.check_open(approval, now)?;
            }
            let requested_by = approval.as_ref().map(|approval| approval.requested_by.as_str());
            deciding.check(conn, requested_by, job.certificate_id.as_ref()).await?;
            deciding.decide_job(conn, id, job.certificate_id.as_ref()).await?;
            if let Some(approval) = &approval {
                deciding.close(conn, approval).await?;
            }
            Ok::<_, Error>(approval)
        })?;
        match approval {
            Some(approval) => self.decided(&approval, verdict),
            None => self.wake.ring(),
        }
        Ok(())
    }

    /// A request is open while it is undecided and its time is not over, whether or not the loop that ends it has run.
    fn check_open(&self, approval: &Approval, now: Timestamp) -> Result<(), Error> {
        if approval.state != ApprovalState::Pending {
            let problem = format!("the request is {} already", approval.state);
            return Err(Error::Conflict(problem));
        }
        if now > approval.created_at + self.config.awaiting_approval_timeout {
            let problem = "the request has expired; ask again".to_owned();
            return Err(Error::Conflict(problem));
        }
        Ok(())
    }

    /// What follows a decision once it is committed.
    fn decided(&self, approval: &Approval, verdict: Verdict) {
        let age = self.now().since(approval.created_at);
        count_decision(verdict.state().as_str(), &approval.profile_id, Some(age));
        if verdict == Verdict::Approve && approval.job_id.is_some() {
            self.wake.ring();
        }
    }

    /// Ends requests that nobody decided in time, and what waits for them, so that it can never run (scheduler §6). Returns how many.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; what was ended stays so.
    pub async fn expire_approvals(&self) -> Result<usize, Error> {
        let mut ended = 0;
        loop {
            let expired = self.expire_step().await?;
            for approval in &expired {
                let age = self.now().since(approval.created_at);
                count_decision(
                    ApprovalState::Expired.as_str(),
                    &approval.profile_id,
                    Some(age),
                );
            }
            ended += expired.len();
            if expired.is_empty() {
                return Ok(ended);
            }
        }
    }

    async fn expire_step(&self) -> Result<Vec<Approval>, Error> {
        let now = self.now();
        let after = self.config.awaiting_approval_timeout;
        transaction!(self.db, "expire approvals", conn => {
            let overdue = approvals::overdue(conn, now - after, EXPIRY_STEP).await?;
            if overdue.is_empty() {
                return Ok(Vec::new());
            }
            let (ids, jobs): (Vec<ApprovalId>, Vec<Option<JobId>>) = overdue.into_iter().unzip();
            let jobs: Vec<JobId> = jobs.into_iter().flatten().collect();
            let swept = claim::expire_unapproved(conn, &jobs, now).await?;
            let expired = approvals::close_all(conn, &ids, &expiry(now)).await?;
            self.end_unapproved(conn, &swept, &expired, now).await?;
            Ok::<_, Error>(expired)
        })
    }

    /// Ends what waits in a job without its request, or longer than its request says: rows that others made or moved.
    pub(crate) async fn expire_unapproved_jobs(&self) -> Result<usize, Error> {
        let now = self.now();
        let after = self.config.awaiting_approval_timeout;
        transaction!(self.db, "expire jobs without approval", conn => {
            let swept = claim::expire_awaiting_approval(conn, now - after, now).await?;
            let jobs: Vec<JobId> = swept.iter().map(|one| one.id.clone()).collect();
            let expired = approvals::close_for_jobs(conn, &jobs, &expiry(now)).await?;
            self.end_unapproved(conn, &swept, &expired, now).await?;
            Ok::<_, Error>(swept.len())
        })
    }

    async fn end_unapproved(
        &self,
        conn: &mut Conn,
        swept: &[Swept],
        expired: &[Approval],
        now: Timestamp,
    ) -> Result<(), Error> {
        end_swept(conn, swept, now).await?;
        tell_of_swept(conn, swept, "nobody approved it", now).await?;
        let mut events = timeout_events(
            swept,
            "AwaitingApproval",
            "approval_timeout",
            self.config.awaiting_approval_timeout,
            now,
        );
        let reaper = system(REAPER);
        events.extend(
            expired
                .iter()
                .map(|approval| approval_event(&reaper, approval, "expired", json!({}), now)),
        );
        Ok(audit_events::insert_all(conn, &events).await?)
    }

    /// Asks a second person for jobs that wait for one; where the gate is open the requests are entered as approved. Set-wise, so
    /// that a scan asks for a thousand as for one. Returns the requests as they were entered, in the order of the jobs.
    pub(crate) async fn request_approvals(
        &self,
        conn: &mut Conn,
        actor: &Actor,
        gated: &[Gated],
        now: Timestamp,
    ) -> Result<Vec<Approval>, Error> {
        if gated.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<CertificateId> = gated.iter().map(|one| one.certificate_id.clone()).collect();
        let found: HashMap<CertificateId, Certificate> = certificates::find_many(conn, &ids)
            .await?
            .into_iter()
            .map(|one| (one.id.clone(), one))
            .collect();
        let mut policies: HashMap<RenewalPolicyId, RenewalPolicy> = HashMap::new();
        for certificate in found.values() {
            let id = &certificate.renewal_policy_id;
            if !policies.contains_key(id) {
                policies.insert(id.clone(), renewal_policies::find(conn, id).await?);
            }
        }
        let mut new = Vec::with_capacity(gated.len());
        for one in gated {
            let Some(certificate) = found.get(&one.certificate_id) else {
                continue;
            };
            let Some(profile_id) = certificate.profile_id.clone() else {
                continue;
            };
            let policy = policies.get(&certificate.renewal_policy_id);
            let asked = Approval {
                certificate_id: Some(certificate.id.clone()),
                job_id: Some(one.job_id.clone()),
                profile_id,
                metadata: shown(certificate, policy, now),
                ..self.new_request(actor, ApprovalKind::CertIssuance, now)
            };
            new.push(asked);
        }
        self.enter_requests(conn, actor, &new, now).await?;
        Ok(new)
    }

    /// A request as it is entered, with nothing said of what it is for.
    pub(crate) fn new_request(
        &self,
        actor: &Actor,
        kind: ApprovalKind,
        now: Timestamp,
    ) -> Approval {
        let bypassed = self.config.approval_bypass;
        Approval {
            id: ApprovalId::generate(now),
            kind,
            certificate_id: None,
            job_id: None,
            profile_id: certctl_domain::id::ProfileId::from_stored(String::new()),
            requested_by: actor.id().to_owned(),
            state: if bypassed {
                ApprovalState::Approved
            } else {
                ApprovalState::Pending
            },
            decided_by: bypassed.then(|| BYPASS.to_owned()),
            decided_at: bypassed.then_some(now),
            decision_note: None,
            metadata: BTreeMap::new(),
            payload: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// Enters requests with their audit rows.
    pub(crate) async fn enter_requests(
        &self,
        conn: &mut Conn,
        actor: &Actor,
        new: &[Approval],
        now: Timestamp,
    ) -> Result<(), Error> {
        approvals::insert_all(conn, new).await?;
        let mut events: Vec<AuditEvent> = new
            .iter()
            .map(|approval| approval_event(actor, approval, "requested", json!({}), now))
            .collect();
        events.extend(bypass_events(new, now));
        Ok(audit_events::insert_all(conn, &events).await?)
    }
}

/// Counts requests that were entered as approved; to be called after the commit.
pub(crate) fn count_bypassed(entered: &[Approval]) {
    for approval in entered
        .iter()
        .filter(|one| one.decided_by.as_deref() == Some(BYPASS))
    {
        count_decision("bypassed", &approval.profile_id, None);
    }
}

impl Deciding<'_> {
    /// The two-person rule (model §5.5).
    async fn check(
        &self,
        conn: &mut Conn,
        requested_by: Option<&str>,
        certificate: Option<&CertificateId>,
    ) -> Result<(), Error> {
        let owner = match certificate {
            Some(id) => {
                let certificate = certificates::find(conn, id).await?;
                Some(owners::find(conn, &certificate.owner_id).await?)
            }
            None => None,
        };
        second_person(self.actor.id(), requested_by, owner.as_ref())
            .map_err(|refused| Error::NotYours(refused.to_string()))
    }

    /// Lets the job go on, or calls it off.
    async fn decide_job(
        &self,
        conn: &mut Conn,
        job: &JobId,
        certificate: Option<&CertificateId>,
    ) -> Result<(), Error> {
        let changed = match self.verdict {
            Verdict::Approve => jobs::approve(conn, job, self.now).await?,
            Verdict::Reject => {
                let change = JobChange {
                    id: job,
                    from: JobStatus::AwaitingApproval,
                    to: JobStatus::Cancelled,
                    error: Some(&self.said()),
                    next_attempt_at: None,
                    now: self.now,
                };
                jobs::change(conn, &change).await?
            }
        };
        if !changed {
            let problem = "the job does not wait for approval any more".to_owned();
            return Err(Error::Conflict(problem));
        }
        match (self.verdict, certificate) {
            (Verdict::Approve, _) => Ok(certctl_repository::notify(conn, WAKE_CHANNEL).await?),
            (Verdict::Reject, Some(certificate)) => {
                let certificate = std::slice::from_ref(certificate);
                end_intents(conn, self.actor, certificate, self.now).await?;
                acme::orders_given_up(conn, certificate, self.now).await?;
                renewals::restore_status(conn, certificate, self.now).await?;
                Ok(())
            }
            (Verdict::Reject, None) => Ok(()),
        }
    }

    /// What stands as the last error of a job that is refused.
    fn said(&self) -> String {
        let what = match self.door {
            Door::Approval => "approval rejected",
            Door::Job => "rejected",
        };
        match self.note {
            Some(note) => format!("{what}: {note}"),
            None => what.to_owned(),
        }
    }

    /// Applies the edit of a profile, or leaves the profile as it is.
    async fn decide_edit(&self, conn: &mut Conn, approval: &Approval) -> Result<(), Error> {
        match self.verdict {
            Verdict::Approve => profiles::apply_edit(conn, self.actor, approval, self.now).await,
            Verdict::Reject => Ok(()),
        }
    }

    /// Ends the request itself; the one who comes second is told.
    async fn close(&self, conn: &mut Conn, approval: &Approval) -> Result<(), Error> {
        let decision = Decision {
            state: self.verdict.state(),
            by: self.actor.id(),
            note: self.note,
            now: self.now,
        };
        if !approvals::decide(conn, &approval.id, &decision).await? {
            let problem = "the request was decided at the same moment".to_owned();
            return Err(Error::Conflict(problem));
        }
        let details = json!({"requested_by": approval.requested_by, "note": self.note});
        let state = self.verdict.state().as_str();
        let event = approval_event(self.actor, approval, state, details, self.now);
        record(conn, event).await
    }
}

fn note_of(field: &'static str, note: Option<&str>) -> Result<Option<String>, Error> {
    let note = optional_text(field, note.unwrap_or_default(), MAX_NOTE)?;
    Ok((!note.is_empty()).then_some(note))
}

/// How the loop ends requests.
const fn expiry(now: Timestamp) -> Decision<'static> {
    Decision {
        state: ApprovalState::Expired,
        by: REAPER,
        note: Some("approval_timeout"),
        now,
    }
}

/// A part of certctl that does something under a name of its own.
fn system(name: &str) -> Actor {
    Actor::new(name, ActorType::System, false, Vec::new(), Vec::new())
}

fn bypass_events(entered: &[Approval], now: Timestamp) -> Vec<AuditEvent> {
    let bypass = system(BYPASS);
    entered
        .iter()
        .filter(|one| one.decided_by.as_deref() == Some(BYPASS))
        .map(|approval| approval_event(&bypass, approval, "bypassed", json!({}), now))
        .collect()
}

/// `approval_<what>` for a certificate, `approval_profile_<what>` for the edit of a profile (model §8.4).
fn approval_event(
    actor: &Actor,
    approval: &Approval,
    what: &str,
    mut details: serde_json::Value,
    now: Timestamp,
) -> AuditEvent {
    let (category, action) = match approval.kind {
        ApprovalKind::CertIssuance => (EventCategory::CertLifecycle, format!("approval_{what}")),
        ApprovalKind::ProfileEdit => (EventCategory::Config, format!("approval_profile_{what}")),
    };
    details["profile_id"] = approval.profile_id.as_str().into();
    if let Some(job) = &approval.job_id {
        details["job_id"] = job.as_str().into();
    }
    let resource = ("approval", approval.id.as_str());
    event(actor, category, &action, resource, details, now)
}

/// What the second person is shown of a certificate.
fn shown(
    certificate: &Certificate,
    policy: Option<&RenewalPolicy>,
    now: Timestamp,
) -> BTreeMap<String, String> {
    let tier = policy
        .zip(certificate.expires_at)
        .map_or("informational", |(policy, end)| policy.tier(end, now));
    [
        ("common_name", certificate.common_name.to_string()),
        ("sans", certificate.sans.join(",")),
        ("issuer_id", certificate.issuer_id.to_string()),
        ("severity_tier", tier.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}
