//! Notifications: the outbox and its reading.

use certctl_domain::{
    id::{CertificateId, NotificationId, RenewalPolicyId},
    notification::{Notification, NotificationChannel, NotificationStatus, NotificationType},
    page::{Page, PageRequest},
    revocation::RevocationReason,
    text_enum::UnknownValue,
    time::Timestamp,
};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Bool, Text},
};
use diesel_async::RunQueryDsl;
use serde_json::json;

use crate::{
    Conn, Error,
    db::dialect,
    jobs::complete::{Batch, moment},
    prepared::Prepare as _,
    schema::notification_events,
    totals::{self, Counted},
    types::{At, JsonDoc, UtcTimestamp, time},
};

/// Something that the owner of a certificate is to be told, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What is told.
    pub kind: NotificationType,
    /// Of which certificate.
    pub certificate_id: CertificateId,
    /// How the sentence goes on that begins with `Certificate <name>`.
    pub message: String,
    /// What is told once only, such as `revoked:` and the id of the revocation: a second notice with the same key is passed over.
    pub key: String,
}

/// Notices of one statement.
const CHUNK: usize = 5000;

/// Writes notices into the outbox, to be sent by e-mail to the owner of each certificate, or named by the owner's id where there
/// is no address (notifiers §1). One statement for each 5,000; to be called in the transaction of what they tell of. Returns how
/// many are new; one of a certificate that is not there is passed over.
///
/// # Errors
/// What the database says.
pub async fn enqueue_all(
    conn: &mut Conn,
    notices: &[Notice],
    now: Timestamp,
) -> Result<usize, Error> {
    let columns = [
        ("id", "text"),
        ("kind", "text"),
        ("cert", "text"),
        ("said", "text"),
        ("dedupe", "text"),
    ];
    let mut written = 0;
    for chunk in notices.chunks(CHUNK) {
        let rows = chunk
            .iter()
            .map(|one| {
                json!({"id": NotificationId::generate(now).as_str(), "kind": one.kind.as_str(), "cert": one.certificate_id.as_str(),
                       "said": one.message, "dedupe": one.key})
            })
            .collect();
        let batch = Batch::new(conn, &columns, rows);
        // `WHERE true`: without it SQLite takes ON for that of a join.
        let sql = batch.statement(
            conn,
            "INSERT INTO notification_events (id, type, certificate_id, channel, recipient, message, status, dedupe_key, created_at) \
             SELECT b.id, b.kind, c.id, 'Email', COALESCE(NULLIF(o.email, ''), o.id), 'Certificate ' || c.name || ' ' || b.said, \
                'pending', b.dedupe, $2 \
             FROM {batch} JOIN managed_certificates c ON c.id = b.cert JOIN owners o ON o.id = c.owner_id WHERE true \
             ON CONFLICT (dedupe_key) DO NOTHING",
        );
        written += on_conn!(conn, c => diesel::sql_query(sql)
            .bind::<JsonDoc, _>(&batch.rows)
            .bind::<UtcTimestamp, _>(At(now))
            .prepared()
            .execute(c)
            .await)?;
    }
    Ok(written)
}

/// Writes a notice of every certificate with a revocation whose id begins with `batch` and a dash, with the same keys as those of
/// single revocations, in one statement. Returns how many are new.
///
/// # Errors
/// What the database says.
pub async fn enqueue_revocations(
    conn: &mut Conn,
    batch: &str,
    reason: RevocationReason,
    now: Timestamp,
) -> Result<usize, Error> {
    // The full stop is the next character after the dash: together they are a range of the primary key.
    // Numbered in that order with as many digits each, so that ids and certificates come in the order of their indexes. A certificate
    // that stands there with several versions is told of once, by its key.
    const SQL: &str = "INSERT INTO notification_events (id, type, certificate_id, channel, recipient, message, status, dedupe_key, created_at) \
        SELECT $2 || '-' || (1000000000 + row_number() OVER (ORDER BY r.id)), 'Revocation', c.id, 'Email', COALESCE(NULLIF(o.email, ''), o.id), \
            'Certificate ' || c.name || ' was revoked (' || $3 || ')', 'pending', 'revoked:' || c.id, $4 \
        FROM certificate_revocations r JOIN managed_certificates c ON c.id = r.certificate_id JOIN owners o ON o.id = c.owner_id \
        WHERE r.id > $1 || '-' AND r.id < $1 || '.' \
        ON CONFLICT (dedupe_key) DO NOTHING";
    let sql = dialect(conn, SQL);
    Ok(on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(batch)
        .bind::<Text, _>(NotificationId::generate(now).as_str())
        .bind::<Text, _>(reason.as_str())
        .bind::<UtcTimestamp, _>(At(now))
        .prepared()
        .execute(c)
        .await)?)
}

/// What to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct NotificationFilter {
    /// Only in this state.
    pub status: Option<NotificationStatus>,
    /// Only of this kind.
    pub kind: Option<NotificationType>,
    /// Only by this way.
    pub channel: Option<NotificationChannel>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = notification_events, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct NotificationRow {
    id: String,
    kind: String,
    certificate_id: Option<String>,
    channel: String,
    recipient: String,
    message: String,
    sent_at: Option<At>,
    status: String,
    error: Option<String>,
    retry_count: i32,
    next_retry_at: Option<At>,
    last_error: Option<String>,
    created_at: At,
}

impl TryFrom<NotificationRow> for Notification {
    type Error = Error;

    fn try_from(row: NotificationRow) -> Result<Self, Error> {
        let corrupt = |error: UnknownValue| Error::corrupt("notification_events", error);
        Ok(Self {
            id: NotificationId::from_stored(row.id),
            kind: NotificationType::parse(&row.kind).map_err(corrupt)?,
            certificate_id: row.certificate_id.map(CertificateId::from_stored),
            channel: NotificationChannel::parse(&row.channel).map_err(corrupt)?,
            recipient: row.recipient,
            message: row.message,
            sent_at: time(row.sent_at),
            status: NotificationStatus::parse(&row.status).map_err(corrupt)?,
            error: row.error,
            retry_count: u32::try_from(row.retry_count).unwrap_or(0),
            next_retry_at: time(row.next_retry_at),
            last_error: row.last_error,
            created_at: row.created_at.0,
        })
    }
}

impl NotificationFilter {
    /// Whether it leaves nothing out.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

macro_rules! filtered {
    ($filter:expr) => {{
        use notification_events as n;
        let mut query = n::table.into_boxed();
        if let Some(status) = $filter.status {
            query = query.filter(n::status.eq(status.as_str()));
        }
        if let Some(kind) = $filter.kind {
            query = query.filter(n::kind.eq(kind.as_str()));
        }
        if let Some(channel) = $filter.channel {
            query = query.filter(n::channel.eq(channel.as_str()));
        }
        query
    }};
}

/// Reads one page, last sent first and what is not sent at the end, with the count of all matches.
///
/// # Errors
/// What the database says.
pub async fn list(
    conn: &mut Conn,
    filter: NotificationFilter,
    page: PageRequest,
) -> Result<Page<Notification>, Error> {
    Ok(Page {
        rows: list_page(conn, filter, page).await?,
        total: count(conn, filter).await?,
    })
}

/// Reads the rows of one page, last sent first and what is not sent at the end.
///
/// # Errors
/// What the database says.
pub async fn list_page(
    conn: &mut Conn,
    filter: NotificationFilter,
    page: PageRequest,
) -> Result<Vec<Notification>, Error> {
    // diesel has NULLS LAST for one of the two only; both read it.
    let order = || diesel::dsl::sql::<Bool>("sent_at DESC NULLS LAST, created_at DESC, id DESC");
    let rows: Vec<NotificationRow> = on_conn!(conn, c => filtered!(filter)
        .select(NotificationRow::as_select())
        .order(order())
        .limit(page.limit())
        .offset(page.offset())
        .load(c)
        .await)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Counts all matches: kept where nothing is filtered.
///
/// # Errors
/// What the database says.
pub async fn count(conn: &mut Conn, filter: NotificationFilter) -> Result<i64, Error> {
    if filter.is_everything() {
        return totals::of(conn, Counted::Notifications).await;
    }
    Ok(on_conn!(conn, c => filtered!(filter).count().get_result(c).await)?)
}

/// Reads a notification.
///
/// # Errors
/// [`Error::NotFound`] when there is none.
pub async fn find(conn: &mut Conn, id: &NotificationId) -> Result<Notification, Error> {
    let row: NotificationRow = on_conn!(conn, c => notification_events::table
        .find(id.as_str())
        .select(NotificationRow::as_select())
        .first(c)
        .await)?;
    row.try_into()
}

/// Notes that an operator has seen it, whatever state it is in; false when that was noted before.
///
/// # Errors
/// [`Error::NotFound`] when there is none.
pub async fn mark_read(conn: &mut Conn, id: &NotificationId) -> Result<bool, Error> {
    use notification_events as n;
    let unread = n::table.find(id.as_str()).filter(n::status.ne("read"));
    let changed = on_conn!(conn, c => diesel::update(unread)
        .set((n::status.eq("read"), n::next_retry_at.eq(None::<At>)))
        .execute(c)
        .await)?;
    if changed == 0 {
        find(conn, id).await?;
    }
    Ok(changed > 0)
}

/// Has it sent again, from the first attempt on; false when its state does not admit that (model §5.4).
///
/// # Errors
/// [`Error::NotFound`] when there is none.
pub async fn requeue(conn: &mut Conn, id: &NotificationId) -> Result<bool, Error> {
    use notification_events as n;
    let states: Vec<&str> = NotificationStatus::ALL
        .iter()
        .filter(|status| status.may_requeue())
        .map(|status| status.as_str())
        .collect();
    let waiting = n::table.find(id.as_str()).filter(n::status.eq_any(states));
    let changed = on_conn!(conn, c => diesel::update(waiting)
        .set((
            n::status.eq("pending"),
            n::retry_count.eq(0),
            n::next_retry_at.eq(None::<At>),
            n::error.eq(None::<String>),
            n::last_error.eq(None::<String>),
        ))
        .execute(c)
        .await)?;
    if changed == 0 {
        find(conn, id).await?;
    }
    Ok(changed > 0)
}

/// When certificates of one policy are told of by one channel: those that end after `after` and not after `until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiryWindow {
    /// The policy.
    pub policy_id: RenewalPolicyId,
    /// The days before the end that were crossed.
    pub threshold: u32,
    /// The way it goes.
    pub channel: NotificationChannel,
    /// Where the next tighter threshold begins.
    pub after: Timestamp,
    /// Where this threshold begins.
    pub until: Timestamp,
}

/// An expiry alert that was just written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiryAlert {
    /// The notification.
    pub id: NotificationId,
    /// Of which certificate.
    pub certificate_id: CertificateId,
    /// By which way.
    pub channel: NotificationChannel,
    /// The days before the end that were crossed.
    pub threshold: u32,
}

#[derive(QueryableByName)]
struct AlertRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    certificate_id: String,
    #[diesel(sql_type = Text)]
    channel: String,
    #[diesel(sql_type = Text)]
    dedupe_key: String,
}

/// Writes the alerts of all certificates within these windows that were not written before, at most `limit` of them: one for each
/// version, threshold and channel (model §5.4). One statement, whatever there is.
///
/// # Errors
/// What the database says.
pub async fn enqueue_expiry_alerts(
    conn: &mut Conn,
    windows: &[ExpiryWindow],
    limit: i64,
    now: Timestamp,
) -> Result<Vec<ExpiryAlert>, Error> {
    let columns = [
        ("id", "text"),
        ("policy", "text"),
        ("days", "bigint"),
        ("way", "text"),
        ("low", "timestamptz"),
        ("high", "timestamptz"),
    ];
    let rows = windows
        .iter()
        .map(|one| {
            json!({"id": NotificationId::generate(now).as_str(), "policy": one.policy_id.as_str(), "days": one.threshold,
                   "way": one.channel.as_str(), "low": moment(conn, one.after), "high": moment(conn, one.until)})
        })
        .collect();
    let batch = Batch::new(conn, &columns, rows);
    // The key of a certificate without any version is its own.
    let sql = batch.statement(
        conn,
        "WITH due AS (SELECT b.id, c.id AS cert, c.name, o.id AS owner, o.email, b.way, b.days, \
                'expiry:' || COALESCE((SELECT v.id FROM certificate_versions v WHERE v.certificate_id = c.id \
                    ORDER BY v.created_at DESC, v.id DESC LIMIT 1), c.id) || ':' || b.days || ':' || b.way AS dedupe \
            FROM {batch} JOIN managed_certificates c ON c.renewal_policy_id = b.policy \
                AND c.status IN ('Active', 'Expiring', 'Expired', 'RenewalInProgress', 'Failed') \
                AND c.expires_at > b.low AND c.expires_at <= b.high \
            JOIN owners o ON o.id = c.owner_id) \
         INSERT INTO notification_events (id, type, certificate_id, channel, recipient, message, status, dedupe_key, created_at) \
         SELECT id || '-' || row_number() OVER (), 'ExpirationWarning', cert, way, COALESCE(NULLIF(email, ''), owner), \
            'Certificate ' || name || CASE WHEN days = 0 THEN ' has expired' ELSE ' expires within ' || days || ' days' END \
                || ' [threshold:' || days || ']', 'pending', dedupe, $2 \
         FROM due WHERE NOT EXISTS (SELECT 1 FROM notification_events n WHERE n.dedupe_key = due.dedupe) LIMIT $3 \
         ON CONFLICT (dedupe_key) DO NOTHING RETURNING id, certificate_id, channel, dedupe_key",
    );
    let rows: Vec<AlertRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<JsonDoc, _>(&batch.rows)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<BigInt, _>(limit)
        .prepared()
        .load(c)
        .await)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

impl TryFrom<AlertRow> for ExpiryAlert {
    type Error = Error;

    fn try_from(row: AlertRow) -> Result<Self, Error> {
        let corrupt = |error: UnknownValue| Error::corrupt("notification_events", error);
        Ok(Self {
            id: NotificationId::from_stored(row.id),
            certificate_id: CertificateId::from_stored(row.certificate_id),
            channel: NotificationChannel::parse(&row.channel).map_err(corrupt)?,
            // The key was just written as `expiry:<version>:<days>:<channel>`.
            threshold: row
                .dedupe_key
                .rsplit(':')
                .nth(1)
                .and_then(|days| days.parse().ok())
                .unwrap_or_default(),
        })
    }
}

/// Alerts that go no way: when certificates of one policy would be told of, and why they are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedWindow {
    /// The policy.
    pub policy_id: RenewalPolicyId,
    /// The days before the end that were crossed.
    pub threshold: u32,
    /// The place of what is wrong among all that is wrong of this threshold.
    pub number: usize,
    /// The action of the audit row.
    pub action: &'static str,
    /// The channel that there is not, where that is what is wrong.
    pub channel: Option<String>,
    /// Certificates that end after this,
    pub after: Timestamp,
    /// and not after this.
    pub until: Timestamp,
}

/// Writes an audit row of each alert within these windows that goes no way, at most `limit` of them, once for each version,
/// threshold and reason (scheduler §4.1): their ids say of what they are. Returns their thresholds.
///
/// # Errors
/// What the database says.
pub async fn record_skipped(
    conn: &mut Conn,
    windows: &[SkippedWindow],
    limit: i64,
    now: Timestamp,
) -> Result<Vec<u32>, Error> {
    #[derive(QueryableByName)]
    struct IdRow {
        #[diesel(sql_type = Text)]
        id: String,
    }
    let columns = [
        ("policy", "text"),
        ("days", "bigint"),
        ("place", "bigint"),
        ("action", "text"),
        ("way", "text"),
        ("low", "timestamptz"),
        ("high", "timestamptz"),
    ];
    let rows = windows
        .iter()
        .map(|one| {
            json!({"policy": one.policy_id.as_str(), "days": one.threshold, "place": one.number, "action": one.action,
                   "way": one.channel, "low": moment(conn, one.after), "high": moment(conn, one.until)})
        })
        .collect();
    let batch = Batch::new(conn, &columns, rows);
    let object = match conn {
        Conn::Postgres(_) => "jsonb_build_object",
        Conn::Sqlite(_) => "json_object",
    };
    // Audit rows are never replaced, not even by themselves, so those that are there are left out beforehand. Of two replicas at
    // the same moment the second one finds the conflict.
    let sql = batch.statement(
        conn,
        "WITH due AS (SELECT c.id AS cert, b.days, b.action, b.way, 'audit-unalerted-' || \
                COALESCE((SELECT v.id FROM certificate_versions v WHERE v.certificate_id = c.id \
                    ORDER BY v.created_at DESC, v.id DESC LIMIT 1), c.id) || '-' || b.place || '-' || b.days AS id \
            FROM {batch} JOIN managed_certificates c ON c.renewal_policy_id = b.policy \
                AND c.status IN ('Active', 'Expiring', 'Expired', 'RenewalInProgress', 'Failed') \
                AND c.expires_at > b.low AND c.expires_at <= b.high) \
         INSERT INTO audit_events (id, actor, actor_type, action, resource_type, resource_id, details, timestamp, event_category) \
         SELECT id, 'system', 'System', action, 'certificate', cert, \
            {object}('threshold_days', days, 'channel', way), $2, 'cert_lifecycle' \
         FROM due WHERE NOT EXISTS (SELECT 1 FROM audit_events e WHERE e.id = due.id) LIMIT $3 \
         ON CONFLICT DO NOTHING RETURNING id",
    )
    .replace("{object}", object);
    let rows: Vec<IdRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<JsonDoc, _>(&batch.rows)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<BigInt, _>(limit)
        .prepared()
        .load(c)
        .await)?;
    Ok(rows
        .iter()
        .filter_map(|row| row.id.rsplit('-').next()?.parse().ok())
        .collect())
}
