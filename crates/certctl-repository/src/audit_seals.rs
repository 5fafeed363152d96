//! The sealed trail: rows that wait, positions, batches.
//!
//! A row waits from the statement that inserts it, by a trigger, until the transaction that gives it a position; so at any
//! moment it is in exactly one of the two tables, and a row in neither was put there past the trigger.

use certctl_domain::{
    audit::AuditEvent,
    page::{Page, PageRequest},
    time::Timestamp,
};
use diesel::{
    QueryableByName,
    prelude::*,
    sql_types::{Array, BigInt, Binary, Nullable, Text},
};
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    audit_events::AuditEventRow,
    db::dialect,
    prepared::Prepare as _,
    schema::{audit_batches, audit_events, audit_positions, audit_unsealed},
    types::{At, UtcTimestamp},
};

/// A batch with its signed head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditBatch {
    /// Its number, from 1.
    pub batch: i64,
    /// The position of its first row, from 0.
    pub first_seq: i64,
    /// How many rows it has.
    pub row_count: i64,
    /// The root of the tree of its rows, 32 octets.
    pub root: Vec<u8>,
    /// The hash of the head before, 32 octets.
    pub previous: Vec<u8>,
    /// When it was closed.
    pub sealed_at: Timestamp,
    /// Which key signed it.
    pub key_id: String,
    /// The signature.
    pub signature: Vec<u8>,
}

/// A row at its position.
#[derive(Debug, Clone)]
pub struct Positioned {
    /// The position.
    pub seq: i64,
    /// The id the position names.
    pub event_id: String,
    /// The leaf that was stored.
    pub leaf: Vec<u8>,
    /// The row, if it is there; an error when it holds what no version of certctl writes.
    pub event: Option<Result<AuditEvent, String>>,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = audit_batches, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct BatchRow {
    batch: i64,
    first_seq: i64,
    row_count: i64,
    root: Vec<u8>,
    previous: Vec<u8>,
    sealed_at: At,
    key_id: String,
    signature: Vec<u8>,
}

impl From<BatchRow> for AuditBatch {
    fn from(row: BatchRow) -> Self {
        Self {
            batch: row.batch,
            first_seq: row.first_seq,
            row_count: row.row_count,
            root: row.root,
            previous: row.previous,
            sealed_at: row.sealed_at.0,
            key_id: row.key_id,
            signature: row.signature,
        }
    }
}

impl From<&AuditBatch> for BatchRow {
    fn from(batch: &AuditBatch) -> Self {
        Self {
            batch: batch.batch,
            first_seq: batch.first_seq,
            row_count: batch.row_count,
            root: batch.root.clone(),
            previous: batch.previous.clone(),
            sealed_at: At(batch.sealed_at),
            key_id: batch.key_id.clone(),
            signature: batch.signature.clone(),
        }
    }
}

/// Whether rows wait to be sealed.
///
/// # Errors
/// What the database says.
pub async fn has_unsealed(conn: &mut Conn) -> Result<bool, Error> {
    let first: Option<String> = on_conn!(conn, c => audit_unsealed::table
        .select(audit_unsealed::event_id)
        .first(c)
        .await
        .optional())?;
    Ok(first.is_some())
}

/// Rows that wait.
#[derive(Debug)]
pub struct Unsealed {
    /// Those that can be sealed, by time and id.
    pub events: Vec<AuditEvent>,
    /// The ids of those that hold what certctl never writes.
    pub unreadable: Vec<String>,
}

/// Reads rows that wait and are there, by time and id, as far as they are committed.
///
/// # Errors
/// What the database says.
pub async fn unsealed(conn: &mut Conn, limit: i64) -> Result<Unsealed, Error> {
    let rows: Vec<AuditEventRow> = on_conn!(conn, c => audit_unsealed::table
        .inner_join(audit_events::table.on(audit_events::id.eq(audit_unsealed::event_id)))
        .select(AuditEventRow::as_select())
        .order((audit_unsealed::timestamp, audit_unsealed::event_id))
        .limit(limit)
        .load(c)
        .await)?;
    let mut found = Unsealed {
        events: Vec::with_capacity(rows.len()),
        unreadable: Vec::new(),
    };
    for row in rows {
        let id = row.id.clone();
        match row.try_into() {
            Ok(event) => found.events.push(event),
            Err(_) => found.unreadable.push(id),
        }
    }
    Ok(found)
}

/// Enters a batch with its rows, which then wait no longer. Three statements on PostgreSQL.
///
/// # Errors
/// [`Error::AlreadyExists`] when the batch, a position or a row of it was sealed before.
pub async fn seal(
    conn: &mut Conn,
    batch: &AuditBatch,
    events: &[AuditEvent],
    leaves: &[[u8; 32]],
) -> Result<(), Error> {
    let row = BatchRow::from(batch);
    on_conn!(conn, c => diesel::insert_into(audit_batches::table).values(&row).execute(c).await)?;
    insert_positions(conn, batch, events, leaves).await?;
    // Exactly those that have a position now: one that committed in between may well stand before them in the order of time.
    const SQL: &str = "DELETE FROM audit_unsealed WHERE (timestamp, event_id) IN \
        (SELECT e.timestamp, e.id FROM audit_positions p JOIN audit_events e ON e.id = p.event_id WHERE p.seq >= $1)";
    let sql = dialect(conn, SQL);
    on_conn!(conn, c => diesel::sql_query(sql).bind::<BigInt, _>(batch.first_seq).prepared().execute(c).await)?;
    Ok(())
}

async fn insert_positions(
    conn: &mut Conn,
    batch: &AuditBatch,
    events: &[AuditEvent],
    leaves: &[[u8; 32]],
) -> Result<(), Error> {
    let (first, number) = (batch.first_seq, batch.batch);
    on_conn!(conn,
        pg c => {
            let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
            let leaves: Vec<&[u8]> = leaves.iter().map(<[u8; 32]>::as_slice).collect();
            diesel::sql_query(
                "INSERT INTO audit_positions (seq, event_id, batch, leaf) \
                 SELECT $1 + n - 1, id, $2, leaf FROM unnest($3::text[], $4::bytea[]) WITH ORDINALITY AS r(id, leaf, n)",
            )
            .bind::<BigInt, _>(first)
            .bind::<BigInt, _>(number)
            .bind::<Array<Text>, _>(ids)
            .bind::<Array<Binary>, _>(leaves)
            .prepared()
            .execute(c)
            .await?;
        },
        sqlite c => {
            let rows: Vec<(String, Vec<u8>)> =
                events.iter().zip(leaves).map(|(event, leaf)| (event.id.to_string(), leaf.to_vec())).collect();
            c.spawn_blocking(move |c| {
                for (seq, (id, leaf)) in (first..).zip(&rows) {
                    let row = (
                        audit_positions::seq.eq(seq),
                        audit_positions::event_id.eq(id),
                        audit_positions::batch.eq(number),
                        audit_positions::leaf.eq(leaf),
                    );
                    diesel::RunQueryDsl::execute(diesel::insert_into(audit_positions::table).values(row), c)?;
                }
                Ok(())
            })
            .await?;
        },
    );
    Ok(())
}

/// The newest batch.
///
/// # Errors
/// What the database says.
pub async fn newest(conn: &mut Conn) -> Result<Option<AuditBatch>, Error> {
    let row: Option<BatchRow> = on_conn!(conn, c => audit_batches::table
        .select(BatchRow::as_select())
        .order(audit_batches::batch.desc())
        .first(c)
        .await
        .optional())?;
    Ok(row.map(Into::into))
}

/// Reads one batch.
///
/// # Errors
/// [`Error::NotFound`] when there is none.
pub async fn find(conn: &mut Conn, batch: i64) -> Result<AuditBatch, Error> {
    let row: BatchRow = on_conn!(conn, c => audit_batches::table.find(batch).select(BatchRow::as_select()).first(c).await)?;
    Ok(row.into())
}

/// Reads batches after a number, in their order.
///
/// # Errors
/// What the database says.
pub async fn after(conn: &mut Conn, batch: i64, limit: i64) -> Result<Vec<AuditBatch>, Error> {
    let rows: Vec<BatchRow> = on_conn!(conn, c => audit_batches::table
        .filter(audit_batches::batch.gt(batch))
        .select(BatchRow::as_select())
        .order(audit_batches::batch)
        .limit(limit)
        .load(c)
        .await)?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// The number of the first batch that was closed at this time or later.
///
/// # Errors
/// What the database says.
pub async fn first_since(conn: &mut Conn, since: Timestamp) -> Result<Option<i64>, Error> {
    Ok(on_conn!(conn, c => audit_batches::table
        .filter(audit_batches::sealed_at.ge(At(since)))
        .select(audit_batches::batch)
        .order((audit_batches::sealed_at, audit_batches::batch))
        .first(c)
        .await
        .optional())?)
}

/// Reads one page of batches, newest first. Batches are numbered without gaps, so a page costs the same wherever it is.
///
/// # Errors
/// What the database says.
pub async fn list(conn: &mut Conn, page: PageRequest) -> Result<Page<AuditBatch>, Error> {
    let total = newest(conn).await?.map_or(0, |newest| newest.batch);
    let top = total.saturating_sub(page.offset());
    let rows: Vec<BatchRow> = on_conn!(conn, c => audit_batches::table
        .filter(audit_batches::batch.le(top))
        .select(BatchRow::as_select())
        .order(audit_batches::batch.desc())
        .limit(page.limit())
        .load(c)
        .await)?;
    Ok(Page {
        rows: rows.into_iter().map(Into::into).collect(),
        total,
    })
}

/// Reads the rows at positions from `first` up to and without `end`.
///
/// # Errors
/// What the database says.
pub async fn rows(conn: &mut Conn, first: i64, end: i64) -> Result<Vec<Positioned>, Error> {
    type Row = (i64, String, Vec<u8>, Option<AuditEventRow>);
    let rows: Vec<Row> = on_conn!(conn, c => audit_positions::table
        .left_join(audit_events::table.on(audit_events::id.eq(audit_positions::event_id)))
        .filter(audit_positions::seq.ge(first))
        .filter(audit_positions::seq.lt(end))
        .select((audit_positions::seq, audit_positions::event_id, audit_positions::leaf, Option::<AuditEventRow>::as_select()))
        .order(audit_positions::seq)
        .load(c)
        .await)?;
    Ok(rows
        .into_iter()
        .map(|(seq, event_id, leaf, event)| Positioned {
            seq,
            event_id,
            leaf,
            event: event.map(|row| row.try_into().map_err(|error: Error| error.to_string())),
        })
        .collect())
}

/// Where a row stands: its position and its batch. Nothing when it waits.
///
/// # Errors
/// What the database says.
pub async fn position(conn: &mut Conn, event_id: &str) -> Result<Option<(i64, i64)>, Error> {
    Ok(on_conn!(conn, c => audit_positions::table
        .filter(audit_positions::event_id.eq(event_id))
        .select((audit_positions::seq, audit_positions::batch))
        .first(c)
        .await
        .optional())?)
}

/// The stored leaves at positions from `first` up to and without `end`.
///
/// # Errors
/// What the database says.
pub async fn leaves(conn: &mut Conn, first: i64, end: i64) -> Result<Vec<Vec<u8>>, Error> {
    Ok(on_conn!(conn, c => audit_positions::table
        .filter(audit_positions::seq.ge(first))
        .filter(audit_positions::seq.lt(end))
        .select(audit_positions::leaf)
        .order(audit_positions::seq)
        .load(c)
        .await)?)
}

/// What belongs to no batch and waits for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stray {
    /// A position after the last batch.
    Position(i64, String),
    /// A row that was never noted as waiting: it came in past the trigger.
    Row(String),
    /// A row that was noted as waiting and is gone.
    Gone(String),
}

#[derive(QueryableByName)]
struct StrayRow {
    #[diesel(sql_type = Nullable<BigInt>)]
    seq: Option<i64>,
    #[diesel(sql_type = Text)]
    event_id: String,
}

/// Looks for what belongs to no batch and waits for none; of rows, among those since a time. Each look is one statement, which
/// sees one moment: what is sealed or written meanwhile is never taken for a stray.
///
/// # Errors
/// What the database says.
pub async fn stray(conn: &mut Conn, since: Timestamp) -> Result<Option<Stray>, Error> {
    const POSITION: &str = "SELECT seq, event_id FROM audit_positions WHERE seq >= \
        COALESCE((SELECT first_seq + row_count FROM audit_batches ORDER BY batch DESC LIMIT 1), 0) ORDER BY seq LIMIT 1";
    const ROW: &str = "SELECT NULL AS seq, e.id AS event_id FROM audit_events e WHERE e.timestamp >= $1 \
        AND NOT EXISTS (SELECT 1 FROM audit_positions p WHERE p.event_id = e.id) \
        AND NOT EXISTS (SELECT 1 FROM audit_unsealed u WHERE u.timestamp = e.timestamp AND u.event_id = e.id) \
        ORDER BY e.timestamp, e.id LIMIT 1";
    const GONE: &str = "SELECT NULL AS seq, u.event_id FROM audit_unsealed u \
        WHERE NOT EXISTS (SELECT 1 FROM audit_events e WHERE e.id = u.event_id) ORDER BY u.timestamp, u.event_id LIMIT 1";
    let rows: Vec<StrayRow> =
        on_conn!(conn, c => diesel::sql_query(POSITION).prepared().load(c).await)?;
    if let Some(row) = rows.into_iter().next() {
        return Ok(Some(Stray::Position(
            row.seq.unwrap_or_default(),
            row.event_id,
        )));
    }
    let sql = dialect(conn, ROW);
    let rows: Vec<StrayRow> = on_conn!(conn, c => diesel::sql_query(sql).bind::<UtcTimestamp, _>(At(since)).prepared().load(c).await)?;
    if let Some(row) = rows.into_iter().next() {
        return Ok(Some(Stray::Row(row.event_id)));
    }
    let rows: Vec<StrayRow> =
        on_conn!(conn, c => diesel::sql_query(GONE).prepared().load(c).await)?;
    Ok(rows.into_iter().next().map(|row| Stray::Gone(row.event_id)))
}

/// How many rows wait.
///
/// # Errors
/// What the database says.
pub async fn waiting(conn: &mut Conn) -> Result<i64, Error> {
    Ok(on_conn!(conn, c => audit_unsealed::table.count().get_result(c).await)?)
}
