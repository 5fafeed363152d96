//! Statistics: counts by state and by day, each one aggregate along an index, exact over the whole table.

use certctl_domain::time::Timestamp;
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    prepared::Prepare as _,
    types::{At, UtcTimestamp},
};

/// How many rows are in a state.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct StatusCount {
    /// The state.
    #[diesel(sql_type = Text)]
    pub status: String,
    /// The rows.
    #[diesel(sql_type = BigInt)]
    pub count: i64,
}

/// How many rows fall on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub struct DayCount {
    /// Days since 1970-01-01, UTC.
    #[diesel(sql_type = BigInt)]
    pub day: i64,
    /// The rows.
    #[diesel(sql_type = BigInt)]
    pub count: i64,
}

/// How jobs ended on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub struct JobDay {
    /// Days since 1970-01-01, UTC.
    #[diesel(sql_type = BigInt)]
    pub day: i64,
    /// Those that ended well.
    #[diesel(sql_type = BigInt)]
    pub completed: i64,
    /// Those that failed.
    #[diesel(sql_type = BigInt)]
    pub failed: i64,
}

/// Counts certificates by state; states that none is in are left out.
///
/// # Errors
/// What the database says.
pub async fn certificates_by_status(conn: &mut Conn) -> Result<Vec<StatusCount>, Error> {
    let sql = "SELECT status, count(*) AS count FROM managed_certificates GROUP BY status ORDER BY status";
    Ok(on_conn!(conn, c => diesel::sql_query(sql).prepared().load(c).await)?)
}

/// Counts the certificates that end within a span, by day; revoked and archived ones are left out.
///
/// # Errors
/// What the database says.
pub async fn expiries_by_day(
    conn: &mut Conn,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<DayCount>, Error> {
    let rest = "count(*) AS count FROM managed_certificates \
        WHERE status IN ('Pending', 'Active', 'Expiring', 'Expired', 'RenewalInProgress', 'Failed') \
            AND expires_at >= $1 AND expires_at < $2 GROUP BY 1 ORDER BY 1";
    by_day(conn, "expires_at", rest, from, until).await
}

/// Counts the versions that were issued within a span, by day.
///
/// # Errors
/// What the database says.
pub async fn issuances_by_day(
    conn: &mut Conn,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<DayCount>, Error> {
    let rest = "count(*) AS count FROM certificate_versions WHERE created_at >= $1 AND created_at < $2 GROUP BY 1 ORDER BY 1";
    by_day(conn, "created_at", rest, from, until).await
}

/// Counts the jobs that ended within a span, by day and outcome; those that were called off are left out.
///
/// # Errors
/// What the database says.
pub async fn jobs_by_day(
    conn: &mut Conn,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<JobDay>, Error> {
    let rest = "count(CASE WHEN status = 'Completed' THEN 1 END) AS completed, count(CASE WHEN status = 'Failed' THEN 1 END) AS failed \
        FROM jobs WHERE completed_at >= $1 AND completed_at < $2 AND status IN ('Completed', 'Failed') GROUP BY 1 ORDER BY 1";
    by_day(conn, "completed_at", rest, from, until).await
}

async fn by_day<Row>(
    conn: &mut Conn,
    column: &str,
    rest: &str,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<Row>, Error>
where
    Row: QueryableByName<diesel::pg::Pg> + QueryableByName<diesel::sqlite::Sqlite> + Send + 'static,
{
    let sql = match conn {
        Conn::Postgres(_) => {
            format!(
                "SELECT CAST(floor(extract(epoch FROM {column}) / 86400) AS BIGINT) AS day, {rest}"
            )
        }
        Conn::Sqlite(_) => {
            format!("SELECT {column} / 86400000000 AS day, {rest}").replace('$', "?")
        }
    };
    Ok(on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(from))
        .bind::<UtcTimestamp, _>(At(until))
        .prepared()
        .load(c)
        .await)?)
}
