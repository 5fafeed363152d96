//! Requests that wait for a second person.

use certctl_domain::{
    id::{CertificateId, JobId, ProfileId},
    time::Timestamp,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    schema::issuance_approval_requests,
    types::{At, Json},
};

/// A request to let a job run.
#[derive(Debug, Clone)]
pub struct NewApproval<'a> {
    /// The id, `ar-…`.
    pub id: String,
    /// For which certificate.
    pub certificate_id: &'a CertificateId,
    /// For which job.
    pub job_id: &'a JobId,
    /// By which profile it is needed.
    pub profile_id: &'a ProfileId,
    /// Who asks.
    pub requested_by: &'a str,
    /// What the second person is shown.
    pub metadata: serde_json::Value,
    /// When.
    pub created_at: Timestamp,
}

/// Enters a request.
///
/// # Errors
/// [`Error::AlreadyExists`] when the job has one that is undecided.
pub async fn insert(conn: &mut Conn, approval: &NewApproval<'_>) -> Result<(), Error> {
    use issuance_approval_requests as a;
    let row = (
        a::id.eq(&approval.id),
        a::approval_kind.eq("cert_issuance"),
        a::certificate_id.eq(Some(approval.certificate_id.as_str())),
        a::job_id.eq(Some(approval.job_id.as_str())),
        a::profile_id.eq(approval.profile_id.as_str()),
        a::requested_by.eq(approval.requested_by),
        a::state.eq("pending"),
        a::metadata.eq(Some(Json(approval.metadata.clone()))),
        a::created_at.eq(At(approval.created_at)),
        a::updated_at.eq(At(approval.created_at)),
    );
    on_conn!(conn, c => diesel::insert_into(a::table).values(row).execute(c).await)?;
    Ok(())
}

/// Ends the undecided request of a job.
///
/// # Errors
/// What the database says.
pub async fn close_for_job(
    conn: &mut Conn,
    job: &JobId,
    state: &'static str,
    by: &str,
    note: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    use issuance_approval_requests as a;
    let open = a::table
        .filter(a::job_id.eq(job.as_str()))
        .filter(a::state.eq("pending"));
    let changed = on_conn!(conn, c => diesel::update(open)
        .set((
            a::state.eq(state),
            a::decided_by.eq(Some(by)),
            a::decided_at.eq(Some(At(now))),
            a::decision_note.eq(Some(note)),
            a::updated_at.eq(At(now)),
        ))
        .execute(c)
        .await)?;
    Ok(changed == 1)
}
