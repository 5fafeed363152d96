//! Taking jobs up: claims with leases and fencing tokens, their recovery, retries and time-outs. Each is one statement over all
//! rows it concerns.

use std::{collections::HashMap, time::Duration};

use certctl_domain::{
    id::{CertificateId, JobId},
    job::Job,
    time::Timestamp,
};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Nullable, Text},
};
use diesel_async::RunQueryDsl;

use super::{COLUMNS, JobRow};
use crate::{
    Conn, Error, counters,
    db::dialect,
    prepared::{Prepare as _, one_of},
    types::{At, TextList, Texts, UtcTimestamp, time},
};

/// What a sweep returns of each row; the casts give both databases the same type.
macro_rules! swept {
    () => {
        " RETURNING id, type AS kind, certificate_id, status, CAST(attempts AS BIGINT) AS attempts, \
            CAST(max_attempts AS BIGINT) AS max_attempts, started_at, next_attempt_at"
    };
}

/// The agent a deployment goes to by now: its target may have moved to another one since.
macro_rules! present_agent {
    () => {
        "CASE WHEN type = 'Deployment' THEN COALESCE((SELECT t.agent_id FROM deployment_targets t WHERE t.id = jobs.target_id), agent_id) \
            ELSE agent_id END"
    };
}

/// A job with the token that proves who holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedJob {
    /// The job.
    pub job: Job,
    /// The fencing token; what is written with an older one is refused.
    pub token: i64,
}

#[derive(QueryableByName)]
struct ClaimRow {
    #[diesel(embed)]
    job: JobRow,
    #[diesel(sql_type = BigInt)]
    lease_token: i64,
}

/// Takes up to `limit` jobs that are due, oldest first, never a deployment to a target, since every target has an agent. The
/// attempt is counted. A row that says what this build does not know fails for good and is left out (scheduler §5): it must not
/// stand in the way of the others.
///
/// # Errors
/// What the database says.
pub async fn claim(
    conn: &mut Conn,
    owner: &str,
    lease: Duration,
    limit: i64,
    now: Timestamp,
) -> Result<Vec<ClaimedJob>, Error> {
    const DUE: &str = "SELECT id FROM jobs \
        WHERE status = 'Pending' AND (type <> 'Deployment' OR target_id IS NULL) AND scheduled_at <= $1 \
        ORDER BY scheduled_at, id LIMIT $4";
    // The state stands in the outer WHERE too, so that whoever waited for a row looks at it again.
    let update = |picked: &str| {
        format!(
            "UPDATE jobs SET status = 'Running', started_at = $1, status_changed_at = $1, attempts = attempts + 1, \
                next_attempt_at = NULL, lease_owner = $2, lease_token = lease_token + 1, lease_expires_at = $3 \
             WHERE status = 'Pending' AND {picked} RETURNING {COLUMNS}, lease_token"
        )
    };
    let sql = match conn {
        // An array is made once; a sub-select might be run again for every row of a nested loop, and then pick more than asked.
        Conn::Postgres(_) => update(&format!("id = ANY (ARRAY({DUE} FOR UPDATE SKIP LOCKED))")),
        Conn::Sqlite(_) => update(&format!("id IN ({DUE})")).replace('$', "?"),
    };
    let rows: Vec<ClaimRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<Text, _>(owner)
        .bind::<UtcTimestamp, _>(At(now + lease))
        .bind::<BigInt, _>(limit)
        .prepared()
        .load(c)
        .await)?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in rows {
        match row.job.unreadable() {
            Some(problem) => super::fail_unreadable(conn, &row.job, &problem, now).await?,
            None => claimed.push(ClaimedJob {
                job: row.job.try_into()?,
                token: row.lease_token,
            }),
        }
    }
    claimed.sort_by(|a, b| (a.job.scheduled_at, &a.job.id).cmp(&(b.job.scheduled_at, &b.job.id)));
    Ok(claimed)
}

/// Prolongs the leases of a holder's running jobs that are named; a batch that ended badly must not live on by another's.
///
/// # Errors
/// What the database says.
pub async fn extend_leases(
    conn: &mut Conn,
    owner: &str,
    held: &[JobId],
    lease: Duration,
    now: Timestamp,
) -> Result<usize, Error> {
    use diesel::{ExpressionMethods as _, QueryDsl as _};

    use crate::schema::jobs;
    let ids: Vec<&str> = held.iter().map(JobId::as_str).collect();
    let rows = jobs::table
        .filter(one_of(jobs::id, &ids))
        .filter(jobs::status.eq("Running"))
        .filter(jobs::lease_owner.eq(owner));
    Ok(
        on_conn!(conn, c => RunQueryDsl::execute(diesel::update(rows).set(jobs::lease_expires_at.eq(Some(At(now + lease)))), c).await)?,
    )
}

/// Of jobs that were claimed, those that are still held by their tokens; nobody else ends them until the transaction does.
///
/// # Errors
/// What the database says.
pub async fn still_held(conn: &mut Conn, claimed: &[(JobId, i64)]) -> Result<Vec<JobId>, Error> {
    use diesel::{ExpressionMethods as _, QueryDsl as _};

    use crate::schema::jobs;
    let ids: Vec<&str> = claimed.iter().map(|(id, _)| id.as_str()).collect();
    let tokens: HashMap<&str, i64> = claimed
        .iter()
        .map(|(id, token)| (id.as_str(), *token))
        .collect();
    let running = jobs::table
        .filter(one_of(jobs::id, &ids))
        .filter(jobs::status.eq("Running"))
        .select((jobs::id, jobs::lease_token))
        // One order for all, so that two of them do not wait for each other.
        .order(jobs::id);
    let rows: Vec<(String, i64)> = on_conn!(conn,
        pg c => RunQueryDsl::load(running.for_update(), c).await,
        // The one writer of SQLite has the whole database to itself.
        sqlite c => RunQueryDsl::load(running, c).await,
    )?;
    Ok(rows
        .into_iter()
        .filter(|(id, token)| tokens.get(id.as_str()) == Some(token))
        .map(|(id, _)| JobId::from_stored(id))
        .collect())
}

/// Gives a holder's running jobs back without counting the attempt; for a shutdown.
///
/// # Errors
/// What the database says.
pub async fn release(conn: &mut Conn, owner: &str, now: Timestamp) -> Result<Vec<Swept>, Error> {
    let sql = dialect(
        conn,
        concat!(
            "UPDATE jobs SET status = 'Pending', attempts = attempts - 1, status_changed_at = $1, lease_owner = NULL, \
                lease_expires_at = NULL WHERE status = 'Running' AND lease_owner = $2",
            swept!()
        ),
    );
    let rows: Vec<SweptRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<Text, _>(owner)
        .prepared()
        .load(c)
        .await)?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// A job whose state a sweep changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// The job.
    pub id: JobId,
    /// What it does, as it is stored.
    pub kind: String,
    /// Its certificate.
    pub certificate_id: Option<CertificateId>,
    /// The state it is in now.
    pub status: String,
    /// How often it was started.
    pub attempts: i64,
    /// How often it may be.
    pub max_attempts: i64,
    /// When it was last started.
    pub started_at: Option<Timestamp>,
    /// When it is tried again after a failure.
    pub next_attempt_at: Option<Timestamp>,
}

impl Swept {
    /// Whether it failed and is not tried again.
    #[must_use]
    pub fn failed_for_good(&self) -> bool {
        self.status == "Failed" && self.next_attempt_at.is_none()
    }
}

#[derive(QueryableByName)]
struct SweptRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Nullable<Text>)]
    certificate_id: Option<String>,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = BigInt)]
    attempts: i64,
    #[diesel(sql_type = BigInt)]
    max_attempts: i64,
    #[diesel(sql_type = Nullable<UtcTimestamp>)]
    started_at: Option<At>,
    #[diesel(sql_type = Nullable<UtcTimestamp>)]
    next_attempt_at: Option<At>,
}

impl From<SweptRow> for Swept {
    fn from(row: SweptRow) -> Self {
        Self {
            id: JobId::from_stored(row.id),
            kind: row.kind,
            certificate_id: row.certificate_id.map(CertificateId::from_stored),
            status: row.status,
            attempts: row.attempts,
            max_attempts: row.max_attempts,
            started_at: time(row.started_at),
            next_attempt_at: time(row.next_attempt_at),
        }
    }
}

/// Counts those of a sweep that failed, and hands all of them on.
async fn counted(conn: &mut Conn, rows: Vec<SweptRow>) -> Result<Vec<Swept>, Error> {
    let swept: Vec<Swept> = rows.into_iter().map(Into::into).collect();
    let failed = swept.iter().filter(|one| one.status == "Failed").count();
    counters::add_jobs(conn, 0, failed).await?;
    Ok(swept)
}

/// Takes running jobs from holders whose lease ran out: due again while attempts are left, failed otherwise.
///
/// # Errors
/// What the database says.
pub async fn recover(conn: &mut Conn, now: Timestamp) -> Result<Vec<Swept>, Error> {
    let sql = dialect(
        conn,
        concat!(
            "UPDATE jobs SET status = CASE WHEN attempts < max_attempts THEN 'Pending' ELSE 'Failed' END, \
                completed_at = CASE WHEN attempts < max_attempts THEN NULL ELSE $1 END, \
                last_error = 'the worker that held this job died', status_changed_at = $1, lease_owner = NULL, lease_expires_at = NULL, \
                agent_id = ",
            present_agent!(),
            " \
             WHERE status = 'Running' AND lease_expires_at < $1",
            swept!()
        ),
    );
    let rows: Vec<SweptRow> = on_conn!(conn, c => diesel::sql_query(sql).bind::<UtcTimestamp, _>(At(now)).prepared().load(c).await)?;
    counted(conn, rows).await
}

/// What a look at failed jobs came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retried {
    /// Jobs that are due again.
    pub due: Vec<Swept>,
    /// Certificates of renewals that are never tried again, since a newer one was made.
    pub superseded: Vec<CertificateId>,
}

/// Makes failed jobs due again whose time has come and that have attempts left. A renewal is left alone while another one of
/// the same certificate is open, and is never tried again once a newer one was made: whatever came of that one counts.
///
/// # Errors
/// What the database says.
pub async fn retry_due(conn: &mut Conn, now: Timestamp) -> Result<Retried, Error> {
    #[derive(QueryableByName)]
    struct Given {
        #[diesel(sql_type = Nullable<Text>)]
        certificate_id: Option<String>,
    }
    // Without this, two failed renewals of one certificate would both become open, which the unique index refuses for all.
    let superseded = dialect(
        conn,
        "UPDATE jobs SET next_attempt_at = NULL \
         WHERE status = 'Failed' AND next_attempt_at <= $1 AND type IN ('Renewal', 'Issuance') AND EXISTS (\
            SELECT 1 FROM jobs AS newer WHERE newer.certificate_id = jobs.certificate_id AND newer.type IN ('Renewal', 'Issuance') \
                AND (newer.created_at, newer.id) > (jobs.created_at, jobs.id)) RETURNING certificate_id",
    );
    let superseded: Vec<Given> = on_conn!(conn, c => diesel::sql_query(superseded).bind::<UtcTimestamp, _>(At(now)).prepared().load(c).await)?;
    let sql = dialect(
        conn,
        concat!(
            "UPDATE jobs SET status = 'Pending', status_changed_at = $1, scheduled_at = $1, next_attempt_at = NULL, completed_at = NULL, \
                agent_id = ",
            present_agent!(),
            " \
             WHERE status = 'Failed' AND next_attempt_at <= $1 AND attempts < max_attempts \
                AND (type NOT IN ('Renewal', 'Issuance') OR NOT EXISTS (SELECT 1 FROM jobs AS other \
                    WHERE other.certificate_id = jobs.certificate_id AND other.type IN ('Renewal', 'Issuance') \
                        AND other.status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running')))",
            swept!()
        ),
    );
    let rows: Vec<SweptRow> = on_conn!(conn, c => diesel::sql_query(sql).bind::<UtcTimestamp, _>(At(now)).prepared().load(c).await)?;
    Ok(Retried {
        due: rows.into_iter().map(Into::into).collect(),
        superseded: superseded
            .into_iter()
            .filter_map(|row| row.certificate_id)
            .map(CertificateId::from_stored)
            .collect(),
    })
}

/// Fails renewals for which no request has come since before `since`. The attempt counts, which handing them out did not; while
/// any are left they are tried again from `retry_at` on, and wait afresh then (scheduler §5).
///
/// # Errors
/// What the database says.
pub async fn expire_awaiting_csr(
    conn: &mut Conn,
    since: Timestamp,
    retry_at: Timestamp,
    now: Timestamp,
) -> Result<Vec<Swept>, Error> {
    let sql = dialect(
        conn,
        concat!(
            // The arm that is never taken tells PostgreSQL that $2 is a time.
            "UPDATE jobs SET status = 'Failed', last_error = 'csr_timeout', status_changed_at = $1, completed_at = $1, \
                attempts = attempts + 1, \
                next_attempt_at = CASE WHEN attempts + 1 < max_attempts THEN $2 WHEN attempts IS NULL THEN completed_at END \
             WHERE status = 'AwaitingCSR' AND status_changed_at < $3",
            swept!()
        ),
    );
    let rows: Vec<SweptRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<UtcTimestamp, _>(At(retry_at))
        .bind::<UtcTimestamp, _>(At(since))
        .prepared()
        .load(c)
        .await)?;
    counted(conn, rows).await
}

/// Fails jobs that nobody has approved since before `since`. They have no attempt left, so that nothing leads them past the
/// gate.
///
/// # Errors
/// What the database says.
pub async fn expire_awaiting_approval(
    conn: &mut Conn,
    since: Timestamp,
    now: Timestamp,
) -> Result<Vec<Swept>, Error> {
    let sql = dialect(
        conn,
        concat!(
            "UPDATE jobs SET status = 'Failed', last_error = 'approval_timeout', status_changed_at = $1, completed_at = $1, \
                next_attempt_at = NULL, attempts = CASE WHEN attempts < max_attempts THEN max_attempts ELSE attempts END \
             WHERE status = 'AwaitingApproval' AND status_changed_at < $2",
            swept!()
        ),
    );
    let rows: Vec<SweptRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<UtcTimestamp, _>(At(since))
        .prepared()
        .load(c)
        .await)?;
    counted(conn, rows).await
}

/// Fails those of the jobs that still wait for approval, as [`expire_awaiting_approval`] does.
///
/// # Errors
/// What the database says.
pub async fn expire_unapproved(
    conn: &mut Conn,
    ids: &[JobId],
    now: Timestamp,
) -> Result<Vec<Swept>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = |named: &str| {
        format!(
            "UPDATE jobs SET status = 'Failed', last_error = 'approval_timeout', status_changed_at = $1, completed_at = $1, \
                next_attempt_at = NULL, attempts = CASE WHEN attempts < max_attempts THEN max_attempts ELSE attempts END \
             WHERE status = 'AwaitingApproval' AND id {named}{}",
            swept!()
        )
    };
    let sql = match conn {
        Conn::Postgres(_) => sql("= ANY ($2)"),
        Conn::Sqlite(_) => sql("IN (SELECT value FROM json_each($2))").replace('$', "?"),
    };
    let ids = Texts(ids.iter().map(ToString::to_string).collect());
    let rows: Vec<SweptRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<TextList, _>(&ids)
        .prepared()
        .load(c)
        .await)?;
    counted(conn, rows).await
}

/// Fails deployments that an agent runs which has not been heard of since `since`; they are tried again from `retry_at` on.
///
/// # Errors
/// What the database says.
pub async fn reap_of_silent_agents(
    conn: &mut Conn,
    since: Timestamp,
    retry_at: Timestamp,
    now: Timestamp,
) -> Result<Vec<Swept>, Error> {
    let sql = dialect(
        conn,
        concat!(
            "UPDATE jobs SET status = 'Failed', last_error = 'agent_offline', status_changed_at = $1, completed_at = $1, \
                next_attempt_at = CASE WHEN attempts < max_attempts THEN $2 END \
             WHERE status = 'Running' AND lease_owner IS NULL AND started_at < $3 AND agent_id IN \
                (SELECT id FROM agents WHERE retired_at IS NOT NULL OR last_heartbeat_at IS NULL OR last_heartbeat_at < $3)",
            swept!()
        ),
    );
    let rows: Vec<SweptRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<UtcTimestamp, _>(At(retry_at))
        .bind::<UtcTimestamp, _>(At(since))
        .prepared()
        .load(c)
        .await)?;
    counted(conn, rows).await
}
