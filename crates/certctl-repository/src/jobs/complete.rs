//! Ending batches of renewals: what was signed is stored, what failed is told, whoever lost a lease is refused.

use certctl_domain::{
    certificate::CertificateVersion,
    id::{CertificateId, IssuerId, JobId},
    time::Timestamp,
};
use diesel::{Insertable, QueryableByName, sql_types::Text};
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use crate::{
    Conn, Error, counters,
    prepared::{Prepare as _, one_of},
    revocations,
    schema::certificate_versions,
    types::{At, Json, JsonDoc, UtcTimestamp},
};

/// A renewal that ended well.
#[derive(Debug, Clone)]
pub struct Completion {
    /// The job.
    pub job_id: JobId,
    /// The token it was claimed with.
    pub token: i64,
    /// What was issued.
    pub version: CertificateVersion,
    /// The sealed key, where the server made it.
    pub sealed_key: Option<Vec<u8>>,
    /// When the version is due for renewal.
    pub renew_at: Timestamp,
}

/// A job that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The job.
    pub job_id: JobId,
    /// The token it was claimed with.
    pub token: i64,
    /// Why.
    pub error: String,
    /// When to try again; none when trying again changes nothing.
    pub next_attempt_at: Option<Timestamp>,
}

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = Text)]
    id: String,
}

#[derive(Insertable)]
#[diesel(table_name = certificate_versions, treat_none_as_default_value = false)]
struct NewVersionRow {
    id: String,
    certificate_id: String,
    issuer_id: String,
    serial_number: String,
    not_before: At,
    not_after: At,
    fingerprint_sha256: String,
    pem_chain: String,
    csr_pem: String,
    encrypted_private_key: Option<Vec<u8>>,
    key_algorithm: String,
    key_size: i32,
    created_at: At,
}

impl From<&Completion> for NewVersionRow {
    fn from(completion: &Completion) -> Self {
        let version = &completion.version;
        Self {
            id: version.id.to_string(),
            certificate_id: version.certificate_id.to_string(),
            issuer_id: version.issuer_id.to_string(),
            serial_number: version.serial_number.to_string(),
            not_before: At(version.not_before),
            not_after: At(version.not_after),
            fingerprint_sha256: version.fingerprint_sha256.clone(),
            pem_chain: version.pem_chain.clone(),
            csr_pem: version.csr_pem.clone(),
            encrypted_private_key: completion.sealed_key.clone(),
            key_algorithm: version.key_algorithm.clone(),
            key_size: i32::try_from(version.key_size).unwrap_or(i32::MAX),
            created_at: At(version.created_at),
        }
    }
}

/// One batch as one JSON bind, and the FROM clause that reads it: `columns` are name and PostgreSQL type.
pub(crate) struct Batch {
    from: String,
    pub(crate) rows: Json,
}

impl Batch {
    pub(crate) fn new(conn: &Conn, columns: &[(&str, &str)], rows: Vec<Value>) -> Self {
        let from = match conn {
            Conn::Postgres(_) => {
                let columns: Vec<String> = columns
                    .iter()
                    .map(|(name, kind)| format!("{name} {kind}"))
                    .collect();
                format!("jsonb_to_recordset($1) AS b({})", columns.join(", "))
            }
            Conn::Sqlite(_) => {
                let columns: Vec<String> = columns
                    .iter()
                    .map(|(name, _)| format!("value ->> '{name}' AS {name}"))
                    .collect();
                format!("(SELECT {} FROM json_each($1)) AS b", columns.join(", "))
            }
        };
        Self {
            from,
            rows: Json(Value::Array(rows)),
        }
    }

    /// The text of a statement for the database at hand.
    pub(crate) fn statement(&self, conn: &Conn, sql: &str) -> String {
        let sql = sql.replace("{batch}", &self.from);
        if matches!(conn, Conn::Sqlite(_)) {
            sql.replace('$', "?")
        } else {
            sql
        }
    }
}

/// A time inside a batch.
pub(crate) fn moment(conn: &Conn, time: Timestamp) -> Value {
    match conn {
        Conn::Postgres(_) => Value::from(time.to_rfc3339()),
        Conn::Sqlite(_) => Value::from(time.as_micros()),
    }
}

/// Ends renewals well: jobs, versions, certificates, intents; the deployments that follow are the caller's to make. Returns the
/// jobs that were still held by their tokens; nothing is written for the others.
///
/// # Errors
/// [`Error::AlreadyExists`] when a serial or fingerprint is stored already.
pub async fn complete(
    conn: &mut Conn,
    done: &[Completion],
    now: Timestamp,
) -> Result<Vec<JobId>, Error> {
    if done.is_empty() {
        return Ok(Vec::new());
    }
    let rows = done
        .iter()
        .map(|one| json!({"job_id": one.job_id.as_str(), "token": one.token}))
        .collect();
    let batch = Batch::new(conn, &[("job_id", "text"), ("token", "bigint")], rows);
    let sql = batch.statement(
        conn,
        "UPDATE jobs SET status = 'Completed', completed_at = $2, status_changed_at = $2, last_error = NULL, lease_owner = NULL, \
            lease_expires_at = NULL FROM {batch} \
         WHERE jobs.id = b.job_id AND jobs.lease_token = b.token AND jobs.status = 'Running' RETURNING id",
    );
    let ended: Vec<IdRow> = on_conn!(conn, c => diesel::sql_query(sql).bind::<JsonDoc, _>(&batch.rows).bind::<UtcTimestamp, _>(At(now)).prepared().load(c).await)?;
    let ended: std::collections::HashSet<String> = ended.into_iter().map(|row| row.id).collect();
    let held: Vec<&Completion> = done
        .iter()
        .filter(|one| ended.contains(one.job_id.as_str()))
        .collect();
    insert_versions(
        conn,
        held.iter().map(|one| NewVersionRow::from(*one)).collect(),
    )
    .await?;
    update_certificates(conn, &held, now).await?;
    delete_intents(conn, &held).await?;
    counters::add_jobs(conn, held.len(), 0).await?;
    Ok(held.into_iter().map(|one| one.job_id.clone()).collect())
}

/// As [`complete`], of jobs and certificates that the same transaction enters as what they end as.
///
/// # Errors
/// [`Error::AlreadyExists`] when a serial or fingerprint is stored already.
pub async fn enter(conn: &mut Conn, done: &[&Completion]) -> Result<(), Error> {
    let rows = done.iter().map(|one| NewVersionRow::from(*one)).collect();
    insert_versions(conn, rows).await?;
    counters::add_jobs(conn, done.len(), 0).await
}

async fn insert_versions(conn: &mut Conn, rows: Vec<NewVersionRow>) -> Result<(), Error> {
    insert_all!(conn, certificate_versions::table, rows)
}

/// A certificate that was revoked or archived while its renewal was signed keeps that state; its new serial is then revoked
/// with it, so that nothing signed stays good unnoticed.
async fn update_certificates(
    conn: &mut Conn,
    held: &[&Completion],
    now: Timestamp,
) -> Result<(), Error> {
    let rows = held
        .iter()
        .map(|one| {
            json!({"cert": one.version.certificate_id.as_str(), "ends": moment(conn, one.version.not_after),
                   "renew": moment(conn, one.renew_at), "version": one.version.id.as_str()})
        })
        .collect();
    let columns = [
        ("cert", "text"),
        ("ends", "timestamptz"),
        ("renew", "timestamptz"),
        ("version", "text"),
    ];
    let batch = Batch::new(conn, &columns, rows);
    let sql = batch.statement(
        conn,
        "UPDATE managed_certificates SET status = 'Active', expires_at = b.ends, renew_at = b.renew, last_renewal_at = $2, \
            updated_at = $2 FROM {batch} WHERE id = b.cert AND status NOT IN ('Revoked', 'Archived')",
    );
    let updated = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<JsonDoc, _>(&batch.rows)
        .bind::<UtcTimestamp, _>(At(now))
        .prepared()
        .execute(c)
        .await)?;
    if updated == held.len() {
        return Ok(());
    }
    let sql = batch.statement(
        conn,
        "INSERT INTO certificate_revocations (id, certificate_id, issuer_id, serial_number, reason, revoked_by, revoked_at, created_at) \
         SELECT 'rev-' || v.id, v.certificate_id, v.issuer_id, v.serial_number, 'cessationOfOperation', 'system', $2, $2 \
         FROM {batch} JOIN certificate_versions v ON v.id = b.version JOIN managed_certificates m ON m.id = v.certificate_id \
         WHERE m.status IN ('Revoked', 'Archived') ON CONFLICT DO NOTHING",
    );
    let revoked = on_conn!(conn, c => diesel::sql_query(sql).bind::<JsonDoc, _>(&batch.rows).bind::<UtcTimestamp, _>(At(now)).prepared().execute(c).await)?;
    if revoked == 0 {
        return Ok(());
    }
    let issuers: Vec<IssuerId> = held
        .iter()
        .map(|one| one.version.issuer_id.clone())
        .collect();
    revocations::mark_dirty(conn, &issuers, now).await
}

async fn delete_intents(conn: &mut Conn, held: &[&Completion]) -> Result<(), Error> {
    let rows = held
        .iter()
        .map(|one| json!({"job_id": one.job_id.as_str()}))
        .collect();
    let batch = Batch::new(conn, &[("job_id", "text")], rows);
    let sql = batch.statement(
        conn,
        "DELETE FROM issuance_intents WHERE job_id IN (SELECT b.job_id FROM {batch})",
    );
    on_conn!(conn, c => diesel::sql_query(sql).bind::<JsonDoc, _>(&batch.rows).prepared().execute(c).await)?;
    Ok(())
}

/// Ends jobs badly, where they are still held; returns those that were. A job without attempts left is not tried again, whatever
/// was asked.
///
/// # Errors
/// What the database says.
pub async fn fail(
    conn: &mut Conn,
    failed: &[Failure],
    now: Timestamp,
) -> Result<Vec<JobId>, Error> {
    if failed.is_empty() {
        return Ok(Vec::new());
    }
    let rows = failed
        .iter()
        .map(|one| {
            json!({"job_id": one.job_id.as_str(), "token": one.token, "problem": one.error,
                   "again": one.next_attempt_at.map(|time| moment(conn, time))})
        })
        .collect();
    let columns = [
        ("job_id", "text"),
        ("token", "bigint"),
        ("problem", "text"),
        ("again", "timestamptz"),
    ];
    let batch = Batch::new(conn, &columns, rows);
    let sql = batch.statement(
        conn,
        "UPDATE jobs SET status = 'Failed', last_error = b.problem, next_attempt_at = CASE WHEN jobs.attempts < jobs.max_attempts THEN b.again END, completed_at = $2, \
            status_changed_at = $2, lease_owner = NULL, lease_expires_at = NULL FROM {batch} \
         WHERE jobs.id = b.job_id AND jobs.lease_token = b.token AND jobs.status = 'Running' RETURNING id",
    );
    let rows: Vec<IdRow> = on_conn!(conn, c => diesel::sql_query(sql).bind::<JsonDoc, _>(&batch.rows).bind::<UtcTimestamp, _>(At(now)).prepared().load(c).await)?;
    counters::add_jobs(conn, 0, rows.len()).await?;
    Ok(rows
        .into_iter()
        .map(|row| JobId::from_stored(row.id))
        .collect())
}

/// Hands claimed renewals to the agents that must make the keys; the attempt is not counted, since nothing was tried. They wait
/// from now on, and agents that gave an earlier try up are asked again.
///
/// # Errors
/// What the database says.
pub async fn await_csr(
    conn: &mut Conn,
    handed: &[(JobId, i64)],
    now: Timestamp,
) -> Result<Vec<JobId>, Error> {
    if handed.is_empty() {
        return Ok(Vec::new());
    }
    let rows = handed
        .iter()
        .map(|(id, token)| json!({"job_id": id.as_str(), "token": token}))
        .collect();
    let batch = Batch::new(conn, &[("job_id", "text"), ("token", "bigint")], rows);
    let sql = batch.statement(
        conn,
        "UPDATE jobs SET status = 'AwaitingCSR', attempts = attempts - 1, last_error = NULL, status_changed_at = $2, \
            lease_owner = NULL, lease_expires_at = NULL FROM {batch} \
         WHERE jobs.id = b.job_id AND jobs.lease_token = b.token AND jobs.status = 'Running' RETURNING id",
    );
    let rows: Vec<IdRow> = on_conn!(conn, c => diesel::sql_query(sql).bind::<JsonDoc, _>(&batch.rows).bind::<UtcTimestamp, _>(At(now)).prepared().load(c).await)?;
    forget_refusals(conn, &rows).await?;
    Ok(rows
        .into_iter()
        .map(|row| JobId::from_stored(row.id))
        .collect())
}

/// Of a try that is over nobody has given anything up.
async fn forget_refusals(conn: &mut Conn, jobs: &[IdRow]) -> Result<(), Error> {
    use diesel::QueryDsl as _;

    use crate::schema::csr_refusals;
    if jobs.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = jobs.iter().map(|row| row.id.as_str()).collect();
    let rows = csr_refusals::table.filter(one_of(csr_refusals::job_id, &ids));
    on_conn!(conn, c => RunQueryDsl::execute(diesel::delete(rows), c).await)?;
    Ok(())
}

/// Marks certificates as failed whose renewals failed for good and that have no other renewal under way.
///
/// # Errors
/// What the database says.
pub async fn fail_certificates(
    conn: &mut Conn,
    ids: &[CertificateId],
    now: Timestamp,
) -> Result<(), Error> {
    if ids.is_empty() {
        return Ok(());
    }
    let rows = ids.iter().map(|id| json!({"cert": id.as_str()})).collect();
    let batch = Batch::new(conn, &[("cert", "text")], rows);
    let sql = batch.statement(
        conn,
        "UPDATE managed_certificates SET status = 'Failed', updated_at = $2 FROM {batch} WHERE id = b.cert AND status = 'RenewalInProgress' \
            AND NOT EXISTS (SELECT 1 FROM jobs AS j WHERE j.certificate_id = managed_certificates.id AND j.type IN ('Renewal', 'Issuance') \
                AND j.status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running'))",
    );
    on_conn!(conn, c => diesel::sql_query(sql).bind::<JsonDoc, _>(&batch.rows).bind::<UtcTimestamp, _>(At(now)).prepared().execute(c).await)?;
    Ok(())
}
