//! The counts that the metrics show, each by one aggregate over the whole table.

use std::time::Duration;

use certctl_domain::time::Timestamp;
use diesel::{QueryableByName, sql_types::BigInt};
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    db::dialect,
    prepared::Prepare as _,
    types::{At, UtcTimestamp},
};

/// What there is of everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, QueryableByName)]
pub struct Counts {
    /// Certificates that are not archived.
    #[diesel(sql_type = BigInt)]
    pub certificates: i64,
    /// Certificates in state Active.
    #[diesel(sql_type = BigInt)]
    pub active: i64,
    /// Ending within 30 days, neither expired nor revoked.
    #[diesel(sql_type = BigInt)]
    pub expiring_soon: i64,
    /// Past their end, or in state Expired.
    #[diesel(sql_type = BigInt)]
    pub expired: i64,
    /// Revoked.
    #[diesel(sql_type = BigInt)]
    pub revoked: i64,
    /// Agents that are not retired.
    #[diesel(sql_type = BigInt)]
    pub agents: i64,
    /// Agents heard of within five minutes.
    #[diesel(sql_type = BigInt)]
    pub agents_online: i64,
    /// Jobs that are open.
    #[diesel(sql_type = BigInt)]
    pub jobs_pending: i64,
    /// Jobs that ever ended well.
    #[diesel(sql_type = BigInt)]
    pub jobs_completed: i64,
    /// Runs of jobs that ever failed, those that were tried again included.
    #[diesel(sql_type = BigInt)]
    pub jobs_failed: i64,
    /// Notifications that were given up.
    #[diesel(sql_type = BigInt)]
    pub notifications_dead: i64,
}

/// Counts everything in one statement. Certificates are counted along the index on state and end alone, open jobs along that on
/// their state; jobs that ended are kept as totals, which neither a retry nor a removal lowers.
///
/// # Errors
/// What the database says.
pub async fn counts(conn: &mut Conn, now: Timestamp) -> Result<Counts, Error> {
    const SQL: &str = "SELECT c.*, a.*, j.*, n.* FROM \
        (SELECT count(*) AS certificates, \
            count(CASE WHEN status = 'Active' THEN 1 END) AS active, \
            count(CASE WHEN expires_at > $1 AND expires_at <= $2 AND status NOT IN ('Revoked', 'Expired') THEN 1 END) AS expiring_soon, \
            count(CASE WHEN status = 'Expired' OR (expires_at <= $1 AND status <> 'Revoked') THEN 1 END) AS expired, \
            count(CASE WHEN status = 'Revoked' THEN 1 END) AS revoked \
         FROM managed_certificates WHERE status <> 'Archived') AS c, \
        (SELECT count(*) AS agents, count(CASE WHEN last_heartbeat_at > $3 THEN 1 END) AS agents_online \
         FROM agents WHERE retired_at IS NULL) AS a, \
        (SELECT (SELECT count(*) FROM jobs WHERE status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running')) AS jobs_pending, \
            (SELECT CAST(COALESCE(sum(value), 0) AS BIGINT) FROM counters WHERE name = 'job_completed') AS jobs_completed, \
            (SELECT CAST(COALESCE(sum(value), 0) AS BIGINT) FROM counters WHERE name = 'job_failed') AS jobs_failed) AS j, \
        (SELECT count(*) AS notifications_dead FROM notification_events WHERE status = 'dead') AS n";
    let sql = dialect(conn, SQL);
    Ok(on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<UtcTimestamp, _>(At(now + Duration::from_secs(30 * 86_400)))
        .bind::<UtcTimestamp, _>(At(now - Duration::from_secs(300)))
        .prepared()
        .get_result(c)
        .await)?)
}
