//! Renewals of all that match.

use certctl_domain::{
    certificate::CertificateStatus,
    id::{ActorRoleId, CertificateId, JobId},
    job::JobStatus,
    time::Timestamp,
};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Nullable, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};

use super::{NUMBERED_FROM, Selection, bind_selection, count, one_of, pick, roomy, states};
use crate::{
    Backend, Conn, Error,
    db::SqliteConn,
    prepared::Prepare as _,
    types::{At, TextList, UtcTimestamp},
};

/// How renewals begin.
#[derive(Debug, Clone)]
pub struct Renewal<'a> {
    /// The states that admit a renewal.
    pub eligible: &'a [CertificateStatus],
    /// The state a job begins in that nobody has to agree to.
    pub ungated: JobStatus,
    /// The state a job begins in whose profile asks for a second person.
    pub gated: JobStatus,
    /// Who asks.
    pub requested_by: &'a str,
    /// Jobs that are listed, at the most.
    pub listed: i64,
    /// When.
    pub now: Timestamp,
}

/// What became of the matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renewed {
    /// How many there were.
    pub matched: i64,
    /// How many have a new job.
    pub enqueued: i64,
    /// How many of these wait for a second person.
    pub awaiting_approval: i64,
    /// The new jobs by certificate, in the order of the certificates; the first of them when there are more than were asked for.
    pub jobs: Vec<(CertificateId, JobId)>,
    /// What the ids of the requests for approval begin with, before a dash.
    pub asked: String,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    matched: i64,
    #[diesel(sql_type = BigInt)]
    enqueued: i64,
    #[diesel(sql_type = BigInt)]
    awaiting: i64,
    #[diesel(sql_type = Nullable<Text>)]
    certificate_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    job_id: Option<String>,
}

impl From<Vec<Row>> for Renewed {
    fn from(rows: Vec<Row>) -> Self {
        let first = rows.as_slice().first();
        let (matched, enqueued, awaiting_approval) =
            first.map_or((0, 0, 0), |row| (row.matched, row.enqueued, row.awaiting));
        let jobs = rows
            .into_iter()
            .filter_map(|row| {
                Some((
                    CertificateId::from_stored(row.certificate_id?),
                    JobId::from_stored(row.job_id?),
                ))
            })
            .collect();
        Self {
            matched,
            enqueued,
            awaiting_approval,
            jobs,
            asked: String::new(),
        }
    }
}

/// Makes a job for every match that admits a renewal and has none open, marks the certificates, and asks for approval where a
/// profile wants it. A job is never the second one of its certificate: the index of open renewals has the last word.
///
/// # Errors
/// What the database says.
pub async fn renew(
    conn: &mut Conn,
    selection: &Selection,
    renewal: &Renewal<'_>,
) -> Result<Renewed, Error> {
    // One id that no other process makes, and the number of the match behind it.
    let job = JobId::generate(renewal.now).into_string();
    let approval = ActorRoleId::generate(renewal.now).into_string();
    let renewed = on_conn!(conn,
        pg c => postgres(c, selection, renewal, &job, &approval).await,
        sqlite c => roomy(c, async |c| sqlite(c, selection, renewal, &job, &approval).await).await,
    )?;
    Ok(Renewed {
        asked: approval,
        ..renewed
    })
}

async fn postgres(
    conn: &mut AsyncPgConnection,
    selection: &Selection,
    renewal: &Renewal<'_>,
    job: &str,
    approval: &str,
) -> Result<Renewed, Error> {
    // `asked` looks for its certificates in a hash, which `IS TRUE` keeps from becoming a join: that would go by an estimate, and where
    // rows have just been loaded it is one row, so that each of 10,000 was compared with each other for seconds.
    let sql = format!(
        "WITH matched AS MATERIALIZED (\
            SELECT m.id, m.status, m.expires_at, m.renewal_policy_id, m.certificate_profile_id, m.common_name, m.sans, m.issuer_id, m.source \
            FROM managed_certificates m WHERE {matches} ORDER BY m.id FOR NO KEY UPDATE), \
         picked AS MATERIALIZED (\
            SELECT x.*, p.max_retries, COALESCE(f.requires_approval, false) AS gated, row_number() OVER (ORDER BY x.id) AS n \
            FROM matched x JOIN renewal_policies p ON p.id = x.renewal_policy_id \
                LEFT JOIN certificate_profiles f ON f.id = x.certificate_profile_id WHERE {eligible}), \
         made AS (\
            INSERT INTO jobs (id, type, certificate_id, status, max_attempts, scheduled_at, created_at, status_changed_at) \
            SELECT $9 || '-' || ({NUMBERED_FROM} + n), CASE WHEN expires_at IS NULL THEN 'Issuance' ELSE 'Renewal' END, id, \
                CASE WHEN gated THEN $10 ELSE $11 END, GREATEST(max_retries, 1), $15, $15, $15 FROM picked \
            ON CONFLICT DO NOTHING RETURNING id, certificate_id), \
         marked AS (\
            UPDATE managed_certificates m SET status = $12, updated_at = $15 FROM made WHERE m.id = made.certificate_id), \
         asked AS (\
            INSERT INTO issuance_approval_requests (id, approval_kind, certificate_id, job_id, profile_id, requested_by, state, \
                metadata, created_at, updated_at) \
            SELECT $13 || '-' || ({NUMBERED_FROM} + x.n), 'cert_issuance', x.id, $9 || '-' || ({NUMBERED_FROM} + x.n), \
                x.certificate_profile_id, $14, 'pending', \
                jsonb_build_object('common_name', x.common_name, 'sans', array_to_string(x.sans, ','), 'issuer_id', x.issuer_id), \
                $15, $15 FROM picked x WHERE x.gated AND (x.id IN (SELECT certificate_id FROM made)) IS TRUE RETURNING 1), \
         listed AS (SELECT certificate_id, id AS job_id FROM made ORDER BY certificate_id LIMIT $16) \
         SELECT (SELECT count(*) FROM matched) AS matched, (SELECT count(*) FROM made) AS enqueued, \
            (SELECT count(*) FROM asked) AS awaiting, listed.certificate_id, listed.job_id \
         FROM (SELECT 1) one LEFT JOIN listed ON true ORDER BY listed.certificate_id",
        matches = selection.condition(Backend::Postgres),
        eligible = eligible(Backend::Postgres, "x"),
    );
    let rows: Vec<Row> = bind_selection!(sql, selection)
        .bind::<TextList, _>(states(renewal.eligible))
        .bind::<Text, _>(job)
        .bind::<Text, _>(renewal.gated.as_str())
        .bind::<Text, _>(renewal.ungated.as_str())
        .bind::<Text, _>(CertificateStatus::RenewalInProgress.as_str())
        .bind::<Text, _>(approval)
        .bind::<Text, _>(renewal.requested_by)
        .bind::<UtcTimestamp, _>(At(renewal.now))
        .bind::<BigInt, _>(renewal.listed)
        .load(conn)
        .await?;
    Ok(rows.into())
}

/// Which matches are renewed. Those of ACME are not: only their clients have the keys.
fn eligible(backend: Backend, row: &str) -> String {
    let status = one_of(backend, &format!("{row}.status"), 8);
    format!("({status} AND {row}.source <> 'ACME')")
}

const SQLITE_MAKE: &str = "INSERT INTO jobs (id, type, certificate_id, status, max_attempts, scheduled_at, created_at, status_changed_at) \
     SELECT ?1 || '-' || b.n, CASE WHEN m.expires_at IS NULL THEN 'Issuance' ELSE 'Renewal' END, m.id, \
        CASE WHEN COALESCE(f.requires_approval, 0) THEN ?2 ELSE ?3 END, max(p.max_retries, 1), ?4, ?4, ?4 \
     FROM bulk_picked b CROSS JOIN managed_certificates m ON m.id = b.id JOIN renewal_policies p ON p.id = m.renewal_policy_id \
        LEFT JOIN certificate_profiles f ON f.id = m.certificate_profile_id \
     WHERE b.eligible ON CONFLICT DO NOTHING";

const SQLITE_MARK: &str = "UPDATE managed_certificates SET status = ?2, updated_at = ?3 \
     WHERE id IN (SELECT b.id FROM bulk_picked b CROSS JOIN jobs j ON j.id = ?1 || '-' || b.n)";

const SQLITE_ASK: &str = "INSERT INTO issuance_approval_requests (id, approval_kind, certificate_id, job_id, profile_id, requested_by, state, \
        metadata, created_at, updated_at) \
     SELECT ?1 || '-' || b.n, 'cert_issuance', m.id, j.id, m.certificate_profile_id, ?2, 'pending', \
        json_object('common_name', m.common_name, 'sans', COALESCE((SELECT group_concat(value, ',') FROM json_each(m.sans)), ''), \
            'issuer_id', m.issuer_id), ?3, ?3 \
     FROM bulk_picked b CROSS JOIN jobs j ON j.id = ?4 || '-' || b.n CROSS JOIN managed_certificates m ON m.id = b.id \
        JOIN certificate_profiles f ON f.id = m.certificate_profile_id WHERE f.requires_approval";

const SQLITE_LIST: &str = "SELECT ?1 AS matched, ?2 AS enqueued, ?3 AS awaiting, l.certificate_id, l.job_id \
     FROM (SELECT 1) one LEFT JOIN (SELECT b.id AS certificate_id, j.id AS job_id FROM bulk_picked b \
        CROSS JOIN jobs j ON j.id = ?4 || '-' || b.n ORDER BY b.n LIMIT ?5) l ON true";

async fn sqlite(
    conn: &mut SqliteConn,
    selection: &Selection,
    renewal: &Renewal<'_>,
    job: &str,
    approval: &str,
) -> Result<Renewed, Error> {
    let eligible = eligible(Backend::Sqlite, "m");
    let matched = pick(
        conn,
        selection,
        &eligible,
        "NULL",
        &states(renewal.eligible),
    )
    .await?;
    let enqueued = diesel::sql_query(SQLITE_MAKE)
        .bind::<Text, _>(job.to_owned())
        .bind::<Text, _>(renewal.gated.as_str())
        .bind::<Text, _>(renewal.ungated.as_str())
        .bind::<UtcTimestamp, _>(At(renewal.now))
        .prepared()
        .execute(conn)
        .await?;
    diesel::sql_query(SQLITE_MARK)
        .bind::<Text, _>(job.to_owned())
        .bind::<Text, _>(CertificateStatus::RenewalInProgress.as_str())
        .bind::<UtcTimestamp, _>(At(renewal.now))
        .prepared()
        .execute(conn)
        .await?;
    let awaiting = diesel::sql_query(SQLITE_ASK)
        .bind::<Text, _>(approval.to_owned())
        .bind::<Text, _>(renewal.requested_by.to_owned())
        .bind::<UtcTimestamp, _>(At(renewal.now))
        .bind::<Text, _>(job.to_owned())
        .prepared()
        .execute(conn)
        .await?;
    let rows: Vec<Row> = diesel::sql_query(SQLITE_LIST)
        .bind::<BigInt, _>(matched)
        .bind::<BigInt, _>(count(enqueued))
        .bind::<BigInt, _>(count(awaiting))
        .bind::<Text, _>(job.to_owned())
        .bind::<BigInt, _>(renewal.listed)
        .prepared()
        .load(conn)
        .await?;
    diesel::sql_query("DELETE FROM bulk_picked")
        .prepared()
        .execute(conn)
        .await?;
    Ok(rows.into())
}
