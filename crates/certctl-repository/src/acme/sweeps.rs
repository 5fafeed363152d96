//! What time does to orders and authorisations, in bounded steps: each looks at up to `limit` rows, found by a partial index of what
//! is left to do, and none is passed over twice.

use certctl_domain::{
    acme::{AcmeOrderId, Problem},
    time::Timestamp,
};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl;

use super::{orders, stored};
use crate::{
    Conn, Error,
    db::dialect,
    schema::acme_authorizations,
    types::{At, Json, JsonDoc, UtcTimestamp},
};

/// What a step over authorisations did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// Authorisations that were not proved in time.
    pub authorizations: usize,
    /// Orders that ended with them.
    pub orders: usize,
}

#[derive(QueryableByName)]
struct Late {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    order_id: String,
}

/// Marks authorisations that were not proved in time, and ends their orders, which cannot become ready any more.
///
/// # Errors
/// What the database says.
pub async fn expire_authorizations(
    conn: &mut Conn,
    error: &Problem,
    limit: i64,
    now: Timestamp,
) -> Result<Expired, Error> {
    use acme_authorizations as a;
    let sql = dialect(
        conn,
        "SELECT id, order_id FROM acme_authorizations WHERE status = 'pending' AND expires_at <= $1 ORDER BY expires_at LIMIT $2",
    );
    let late: Vec<Late> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<BigInt, _>(limit)
        .load(c)
        .await)?;
    if late.is_empty() {
        return Ok(Expired::default());
    }
    let (ids, mut order_ids): (Vec<String>, Vec<String>) =
        late.into_iter().map(|one| (one.id, one.order_id)).unzip();
    order_ids.sort_unstable();
    order_ids.dedup();
    let order_ids: Vec<AcmeOrderId> = order_ids
        .into_iter()
        .map(AcmeOrderId::from_stored)
        .collect();
    // The orders first, as whoever writes down a proof has it.
    orders::lock_many(conn, &order_ids).await?;
    let still = a::table
        .filter(a::id.eq_any(&ids))
        .filter(a::status.eq("pending"));
    let authorizations = on_conn!(conn, c => diesel::update(still)
        .set((a::status.eq("expired"), a::updated_at.eq(At(now))))
        .execute(c)
        .await)?;
    let ended = invalidate_unproved(conn, &order_ids, error, now).await?;
    Ok(Expired {
        authorizations,
        orders: ended,
    })
}

/// Of two proofs the other may have come in time: an order ends only when one of its authorisations has expired.
async fn invalidate_unproved(
    conn: &mut Conn,
    ids: &[AcmeOrderId],
    error: &Problem,
    now: Timestamp,
) -> Result<usize, Error> {
    use acme_authorizations as a;
    let ids: Vec<&str> = ids.iter().map(AcmeOrderId::as_str).collect();
    let expired: Vec<String> = on_conn!(conn, c => a::table
        .filter(a::order_id.eq_any(&ids))
        .filter(a::status.eq("expired"))
        .select(a::order_id)
        .distinct()
        .load(c)
        .await)?;
    let expired: Vec<AcmeOrderId> = expired.into_iter().map(AcmeOrderId::from_stored).collect();
    orders::invalidate(conn, &expired, error, now).await
}

/// Ends orders that were not finalised in time.
///
/// # Errors
/// What the database says.
pub async fn expire_orders(
    conn: &mut Conn,
    error: &Problem,
    limit: i64,
    now: Timestamp,
) -> Result<usize, Error> {
    let sql = dialect(
        conn,
        "UPDATE acme_orders SET status = 'invalid', error = $3, updated_at = $1 WHERE status IN ('pending', 'ready') AND id IN \
            (SELECT id FROM acme_orders WHERE status IN ('pending', 'ready') AND expires_at <= $1 ORDER BY expires_at LIMIT $2)",
    );
    let error = Json(stored::problem(error));
    Ok(on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<BigInt, _>(limit)
        .bind::<JsonDoc, _>(&error)
        .execute(c)
        .await)?)
}

/// What a step over orders that ended did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Orders that are gone, with their authorisations and challenges.
    pub orders: usize,
    /// Orders that are kept until their certificates end.
    pub kept: usize,
    /// Authorisations of those that ran out, with their challenges.
    pub authorizations: usize,
}

impl Deleted {
    /// How many orders were dealt with.
    #[must_use]
    pub const fn total(self) -> usize {
        self.orders + self.kept
    }
}

/// The oldest orders that ended before a time and were not looked at yet, by whether their certificates live.
macro_rules! oldest {
    ($change:literal, $whether:literal) => {
        concat!(
            $change,
            " WHERE id IN (SELECT id FROM acme_orders WHERE status IN ('valid', 'invalid') AND kept_until IS NULL AND updated_at < $3 \
                ORDER BY updated_at LIMIT $2) AND ",
            $whether,
            " (SELECT 1 FROM managed_certificates m WHERE m.id = acme_orders.certificate_id AND m.expires_at > $1)"
        )
    };
}

/// Deletes orders that ended before a time, unless their certificates live; those are noted down until when they do, and deleted
/// then, so that nobody passes over them meanwhile. Their authorisations that ran out go at once: they prove nothing any more,
/// neither to another order nor to who revokes (RFC 8555 §7.6). Up to `limit` orders for each of the two.
///
/// # Errors
/// What the database says.
pub async fn delete_ended(
    conn: &mut Conn,
    before: Timestamp,
    limit: i64,
    now: Timestamp,
) -> Result<Deleted, Error> {
    let over = dialect(
        conn,
        "DELETE FROM acme_orders WHERE id IN \
            (SELECT id FROM acme_orders WHERE kept_until IS NOT NULL AND kept_until <= $1 ORDER BY kept_until LIMIT $2)",
    );
    let over = run(conn, &over, limit, now, None).await?;
    let dead = dialect(conn, oldest!("DELETE FROM acme_orders", "NOT EXISTS"));
    let dead = run(conn, &dead, limit, now, Some(before)).await?;
    let spent = dialect(
        conn,
        concat!(
            "DELETE FROM acme_authorizations WHERE status <> 'pending' AND expires_at <= $1 AND order_id IN (",
            oldest!("SELECT id FROM acme_orders", "EXISTS"),
            ")"
        ),
    );
    let authorizations = run(conn, &spent, limit, now, Some(before)).await?;
    let living = dialect(
        conn,
        oldest!(
            "UPDATE acme_orders SET kept_until = (SELECT c.expires_at FROM managed_certificates c WHERE c.id = acme_orders.certificate_id)",
            "EXISTS"
        ),
    );
    let kept = run(conn, &living, limit, now, Some(before)).await?;
    Ok(Deleted {
        orders: over + dead,
        kept,
        authorizations,
    })
}

async fn run(
    conn: &mut Conn,
    sql: &str,
    limit: i64,
    now: Timestamp,
    before: Option<Timestamp>,
) -> Result<usize, Error> {
    let query = diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<BigInt, _>(limit);
    Ok(match before {
        Some(before) => {
            let query = query.bind::<UtcTimestamp, _>(At(before));
            on_conn!(conn, c => query.execute(c).await)?
        }
        None => on_conn!(conn, c => query.execute(c).await)?,
    })
}
