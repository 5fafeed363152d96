//! Requests that wait for a second person.

use std::collections::BTreeMap;

use certctl_domain::{
    approval::{Approval, ApprovalKind, ApprovalState},
    id::{ApprovalId, CertificateId, JobId, ProfileId},
    page::{Page, PageRequest},
    time::Timestamp,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;

use crate::{
    Conn, Error,
    schema::issuance_approval_requests,
    types::{At, Json, time},
};

#[derive(Queryable, Selectable)]
#[diesel(table_name = issuance_approval_requests, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct ApprovalRow {
    id: String,
    approval_kind: String,
    certificate_id: Option<String>,
    job_id: Option<String>,
    profile_id: String,
    requested_by: String,
    state: String,
    decided_by: Option<String>,
    decided_at: Option<At>,
    decision_note: Option<String>,
    metadata: Option<Json>,
    payload: Option<Json>,
    created_at: At,
    updated_at: At,
}

impl TryFrom<ApprovalRow> for Approval {
    type Error = Error;

    fn try_from(row: ApprovalRow) -> Result<Self, Error> {
        let corrupt = |problem: String| Error::corrupt("issuance_approval_requests", problem);
        let metadata: BTreeMap<String, Value> = match row.metadata {
            Some(Json(Value::Object(fields))) => fields.into_iter().collect(),
            _ => BTreeMap::new(),
        };
        Ok(Self {
            id: ApprovalId::from_stored(row.id),
            kind: ApprovalKind::parse(&row.approval_kind)
                .map_err(|error| corrupt(error.to_string()))?,
            certificate_id: row.certificate_id.map(CertificateId::from_stored),
            job_id: row.job_id.map(JobId::from_stored),
            profile_id: ProfileId::from_stored(row.profile_id),
            requested_by: row.requested_by,
            state: ApprovalState::parse(&row.state).map_err(|error| corrupt(error.to_string()))?,
            decided_by: row.decided_by,
            decided_at: time(row.decided_at),
            decision_note: row.decision_note,
            // Rows of others may hold lists or numbers; what is shown is text.
            metadata: metadata
                .into_iter()
                .map(|(key, value)| match value {
                    Value::String(text) => (key, text),
                    other => (key, other.to_string()),
                })
                .collect(),
            payload: row.payload.map(|json| json.0),
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

#[derive(Insertable)]
#[diesel(table_name = issuance_approval_requests, treat_none_as_default_value = false)]
struct NewRow {
    id: String,
    approval_kind: &'static str,
    certificate_id: Option<String>,
    job_id: Option<String>,
    profile_id: String,
    requested_by: String,
    state: &'static str,
    decided_by: Option<String>,
    decided_at: Option<At>,
    decision_note: Option<String>,
    metadata: Option<Json>,
    payload: Option<Json>,
    created_at: At,
    updated_at: At,
}

impl From<&Approval> for NewRow {
    fn from(approval: &Approval) -> Self {
        let metadata: serde_json::Map<String, Value> = approval
            .metadata
            .iter()
            .map(|(key, value)| (key.clone(), value.clone().into()))
            .collect();
        Self {
            id: approval.id.to_string(),
            approval_kind: approval.kind.as_str(),
            certificate_id: approval.certificate_id.as_ref().map(ToString::to_string),
            job_id: approval.job_id.as_ref().map(ToString::to_string),
            profile_id: approval.profile_id.to_string(),
            requested_by: approval.requested_by.clone(),
            state: approval.state.as_str(),
            decided_by: approval.decided_by.clone(),
            decided_at: approval.decided_at.map(At),
            decision_note: approval.decision_note.clone(),
            metadata: (!metadata.is_empty()).then_some(Json(Value::Object(metadata))),
            payload: approval.payload.clone().map(Json),
            created_at: At(approval.created_at),
            updated_at: At(approval.updated_at),
        }
    }
}

/// Enters requests.
///
/// # Errors
/// [`Error::AlreadyExists`] when a job has one that is undecided, [`Error::Reference`] when a profile is gone.
pub async fn insert_all(conn: &mut Conn, new: &[Approval]) -> Result<(), Error> {
    let rows: Vec<NewRow> = new.iter().map(Into::into).collect();
    insert_all!(conn, issuance_approval_requests::table, rows)
}

/// Reads a request.
///
/// # Errors
/// [`Error::NotFound`] when there is none.
pub async fn find(conn: &mut Conn, id: &ApprovalId) -> Result<Approval, Error> {
    use issuance_approval_requests as a;
    let row: ApprovalRow = on_conn!(conn, c => a::table.find(id.as_str()).select(ApprovalRow::as_select()).first(c).await)?;
    row.try_into()
}

/// The undecided request of a job.
///
/// # Errors
/// What the database says.
pub async fn pending_of_job(conn: &mut Conn, job: &JobId) -> Result<Option<Approval>, Error> {
    use issuance_approval_requests as a;
    let row: Option<ApprovalRow> = on_conn!(conn, c => a::table
        .filter(a::job_id.eq(job.as_str()))
        .filter(a::state.eq(ApprovalState::Pending.as_str()))
        .select(ApprovalRow::as_select())
        .first(c)
        .await
        .optional())?;
    row.map(TryInto::try_into).transpose()
}

/// What to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ApprovalFilter {
    /// In this state.
    pub state: Option<ApprovalState>,
    /// Of this certificate.
    pub certificate_id: Option<String>,
    /// By this requester.
    pub requested_by: Option<String>,
}

macro_rules! filtered {
    ($filter:expr) => {{
        use issuance_approval_requests as a;
        let mut query = a::table.into_boxed();
        if let Some(state) = $filter.state {
            query = query.filter(a::state.eq(state.as_str()));
        }
        if let Some(id) = &$filter.certificate_id {
            query = query.filter(a::certificate_id.eq(id.as_str()));
        }
        if let Some(requester) = &$filter.requested_by {
            query = query.filter(a::requested_by.eq(requester.as_str()));
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
    filter: &ApprovalFilter,
    page: PageRequest,
) -> Result<Page<Approval>, Error> {
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
    filter: &ApprovalFilter,
    page: PageRequest,
) -> Result<Vec<Approval>, Error> {
    use issuance_approval_requests as a;
    let rows: Vec<ApprovalRow> = on_conn!(conn, c => filtered!(filter)
        .select(ApprovalRow::as_select())
        .order((a::created_at.desc(), a::id))
        .limit(page.limit())
        .offset(page.offset())
        .load(c)
        .await)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Counts all matches.
///
/// # Errors
/// What the database says.
pub async fn count(conn: &mut Conn, filter: &ApprovalFilter) -> Result<i64, Error> {
    Ok(on_conn!(conn, c => filtered!(filter).count().get_result(c).await)?)
}

/// How requests end.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    /// The state they go to.
    pub state: ApprovalState,
    /// Who decides.
    pub by: &'a str,
    /// What is said to it.
    pub note: Option<&'a str>,
    /// When.
    pub now: Timestamp,
}

macro_rules! end {
    ($conn:expr, $open:expr, $decision:expr) => {{
        use issuance_approval_requests as a;
        on_conn!($conn, c => diesel::update($open.filter(a::state.eq(ApprovalState::Pending.as_str())))
            .set((
                a::state.eq($decision.state.as_str()),
                a::decided_by.eq(Some($decision.by)),
                a::decided_at.eq(Some(At($decision.now))),
                a::decision_note.eq($decision.note),
                a::updated_at.eq(At($decision.now)),
            ))
            .returning(ApprovalRow::as_returning())
            .load::<ApprovalRow>(c)
            .await)?
    }};
}

/// Ends an undecided request; false when another decision came first.
///
/// # Errors
/// What the database says.
pub async fn decide(
    conn: &mut Conn,
    id: &ApprovalId,
    decision: &Decision<'_>,
) -> Result<bool, Error> {
    let ended = end!(conn, a::table.filter(a::id.eq(id.as_str())), decision);
    Ok(ended.len() == 1)
}

/// Ends the undecided requests of jobs; returns them as they are then.
///
/// # Errors
/// What the database says.
pub async fn close_for_jobs(
    conn: &mut Conn,
    jobs: &[JobId],
    decision: &Decision<'_>,
) -> Result<Vec<Approval>, Error> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = jobs.iter().map(JobId::as_str).collect();
    let ended = end!(conn, a::table.filter(a::job_id.eq_any(&ids)), decision);
    ended.into_iter().map(TryInto::try_into).collect()
}

/// Ends these requests where they are undecided; returns them as they are then.
///
/// # Errors
/// What the database says.
pub async fn close_all(
    conn: &mut Conn,
    approvals: &[ApprovalId],
    decision: &Decision<'_>,
) -> Result<Vec<Approval>, Error> {
    let ids: Vec<&str> = approvals.iter().map(ApprovalId::as_str).collect();
    let ended = end!(conn, a::table.filter(a::id.eq_any(&ids)), decision);
    ended.into_iter().map(TryInto::try_into).collect()
}

/// Up to `limit` undecided requests made before `before`, oldest first: id and job.
///
/// # Errors
/// What the database says.
pub async fn overdue(
    conn: &mut Conn,
    before: Timestamp,
    limit: i64,
) -> Result<Vec<(ApprovalId, Option<JobId>)>, Error> {
    use issuance_approval_requests as a;
    let rows: Vec<(String, Option<String>)> = on_conn!(conn, c => a::table
        .filter(a::state.eq(ApprovalState::Pending.as_str()))
        .filter(a::created_at.lt(At(before)))
        .select((a::id, a::job_id))
        .order((a::created_at, a::id))
        .limit(limit)
        .load(c)
        .await)?;
    Ok(rows
        .into_iter()
        .map(|(id, job)| (ApprovalId::from_stored(id), job.map(JobId::from_stored)))
        .collect())
}

/// The undecided edits of a profile that somebody asked for, oldest first.
///
/// # Errors
/// What the database says.
pub async fn pending_edits(
    conn: &mut Conn,
    profile: &ProfileId,
    requested_by: &str,
) -> Result<Vec<Approval>, Error> {
    use issuance_approval_requests as a;
    let rows: Vec<ApprovalRow> = on_conn!(conn, c => a::table
        .filter(a::profile_id.eq(profile.as_str()))
        .filter(a::approval_kind.eq(ApprovalKind::ProfileEdit.as_str()))
        .filter(a::state.eq(ApprovalState::Pending.as_str()))
        .filter(a::requested_by.eq(requested_by))
        .select(ApprovalRow::as_select())
        .order((a::created_at, a::id))
        .load(c)
        .await)?;
    rows.into_iter().map(TryInto::try_into).collect()
}
