//! Revocations of all that match.

use certctl_domain::{
    certificate::CertificateStatus,
    id::{CertificateId, IssuerId, RevocationId},
    revocation::{RevocationReason, SHORT_LIVED},
    serial::SerialNumber,
    time::Timestamp,
};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};

use super::{NUMBERED_FROM, Selection, bind_selection, count, one_of, pick, roomy, states};
use crate::{
    Backend, Conn, Error,
    db::SqliteConn,
    prepared::Prepare as _,
    revocations,
    types::{At, TextList, Texts, UtcTimestamp},
};

/// How certificates are revoked.
#[derive(Debug, Clone)]
pub struct Revoking<'a> {
    /// The states that admit a revocation.
    pub eligible: &'a [CertificateStatus],
    /// Why, as verifiers are told.
    pub reason: RevocationReason,
    /// By whom.
    pub revoked_by: &'a str,
    /// What the jobs that are called off say.
    pub note: &'a str,
    /// Certificates that could not be revoked and are listed, at the most.
    pub listed: i64,
    /// When.
    pub now: Timestamp,
}

/// What became of the matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revoked {
    /// How many there were.
    pub matched: i64,
    /// How many are revoked by this.
    pub revoked: i64,
    /// How many have no issued version, so that there is no serial to revoke.
    pub without_version: i64,
    /// These, in the order of their ids; the first of them when there are more than were asked for.
    pub unissued: Vec<CertificateId>,
    /// Whose lists of revoked serials changed.
    pub issuers: Vec<IssuerId>,
    /// What the ids of the revocations begin with.
    pub batch: String,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    matched: i64,
    #[diesel(sql_type = BigInt)]
    revoked: i64,
    #[diesel(sql_type = BigInt)]
    without_version: i64,
    #[diesel(sql_type = TextList)]
    unissued: Texts,
    #[diesel(sql_type = TextList)]
    issuers: Texts,
}

/// The latest version of a certificate `m`.
const LATEST: &str = "(SELECT v.id FROM certificate_versions v WHERE v.certificate_id = m.id ORDER BY v.created_at DESC, v.id DESC LIMIT 1)";

/// The serial number of a version in its one form (model §3.2): rows of others may hold another.
const SERIAL: &str =
    "COALESCE(NULLIF(ltrim(lower(replace(v.serial_number, ':', '')), '0'), ''), '0')";

/// Revokes every match that admits it, by the rule of [`crate::revocations::revocable`]: its latest version, and every other one
/// that is still valid. All of it together: states, revocations, the marks of their issuers, jobs that are called off, requests for approval
/// that end, and what a CA may have signed meanwhile for a job that is called off.
///
/// A serial that is revoked already stays as it is. A job that runs ends by itself, and what it signs is revoked then.
///
/// # Errors
/// What the database says.
pub async fn revoke(
    conn: &mut Conn,
    selection: &Selection,
    revoking: &Revoking<'_>,
) -> Result<Revoked, Error> {
    let batch = RevocationId::generate(revoking.now).into_string();
    let revoked = on_conn!(conn,
        pg c => postgres(c, selection, revoking, batch).await,
        sqlite c => roomy(c, async |c| sqlite(c, selection, revoking, batch).await).await,
    )?;
    revocations::mark_dirty(conn, &revoked.issuers, revoking.now).await?;
    Ok(revoked)
}

impl Revoked {
    fn of(row: Row, batch: String) -> Self {
        Self {
            matched: row.matched,
            revoked: row.revoked,
            without_version: row.without_version,
            unissued: row
                .unissued
                .0
                .into_iter()
                .map(CertificateId::from_stored)
                .collect(),
            issuers: row
                .issuers
                .0
                .into_iter()
                .map(IssuerId::from_stored)
                .collect(),
            batch,
        }
    }
}

/// The columns of a revocation.
const COLUMNS: &str = "id, certificate_id, issuer_id, serial_number, reason, revoked_by, revoked_at, issuer_notified, created_at";

/// What status services ask of a revocation, from its version `v`: said at once, it is not written a second time by
/// [`revocations::describe`].
const DESCRIBED: &str = "listed_until, short_lived";

async fn postgres(
    conn: &mut AsyncPgConnection,
    selection: &Selection,
    revoking: &Revoking<'_>,
    batch: String,
) -> Result<Revoked, Error> {
    let sql = format!(
        "WITH matched AS MATERIALIZED (\
            SELECT m.id, m.status, m.issuer_id FROM managed_certificates m WHERE {matches} ORDER BY m.id FOR NO KEY UPDATE), \
         picked AS MATERIALIZED (\
            SELECT m.id, m.issuer_id, {LATEST} AS version_id FROM matched m WHERE {eligible}), \
         issued AS MATERIALIZED (SELECT id, issuer_id, version_id FROM picked WHERE version_id IS NOT NULL), \
         serials AS MATERIALIZED (\
            SELECT p.id, row_number() OVER (ORDER BY p.id, v.id) AS n, COALESCE(NULLIF(v.issuer_id, ''), p.issuer_id) AS issuer_id, \
                {SERIAL} AS serial_number, CASE WHEN {is_short} THEN NULL ELSE GREATEST(v.not_after, $14) END AS listed_until, \
                {is_short} AS short_lived \
            FROM issued p JOIN certificate_versions v ON v.certificate_id = p.id WHERE v.id = p.version_id OR v.not_after >= $14), \
         marked AS (\
            UPDATE managed_certificates m SET status = $9, revoked_at = $14, revocation_reason = $10, updated_at = $14 \
            FROM issued WHERE m.id = issued.id RETURNING m.id), \
         entered AS (\
            INSERT INTO certificate_revocations ({COLUMNS}, {DESCRIBED}) \
            SELECT $11 || '-' || ({NUMBERED_FROM} + n), id, issuer_id, serial_number, $10, $12, $14, false, $14, {DESCRIBED} FROM serials \
            ON CONFLICT DO NOTHING RETURNING issuer_id), \
         called_off AS (\
            UPDATE jobs j SET status = 'Cancelled', last_error = $13, next_attempt_at = NULL, status_changed_at = $14, \
                completed_at = $14, lease_owner = NULL, lease_expires_at = NULL \
            FROM issued WHERE j.certificate_id = issued.id AND j.status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval') \
            RETURNING j.id, j.certificate_id), \
         given_up AS (\
            UPDATE jobs j SET next_attempt_at = NULL FROM issued \
            WHERE j.certificate_id = issued.id AND j.status = 'Failed' AND j.next_attempt_at IS NOT NULL RETURNING j.id, j.certificate_id), \
         closed AS (\
            UPDATE issuance_approval_requests a SET state = 'rejected', decided_by = $12, decided_at = $14, decision_note = $13, \
                updated_at = $14 FROM called_off c WHERE a.job_id = c.id AND a.state = 'pending'), \
         ended AS (SELECT id, certificate_id FROM called_off UNION ALL SELECT id, certificate_id FROM given_up), \
         unfinished AS (\
            DELETE FROM issuance_intents i USING ended WHERE i.job_id = ended.id \
            RETURNING i.issuer_id, i.serial_number, ended.certificate_id), \
         also_entered AS (\
            INSERT INTO certificate_revocations ({COLUMNS}) \
            SELECT $11 || '-i' || row_number() OVER (), certificate_id, issuer_id, serial_number, 'cessationOfOperation', $12, $14, false, \
                $14 FROM unfinished ON CONFLICT DO NOTHING RETURNING issuer_id), \
         unissued AS (SELECT id FROM picked WHERE version_id IS NULL) \
         SELECT (SELECT count(*) FROM matched) AS matched, (SELECT count(*) FROM marked) AS revoked, \
            (SELECT count(*) FROM unissued) AS without_version, \
            ARRAY(SELECT id FROM unissued ORDER BY id LIMIT $15) AS unissued, \
            ARRAY(SELECT issuer_id FROM entered UNION SELECT issuer_id FROM also_entered) AS issuers",
        matches = selection.condition(Backend::Postgres),
        eligible = one_of(Backend::Postgres, "m.status", 8),
        is_short = format_args!(
            "v.not_after < v.not_before + {} * interval '1 microsecond'",
            SHORT_LIVED.as_micros()
        ),
    );
    let row: Row = bind_selection!(sql, selection)
        .bind::<TextList, _>(states(revoking.eligible))
        .bind::<Text, _>(CertificateStatus::Revoked.as_str())
        .bind::<Text, _>(revoking.reason.as_str())
        .bind::<Text, _>(&batch)
        .bind::<Text, _>(revoking.revoked_by)
        .bind::<Text, _>(revoking.note)
        .bind::<UtcTimestamp, _>(At(revoking.now))
        .bind::<BigInt, _>(revoking.listed)
        .get_result(conn)
        .await?;
    Ok(Revoked::of(row, batch))
}

/// What of the picked is revoked.
const ISSUED: &str = "(SELECT b.id FROM bulk_picked b WHERE b.version_id IS NOT NULL)";

/// Changes that take the same parameters in the same places, in the order in which each sees what the one before did: 1 the
/// reason, 2 the batch, 3 who, 4 the note, 5 when, 6 the state of the certificates.
fn sqlite_changes() -> [String; 7] {
    // A job that is called off or out of tries, of what was revoked. Begun with the intents, of which there are few: those of jobs under way.
    let unfinished = format!(
        "FROM issuance_intents i CROSS JOIN jobs j ON j.id = i.job_id WHERE j.certificate_id IN {ISSUED} AND (j.status = 'Cancelled' \
            OR (j.status = 'Failed' AND (j.next_attempt_at IS NULL OR j.attempts >= j.max_attempts)))"
    );
    let is_short = format!("v.not_after < v.not_before + {}", SHORT_LIVED.as_micros());
    [
        format!(
            "UPDATE managed_certificates SET status = ?6, revoked_at = ?5, revocation_reason = ?1, updated_at = ?5 WHERE id IN {ISSUED}"
        ),
        format!(
            "INSERT INTO certificate_revocations ({COLUMNS}, {DESCRIBED}) \
             SELECT ?2 || '-' || ({NUMBERED_FROM} + row_number() OVER (ORDER BY b.n, v.id)), m.id, \
                COALESCE(NULLIF(v.issuer_id, ''), m.issuer_id), {SERIAL}, ?1, ?3, ?5, 0, ?5, CASE WHEN {is_short} THEN NULL ELSE max(v.not_after, ?5) END, \
                {is_short} \
             FROM bulk_picked b CROSS JOIN certificate_versions v ON v.certificate_id = b.id \
                CROSS JOIN managed_certificates m ON m.id = b.id \
             WHERE b.version_id IS NOT NULL AND (v.id = b.version_id OR v.not_after >= ?5) AND ?6 IS NOT NULL ON CONFLICT DO NOTHING"
        ),
        format!(
            "UPDATE jobs SET status = 'Cancelled', last_error = ?4, next_attempt_at = NULL, status_changed_at = ?5, completed_at = ?5, \
                lease_owner = NULL, lease_expires_at = NULL WHERE certificate_id IN {ISSUED} \
                AND status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval') AND ?6 IS NOT NULL"
        ),
        format!(
            "UPDATE jobs SET next_attempt_at = NULL WHERE certificate_id IN {ISSUED} AND status = 'Failed' \
                AND next_attempt_at IS NOT NULL AND ?6 IS NOT NULL"
        ),
        format!(
            "UPDATE issuance_approval_requests SET state = 'rejected', decided_by = ?3, decided_at = ?5, decision_note = ?4, \
                updated_at = ?5 WHERE state = 'pending' AND job_id IS NOT NULL AND job_id IN (SELECT j.id FROM jobs j \
                WHERE j.certificate_id IN {ISSUED} AND j.status = 'Cancelled') AND ?6 IS NOT NULL"
        ),
        format!(
            "INSERT INTO certificate_revocations ({COLUMNS}) \
             SELECT ?2 || '-i' || row_number() OVER (), j.certificate_id, i.issuer_id, i.serial_number, 'cessationOfOperation', ?3, ?5, 0, ?5 \
             {unfinished} AND ?6 IS NOT NULL ON CONFLICT DO NOTHING"
        ),
        format!(
            "DELETE FROM issuance_intents WHERE job_id IN (SELECT i.job_id {unfinished}) AND ?6 IS NOT NULL"
        ),
    ]
}

async fn sqlite(
    conn: &mut SqliteConn,
    selection: &Selection,
    revoking: &Revoking<'_>,
    batch: String,
) -> Result<Revoked, Error> {
    let eligible = one_of(Backend::Sqlite, "m.status", 8);
    let version = format!("CASE WHEN {eligible} THEN {LATEST} END");
    let matched = pick(
        conn,
        selection,
        &eligible,
        &version,
        &states(revoking.eligible),
    )
    .await?;
    let mut revoked = 0;
    for (number, sql) in sqlite_changes().into_iter().enumerate() {
        let changed = diesel::sql_query(sql)
            .bind::<Text, _>(revoking.reason.as_str())
            .bind::<Text, _>(batch.clone())
            .bind::<Text, _>(revoking.revoked_by.to_owned())
            .bind::<Text, _>(revoking.note.to_owned())
            .bind::<UtcTimestamp, _>(At(revoking.now))
            .bind::<Text, _>(CertificateStatus::Revoked.as_str())
            .prepared()
            .execute(conn)
            .await?;
        if number == 0 {
            revoked = count(changed);
        }
    }
    let row: Row = diesel::sql_query(
        "SELECT ?1 AS matched, ?2 AS revoked, \
            (SELECT count(*) FROM bulk_picked WHERE eligible AND version_id IS NULL) AS without_version, \
            (SELECT json_group_array(id) FROM (SELECT id FROM bulk_picked WHERE eligible AND version_id IS NULL ORDER BY n LIMIT ?3)) AS unissued, \
            (SELECT json_group_array(DISTINCT issuer_id) FROM certificate_revocations WHERE id > ?4 || '-' AND id < ?4 || '.') AS issuers",
    )
    .bind::<BigInt, _>(matched)
    .bind::<BigInt, _>(revoked)
    .bind::<BigInt, _>(revoking.listed)
    .bind::<Text, _>(batch.clone())
    .prepared()
    .get_result(conn)
    .await?;
    diesel::sql_query("DELETE FROM bulk_picked")
        .prepared()
        .execute(conn)
        .await?;
    Ok(Revoked::of(row, batch))
}

/// A revocation that its issuer was not told of yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// The id of the revocation.
    pub id: RevocationId,
    /// Whom to tell.
    pub issuer_id: IssuerId,
    /// Of which serial.
    pub serial_number: SerialNumber,
    /// Why it is revoked.
    pub reason: RevocationReason,
}

#[derive(QueryableByName)]
struct UntoldRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    issuer_id: String,
    #[diesel(sql_type = Text)]
    serial_number: String,
    #[diesel(sql_type = Text)]
    reason: String,
}

/// Revocations that were entered together and whose issuer was not told yet, in the order of their ids, after an id.
///
/// # Errors
/// What the database says.
pub async fn untold(
    conn: &mut Conn,
    batch: &str,
    after: Option<&RevocationId>,
    limit: i64,
) -> Result<Vec<Untold>, Error> {
    // `.` is the character after `-` in the order of bytes.
    let sql = crate::db::dialect(
        conn,
        "SELECT id, issuer_id, serial_number, reason FROM certificate_revocations \
         WHERE id > $1 AND id < $2 AND NOT issuer_notified ORDER BY id LIMIT $3",
    );
    let from = after.map_or_else(|| format!("{batch}-"), ToString::to_string);
    let rows: Vec<UntoldRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(&from)
        .bind::<Text, _>(format!("{batch}."))
        .bind::<BigInt, _>(limit)
        .prepared()
        .load(c)
        .await)?;
    rows.into_iter()
        .map(|row| {
            let corrupt = |problem: String| Error::corrupt("certificate_revocations", problem);
            Ok(Untold {
                id: RevocationId::from_stored(row.id),
                issuer_id: IssuerId::from_stored(row.issuer_id),
                serial_number: SerialNumber::parse(&row.serial_number)
                    .map_err(|error| corrupt(error.to_string()))?,
                reason: RevocationReason::parse(&row.reason)
                    .map_err(|error| corrupt(error.to_string()))?,
            })
        })
        .collect()
}

/// Notes that the issuers of revocations were told.
///
/// # Errors
/// What the database says.
pub async fn set_told(conn: &mut Conn, ids: &[RevocationId]) -> Result<(), Error> {
    let backend = match conn {
        Conn::Postgres(_) => Backend::Postgres,
        Conn::Sqlite(_) => Backend::Sqlite,
    };
    let sql = format!(
        "UPDATE certificate_revocations SET issuer_notified = true WHERE {}",
        one_of(backend, "id", 1)
    );
    let sql = if backend == Backend::Sqlite {
        sql.replace('$', "?")
    } else {
        sql
    };
    let ids = Texts(ids.iter().map(ToString::to_string).collect());
    on_conn!(conn, c => diesel::sql_query(sql).bind::<TextList, _>(ids).prepared().execute(c).await)?;
    Ok(())
}
