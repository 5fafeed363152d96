//! Audit events: rows that are only ever added, in the transaction of what they tell of.

use certctl_domain::{
    access::ActorType,
    audit::{AuditEvent, EventCategory},
    id::AuditEventId,
    page::{Page, PageRequest},
    text_enum::UnknownValue,
    time::Timestamp,
};
use diesel::{prelude::*, sql_types::BigInt};
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    prepared::Prepare as _,
    schema::audit_events,
    types::{At, Json},
};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = audit_events, treat_none_as_default_value = false, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct AuditEventRow {
    pub(crate) id: String,
    actor: String,
    actor_type: String,
    action: String,
    resource_type: String,
    resource_id: String,
    details: Json,
    timestamp: At,
    event_category: String,
}

impl From<&AuditEvent> for AuditEventRow {
    fn from(event: &AuditEvent) -> Self {
        Self {
            id: event.id.to_string(),
            actor: event.actor.clone(),
            actor_type: event.actor_type.to_string(),
            action: event.action.clone(),
            resource_type: event.resource_type.clone(),
            resource_id: event.resource_id.clone(),
            details: Json(event.details.clone()),
            timestamp: At(event.timestamp),
            event_category: event.category.to_string(),
        }
    }
}

impl TryFrom<AuditEventRow> for AuditEvent {
    type Error = Error;

    fn try_from(row: AuditEventRow) -> Result<Self, Error> {
        let corrupt = |error: UnknownValue| Error::corrupt("audit_events", error);
        Ok(Self {
            id: AuditEventId::from_stored(row.id),
            actor: row.actor,
            actor_type: ActorType::parse(&row.actor_type).map_err(corrupt)?,
            action: row.action,
            resource_type: row.resource_type,
            resource_id: row.resource_id,
            details: row.details.0,
            timestamp: row.timestamp.0,
            category: EventCategory::parse(&row.event_category).map_err(corrupt)?,
        })
    }
}

/// Adds events: one statement on PostgreSQL, one thread hop on SQLite.
///
/// # Errors
/// What the database says.
pub async fn insert_all(conn: &mut Conn, events: &[AuditEvent]) -> Result<(), Error> {
    let rows: Vec<AuditEventRow> = events.iter().map(Into::into).collect();
    insert_all!(conn, audit_events::table, rows)
}

/// Those of these ids that are there.
///
/// # Errors
/// What the database says.
pub async fn existing(conn: &mut Conn, ids: &[&str]) -> Result<Vec<String>, Error> {
    Ok(on_conn!(conn, c => audit_events::table
        .filter(audit_events::id.eq_any(ids))
        .select(audit_events::id)
        .load(c)
        .await)?)
}

/// What to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct AuditFilter {
    /// Only this part of the program.
    pub category: Option<EventCategory>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
}

impl AuditFilter {
    /// Whether it leaves nothing out.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

macro_rules! filtered {
    ($filter:expr) => {{
        let mut query = audit_events::table.into_boxed();
        if let Some(category) = $filter.category {
            query = query.filter(audit_events::event_category.eq(category.as_str()));
        }
        if let Some(since) = $filter.since {
            query = query.filter(audit_events::timestamp.ge(At(since)));
        }
        if let Some(until) = $filter.until {
            query = query.filter(audit_events::timestamp.le(At(until)));
        }
        query
    }};
}

/// Reads one page, newest first, and the count of all matches.
///
/// # Errors
/// What the database says.
pub async fn list(
    conn: &mut Conn,
    filter: &AuditFilter,
    page: PageRequest,
) -> Result<Page<AuditEvent>, Error> {
    Ok(Page {
        rows: list_page(conn, filter, page).await?,
        total: count(conn, filter).await?,
    })
}

/// Reads the rows of one page, newest first.
///
/// # Errors
/// What the database says.
pub async fn list_page(
    conn: &mut Conn,
    filter: &AuditFilter,
    page: PageRequest,
) -> Result<Vec<AuditEvent>, Error> {
    let rows: Vec<AuditEventRow> = on_conn!(conn, c => filtered!(filter)
        .select(AuditEventRow::as_select())
        .order((audit_events::timestamp.desc(), audit_events::id.desc()))
        .limit(page.limit())
        .offset(page.offset())
        .load(c)
        .await)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Counts all matches. Of all events together nothing is counted but those of the last second or so: each is sealed, and positions
/// have no gaps, or waits to be, and never both.
///
/// # Errors
/// What the database says.
pub async fn count(conn: &mut Conn, filter: &AuditFilter) -> Result<i64, Error> {
    #[derive(QueryableByName)]
    struct Total {
        #[diesel(sql_type = BigInt)]
        total: i64,
    }
    const ALL: &str = "SELECT COALESCE((SELECT max(seq) + 1 FROM audit_positions), 0) + (SELECT count(*) FROM audit_unsealed) AS total";
    if !filter.is_everything() {
        return Ok(on_conn!(conn, c => filtered!(filter).count().get_result(c).await)?);
    }
    let row: Total = on_conn!(conn, c => diesel::sql_query(ALL).prepared().get_result(c).await)?;
    Ok(row.total)
}

/// Reads the next events, newest first, that come after a place in that order; the walk of an export, in pages that cost the
/// same however far it is.
///
/// # Errors
/// What the database says.
pub async fn older(
    conn: &mut Conn,
    filter: &AuditFilter,
    after: Option<(Timestamp, &AuditEventId)>,
    limit: i64,
) -> Result<Vec<AuditEvent>, Error> {
    let rows: Vec<AuditEventRow> = on_conn!(conn, c => {
        let mut query = filtered!(filter);
        if let Some((timestamp, id)) = after {
            // The first condition bounds the walk of the index, which the second alone does not on either database.
            query = query
                .filter(audit_events::timestamp.le(At(timestamp)))
                .filter(audit_events::timestamp.lt(At(timestamp)).or(audit_events::id.lt(id.as_str())));
        }
        query
            .select(AuditEventRow::as_select())
            .order((audit_events::timestamp.desc(), audit_events::id.desc()))
            .limit(limit)
            .load(c)
            .await
    })?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Reads one event.
///
/// # Errors
/// [`Error::NotFound`] when there is none.
pub async fn find(conn: &mut Conn, id: &AuditEventId) -> Result<AuditEvent, Error> {
    let row: AuditEventRow = on_conn!(conn, c => audit_events::table.find(id.as_str()).select(AuditEventRow::as_select()).first(c).await)?;
    row.try_into()
}
