//! Leases of loops: which replica runs a loop whose effects must not be doubled (scheduler §3).

use std::time::Duration;

use diesel::{
    ExpressionMethods as _, OptionalExtension as _, QueryDsl as _, QueryableByName,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl;

use certctl_domain::time::Timestamp;

use crate::{
    Conn, Error,
    db::dialect,
    prepared::Prepare as _,
    types::{At, UtcTimestamp},
};

#[derive(QueryableByName)]
struct EpochRow {
    #[diesel(sql_type = BigInt)]
    epoch: i64,
}

/// Takes or renews the lease of a loop; the epoch when it is held now, nothing when another replica holds it.
///
/// # Errors
/// What the database says.
pub async fn acquire(
    conn: &mut Conn,
    loop_name: &str,
    holder: &str,
    ttl: Duration,
    now: Timestamp,
) -> Result<Option<i64>, Error> {
    const SQL: &str = "INSERT INTO scheduler_leases AS l (loop, holder, epoch, acquired_at, expires_at) VALUES ($1, $2, 1, $3, $4) \
        ON CONFLICT (loop) DO UPDATE SET \
            epoch = CASE WHEN l.holder = excluded.holder THEN l.epoch ELSE l.epoch + 1 END, \
            acquired_at = CASE WHEN l.holder = excluded.holder THEN l.acquired_at ELSE excluded.acquired_at END, \
            holder = excluded.holder, expires_at = excluded.expires_at \
        WHERE l.holder = excluded.holder OR l.expires_at < excluded.acquired_at RETURNING epoch";
    let sql = dialect(conn, SQL);
    let rows: Vec<EpochRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(loop_name)
        .bind::<Text, _>(holder)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<UtcTimestamp, _>(At(now + ttl))
        .prepared()
        .load(c)
        .await)?;
    Ok(rows.into_iter().next().map(|row| row.epoch))
}

/// Gives a lease up, so that another replica takes it at once.
///
/// # Errors
/// What the database says.
pub async fn release(
    conn: &mut Conn,
    loop_name: &str,
    holder: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let sql = dialect(
        conn,
        "UPDATE scheduler_leases SET expires_at = $3 WHERE loop = $1 AND holder = $2",
    );
    on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(loop_name)
        .bind::<Text, _>(holder)
        .bind::<UtcTimestamp, _>(At(now - Duration::from_micros(1)))
        .prepared()
        .execute(c)
        .await)?;
    Ok(())
}

/// Whether another holder than this one has the lease of a loop now. A look that costs no commit, for those who would only be
/// refused.
///
/// # Errors
/// What the database says.
pub async fn is_held_by_other(
    conn: &mut Conn,
    loop_name: &str,
    holder: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    use crate::schema::scheduler_leases;
    let held = scheduler_leases::table
        .filter(scheduler_leases::loop_name.eq(loop_name))
        .filter(scheduler_leases::holder.ne(holder))
        .filter(scheduler_leases::expires_at.ge(At(now)));
    let held = held.select(scheduler_leases::epoch);
    let held: Option<i64> = on_conn!(conn, c => held.first(c).await.optional())?;
    Ok(held.is_some())
}
