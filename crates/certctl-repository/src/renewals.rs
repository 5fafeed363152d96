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

#[derive(QueryableByName)]
struct DueRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Nullable<Text>)]
    profile_id: Option<String>,
    #[diesel(sql_type = Bool)]
    is_first: bool,
    #[diesel(sql_type = BigInt)]
    max_retries: i64,
    #[diesel(sql_type = Bool)]
    requires_approval: bool,
}

/// Plans the renewal of rows that others wrote: the window before their expiry, spread over its first tenth or first day.
///
/// # Errors
/// What the database says.
pub async fn plan_unplanned(conn: &mut Conn) -> Result<usize, Error> {
    const POSTGRES: &str = "UPDATE managed_certificates AS m SET renew_at = m.expires_at - make_interval(days => p.renewal_window_days) \
            + random() * LEAST(make_interval(hours => p.renewal_window_days * 24 / 10), interval '1 day') \
         FROM renewal_policies AS p WHERE p.id = m.renewal_policy_id AND m.renew_at IS NULL AND m.expires_at IS NOT NULL \
            AND m.status IN ('Active', 'Expiring', 'Pending')";
    const SQLITE: &str = "UPDATE managed_certificates AS m SET renew_at = m.expires_at - p.renewal_window_days * 86400000000 \
            + abs(random()) % (1 + min(p.renewal_window_days * 8640000000, 86400000000)) \
         FROM renewal_policies AS p WHERE p.id = m.renewal_policy_id AND m.renew_at IS NULL AND m.expires_at IS NOT NULL \
            AND m.status IN ('Active', 'Expiring', 'Pending')";
    Ok(on_conn!(conn,
        pg c => diesel::sql_query(POSTGRES).execute(c).await,
        sqlite c => diesel::sql_query(SQLITE).execute(c).await,
    )?)
}

/// Reads and locks up to `limit` certificates that are due: inside their window, under a policy that renews by itself, with an
/// enabled issuer, without an open renewal. One range of one index, however large the fleet.
///
/// # Errors
/// What the database says.
pub async fn due(conn: &mut Conn, limit: i64, now: Timestamp) -> Result<Vec<Due>, Error> {
    let sql = |lock: &str| {
        format!(
            "SELECT m.id, m.certificate_profile_id AS profile_id, m.expires_at IS NULL AS is_first, \
                CAST(p.max_retries AS BIGINT) AS max_retries, COALESCE(f.requires_approval, {no}) AS requires_approval \
             FROM managed_certificates m JOIN renewal_policies p ON p.id = m.renewal_policy_id \
                JOIN issuers i ON i.id = m.issuer_id LEFT JOIN certificate_profiles f ON f.id = m.certificate_profile_id \
             WHERE m.status IN ('Active', 'Expiring', 'Pending') AND m.renew_at IS NOT NULL AND m.renew_at <= $1 \
                AND m.expires_at > $1 AND p.auto_renew AND i.enabled AND NOT EXISTS (SELECT 1 FROM jobs j \
                    WHERE j.certificate_id = m.id AND j.type IN ('Renewal', 'Issuance') \
                        AND j.status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running')) \
             ORDER BY m.renew_at, m.id LIMIT $2 {lock}",
            no = "false"
        )
    };
    let sql = match conn {
        Conn::Postgres(_) => sql("FOR UPDATE OF m SKIP LOCKED"),
        Conn::Sqlite(_) => sql("").replace('$', "?"),
    };
    let rows: Vec<DueRow> = on_conn!(conn, c => diesel::sql_query(sql).bind::<UtcTimestamp, _>(At(now)).bind::<BigInt, _>(limit).load(c).await)?;
    Ok(rows
        .into_iter()
        .map(|row| Due {
            id: CertificateId::from_stored(row.id),
            profile_id: row.profile_id.map(ProfileId::from_stored),
            is_first: row.is_first,
            max_retries: u32::try_from(row.max_retries).unwrap_or(0),
            requires_approval: row.requires_approval,
        })
        .collect())
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
    let expired = on_conn!(conn, c => diesel::sql_query(expired).bind::<UtcTimestamp, _>(At(now)).execute(c).await)?;
    let expiring = dialect(
        conn,
        "UPDATE managed_certificates SET status = 'Expiring', updated_at = $1 \
         WHERE status IN ('Active', 'Pending') AND renew_at IS NOT NULL AND renew_at <= $1 AND expires_at > $1",
    );
    let expiring = on_conn!(conn, c => diesel::sql_query(expiring).bind::<UtcTimestamp, _>(At(now)).execute(c).await)?;
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
            .execute(c)
            .await)?;
    }
    Ok(restored)
}
