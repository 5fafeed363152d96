//! Jobs that are claimed, or done, as they are made.

use std::time::Duration;

use certctl_domain::{
    job::{Job, JobStatus, VerificationStatus},
    time::Timestamp,
};

use diesel_async::RunQueryDsl as _;

use super::{NewJob, NewJobRow, claim::ClaimedJob};
use crate::{Conn, Error, types::At};

/// The token of a job's first claim.
pub const FIRST_TOKEN: i64 = 1;

#[derive(diesel::Insertable)]
#[diesel(table_name = crate::schema::jobs, treat_none_as_default_value = false)]
struct HeldRow {
    #[diesel(embed)]
    job: NewJobRow,
    started_at: At,
    attempts: i32,
    lease_owner: String,
    lease_token: i64,
    lease_expires_at: At,
}

/// Makes jobs that are claimed as they are made, by whoever works them off as soon as this is committed: a transaction less than
/// making and claiming them. Everything else about them is as of every claimed job.
///
/// # Errors
/// [`Error::AlreadyExists`] when a certificate has an open renewal already.
pub async fn insert_all(
    conn: &mut Conn,
    new: &[NewJob],
    owner: &str,
    lease: Duration,
    now: Timestamp,
) -> Result<(), Error> {
    let rows: Vec<HeldRow> = new
        .iter()
        .map(|job| HeldRow {
            job: NewJobRow {
                status: JobStatus::Running.as_str(),
                ..job.into()
            },
            started_at: At(now),
            attempts: 1,
            lease_owner: owner.to_owned(),
            lease_token: FIRST_TOKEN,
            lease_expires_at: At(now + lease),
        })
        .collect();
    insert_all!(conn, crate::schema::jobs::table, rows)
}

#[derive(diesel::Insertable)]
#[diesel(table_name = crate::schema::jobs, treat_none_as_default_value = false)]
struct CompletedRow {
    #[diesel(embed)]
    job: NewJobRow,
    started_at: At,
    completed_at: At,
    attempts: i32,
    lease_token: i64,
}

/// Enters jobs that were done before anything was written of them.
///
/// # Errors
/// What the database says.
pub async fn insert_completed(
    conn: &mut Conn,
    done: &[&NewJob],
    now: Timestamp,
) -> Result<(), Error> {
    let rows: Vec<CompletedRow> = done
        .iter()
        .map(|job| CompletedRow {
            job: NewJobRow {
                status: JobStatus::Completed.as_str(),
                status_changed_at: At(now),
                ..(*job).into()
            },
            started_at: At(job.created_at),
            completed_at: At(now),
            attempts: 1,
            lease_token: FIRST_TOKEN,
        })
        .collect();
    insert_all!(conn, crate::schema::jobs::table, rows)
}

/// A job that [`insert_all`] made, as its holder has it.
#[must_use]
pub fn claimed(job: &NewJob, now: Timestamp) -> ClaimedJob {
    ClaimedJob {
        job: Job {
            id: job.id.clone(),
            job_type: job.job_type,
            certificate_id: Some(job.certificate_id.clone()),
            target_id: job.target_id.clone(),
            agent_id: job.agent_id.clone(),
            status: JobStatus::Running,
            attempts: 1,
            max_attempts: job.max_attempts,
            last_error: None,
            scheduled_at: job.created_at,
            started_at: Some(now),
            completed_at: None,
            created_at: job.created_at,
            status_changed_at: job.created_at,
            next_attempt_at: None,
            verification_status: VerificationStatus::Pending,
            verified_at: None,
            expected_fingerprint: None,
            verification_fingerprint: None,
            verification_error: None,
        },
        token: FIRST_TOKEN,
    }
}
