//! Jobs: rows, lists, and the changes that one job makes by itself. Batches are in [`claim`] and [`complete`], what agents do
//! in [`agent`].

pub mod agent;
pub mod claim;
pub mod complete;
pub mod held;

use certctl_domain::{
    id::{AgentId, CertificateId, JobId, TargetId},
    job::{Job, JobStatus, JobType, VerificationStatus},
    page::{Page, PageRequest},
    text_enum::UnknownValue,
    time::Timestamp,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error, counters,
    schema::jobs,
    totals::{self, Counted},
    types::{At, at, time},
};

#[derive(Queryable, QueryableByName, Selectable)]
#[diesel(table_name = jobs, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct JobRow {
    id: String,
    #[diesel(column_name = kind)]
    kind: String,
    certificate_id: Option<String>,
    target_id: Option<String>,
    agent_id: Option<String>,
    status: String,
    attempts: i32,
    max_attempts: i32,
    last_error: Option<String>,
    scheduled_at: At,
    started_at: Option<At>,
    completed_at: Option<At>,
    created_at: At,
    status_changed_at: At,
    next_attempt_at: Option<At>,
    verification_status: String,
    verified_at: Option<At>,
    expected_fingerprint: Option<String>,
    verification_fingerprint: Option<String>,
    verification_error: Option<String>,
}

/// The columns of [`JobRow`] in SQL; `type` goes by the name diesel knows it by.
pub(crate) const COLUMNS: &str = "id, type AS kind, certificate_id, target_id, agent_id, status, attempts, max_attempts, last_error, \
    scheduled_at, started_at, completed_at, created_at, status_changed_at, next_attempt_at, verification_status, verified_at, \
    expected_fingerprint, verification_fingerprint, verification_error";

impl JobRow {
    /// What of it this build does not know, by the name of the column.
    fn unreadable(&self) -> Option<String> {
        let kind = JobType::parse(&self.kind)
            .err()
            .map(|error| format!("type: {error}"));
        let verification = || {
            VerificationStatus::parse(&self.verification_status)
                .err()
                .map(|error| format!("verification_status: {error}"))
        };
        kind.or_else(verification)
    }
}

/// Fails a job for good whose row cannot be read; its certificate with it, where it was its renewal.
async fn fail_unreadable(
    conn: &mut Conn,
    row: &JobRow,
    problem: &str,
    now: Timestamp,
) -> Result<(), Error> {
    on_conn!(conn, c => diesel::update(jobs::table.find(row.id.as_str()))
        .set((
            jobs::status.eq(JobStatus::Failed.as_str()),
            jobs::last_error.eq(Some(problem)),
            jobs::next_attempt_at.eq(None::<At>),
            jobs::status_changed_at.eq(At(now)),
            jobs::completed_at.eq(Some(At(now))),
            jobs::lease_owner.eq(None::<&str>),
            jobs::lease_expires_at.eq(None::<At>),
        ))
        .execute(c)
        .await)?;
    counters::add_jobs(conn, 0, 1).await?;
    match &row.certificate_id {
        Some(id) => {
            complete::fail_certificates(conn, &[CertificateId::from_stored(id.clone())], now).await
        }
        None => Ok(()),
    }
}

impl TryFrom<JobRow> for Job {
    type Error = Error;

    fn try_from(row: JobRow) -> Result<Self, Error> {
        let corrupt = |error: UnknownValue| Error::corrupt("jobs", error);
        Ok(Self {
            id: JobId::from_stored(row.id),
            job_type: JobType::parse(&row.kind).map_err(corrupt)?,
            certificate_id: row.certificate_id.map(CertificateId::from_stored),
            target_id: row.target_id.map(TargetId::from_stored),
            agent_id: row.agent_id.map(AgentId::from_stored),
            status: JobStatus::parse(&row.status).map_err(corrupt)?,
            attempts: row.attempts.unsigned_abs(),
            max_attempts: row.max_attempts.unsigned_abs(),
            last_error: row.last_error,
            scheduled_at: row.scheduled_at.0,
            started_at: time(row.started_at),
            completed_at: time(row.completed_at),
            created_at: row.created_at.0,
            status_changed_at: row.status_changed_at.0,
            next_attempt_at: time(row.next_attempt_at),
            verification_status: VerificationStatus::parse(&row.verification_status)
                .map_err(corrupt)?,
            verified_at: time(row.verified_at),
            expected_fingerprint: row.expected_fingerprint,
            verification_fingerprint: row.verification_fingerprint,
            verification_error: row.verification_error,
        })
    }
}

/// A job to be made.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The id.
    pub id: JobId,
    /// What it does.
    pub job_type: JobType,
    /// For which certificate.
    pub certificate_id: CertificateId,
    /// To which target.
    pub target_id: Option<TargetId>,
    /// By which agent.
    pub agent_id: Option<AgentId>,
    /// The state it begins in.
    pub status: JobStatus,
    /// How often it may be started.
    pub max_attempts: u32,
    /// When it was made and may run.
    pub created_at: Timestamp,
}

#[derive(Insertable)]
#[diesel(table_name = jobs, treat_none_as_default_value = false)]
struct NewJobRow {
    id: String,
    kind: &'static str,
    certificate_id: String,
    target_id: Option<String>,
    agent_id: Option<String>,
    status: &'static str,
    max_attempts: i32,
    scheduled_at: At,
    created_at: At,
    status_changed_at: At,
}

impl From<&NewJob> for NewJobRow {
    fn from(job: &NewJob) -> Self {
        Self {
            id: job.id.to_string(),
            kind: job.job_type.as_str(),
            certificate_id: job.certificate_id.to_string(),
            target_id: job.target_id.as_ref().map(ToString::to_string),
            agent_id: job.agent_id.as_ref().map(ToString::to_string),
            status: job.status.as_str(),
            max_attempts: i32::try_from(job.max_attempts).unwrap_or(i32::MAX),
            scheduled_at: At(job.created_at),
            created_at: At(job.created_at),
            status_changed_at: At(job.created_at),
        }
    }
}

/// Makes jobs.
///
/// # Errors
/// [`Error::AlreadyExists`] when a certificate has an open renewal already.
pub async fn insert_all(conn: &mut Conn, new: &[NewJob]) -> Result<(), Error> {
    let rows: Vec<NewJobRow> = new.iter().map(Into::into).collect();
    insert_all!(conn, jobs::table, rows)
}

/// Reads a job.
///
/// # Errors
/// [`Error::NotFound`] when there is none.
pub async fn find(conn: &mut Conn, id: &JobId) -> Result<Job, Error> {
    let row: JobRow = on_conn!(conn, c => jobs::table.find(id.as_str()).select(JobRow::as_select()).first(c).await)?;
    row.try_into()
}

/// Reads a job and keeps others from changing it until the transaction ends.
///
/// # Errors
/// [`Error::NotFound`] when there is none.
pub async fn find_for_update(conn: &mut Conn, id: &JobId) -> Result<Job, Error> {
    let row: JobRow = on_conn!(conn,
        pg c => jobs::table.find(id.as_str()).select(JobRow::as_select()).for_update().first(c).await,
        // The one writer of SQLite has the whole database to itself.
        sqlite c => jobs::table.find(id.as_str()).select(JobRow::as_select()).first(c).await,
    )?;
    row.try_into()
}

/// What to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct JobFilter {
    /// In this state.
    pub status: Option<JobStatus>,
    /// Of this type.
    pub job_type: Option<JobType>,
}

impl JobFilter {
    /// Whether it leaves nothing out.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

macro_rules! filtered {
    ($filter:expr) => {{
        let mut query = jobs::table.into_boxed();
        if let Some(status) = $filter.status {
            query = query.filter(jobs::status.eq(status.as_str()));
        }
        if let Some(job_type) = $filter.job_type {
            query = query.filter(jobs::kind.eq(job_type.as_str()));
        }
        query
    }};
}

/// Reads one page, newest first, and the count of all matches.
///
/// # Errors
/// What the database says.
pub async fn list(
    conn: &mut Conn,
    filter: JobFilter,
    page: PageRequest,
) -> Result<Page<Job>, Error> {
    Ok(Page {
        rows: list_page(conn, filter, page).await?,
        total: count(conn, filter).await?,
    })
}

/// Reads the rows of one page, newest first.
///
/// # Errors
/// What the database says.
pub async fn list_page(
    conn: &mut Conn,
    filter: JobFilter,
    page: PageRequest,
) -> Result<Vec<Job>, Error> {
    let rows: Vec<JobRow> = on_conn!(conn, c => filtered!(filter)
        .select(JobRow::as_select())
        .order((jobs::created_at.desc(), jobs::id))
        .limit(page.limit())
        .offset(page.offset())
        .load(c)
        .await)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Counts all matches: kept where nothing is filtered, a range of an index otherwise.
///
/// # Errors
/// What the database says.
pub async fn count(conn: &mut Conn, filter: JobFilter) -> Result<i64, Error> {
    if filter.is_everything() {
        return totals::of(conn, Counted::Jobs).await;
    }
    Ok(on_conn!(conn, c => filtered!(filter).count().get_result(c).await)?)
}

/// The open renewal or issuance of a certificate.
///
/// # Errors
/// What the database says.
pub async fn open_renewal(
    conn: &mut Conn,
    certificate: &CertificateId,
) -> Result<Option<Job>, Error> {
    let open: Vec<&str> = JobStatus::OPEN
        .iter()
        .map(|status| status.as_str())
        .collect();
    let row: Option<JobRow> = on_conn!(conn, c => jobs::table
        .filter(jobs::certificate_id.eq(certificate.as_str()))
        .filter(jobs::kind.eq_any([JobType::Renewal.as_str(), JobType::Issuance.as_str()]))
        .filter(jobs::status.eq_any(&open))
        .select(JobRow::as_select())
        .first(c)
        .await
        .optional())?;
    row.map(TryInto::try_into).transpose()
}

/// A change of one job's state, refused when it is no longer in the state it was seen in.
#[derive(Debug, Clone)]
pub struct JobChange<'a> {
    /// Which job.
    pub id: &'a JobId,
    /// The state it was seen in.
    pub from: JobStatus,
    /// The state it goes to.
    pub to: JobStatus,
    /// Why it failed or was called off.
    pub error: Option<&'a str>,
    /// When it may be tried again.
    pub next_attempt_at: Option<Timestamp>,
    /// The time of the change.
    pub now: Timestamp,
}

/// Carries a change out; false when the job was no longer in the state it was seen in. The lease ends with it.
///
/// # Errors
/// What the database says.
pub async fn change(conn: &mut Conn, change: &JobChange<'_>) -> Result<bool, Error> {
    let finished = change.to.is_finished().then_some(change.now);
    let row = jobs::table
        .find(change.id.as_str())
        .filter(jobs::status.eq(change.from.as_str()));
    let changed = on_conn!(conn, c => diesel::update(row)
        .set((
            jobs::status.eq(change.to.as_str()),
            jobs::last_error.eq(change.error),
            jobs::next_attempt_at.eq(at(change.next_attempt_at)),
            jobs::status_changed_at.eq(At(change.now)),
            jobs::completed_at.eq(at(finished)),
            jobs::lease_owner.eq(None::<&str>),
            jobs::lease_expires_at.eq(None::<At>),
        ))
        .execute(c)
        .await)?;
    if changed == 1 {
        let completed = usize::from(change.to == JobStatus::Completed);
        let failed = usize::from(change.to == JobStatus::Failed);
        counters::add_jobs(conn, completed, failed).await?;
    }
    Ok(changed == 1)
}

/// Makes a job due that a second person agreed to; false when it does not wait for approval any more.
///
/// # Errors
/// What the database says.
pub async fn approve(conn: &mut Conn, id: &JobId, now: Timestamp) -> Result<bool, Error> {
    let row = jobs::table
        .find(id.as_str())
        .filter(jobs::status.eq(JobStatus::AwaitingApproval.as_str()));
    let changed = on_conn!(conn, c => diesel::update(row)
        .set((
            jobs::status.eq(JobStatus::Pending.as_str()),
            jobs::status_changed_at.eq(At(now)),
            // It could not run before, so that it has not been due for days.
            jobs::scheduled_at.eq(At(now)),
        ))
        .execute(c)
        .await)?;
    Ok(changed == 1)
}

macro_rules! cancel {
    ($conn:expr, $rows:expr, $reason:expr, $now:expr) => {
        on_conn!($conn, c => diesel::update($rows)
            .set((
                jobs::status.eq(JobStatus::Cancelled.as_str()),
                jobs::last_error.eq(Some($reason)),
                jobs::next_attempt_at.eq(None::<At>),
                jobs::status_changed_at.eq(At($now)),
                jobs::completed_at.eq(Some(At($now))),
                jobs::lease_owner.eq(None::<&str>),
                jobs::lease_expires_at.eq(None::<At>),
            ))
            .execute(c)
            .await)
    };
}

/// Calls off every open job of a certificate that nobody works on yet, and every further try of those that failed; one that is
/// running ends by itself, so that what a CA is signing is recorded. Returns how many jobs were called off.
///
/// # Errors
/// What the database says.
pub async fn cancel_waiting(
    conn: &mut Conn,
    certificate: &CertificateId,
    reason: &str,
    now: Timestamp,
) -> Result<usize, Error> {
    let waiting = [
        JobStatus::Pending,
        JobStatus::AwaitingCsr,
        JobStatus::AwaitingApproval,
    ]
    .map(JobStatus::as_str);
    let rows = jobs::table
        .filter(jobs::certificate_id.eq(certificate.as_str()))
        .filter(jobs::status.eq_any(waiting));
    let cancelled = cancel!(conn, rows, reason, now)?;
    let failed = jobs::table
        .filter(jobs::certificate_id.eq(certificate.as_str()))
        .filter(jobs::status.eq(JobStatus::Failed.as_str()))
        .filter(jobs::next_attempt_at.is_not_null());
    on_conn!(conn, c => diesel::update(failed).set(jobs::next_attempt_at.eq(None::<At>)).execute(c).await)?;
    Ok(cancelled)
}

/// Calls off every open job of an agent.
///
/// # Errors
/// What the database says.
pub async fn cancel_of_agent(
    conn: &mut Conn,
    agent: &AgentId,
    reason: &str,
    now: Timestamp,
) -> Result<usize, Error> {
    let open = JobStatus::OPEN.map(JobStatus::as_str);
    let rows = jobs::table
        .filter(jobs::agent_id.eq(agent.as_str()))
        .filter(jobs::status.eq_any(open));
    Ok(cancel!(conn, rows, reason, now)?)
}

/// Calls off every open job of a target.
///
/// # Errors
/// What the database says.
pub async fn cancel_of_target(
    conn: &mut Conn,
    target: &TargetId,
    reason: &str,
    now: Timestamp,
) -> Result<usize, Error> {
    let open = JobStatus::OPEN.map(JobStatus::as_str);
    let rows = jobs::table
        .filter(jobs::target_id.eq(target.as_str()))
        .filter(jobs::status.eq_any(open));
    Ok(cancel!(conn, rows, reason, now)?)
}

/// Gives the deployments of a target that nobody has taken yet to the agent the target has now.
///
/// # Errors
/// What the database says.
pub async fn reassign_of_target(
    conn: &mut Conn,
    target: &TargetId,
    agent: &AgentId,
) -> Result<usize, Error> {
    let rows = jobs::table
        .filter(jobs::target_id.eq(target.as_str()))
        .filter(jobs::status.eq(JobStatus::Pending.as_str()));
    Ok(
        on_conn!(conn, c => diesel::update(rows).set(jobs::agent_id.eq(Some(agent.as_str()))).execute(c).await)?,
    )
}
