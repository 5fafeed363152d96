//! Totals that only grow, kept beside the rows they count: those are tried again and removed.
//!
//! They are added to in the transaction of what they count, by one statement however much that is. On PostgreSQL each
//! connection adds to a row of its own, so that transactions do not wait for one another at a row that all of them write.

use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl;

use crate::{Conn, Error, prepared::Prepare as _};

/// Jobs that were completed.
pub const JOB_COMPLETED: &str = "job_completed";
/// Runs of jobs that failed, those that are tried again included.
pub const JOB_FAILED: &str = "job_failed";

/// Rows that one total has on PostgreSQL, at the most, beside the one it began with.
const SLOTS: u32 = 64;

/// Counts jobs that ended in this transaction; nothing is written for none.
///
/// # Errors
/// What the database says.
pub async fn add_jobs(conn: &mut Conn, completed: usize, failed: usize) -> Result<(), Error> {
    let counted = [(JOB_COMPLETED, completed), (JOB_FAILED, failed)];
    for (name, by) in counted {
        add(conn, name, by).await?;
    }
    Ok(())
}

/// Adds to a total; nothing is written for none.
///
/// Whoever adds to several totals in one transaction does so in the order of their names, so that no two transactions wait for
/// each other.
///
/// # Errors
/// What the database says.
pub async fn add(conn: &mut Conn, name: &'static str, by: usize) -> Result<(), Error> {
    if by == 0 {
        return Ok(());
    }
    let sql = |slot: &str| {
        format!(
            "INSERT INTO counters (name, slot, value) VALUES ($1, {slot}, $2) \
             ON CONFLICT (name, slot) DO UPDATE SET value = counters.value + excluded.value"
        )
    };
    let sql = match conn {
        Conn::Postgres(_) => sql(&format!("pg_backend_pid() % {SLOTS}")),
        // There is one writer.
        Conn::Sqlite(_) => sql("0").replace('$', "?"),
    };
    let by = i64::try_from(by).unwrap_or(i64::MAX);
    on_conn!(conn, c => diesel::sql_query(sql).bind::<Text, _>(name).bind::<BigInt, _>(by).prepared().execute(c).await)?;
    Ok(())
}

/// Reads a total; 0 for one that was never added to.
///
/// # Errors
/// What the database says.
pub async fn total(conn: &mut Conn, name: &'static str) -> Result<i64, Error> {
    #[derive(QueryableByName)]
    struct Total {
        #[diesel(sql_type = BigInt)]
        total: i64,
    }
    let sql = crate::db::dialect(
        conn,
        "SELECT CAST(COALESCE(sum(value), 0) AS BIGINT) AS total FROM counters WHERE name = $1",
    );
    let row: Total = on_conn!(conn, c => diesel::sql_query(sql).bind::<Text, _>(name).prepared().get_result(c).await)?;
    Ok(row.total)
}
