//! The renewal scan: which certificates are due, and what their expiry makes of their state.

use certctl_domain::{
    id::{CertificateId, ProfileId},
    time::Timestamp,
};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Bool, Nullable, Text},
};
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    db::dialect,
    prepared::Prepare as _,
    types::{At, UtcTimestamp},
};

/// A certificate that is due for renewal, with what decides how its job begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The certificate.
    pub id: CertificateId,
    /// Its profile.
    pub profile_id: Option<ProfileId>,
    /// Whether nothing was issued yet.
    pub is_first: bool,
    /// Attempts that its policy grants.
    pub max_retries: u32,
    /// Whether a second person must agree.
    pub requires_approval: bool,
}

/// Where a page of the scan ended, in the order of `renew_at` and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    renew_at: Timestamp,
    id: String,
}

impl Position {
    /// Before every certificate.
    #[must_use]
    pub const fn start() -> Self {
        Self {
            renew_at: Timestamp::UNIX_EPOCH,
            id: String::new(),
        }
    }
}

/// A page of the scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuePage {
    /// What is to be renewed.
    pub due: Vec<Due>,
    /// Where the next page begins; none when this was the last one.
    pub next: Option<Position>,
}

#[derive(QueryableByName)]
struct DueRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = UtcTimestamp)]
    renew_at: At,
    #[diesel(sql_type = Nullable<Text>)]
    profile_id: Option<String>,
    #[diesel(sql_type = Bool)]
    is_first: bool,
    #[diesel(sql_type = BigInt)]
    max_retries: i64,
    #[diesel(sql_type = Bool)]
    requires_approval: bool,
    #[diesel(sql_type = Bool)]
    eligible: bool,
}

/// Plans the renewal of rows that others wrote: by the rule of [`certctl_domain::renewal_policy::renew_at`].
///
/// # Errors
/// What the database says.
pub async fn plan_unplanned(conn: &mut Conn) -> Result<usize, Error> {
    crate::replanning::of_unplanned(conn).await
}

/// Longest time between a renewal that failed for good and the next one, in seconds: a day (scheduler §4).
const LONGEST_BACK_OFF: u32 = 86_400;

/// Reads and locks up to `limit` certificates inside their window from a position on, and tells which of them are to be
/// renewed: under a policy that renews by itself, with an enabled issuer, without an open renewal. Certificates of ACME are left
/// out: their clients renew them. One whose last renewal failed
/// for good waits from then on: the policy's retry interval, doubled for every attempt of that job, a day at the most
/// (scheduler §4).
///
/// The page is one range of one index, and everything else is asked of its rows only, by key: the cost of a scan is that of
/// what is due, however large the fleet and whatever the planner knows of it. (An anti join over the open jobs cost 0.5 s a
/// page on fresh tables.)
///
/// # Errors
/// What the database says.
pub async fn due(
    conn: &mut Conn,
    from: &Position,
    limit: i64,
    now: Timestamp,
) -> Result<DuePage, Error> {
    let sql = |lock: &str, rested: &str| {
        format!(
            "WITH page AS (SELECT id FROM managed_certificates \
                WHERE status IN ('Active', 'Expiring', 'Pending', 'Failed') AND renew_at IS NOT NULL AND source <> 'ACME' \
                    AND renew_at <= $1 AND (renew_at, id) > ($2, $3) ORDER BY renew_at, id LIMIT $4 {lock}) \
             SELECT m.id, m.renew_at, m.certificate_profile_id AS profile_id, m.expires_at IS NULL AS is_first, \
                CAST(p.max_retries AS BIGINT) AS max_retries, COALESCE(f.requires_approval, false) AS requires_approval, \
                COALESCE(m.expires_at > $1, true) AND p.auto_renew AND i.enabled AND (m.status <> 'Failed' OR COALESCE((SELECT {rested} \
                    FROM jobs j WHERE j.certificate_id = m.id AND j.type IN ('Renewal', 'Issuance') AND j.status = 'Failed' \
                    ORDER BY j.created_at DESC, j.id DESC LIMIT 1), false)) AND (SELECT j.id FROM jobs j \
                    WHERE j.certificate_id = m.id AND j.type IN ('Renewal', 'Issuance') \
                        AND j.status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running') LIMIT 1) IS NULL AS eligible \
             FROM page JOIN managed_certificates m ON m.id = page.id JOIN renewal_policies p ON p.id = m.renewal_policy_id \
                JOIN issuers i ON i.id = m.issuer_id LEFT JOIN certificate_profiles f ON f.id = m.certificate_profile_id \
             ORDER BY m.renew_at, m.id"
        )
    };
    let sql = match conn {
        Conn::Postgres(_) => sql("FOR UPDATE SKIP LOCKED", &rested_postgres()),
        Conn::Sqlite(_) => sql("", &rested_sqlite()).replace('$', "?"),
    };
    let rows: Vec<DueRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<UtcTimestamp, _>(At(from.renew_at))
        .bind::<Text, _>(&from.id)
        .bind::<BigInt, _>(limit)
        .prepared()
        .load(c)
        .await)?;
    let full = i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
    let next = rows
        .iter()
        .next_back()
        .filter(|_| full)
        .map(|row| Position {
            renew_at: row.renew_at.0,
            id: row.id.clone(),
        });
    let due = rows
        .into_iter()
        .filter(|row| row.eligible)
        .map(|row| Due {
            id: CertificateId::from_stored(row.id),
            profile_id: row.profile_id.map(ProfileId::from_stored),
            is_first: row.is_first,
            max_retries: u32::try_from(row.max_retries).unwrap_or(0),
            requires_approval: row.requires_approval,
        })
        .collect();
    Ok(DuePage { due, next })
}

/// Whether the back-off after a failed job `j` under a policy `p` is over. More than 17 doublings are a day of any interval.
fn rested_postgres() -> String {
    format!(
        "COALESCE(j.completed_at, j.status_changed_at) + make_interval(secs => \
            LEAST({LONGEST_BACK_OFF}, p.retry_interval_seconds::bigint * (1 << LEAST(j.attempts, 17)))) <= $1"
    )
}

fn rested_sqlite() -> String {
    format!(
        "COALESCE(j.completed_at, j.status_changed_at) \
            + 1000000 * min({LONGEST_BACK_OFF}, p.retry_interval_seconds * (1 << min(j.attempts, 17))) <= $1"
    )
}

/// Marks certificates as under renewal.
///
/// # Errors
/// What the database says.
pub async fn mark_in_progress(
    conn: &mut Conn,
    ids: &[CertificateId],
    now: Timestamp,
) -> Result<usize, Error> {
    use diesel::{ExpressionMethods as _, QueryDsl as _};

    use crate::schema::managed_certificates as m;
    let ids: Vec<&str> = ids.iter().map(CertificateId::as_str).collect();
    let rows = m::table.filter(m::id.eq_any(&ids));
    Ok(on_conn!(conn, c => diesel::update(rows)
        .set((m::status.eq("RenewalInProgress"), m::updated_at.eq(At(now))))
        .execute(c)
        .await)?)
}

/// Moves certificates past their expiry to Expired and those inside their window to Expiring; returns both counts.
///
/// # Errors
/// What the database says.
pub async fn apply_expiry(conn: &mut Conn, now: Timestamp) -> Result<(usize, usize), Error> {
    let expired = dialect(
        conn,
        "UPDATE managed_certificates SET status = 'Expired', updated_at = $1 \
         WHERE status IN ('Active', 'Expiring', 'Pending') AND expires_at IS NOT NULL AND expires_at <= $1",
    );
    let expired = on_conn!(conn, c => diesel::sql_query(expired).bind::<UtcTimestamp, _>(At(now)).prepared().execute(c).await)?;
    let expiring = dialect(
        conn,
        "UPDATE managed_certificates SET status = 'Expiring', updated_at = $1 \
         WHERE status IN ('Active', 'Pending') AND renew_at IS NOT NULL AND renew_at <= $1 AND expires_at > $1",
    );
    let expiring = on_conn!(conn, c => diesel::sql_query(expiring).bind::<UtcTimestamp, _>(At(now)).prepared().execute(c).await)?;
    Ok((expired, expiring))
}

/// Gives a certificate whose renewal was called off the state that its expiry says.
///
/// # Errors
/// What the database says.
pub async fn restore_status(
    conn: &mut Conn,
    ids: &[CertificateId],
    now: Timestamp,
) -> Result<usize, Error> {
    let mut restored = 0;
    let sql = dialect(
        conn,
        "UPDATE managed_certificates SET updated_at = $1, status = CASE WHEN expires_at IS NULL THEN 'Pending' \
            WHEN expires_at <= $1 THEN 'Expired' WHEN renew_at <= $1 THEN 'Expiring' ELSE 'Active' END \
         WHERE id = $2 AND status = 'RenewalInProgress'",
    );
    for id in ids {
        restored += on_conn!(conn, c => diesel::sql_query(sql.as_ref())
            .bind::<UtcTimestamp, _>(At(now))
            .bind::<Text, _>(id.as_str())
            .prepared()
            .execute(c)
            .await)?;
    }
    Ok(restored)
}
