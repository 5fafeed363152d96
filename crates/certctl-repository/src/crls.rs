//! Revocation lists as they are kept, and who makes the next.
//!
//! One replica at a time makes the lists of an issuer: it claims the making in one short transaction, which also gives the list its
//! number, reads and signs outside of any transaction, and stores the result in another. A number is used up whether or not a
//! list comes of it, so that numbers never go back and no two lists share one, whoever dies when.

use std::time::Duration;

use certctl_domain::{
    id::IssuerId,
    issuer::IssuerType,
    revocation::{RevocationReason, Shard},
    serial::SerialNumber,
    time::Timestamp,
};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    prepared::Prepare as _,
    revocations::describe,
    schema::{crl_cache, crl_generation_events, issuers, revocation_status},
    types::{At, Json, UtcTimestamp, at},
};

/// What the table says of an issuer, without the lists themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerStatus {
    /// Which issuer.
    pub issuer_id: IssuerId,
    /// Grows with every transaction that revokes something.
    pub version: i64,
    /// The version the latest list covers.
    pub listed_version: i64,
    /// The number of the latest list; none when there is none.
    pub crl_number: Option<i64>,
}

/// What is known of every issuer of which something was ever revoked or listed: one small row for each.
///
/// # Errors
/// What the database says.
pub async fn statuses(conn: &mut Conn) -> Result<Vec<IssuerStatus>, Error> {
    use revocation_status as s;
    let rows: Vec<(String, i64, i64, Option<i64>)> = on_conn!(conn, c => s::table
        .left_join(crl_cache::table.on(crl_cache::issuer_id.eq(s::issuer_id).and(crl_cache::shard.eq(""))))
        .select((s::issuer_id, s::version, s::listed_version, crl_cache::crl_number.nullable()))
        .load(c)
        .await)?;
    Ok(rows
        .into_iter()
        .map(|(id, version, listed_version, crl_number)| IssuerStatus {
            issuer_id: IssuerId::from_stored(id),
            version,
            listed_version,
            crl_number,
        })
        .collect())
}

/// The issuers of a kind, in the order of their ids.
///
/// # Errors
/// What the database says.
pub async fn issuers_of(conn: &mut Conn, kind: IssuerType) -> Result<Vec<IssuerId>, Error> {
    let ids: Vec<String> = on_conn!(conn, c => issuers::table
        .filter(issuers::kind.eq(kind.as_str()))
        .order(issuers::id)
        .select(issuers::id)
        .load(c)
        .await)?;
    Ok(ids.into_iter().map(IssuerId::from_stored).collect())
}

/// A list as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCrl {
    /// The list as DER.
    pub der: Vec<u8>,
    /// Its number.
    pub number: i64,
    /// When it was made.
    pub this_update: Timestamp,
    /// When there will be a newer one.
    pub next_update: Timestamp,
}

/// Reads a list: of everything, or of a part.
///
/// # Errors
/// What the database says.
pub async fn find(
    conn: &mut Conn,
    issuer: &IssuerId,
    shard: Option<Shard>,
) -> Result<Option<StoredCrl>, Error> {
    use crl_cache as k;
    let shard = shard_name(shard);
    let row: Option<(Vec<u8>, i64, At, At)> = on_conn!(conn, c => k::table
        .find((issuer.as_str(), &shard))
        .select((k::crl_der, k::crl_number, k::this_update, k::next_update))
        .first(c)
        .await
        .optional())?;
    Ok(
        row.map(|(der, number, this_update, next_update)| StoredCrl {
            der,
            number,
            this_update: this_update.0,
            next_update: next_update.0,
        }),
    )
}

fn shard_name(shard: Option<Shard>) -> String {
    shard.map_or_else(String::new, |shard| shard.to_string())
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The lists are as they should be.
    NotDue,
    /// Another replica makes them now.
    Busy,
    /// The caller makes them.
    Yours(Claim),
}

/// The right to make the next lists of an issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Their number.
    pub number: i64,
    /// The version they will cover.
    pub version: i64,
    /// Every number of shards that certificates may point at.
    pub shard_counts: Vec<u16>,
    /// When the list before was made: what had ended by then was on it, and need not be on the next (RFC 5280 §3.3).
    pub previous: Option<Timestamp>,
    /// How many entries that had.
    pub expected: i64,
}

/// Claims the making of the lists of an issuer, if they are due: something was revoked since, there is none, the last was made
/// before `older_than`, or `shards` is a number of parts that there were not. The claim holds until `until`.
///
/// # Errors
/// [`Error::Reference`] when there is no such issuer.
pub async fn claim(
    conn: &mut Conn,
    issuer: &IssuerId,
    shards: u16,
    older_than: Timestamp,
    until: Timestamp,
    now: Timestamp,
) -> Result<Claimed, Error> {
    use revocation_status as s;
    let row = (s::issuer_id.eq(issuer.as_str()), s::updated_at.eq(At(now)));
    on_conn!(conn, c => diesel::insert_into(s::table).values(row).on_conflict_do_nothing().execute(c).await)?;
    // Whoever revokes holds this row until it has committed, so that everything up to the version read here is there to be seen.
    let row = s::table.find(issuer.as_str()).select((
        s::version,
        s::listed_version,
        s::crl_number,
        s::generating_until,
        s::shard_counts,
    ));
    let (version, listed, number, busy, counts): (i64, i64, i64, Option<At>, Json) = on_conn!(conn,
        pg c => row.for_update().first(c).await,
        sqlite c => row.first(c).await,
    )?;
    let last: Option<(At, At, i64)> = on_conn!(conn, c => crl_cache::table
        .find((issuer.as_str(), ""))
        .select((crl_cache::this_update, crl_cache::generated_at, crl_cache::revoked_count))
        .first(c)
        .await
        .optional())?;
    let mut shard_counts: Vec<u16> = serde_json::from_value(counts.0)
        .map_err(|error| Error::corrupt("revocation_status", error))?;
    let is_split_anew = shards >= 2 && !shard_counts.contains(&shards);
    let is_old = last.is_none_or(|(_, generated_at, _)| generated_at.0 < older_than);
    if version <= listed && !is_old && !is_split_anew {
        return Ok(Claimed::NotDue);
    }
    if busy.is_some_and(|until| until.0 > now) {
        return Ok(Claimed::Busy);
    }
    if is_split_anew {
        shard_counts.push(shards);
    }
    // Rows that others wrote straight into the table do not say when they end.
    describe(conn, issuer.as_str()).await?;
    let changes = (
        s::crl_number.eq(number + 1),
        s::generating_until.eq(at(Some(until))),
        s::shard_counts.eq(Json(serde_json::json!(shard_counts))),
    );
    on_conn!(conn, c => diesel::update(s::table.find(issuer.as_str())).set(changes).execute(c).await)?;
    Ok(Claimed::Yours(Claim {
        number: number + 1,
        version,
        shard_counts,
        previous: last.as_ref().map(|(this_update, ..)| this_update.0),
        expected: last.map_or(0, |(.., count)| count),
    }))
}

/// A revoked serial for a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEntry {
    /// The serial.
    pub serial: SerialNumber,
    /// When it was revoked.
    pub revoked_at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
    /// When it may leave the lists.
    pub listed_until: Timestamp,
}

/// Up to where the entries of a list have been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    listed_until: Timestamp,
    serial: String,
}

impl Position {
    /// The first entry of those that ended, or were revoked, at a time or later; none means the first of all.
    #[must_use]
    pub fn start(since: Option<Timestamp>) -> Self {
        Self {
            listed_until: since.unwrap_or(Timestamp::UNIX_EPOCH),
            // Less than every serial.
            serial: String::new(),
        }
    }

    /// Behind an entry.
    #[must_use]
    pub fn behind(entry: &ListEntry) -> Self {
        Self {
            listed_until: entry.listed_until,
            serial: entry.serial.to_string(),
        }
    }
}

#[derive(QueryableByName)]
struct EntryRow {
    #[diesel(sql_type = Text)]
    serial_number: String,
    #[diesel(sql_type = Text)]
    reason: String,
    #[diesel(sql_type = UtcTimestamp)]
    revoked_at: At,
    #[diesel(sql_type = UtcTimestamp)]
    listed_until: At,
}

/// Reads the entries of a list behind a position, in the order in which they leave the lists, at most `limit`. What left before is
/// passed over without being read, and short-lived ones are not among them. [`claim`] has seen to it that every row says when it
/// leaves; a row that comes later makes the next list due.
///
/// # Errors
/// What the database says.
pub async fn entries(
    conn: &mut Conn,
    issuer: &IssuerId,
    after: &Position,
    limit: i64,
) -> Result<Vec<ListEntry>, Error> {
    let sql = crate::db::dialect(
        conn,
        "SELECT serial_number, reason, revoked_at, listed_until FROM certificate_revocations \
         WHERE issuer_id = $1 AND (listed_until, serial_number) > ($2, $3) AND listed_until IS NOT NULL \
         ORDER BY listed_until, serial_number LIMIT $4",
    );
    let rows: Vec<EntryRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(issuer.as_str())
        .bind::<UtcTimestamp, _>(At(after.listed_until))
        .bind::<Text, _>(&after.serial)
        .bind::<BigInt, _>(limit)
        .prepared()
        .load(c)
        .await)?;
    rows.into_iter()
        .map(|row| {
            let corrupt = |error: Box<dyn std::error::Error + Send + Sync>| {
                Error::corrupt("certificate_revocations", error)
            };
            let serial = SerialNumber::parse(&row.serial_number);
            let reason = RevocationReason::parse(&row.reason);
            Ok(ListEntry {
                serial: serial.map_err(|error| corrupt(error.into()))?,
                revoked_at: row.revoked_at.0,
                reason: reason.map_err(|error| corrupt(error.into()))?,
                listed_until: row.listed_until.0,
            })
        })
        .collect()
}

/// A list that was made.
#[derive(Debug, Clone)]
pub struct NewCrl {
    /// Of which part; none for everything.
    pub shard: Option<Shard>,
    /// The list as DER.
    pub der: Vec<u8>,
    /// How many entries it has.
    pub revoked_count: i64,
}

/// When lists were made.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    /// Their thisUpdate.
    pub this_update: Timestamp,
    /// Their nextUpdate.
    pub next_update: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// When it was done.
    pub at: Timestamp,
}

/// Stores one of the lists of a claim, unless a newer one is there.
///
/// # Errors
/// What the database says.
pub async fn store(
    conn: &mut Conn,
    issuer: &IssuerId,
    number: i64,
    crl: &NewCrl,
    made: Made,
) -> Result<(), Error> {
    use crl_cache as k;
    let shard = shard_name(crl.shard);
    let values = || {
        (
            k::crl_der.eq(&crl.der),
            k::crl_number.eq(number),
            k::this_update.eq(At(made.this_update)),
            k::next_update.eq(At(made.next_update)),
            k::generated_at.eq(At(made.at)),
            k::generation_duration_ms.eq(millis(made.took)),
            k::revoked_count.eq(crl.revoked_count),
            k::updated_at.eq(At(made.at)),
        )
    };
    let older = k::table
        .find((issuer.as_str(), &shard))
        .filter(k::crl_number.lt(number));
    let changed = on_conn!(conn, c => diesel::update(older).set(values()).execute(c).await)?;
    if changed == 0 {
        let row = (
            k::issuer_id.eq(issuer.as_str()),
            k::shard.eq(&shard),
            k::created_at.eq(At(made.at)),
            values(),
        );
        on_conn!(conn, c => diesel::insert_into(k::table).values(row).on_conflict_do_nothing().execute(c).await)?;
    }
    Ok(())
}

/// What became of a claim, for the history.
#[derive(Debug, Clone)]
pub struct GenerationEvent {
    /// The number it had.
    pub crl_number: i64,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// Entries of the whole list.
    pub revoked_count: i64,
    /// What went wrong, if something did.
    pub error: Option<String>,
}

/// How much history there is of an issuer, in claims.
const HISTORY: i64 = 100;

/// Ends a claim: what it covered is noted when it succeeded, another may claim, and the history goes on.
///
/// # Errors
/// What the database says.
pub async fn end_claim(
    conn: &mut Conn,
    issuer: &IssuerId,
    claim: &Claim,
    event: &GenerationEvent,
) -> Result<(), Error> {
    use crl_generation_events as e;
    use revocation_status as s;
    if event.error.is_none() {
        let behind = s::table
            .find(issuer.as_str())
            .filter(s::listed_version.lt(claim.version));
        on_conn!(conn, c => diesel::update(behind).set(s::listed_version.eq(claim.version)).execute(c).await)?;
    }
    // A claim that ran out may be another's by now.
    let own = s::table
        .find(issuer.as_str())
        .filter(s::crl_number.eq(claim.number));
    on_conn!(conn, c => diesel::update(own).set(s::generating_until.eq(at(None))).execute(c).await)?;
    let row = (
        e::issuer_id.eq(issuer.as_str()),
        e::crl_number.eq(event.crl_number),
        e::started_at.eq(At(event.started_at)),
        e::duration_ms.eq(millis(event.took)),
        e::revoked_count.eq(event.revoked_count),
        e::succeeded.eq(event.error.is_none()),
        e::error.eq(&event.error),
    );
    on_conn!(conn, c => diesel::insert_into(e::table).values(row).on_conflict_do_nothing().execute(c).await)?;
    let old = e::table
        .filter(e::issuer_id.eq(issuer.as_str()))
        .filter(e::crl_number.le(claim.number - HISTORY));
    on_conn!(conn, c => diesel::delete(old).execute(c).await)?;
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What the table says of a whole list, without the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedCrl {
    /// Its number.
    pub number: i64,
    /// When it was made.
    pub this_update: Timestamp,
    /// When there will be a newer one.
    pub next_update: Timestamp,
    /// When it was stored.
    pub generated_at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
    /// How many entries it has.
    pub revoked_count: i64,
}

/// Reads what is known of the whole list of an issuer.
///
/// # Errors
/// What the database says.
pub async fn cached(conn: &mut Conn, issuer: &IssuerId) -> Result<Option<CachedCrl>, Error> {
    use crl_cache as k;
    let row: Option<(i64, At, At, At, i64, i64)> = on_conn!(conn, c => k::table
        .find((issuer.as_str(), ""))
        .select((k::crl_number, k::this_update, k::next_update, k::generated_at, k::generation_duration_ms, k::revoked_count))
        .first(c)
        .await
        .optional())?;
    Ok(row.map(
        |(number, this_update, next_update, generated_at, duration_ms, revoked_count)| CachedCrl {
            number,
            this_update: this_update.0,
            next_update: next_update.0,
            generated_at: generated_at.0,
            duration_ms,
            revoked_count,
        },
    ))
}

/// Reads the latest attempts at the lists of an issuer, newest first.
///
/// # Errors
/// What the database says.
pub async fn recent_events(
    conn: &mut Conn,
    issuer: &IssuerId,
    limit: i64,
) -> Result<Vec<GenerationEvent>, Error> {
    use crl_generation_events as e;
    let rows: Vec<(i64, At, i64, i64, Option<String>)> = on_conn!(conn, c => e::table
        .filter(e::issuer_id.eq(issuer.as_str()))
        .order(e::crl_number.desc())
        .limit(limit)
        .select((e::crl_number, e::started_at, e::duration_ms, e::revoked_count, e::error))
        .load(c)
        .await)?;
    Ok(rows
        .into_iter()
        .map(
            |(crl_number, started_at, duration_ms, revoked_count, error)| GenerationEvent {
                crl_number,
                started_at: started_at.0,
                took: Duration::from_millis(duration_ms.unsigned_abs()),
                revoked_count,
                error,
            },
        )
        .collect())
}
