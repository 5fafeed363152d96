//! What time does to orders and authorisations, in bounded steps: each is one statement over up to `limit` rows, found by a partial
//! index of what is left to do.

use certctl_domain::{acme::Problem, time::Timestamp};
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;

use super::stored;
use crate::{
    Conn, Error,
    db::dialect,
    types::{At, Json, JsonDoc, UtcTimestamp},
};

/// Marks authorisations that were not proved in time.
///
/// # Errors
/// What the database says.
pub async fn expire_authorizations(
    conn: &mut Conn,
    limit: i64,
    now: Timestamp,
) -> Result<usize, Error> {
    let sql = dialect(
        conn,
        "UPDATE acme_authorizations SET status = 'expired', updated_at = $1 WHERE status = 'pending' AND id IN \
            (SELECT id FROM acme_authorizations WHERE status = 'pending' AND expires_at <= $1 ORDER BY expires_at LIMIT $2)",
    );
    run(conn, &sql, limit, now).await
}

/// Ends orders that were not finalised in time, and those that are pending with an authorisation that was not proved in time.
///
/// # Errors
/// What the database says.
pub async fn expire_orders(
    conn: &mut Conn,
    error: &Problem,
    limit: i64,
    now: Timestamp,
) -> Result<usize, Error> {
    // An authorisation ends with its order at the latest, so that what is to be found by the second condition has an order that
    // ends soon; the index of open orders by their end finds both.
    let sql = dialect(
        conn,
        "UPDATE acme_orders SET status = 'invalid', error = $3, updated_at = $1 WHERE status IN ('pending', 'ready') AND id IN \
            (SELECT id FROM acme_orders WHERE status IN ('pending', 'ready') AND expires_at <= $1 ORDER BY expires_at LIMIT $2)",
    );
    let error = Json(stored::problem(error));
    let expired = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<BigInt, _>(limit)
        .bind::<JsonDoc, _>(&error)
        .execute(c)
        .await)?;
    let sql = dialect(
        conn,
        "UPDATE acme_orders SET status = 'invalid', error = $3, updated_at = $1 WHERE status = 'pending' AND id IN \
            (SELECT a.order_id FROM acme_authorizations a JOIN acme_orders o ON o.id = a.order_id \
                WHERE o.status IN ('pending', 'ready') AND o.status = 'pending' AND a.status = 'expired' LIMIT $2)",
    );
    let cascaded = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<BigInt, _>(limit)
        .bind::<JsonDoc, _>(&error)
        .execute(c)
        .await)?;
    Ok(expired + cascaded)
}

/// Deletes orders that ended before a time and whose certificate is of no use any more, with their authorisations and challenges.
///
/// # Errors
/// What the database says.
pub async fn delete_ended(
    conn: &mut Conn,
    before: Timestamp,
    limit: i64,
    now: Timestamp,
) -> Result<usize, Error> {
    let sql = dialect(
        conn,
        "DELETE FROM acme_orders WHERE status IN ('valid', 'invalid') AND id IN \
            (SELECT o.id FROM acme_orders o LEFT JOIN managed_certificates m ON m.id = o.certificate_id \
                WHERE o.status IN ('valid', 'invalid') AND o.updated_at < $3 \
                    AND (m.id IS NULL OR m.expires_at IS NULL OR m.expires_at <= $1) ORDER BY o.updated_at LIMIT $2)",
    );
    Ok(on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<BigInt, _>(limit)
        .bind::<UtcTimestamp, _>(At(before))
        .execute(c)
        .await)?)
}

async fn run(conn: &mut Conn, sql: &str, limit: i64, now: Timestamp) -> Result<usize, Error> {
    Ok(on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<BigInt, _>(limit)
        .execute(c)
        .await)?)
}
