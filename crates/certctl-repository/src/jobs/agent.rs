//! What agents do with jobs: take deployments, hand in requests, report, verify.

use certctl_domain::{
    agent::DEPLOYABLE_WITHIN,
    id::{AgentId, CertificateId, JobId, TargetId},
    job::{AGENT_LEASE, Job, JobStatus, JobType, VerificationStatus},
    time::Timestamp,
};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl;

use super::{COLUMNS, JobRow};
use crate::{
    Conn, Error, counters,
    db::dialect,
    prepared::{Prepare as _, one_of},
    schema::{agents, certificate_target_mappings, csr_refusals, deployment_targets, jobs},
    types::{At, TextList, Texts, UtcTimestamp},
};

/// Takes the deployments that wait for an agent and go to targets of its that are in use, oldest first, so that no two polls get
/// the same one. They carry a lease
/// without an owner, because the answer that gives them out may be lost while the agent lives on.
///
/// # Errors
/// What the database says.
pub async fn claim_deployments(
    conn: &mut Conn,
    agent: &AgentId,
    limit: i64,
    now: Timestamp,
) -> Result<Vec<Job>, Error> {
    // Two ways lead to a job; each is a range of its own index, which one condition with OR would not be.
    let sql = |lock: &str| {
        format!(
            "WITH own AS (SELECT j.id FROM jobs j JOIN deployment_targets t ON t.id = j.target_id WHERE j.agent_id = $1 \
                    AND t.agent_id = $1 AND t.enabled AND t.retired_at IS NULL AND j.status = 'Pending' AND j.type = 'Deployment' \
                    AND j.scheduled_at <= $2 ORDER BY j.scheduled_at, j.id LIMIT $3 {lock}), \
                by_target AS (SELECT j.id FROM deployment_targets t JOIN jobs j ON j.target_id = t.id WHERE t.agent_id = $1 \
                    AND t.enabled AND t.retired_at IS NULL AND j.agent_id IS NULL AND j.status = 'Pending' AND j.type = 'Deployment' AND j.scheduled_at <= $2 \
                    ORDER BY j.scheduled_at, j.id LIMIT (SELECT $3 - count(*) FROM own) {lock}) \
             UPDATE jobs SET status = 'Running', agent_id = $1, started_at = $2, status_changed_at = $2, attempts = attempts + 1, \
                next_attempt_at = NULL, lease_owner = NULL, lease_expires_at = $4, lease_token = lease_token + 1 \
             WHERE status = 'Pending' AND id IN (SELECT id FROM own UNION ALL SELECT id FROM by_target) \
             RETURNING {COLUMNS}"
        )
    };
    let sql = match conn {
        Conn::Postgres(_) => sql("FOR UPDATE OF j SKIP LOCKED"),
        Conn::Sqlite(_) => sql("").replace('$', "?"),
    };
    let rows: Vec<JobRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(agent.as_str())
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<BigInt, _>(limit)
        .bind::<UtcTimestamp, _>(At(now + AGENT_LEASE))
        .prepared()
        .load(c)
        .await)?;
    let mut jobs: Vec<Job> = Vec::with_capacity(rows.len());
    for row in rows {
        match row.unreadable() {
            Some(problem) => super::fail_unreadable(conn, &row, &problem, now).await?,
            None => jobs.push(row.try_into()?),
        }
    }
    jobs.sort_by(|a, b| (a.scheduled_at, &a.id).cmp(&(b.scheduled_at, &b.id)));
    Ok(jobs)
}

/// Gives an agent that says it is at work on a deployment more time; false when it no longer has it.
///
/// # Errors
/// What the database says.
pub async fn extend_lease(
    conn: &mut Conn,
    job: &JobId,
    agent: &AgentId,
    now: Timestamp,
) -> Result<bool, Error> {
    let row = jobs::table
        .find(job.as_str())
        .filter(jobs::status.eq(JobStatus::Running.as_str()))
        .filter(jobs::kind.eq(JobType::Deployment.as_str()))
        .filter(jobs::agent_id.eq(agent.as_str()));
    let changed = on_conn!(conn, c => diesel::update(row)
        .set(jobs::lease_expires_at.eq(Some(At(now + AGENT_LEASE))))
        .execute(c)
        .await)?;
    Ok(changed == 1)
}

/// Whether an agent is at work on a deployment of a certificate.
///
/// # Errors
/// What the database says.
pub async fn is_deploying(
    conn: &mut Conn,
    certificate: &CertificateId,
    agent: &AgentId,
) -> Result<bool, Error> {
    let rows = jobs::table
        .filter(jobs::certificate_id.eq(certificate.as_str()))
        .filter(jobs::status.eq(JobStatus::Running.as_str()))
        .filter(jobs::kind.eq(JobType::Deployment.as_str()))
        .filter(jobs::agent_id.eq(agent.as_str()));
    let count: i64 = on_conn!(conn, c => rows.count().get_result(c).await)?;
    Ok(count > 0)
}

/// Whether anything waits for an agent; asked before a claim, so that an idle poll writes nothing.
///
/// # Errors
/// What the database says.
pub async fn has_deployments(
    conn: &mut Conn,
    agent: &AgentId,
    now: Timestamp,
) -> Result<bool, Error> {
    #[derive(QueryableByName)]
    struct Found {
        #[diesel(sql_type = BigInt)]
        found: i64,
    }
    let sql = dialect(
        conn,
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM jobs j JOIN deployment_targets t ON t.id = j.target_id \
                WHERE j.agent_id = $1 AND t.agent_id = $1 AND t.enabled AND t.retired_at IS NULL AND j.status = 'Pending' \
                AND j.type = 'Deployment' AND j.scheduled_at <= $2 LIMIT 1) AS own) \
            + (SELECT count(*) FROM (SELECT 1 FROM jobs j JOIN deployment_targets t ON t.id = j.target_id \
                WHERE t.agent_id = $1 AND t.enabled AND t.retired_at IS NULL AND j.agent_id IS NULL AND j.status = 'Pending' AND j.type = 'Deployment' \
                AND j.scheduled_at <= $2 LIMIT 1) AS by_target) AS found",
    );
    let row: Found = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(agent.as_str())
        .bind::<UtcTimestamp, _>(At(now))
        .prepared()
        .get_result(c)
        .await)?;
    Ok(row.found > 0)
}

/// The renewals that wait for a request of an agent, newest first: those whose certificate is mapped to one of its targets, but
/// for those that it has given up.
///
/// # Errors
/// What the database says.
pub async fn awaiting_csr(conn: &mut Conn, agent: &AgentId, limit: i64) -> Result<Vec<Job>, Error> {
    let mapped = certificate_target_mappings::table
        .inner_join(deployment_targets::table)
        .filter(deployment_targets::agent_id.eq(agent.as_str()))
        .filter(deployment_targets::retired_at.is_null())
        .select(certificate_target_mappings::certificate_id.nullable());
    let given_up = csr_refusals::table
        .filter(csr_refusals::agent_id.eq(agent.as_str()))
        .filter(csr_refusals::job_id.eq(jobs::id));
    let rows: Vec<JobRow> = on_conn!(conn, c => jobs::table
        .filter(jobs::status.eq(JobStatus::AwaitingCsr.as_str()))
        .filter(jobs::certificate_id.eq_any(mapped))
        .filter(diesel::dsl::not(diesel::dsl::exists(given_up)))
        .select(JobRow::as_select())
        .order((jobs::created_at.desc(), jobs::id.desc()))
        .limit(limit)
        .load(c)
        .await)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// The newest renewal of a certificate that waits for a request.
///
/// # Errors
/// What the database says.
pub async fn awaiting_csr_of(
    conn: &mut Conn,
    certificate: &CertificateId,
) -> Result<Option<Job>, Error> {
    let row: Option<JobRow> = on_conn!(conn, c => jobs::table
        .filter(jobs::status.eq(JobStatus::AwaitingCsr.as_str()))
        .filter(jobs::certificate_id.eq(certificate.as_str()))
        .select(JobRow::as_select())
        .order((jobs::created_at.desc(), jobs::id.desc()))
        .first(c)
        .await
        .optional())?;
    row.map(TryInto::try_into).transpose()
}

/// Makes a renewal due whose request has been recorded; false when another request came first.
///
/// # Errors
/// What the database says.
pub async fn accept_csr(conn: &mut Conn, job: &JobId, now: Timestamp) -> Result<bool, Error> {
    let row = jobs::table
        .find(job.as_str())
        .filter(jobs::status.eq(JobStatus::AwaitingCsr.as_str()));
    let changed = on_conn!(conn, c => diesel::update(row)
        .set((
            jobs::status.eq(JobStatus::Pending.as_str()),
            jobs::status_changed_at.eq(At(now)),
            jobs::scheduled_at.eq(At(now)),
            jobs::last_error.eq(None::<&str>),
        ))
        .execute(c)
        .await)?;
    Ok(changed == 1)
}

/// What stands as the last error of a renewal that is offered to nobody.
pub const NO_AGENT: &str = "no agent-bound target";

/// Marks those of the jobs that wait for a request although no agent is offered them; an operator may still hand one in
/// (scheduler §5). Returns them with their certificates.
///
/// # Errors
/// What the database says.
pub async fn mark_unoffered(
    conn: &mut Conn,
    ids: &[JobId],
) -> Result<Vec<(JobId, CertificateId)>, Error> {
    #[derive(QueryableByName)]
    struct Marked {
        #[diesel(sql_type = Text)]
        id: String,
        #[diesel(sql_type = Text)]
        certificate_id: String,
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = |named: &str| {
        format!(
            "UPDATE jobs SET last_error = $2 WHERE id {named} AND status = 'AwaitingCSR' AND certificate_id IS NOT NULL \
                AND NOT EXISTS (SELECT 1 FROM certificate_target_mappings AS m JOIN deployment_targets AS t ON t.id = m.target_id \
                    WHERE m.certificate_id = jobs.certificate_id AND t.retired_at IS NULL) RETURNING id, certificate_id"
        )
    };
    let sql = match conn {
        Conn::Postgres(_) => sql("= ANY ($1)"),
        Conn::Sqlite(_) => sql("IN (SELECT value FROM json_each($1))").replace('$', "?"),
    };
    let ids = Texts(ids.iter().map(ToString::to_string).collect());
    let rows: Vec<Marked> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<TextList, _>(&ids)
        .bind::<Text, _>(NO_AGENT)
        .prepared()
        .load(c)
        .await)?;
    Ok(rows
        .into_iter()
        .map(|row| {
            (
                JobId::from_stored(row.id),
                CertificateId::from_stored(row.certificate_id),
            )
        })
        .collect())
}

/// Whether a certificate is mapped to no target that is in use, so that its renewals are offered to no agent.
///
/// # Errors
/// What the database says.
pub async fn is_unoffered(conn: &mut Conn, certificate: &CertificateId) -> Result<bool, Error> {
    let mapped = certificate_target_mappings::table
        .inner_join(deployment_targets::table)
        .filter(certificate_target_mappings::certificate_id.eq(certificate.as_str()))
        .filter(deployment_targets::retired_at.is_null());
    let count: i64 = on_conn!(conn, c => mapped.count().get_result(c).await)?;
    Ok(count == 0)
}

/// What it means that an agent gives a renewal up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CsrRefusal {
    /// Whether it had not given it up before.
    pub is_new: bool,
    /// Whether another agent that was heard of lately is still offered it.
    pub others_remain: bool,
}

/// Notes that an agent gives a renewal up. To be called with the job locked, so that the last two do not both take the other for
/// still there.
///
/// # Errors
/// What the database says.
pub async fn refuse_csr(
    conn: &mut Conn,
    job: &Job,
    agent: &AgentId,
    now: Timestamp,
) -> Result<CsrRefusal, Error> {
    let row = (
        csr_refusals::job_id.eq(job.id.as_str()),
        csr_refusals::agent_id.eq(agent.as_str()),
        csr_refusals::created_at.eq(At(now)),
    );
    let noted = on_conn!(conn, c => diesel::insert_into(csr_refusals::table).values(row).on_conflict_do_nothing().execute(c).await)?;
    let Some(certificate) = &job.certificate_id else {
        return Ok(CsrRefusal {
            is_new: noted > 0,
            others_remain: false,
        });
    };
    let given_up = csr_refusals::table
        .filter(csr_refusals::job_id.eq(job.id.as_str()))
        .filter(csr_refusals::agent_id.eq(agents::id));
    let offered = certificate_target_mappings::table
        .inner_join(deployment_targets::table)
        .inner_join(agents::table.on(agents::id.eq(deployment_targets::agent_id)))
        .filter(certificate_target_mappings::certificate_id.eq(certificate.as_str()))
        .filter(deployment_targets::retired_at.is_null())
        .filter(agents::retired_at.is_null())
        // Waiting for one that fell silent would only delay the next try, for which all are asked again.
        .filter(agents::last_heartbeat_at.gt(At(now - DEPLOYABLE_WITHIN)))
        .filter(diesel::dsl::not(diesel::dsl::exists(given_up)));
    let targets: i64 = on_conn!(conn, c => offered.count().get_result(c).await)?;
    Ok(CsrRefusal {
        is_new: noted > 0,
        others_remain: targets > 0,
    })
}

/// Fails a renewal whose request an agent could not make, and counts the attempt, which handing it out did not; false when it no
/// longer waits for a request.
///
/// # Errors
/// What the database says.
pub async fn give_up_csr(
    conn: &mut Conn,
    job: &JobId,
    error: Option<&str>,
    next_attempt_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<bool, Error> {
    let row = jobs::table
        .find(job.as_str())
        .filter(jobs::status.eq(JobStatus::AwaitingCsr.as_str()));
    let changed = on_conn!(conn, c => diesel::update(row)
        .set((
            jobs::status.eq(JobStatus::Failed.as_str()),
            jobs::attempts.eq(jobs::attempts + 1),
            jobs::last_error.eq(error),
            jobs::next_attempt_at.eq(next_attempt_at.map(At)),
            jobs::status_changed_at.eq(At(now)),
            jobs::completed_at.eq(Some(At(now))),
        ))
        .execute(c)
        .await)?;
    counters::add_jobs(conn, 0, changed).await?;
    Ok(changed == 1)
}

/// Stores what an agent says of how a deployment went.
///
/// # Errors
/// What the database says.
pub async fn set_deployment_result(
    conn: &mut Conn,
    job: &JobId,
    result: &serde_json::Value,
) -> Result<(), Error> {
    let result = crate::types::Json(result.clone());
    on_conn!(conn, c => diesel::update(jobs::table.find(job.as_str()))
        .set(jobs::deployment_result.eq(Some(&result)))
        .execute(c)
        .await)?;
    Ok(())
}

/// What a look at a target said.
#[derive(Debug, Clone)]
pub struct Verification<'a> {
    /// Served or not.
    pub status: VerificationStatus,
    /// What should be served.
    pub expected: &'a str,
    /// What is.
    pub actual: &'a str,
    /// Why the look failed.
    pub error: Option<&'a str>,
    /// When.
    pub at: Timestamp,
}

/// Stores what a look at a target said.
///
/// # Errors
/// [`Error::NotFound`] when there is no such job.
pub async fn set_verification(
    conn: &mut Conn,
    job: &JobId,
    seen: &Verification<'_>,
) -> Result<(), Error> {
    let changed = on_conn!(conn, c => diesel::update(jobs::table.find(job.as_str()))
        .set((
            jobs::verification_status.eq(seen.status.as_str()),
            jobs::verified_at.eq(Some(At(seen.at))),
            jobs::expected_fingerprint.eq(Some(seen.expected)),
            jobs::verification_fingerprint.eq(Some(seen.actual)),
            jobs::verification_error.eq(seen.error),
        ))
        .execute(c)
        .await)?;
    if changed == 0 {
        Err(Error::NotFound)
    } else {
        Ok(())
    }
}

/// The targets that certificates are mapped to, with the agent of each; retired and disabled targets are left out.
///
/// # Errors
/// What the database says.
pub async fn deployments_of(
    conn: &mut Conn,
    certificates: &[CertificateId],
) -> Result<Vec<(CertificateId, TargetId, AgentId)>, Error> {
    let ids: Vec<&str> = certificates.iter().map(CertificateId::as_str).collect();
    let rows: Vec<(String, String, String)> = on_conn!(conn, c => certificate_target_mappings::table
        .inner_join(deployment_targets::table)
        .filter(one_of(certificate_target_mappings::certificate_id, &ids))
        .filter(deployment_targets::retired_at.is_null())
        .filter(deployment_targets::enabled.eq(true))
        .select((certificate_target_mappings::certificate_id, deployment_targets::id, deployment_targets::agent_id))
        .load(c)
        .await)?;
    Ok(rows
        .into_iter()
        .map(|(certificate, target, agent)| {
            (
                CertificateId::from_stored(certificate),
                TargetId::from_stored(target),
                AgentId::from_stored(agent),
            )
        })
        .collect())
}
