//! Orders.

use std::collections::HashMap;

use certctl_domain::{
    acme::{AcmeAccountId, AcmeAuthorizationId, AcmeOrderId, Order, OrderStatus, Problem},
    id::{CertificateId, IssuerId, JobId, ProfileId},
    profile::AcmeAuthMode,
    text_enum::UnknownValue,
    time::Timestamp,
};
use diesel::{prelude::*, sql_types::Text};
use diesel_async::RunQueryDsl;
use serde_json::json;

use super::stored;
use crate::{
    Conn, Error,
    jobs::complete::Batch,
    prepared::{Prepare as _, one_of},
    schema::acme_orders,
    types::{At, Json, JsonDoc, UtcTimestamp, at, time},
};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = acme_orders, treat_none_as_default_value = false, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(super) struct OrderRow {
    id: String,
    account_id: String,
    profile_id: String,
    issuer_id: String,
    auth_mode: String,
    identifiers: Json,
    status: String,
    expires_at: At,
    not_before: Option<At>,
    not_after: Option<At>,
    error: Option<Json>,
    csr_pem: Option<String>,
    certificate_id: Option<String>,
    job_id: Option<String>,
    replaces: Option<String>,
    created_at: At,
    updated_at: At,
}

impl From<&Order> for OrderRow {
    fn from(order: &Order) -> Self {
        Self {
            id: order.id.to_string(),
            account_id: order.account_id.to_string(),
            profile_id: order.profile_id.to_string(),
            issuer_id: order.issuer_id.to_string(),
            auth_mode: order.auth_mode.as_str().to_owned(),
            identifiers: Json(stored::identifiers(&order.identifiers)),
            status: order.status.as_str().to_owned(),
            expires_at: At(order.expires_at),
            not_before: at(order.not_before),
            not_after: at(order.not_after),
            error: order
                .error
                .as_ref()
                .map(|error| Json(stored::problem(error))),
            csr_pem: order.csr_pem.clone(),
            certificate_id: order.certificate_id.as_ref().map(ToString::to_string),
            job_id: order.job_id.as_ref().map(ToString::to_string),
            replaces: order.replaces.clone(),
            created_at: At(order.created_at),
            updated_at: At(order.updated_at),
        }
    }
}

impl TryFrom<OrderRow> for Order {
    type Error = Error;

    fn try_from(row: OrderRow) -> Result<Self, Error> {
        let corrupt = |error: UnknownValue| Error::corrupt("acme_orders", error);
        let error = match &row.error {
            Some(error) => Some(
                stored::read_problem(&error.0)
                    .ok_or_else(|| Error::corrupt("acme_orders", "error"))?,
            ),
            None => None,
        };
        Ok(Self {
            id: AcmeOrderId::from_stored(row.id),
            account_id: AcmeAccountId::from_stored(row.account_id),
            profile_id: ProfileId::from_stored(row.profile_id),
            issuer_id: IssuerId::from_stored(row.issuer_id),
            auth_mode: AcmeAuthMode::parse(&row.auth_mode).map_err(corrupt)?,
            identifiers: stored::read_identifiers(&row.identifiers.0)
                .ok_or_else(|| Error::corrupt("acme_orders", "identifiers"))?,
            status: OrderStatus::parse(&row.status).map_err(corrupt)?,
            expires_at: row.expires_at.0,
            not_before: time(row.not_before),
            not_after: time(row.not_after),
            error,
            csr_pem: row.csr_pem,
            certificate_id: row.certificate_id.map(CertificateId::from_stored),
            job_id: row.job_id.map(JobId::from_stored),
            replaces: row.replaces,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

/// Enters orders.
///
/// # Errors
/// [`Error::AlreadyExists`] when one replaces what another one does, [`Error::Reference`] when an account, a profile or an issuer
/// is gone.
pub async fn insert_all(conn: &mut Conn, orders: &[Order]) -> Result<(), Error> {
    let rows: Vec<OrderRow> = orders.iter().map(OrderRow::from).collect();
    insert_all!(conn, acme_orders::table, rows)
}

/// Reads an order.
///
/// # Errors
/// What the database says.
pub async fn find(conn: &mut Conn, id: &AcmeOrderId) -> Result<Option<Order>, Error> {
    let row: Option<OrderRow> = on_conn!(conn, c => acme_orders::table
        .find(id.as_str())
        .select(OrderRow::as_select())
        .first(c)
        .await
        .optional())?;
    row.map(TryInto::try_into).transpose()
}

/// Reads an order with the ids of its authorisations, in their order; one statement.
///
/// # Errors
/// What the database says.
pub async fn find_whole(
    conn: &mut Conn,
    id: &AcmeOrderId,
) -> Result<Option<(Order, Vec<AcmeAuthorizationId>)>, Error> {
    use crate::schema::acme_authorizations as a;
    let rows: Vec<(OrderRow, Option<String>)> = on_conn!(conn, c => acme_orders::table
        .left_join(a::table.on(a::order_id.eq(acme_orders::id)))
        .filter(acme_orders::id.eq(id.as_str()))
        .select((OrderRow::as_select(), a::id.nullable()))
        .order(a::id)
        .load(c)
        .await)?;
    let mut ids = Vec::with_capacity(rows.len());
    let mut order = None;
    for (row, authorization) in rows {
        ids.extend(authorization.map(AcmeAuthorizationId::from_stored));
        if order.is_none() {
            order = Some(Order::try_from(row)?);
        }
    }
    Ok(order.map(|order| (order, ids)))
}

/// Reads orders and keeps others from changing them until the transaction ends. They are locked in the order of their ids.
///
/// # Errors
/// What the database says.
pub async fn lock_many(conn: &mut Conn, ids: &[AcmeOrderId]) -> Result<Vec<Order>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = ids.iter().map(AcmeOrderId::as_str).collect();
    let rows: Vec<OrderRow> = on_conn!(conn,
        pg c => acme_orders::table
            .filter(one_of(acme_orders::id, &ids))
            .select(OrderRow::as_select())
            .order(acme_orders::id)
            .for_no_key_update()
            .load(c)
            .await,
        // The one writer of SQLite has the whole database to itself.
        sqlite c => acme_orders::table
            .filter(one_of(acme_orders::id, &ids))
            .select(OrderRow::as_select())
            .load(c)
            .await,
    )?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// How many orders accounts have open: those that may still lead to a certificate. Accounts without any are left out.
///
/// # Errors
/// What the database says.
pub async fn count_open(
    conn: &mut Conn,
    accounts: &[AcmeAccountId],
    now: Timestamp,
) -> Result<HashMap<AcmeAccountId, i64>, Error> {
    use acme_orders as o;
    if accounts.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<&str> = accounts.iter().map(AcmeAccountId::as_str).collect();
    // As the partial index has it: a list of values that are bound is none that it could be recognised by.
    let rows: Vec<(String, i64)> = on_conn!(conn, c => o::table
        .filter(one_of(o::account_id, &ids))
        .filter(diesel::dsl::sql::<diesel::sql_types::Bool>("status IN ('pending', 'ready', 'processing')"))
        .filter(o::expires_at.gt(At(now)))
        .group_by(o::account_id)
        .select((o::account_id, diesel::dsl::count_star()))
        .prepared()
        .load(c)
        .await)?;
    Ok(rows
        .into_iter()
        .map(|(account, count)| (AcmeAccountId::from_stored(account), count))
        .collect())
}

/// Those of these certificate identifiers (RFC 9773 §4.1) that an order replaces, unless the order came to nothing.
///
/// # Errors
/// What the database says.
pub async fn replaced(conn: &mut Conn, identifiers: &[&str]) -> Result<Vec<String>, Error> {
    use acme_orders as o;
    if identifiers.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<Option<String>> = on_conn!(conn, c => o::table
        .filter(o::replaces.is_not_null())
        .filter(one_of(o::replaces, identifiers))
        .filter(diesel::dsl::sql::<diesel::sql_types::Bool>("status <> 'invalid'"))
        .select(o::replaces)
        .prepared()
        .load(c)
        .await)?;
    Ok(rows.into_iter().flatten().collect())
}

/// The orders of an account that did not come to nothing (RFC 8555 §7.1.2.1), newest first, after a position; `limit` at the most.
///
/// # Errors
/// What the database says.
pub async fn list_after(
    conn: &mut Conn,
    account: &AcmeAccountId,
    after: Option<(Timestamp, &AcmeOrderId)>,
    limit: i64,
) -> Result<Vec<(AcmeOrderId, Timestamp)>, Error> {
    use acme_orders as o;
    let rows: Vec<(String, At)> = on_conn!(conn, c => {
        let mut query = o::table
            .filter(o::account_id.eq(account.as_str()))
            .filter(o::status.ne(OrderStatus::Invalid.as_str()))
            .select((o::id, o::created_at))
            .into_boxed();
        if let Some((created_at, id)) = after {
            query = query
                .filter(o::created_at.le(At(created_at)))
                .filter(o::created_at.lt(At(created_at)).or(o::id.lt(id.as_str())));
        }
        query.order((o::created_at.desc(), o::id.desc())).limit(limit).load(c).await
    })?;
    Ok(rows
        .into_iter()
        .map(|(id, at)| (AcmeOrderId::from_stored(id), at.0))
        .collect())
}

/// The order of a certificate: who ordered it, and what for.
///
/// # Errors
/// What the database says.
pub async fn of_certificate(conn: &mut Conn, id: &CertificateId) -> Result<Option<Order>, Error> {
    let row: Option<OrderRow> = on_conn!(conn, c => acme_orders::table
        .filter(acme_orders::certificate_id.eq(Some(id.as_str())))
        .select(OrderRow::as_select())
        .first(c)
        .await
        .optional())?;
    row.map(TryInto::try_into).transpose()
}

/// An order that is finalised.
#[derive(Debug, Clone)]
pub struct Finalized {
    /// Which.
    pub order_id: AcmeOrderId,
    /// With which request.
    pub csr_pem: String,
    /// Which certificate it leads to.
    pub certificate_id: CertificateId,
    /// Which job issues it, or has.
    pub job_id: JobId,
    /// Whether the certificate is there already: the order is valid then, and `processing` otherwise.
    pub is_issued: bool,
}

/// Makes orders that are ready `processing` or valid; one statement.
///
/// # Errors
/// [`Error::NotFound`] when one of them is not ready any more; nothing is to be committed then.
pub async fn begin(conn: &mut Conn, orders: &[Finalized], now: Timestamp) -> Result<(), Error> {
    if orders.is_empty() {
        return Ok(());
    }
    let rows = orders
        .iter()
        .map(|one| {
            let status = if one.is_issued {
                OrderStatus::Valid
            } else {
                OrderStatus::Processing
            };
            json!({"ord": one.order_id.as_str(), "csr": one.csr_pem, "cert": one.certificate_id.as_str(), "job": one.job_id.as_str(),
                   "state": status.as_str(), "was": OrderStatus::Ready.as_str()})
        })
        .collect();
    let columns = [
        ("ord", "text"),
        ("csr", "text"),
        ("cert", "text"),
        ("job", "text"),
        ("state", "text"),
        ("was", "text"),
    ];
    let batch = Batch::new(conn, &columns, rows);
    // The state comes with the rows, because a constant would let PostgreSQL go by the index of open orders, in which every order
    // that has been finalised since the last VACUUM still stands.
    let sql = batch.statement(
        conn,
        "UPDATE acme_orders SET status = b.state, csr_pem = b.csr, certificate_id = b.cert, job_id = b.job, updated_at = $2 \
         FROM {batch} WHERE acme_orders.id = b.ord AND acme_orders.status = b.was",
    );
    let changed = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<JsonDoc, _>(&batch.rows)
        .bind::<UtcTimestamp, _>(At(now))
        .prepared()
        .execute(c)
        .await)?;
    if changed == orders.len() {
        Ok(())
    } else {
        Err(Error::NotFound)
    }
}

/// Makes an order ready all of whose authorisations are valid; false when it is not pending or one of them is not.
///
/// To be called with the order locked, so that of two proofs that end at the same moment, the second sees the first.
///
/// # Errors
/// What the database says.
pub async fn make_ready(conn: &mut Conn, id: &AcmeOrderId, now: Timestamp) -> Result<bool, Error> {
    let sql = crate::db::dialect(
        conn,
        "UPDATE acme_orders SET status = 'ready', updated_at = $2 WHERE id = $1 AND status = 'pending' \
            AND NOT EXISTS (SELECT 1 FROM acme_authorizations a WHERE a.order_id = acme_orders.id AND a.status <> 'valid')",
    );
    let changed = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(id.as_str())
        .bind::<UtcTimestamp, _>(At(now))
        .prepared()
        .execute(c)
        .await)?;
    Ok(changed == 1)
}

/// Ends orders that are pending or ready; returns how many were.
///
/// # Errors
/// What the database says.
pub async fn invalidate(
    conn: &mut Conn,
    ids: &[AcmeOrderId],
    error: &Problem,
    now: Timestamp,
) -> Result<usize, Error> {
    use acme_orders as o;
    let ids: Vec<&str> = ids.iter().map(AcmeOrderId::as_str).collect();
    let open = o::table
        .filter(one_of(o::id, &ids))
        .filter(o::status.eq_any([OrderStatus::Pending.as_str(), OrderStatus::Ready.as_str()]));
    let error = Json(stored::problem(error));
    Ok(on_conn!(conn, c => diesel::update(open)
        .set((
            o::status.eq(OrderStatus::Invalid.as_str()),
            o::error.eq(Some(&error)),
            o::updated_at.eq(At(now)),
        ))
        .execute(c)
        .await)?)
}

/// Ends all orders of an account that are pending or ready, with the authorisations that are pending; returns how many orders.
///
/// # Errors
/// What the database says.
pub async fn invalidate_of_account(
    conn: &mut Conn,
    account: &AcmeAccountId,
    error: &Problem,
    now: Timestamp,
) -> Result<usize, Error> {
    use crate::schema::acme_authorizations as a;
    use acme_orders as o;
    // The first condition is that of the partial index.
    let open = diesel::dsl::sql::<diesel::sql_types::Bool>(
        "status IN ('pending', 'ready', 'processing') AND status <> 'processing'",
    );
    let rows: Vec<String> = on_conn!(conn, c => o::table
        .filter(o::account_id.eq(account.as_str()))
        .filter(open)
        .select(o::id)
        .load(c)
        .await)?;
    if rows.is_empty() {
        return Ok(0);
    }
    let pending = a::table
        .filter(one_of(a::order_id, &rows))
        .filter(a::status.eq("pending"));
    on_conn!(conn, c => diesel::update(pending)
        .set((a::status.eq("deactivated"), a::updated_at.eq(At(now))))
        .execute(c)
        .await)?;
    let ids: Vec<AcmeOrderId> = rows.into_iter().map(AcmeOrderId::from_stored).collect();
    invalidate(conn, &ids, error, now).await
}
