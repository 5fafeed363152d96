//! Nonces that were used, for replicas that share a database.

use certctl_domain::time::Timestamp;
use diesel::{
    prelude::*,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl;
use serde_json::json;

use crate::{
    Conn, Error,
    db::dialect,
    jobs::complete::{Batch, moment},
    prepared::Prepare as _,
    schema::acme_redeemed_nonces,
    types::{At, JsonDoc, UtcTimestamp},
};

#[derive(QueryableByName)]
struct Redeemed {
    #[diesel(sql_type = Text)]
    nonce: String,
}

/// Enters nonces as used until they end, and returns those that were not used before: of two transactions that redeem one at the
/// same moment, the second waits for the first and does not get it. One statement.
///
/// # Errors
/// What the database says.
pub async fn redeem(conn: &mut Conn, nonces: &[(String, Timestamp)]) -> Result<Vec<String>, Error> {
    if nonces.is_empty() {
        return Ok(Vec::new());
    }
    let rows = nonces
        .iter()
        .map(|(nonce, ends)| json!({"nonce": nonce, "ends": moment(conn, *ends)}))
        .collect();
    let batch = Batch::new(conn, &[("nonce", "text"), ("ends", "timestamptz")], rows);
    // In their order, so that two transactions cannot wait for each other.
    let order = match conn {
        Conn::Postgres(_) => "ORDER BY b.nonce COLLATE \"C\"",
        Conn::Sqlite(_) => "WHERE true ORDER BY b.nonce",
    };
    let sql = batch.statement(
        conn,
        &format!(
            "INSERT INTO acme_redeemed_nonces (nonce, expires_at) SELECT b.nonce, b.ends FROM {{batch}} {order} \
             ON CONFLICT DO NOTHING RETURNING nonce"
        ),
    );
    let rows: Vec<Redeemed> = on_conn!(conn, c => diesel::sql_query(sql).bind::<JsonDoc, _>(&batch.rows).prepared().load(c).await)?;
    Ok(rows.into_iter().map(|row| row.nonce).collect())
}

/// Whether a nonce was used.
///
/// # Errors
/// What the database says.
pub async fn is_redeemed(conn: &mut Conn, nonce: &str) -> Result<bool, Error> {
    let found: Option<String> = on_conn!(conn, c => acme_redeemed_nonces::table
        .find(nonce)
        .select(acme_redeemed_nonces::nonce)
        .first(c)
        .await
        .optional())?;
    Ok(found.is_some())
}

/// Forgets up to `limit` nonces that nobody would take any more.
///
/// # Errors
/// What the database says.
pub async fn sweep(conn: &mut Conn, limit: i64, now: Timestamp) -> Result<usize, Error> {
    let sql = dialect(
        conn,
        "DELETE FROM acme_redeemed_nonces WHERE nonce IN \
            (SELECT nonce FROM acme_redeemed_nonces WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)",
    );
    Ok(on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<BigInt, _>(limit)
        .prepared()
        .execute(c)
        .await)?)
}
