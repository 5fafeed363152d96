//! Limits that replicas share: who took how many permits of a window, and how many tokens a bucket holds.
//!
//! The one place that goes by the clock of the database and not by a bound time (operations §4): replicas count together, and
//! their own clocks need not agree.

use std::time::Duration;

use certctl_domain::time::Timestamp;
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use crate::{
    Conn, Error,
    prepared::Prepare as _,
    types::{At, Json, JsonDoc, TextList, Texts, UtcTimestamp},
};

/// The channel on which a replica asks the others for permits that they hold and have not spent; the word is the bucket's key.
pub const RECALL_CHANNEL: &str = "certctl_rate_limits";

/// Rows that one statement of a sweep deletes at the most.
const SWEEP: i64 = 5000;

/// Permits that were taken out of a window together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// How many.
    pub permits: u32,
    /// When they count no more.
    pub frees_at: Timestamp,
    /// Who may still spend them; nobody when all are spent.
    pub lease: Option<Lease>,
}

/// The right of a replica to spend permits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The replica.
    pub holder: String,
    /// Until when; spent then at the latest, they count for a window more.
    pub until: Timestamp,
}

/// A window of a key, locked until its transaction ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// `<site>:<key>`.
    pub key: String,
    /// What was taken.
    pub slices: Vec<Slice>,
    /// The time of the database, read after the lock was taken: it never goes back from one holder of the lock to the next.
    pub now: Timestamp,
}

#[derive(QueryableByName)]
struct BucketRow {
    #[diesel(sql_type = Text)]
    bucket_key: String,
    #[diesel(sql_type = JsonDoc)]
    slices: Json,
    #[diesel(sql_type = UtcTimestamp)]
    updated_at: At,
}

/// The time of SQLite in microseconds.
macro_rules! sqlite_now {
    () => {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    };
}

/// Locks the windows of keys, makes those that are missing, and reads them: one statement. Keys are locked in their order, so
/// that two replicas never wait for each other.
///
/// # Errors
/// [`Error::Corrupt`] for slices no version writes, and what the database says.
pub async fn lock(conn: &mut Conn, keys: &[(String, &'static str)]) -> Result<Vec<Bucket>, Error> {
    const POSTGRES: &str = "INSERT INTO rate_limit_buckets AS b (bucket_key, site, slices, updated_at, expires_at) \
        SELECT x.k, x.s, '[]', clock_timestamp(), clock_timestamp() FROM jsonb_to_recordset($1) AS x(k text, s text) ORDER BY x.k COLLATE \"C\" \
        ON CONFLICT (bucket_key) DO UPDATE SET updated_at = GREATEST(b.updated_at, clock_timestamp()) \
        RETURNING bucket_key, slices, updated_at";
    const SQLITE: &str = concat!(
        "INSERT INTO rate_limit_buckets (bucket_key, site, slices, updated_at, expires_at) \
            SELECT json_extract(x.value, '$.k'), json_extract(x.value, '$.s'), '[]', ",
        sqlite_now!(),
        ", ",
        sqlite_now!(),
        " FROM json_each(?1) AS x WHERE true \
            ON CONFLICT (bucket_key) DO UPDATE SET updated_at = max(updated_at, excluded.updated_at) \
            RETURNING bucket_key, slices, updated_at"
    );
    let asked = keys
        .iter()
        .map(|(key, site)| json!({"k": key, "s": site}))
        .collect();
    let asked = Json(Value::Array(asked));
    let rows: Vec<BucketRow> = on_conn!(conn,
        pg c => diesel::sql_query(POSTGRES).bind::<JsonDoc, _>(asked).prepared().load(c).await,
        sqlite c => diesel::sql_query(SQLITE).bind::<JsonDoc, _>(asked).prepared().load(c).await,
    )?;
    rows.into_iter()
        .map(|row| {
            Ok(Bucket {
                key: row.bucket_key,
                slices: read(&row.slices.0)?,
                now: row.updated_at.0,
            })
        })
        .collect()
}

/// Writes the windows of keys that this transaction has locked: one statement.
///
/// # Errors
/// What the database says.
pub async fn store(conn: &mut Conn, buckets: &[Bucket]) -> Result<(), Error> {
    const POSTGRES: &str = "UPDATE rate_limit_buckets b SET slices = x.v, \
        expires_at = TIMESTAMPTZ 'epoch' + x.e * INTERVAL '1 microsecond' \
        FROM jsonb_to_recordset($1) AS x(k text, v jsonb, e bigint) WHERE b.bucket_key = x.k";
    const SQLITE: &str = "UPDATE rate_limit_buckets SET slices = json_extract(x.value, '$.v'), \
        expires_at = json_extract(x.value, '$.e') \
        FROM json_each(?1) AS x WHERE bucket_key = json_extract(x.value, '$.k')";
    let rows = buckets.iter().map(|bucket| {
        let last = bucket.slices.iter().map(|slice| slice.frees_at).max();
        let expires = last.unwrap_or(bucket.now).as_micros();
        json!({"k": bucket.key, "v": written(&bucket.slices), "e": expires})
    });
    let rows = Json(Value::Array(rows.collect()));
    on_conn!(conn,
        pg c => diesel::sql_query(POSTGRES).bind::<JsonDoc, _>(rows).prepared().execute(c).await,
        sqlite c => diesel::sql_query(SQLITE).bind::<JsonDoc, _>(rows).prepared().execute(c).await,
    )?;
    Ok(())
}

/// Asks the other replicas for what they hold of these keys and have not spent, when the transaction commits. SQLite has one
/// process, which holds everything itself.
///
/// # Errors
/// What the database says.
pub async fn recall(conn: &mut Conn, keys: Vec<String>) -> Result<(), Error> {
    if let Conn::Postgres(object) = conn {
        diesel::sql_query("SELECT pg_notify($1, x) FROM unnest($2) AS x")
            .bind::<Text, _>(RECALL_CHANNEL)
            .bind::<TextList, _>(Texts(keys))
            .prepared()
            .execute(&mut **object)
            .await?;
    }
    Ok(())
}

/// Tokens that a replica spent of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debit {
    /// The bucket.
    pub key: String,
    /// Tokens spent.
    pub spent: u32,
    /// Millionths of a token that a full bucket holds.
    pub burst: i64,
    /// Thousandths of a token that come in each second.
    pub per_second: i64,
}

#[derive(QueryableByName)]
struct BalanceRow {
    #[diesel(sql_type = Text)]
    bucket_key: String,
    #[diesel(sql_type = BigInt)]
    tokens: i64,
}

/// Fills buckets up to now and takes what was spent; says what each holds then, in millionths of a token: one statement.
///
/// # Errors
/// What the database says.
pub async fn debit(conn: &mut Conn, debits: &[Debit]) -> Result<Vec<(String, i64)>, Error> {
    const POSTGRES: &str = "INSERT INTO rate_limit_tokens AS t (bucket_key, tokens, burst, per_second, updated_at) \
        SELECT x.k, GREATEST(-x.b, x.b - x.s), x.b, x.r, clock_timestamp() \
        FROM jsonb_to_recordset($1) AS x(k text, s bigint, b bigint, r bigint) ORDER BY x.k COLLATE \"C\" \
        ON CONFLICT (bucket_key) DO UPDATE SET \
            tokens = GREATEST(-excluded.burst, excluded.tokens - excluded.burst + LEAST(excluded.burst::numeric, t.tokens \
                + GREATEST(0, EXTRACT(EPOCH FROM clock_timestamp() - t.updated_at)) * excluded.per_second * 1000))::bigint, \
            burst = excluded.burst, per_second = excluded.per_second, updated_at = GREATEST(t.updated_at, clock_timestamp()) \
        RETURNING bucket_key, tokens";
    const SQLITE: &str = concat!(
        "INSERT INTO rate_limit_tokens AS t (bucket_key, tokens, burst, per_second, updated_at) \
            SELECT json_extract(x.value, '$.k'), max(-json_extract(x.value, '$.b'), json_extract(x.value, '$.b') - json_extract(x.value, '$.s')), \
                json_extract(x.value, '$.b'), json_extract(x.value, '$.r'), ",
        sqlite_now!(),
        " FROM json_each(?1) AS x WHERE true \
            ON CONFLICT (bucket_key) DO UPDATE SET \
                tokens = CAST(max(-excluded.burst, excluded.tokens - excluded.burst + min(excluded.burst, t.tokens \
                    + max(0, excluded.updated_at - t.updated_at) * (excluded.per_second / 1000.0))) AS INTEGER), \
                burst = excluded.burst, per_second = excluded.per_second, updated_at = max(t.updated_at, excluded.updated_at) \
            RETURNING bucket_key, tokens"
    );
    let rows = debits.iter().map(|debit| {
        let spent = i64::from(debit.spent) * 1_000_000;
        json!({"k": debit.key, "s": spent, "b": debit.burst, "r": debit.per_second})
    });
    let rows = Json(Value::Array(rows.collect()));
    let rows: Vec<BalanceRow> = on_conn!(conn,
        pg c => diesel::sql_query(POSTGRES).bind::<JsonDoc, _>(rows).prepared().load(c).await,
        sqlite c => diesel::sql_query(SQLITE).bind::<JsonDoc, _>(rows).prepared().load(c).await,
    )?;
    Ok(rows
        .into_iter()
        .map(|row| (row.bucket_key, row.tokens))
        .collect())
}

/// Deletes windows in which nothing counts any more, at most 5,000; the count tells whether there may be more.
///
/// # Errors
/// What the database says.
pub async fn sweep(conn: &mut Conn) -> Result<usize, Error> {
    const POSTGRES: &str = "DELETE FROM rate_limit_buckets WHERE bucket_key IN \
        (SELECT bucket_key FROM rate_limit_buckets WHERE expires_at < clock_timestamp() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED) \
        AND expires_at < clock_timestamp()";
    const SQLITE: &str = concat!(
        "DELETE FROM rate_limit_buckets WHERE bucket_key IN (SELECT bucket_key FROM rate_limit_buckets WHERE expires_at < ",
        sqlite_now!(),
        " ORDER BY expires_at LIMIT ?1)"
    );
    Ok(on_conn!(conn,
        pg c => diesel::sql_query(POSTGRES).bind::<BigInt, _>(SWEEP).prepared().execute(c).await,
        sqlite c => diesel::sql_query(SQLITE).bind::<BigInt, _>(SWEEP).prepared().execute(c).await,
    )?)
}

/// Deletes the windows of a site beyond as many keys, at most 5,000: those whose last permit counts no more first.
///
/// # Errors
/// What the database says.
pub async fn sweep_beyond(conn: &mut Conn, site: &str, keys: usize) -> Result<usize, Error> {
    const SQL: &str = "DELETE FROM rate_limit_buckets WHERE bucket_key IN \
        (SELECT bucket_key FROM rate_limit_buckets WHERE site = $1 ORDER BY expires_at DESC LIMIT $2 OFFSET $3)";
    let sql = crate::db::dialect(conn, SQL);
    let keys = i64::try_from(keys).unwrap_or(i64::MAX);
    Ok(on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(site)
        .bind::<BigInt, _>(SWEEP)
        .bind::<BigInt, _>(keys)
        .prepared()
        .execute(c)
        .await)?)
}

/// Deletes buckets that nobody took from for as long and that are full again, at most 5,000: a bucket that is missing is full.
///
/// # Errors
/// What the database says.
pub async fn sweep_tokens(conn: &mut Conn, idle: Duration) -> Result<usize, Error> {
    const POSTGRES: &str = "DELETE FROM rate_limit_tokens WHERE bucket_key IN (SELECT bucket_key FROM rate_limit_tokens \
        WHERE updated_at < clock_timestamp() - $1 * INTERVAL '1 microsecond' \
            AND tokens + EXTRACT(EPOCH FROM clock_timestamp() - updated_at) * per_second * 1000 >= burst \
        ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
    const SQLITE: &str = concat!(
        "DELETE FROM rate_limit_tokens WHERE bucket_key IN (SELECT bucket_key FROM rate_limit_tokens WHERE updated_at < ",
        sqlite_now!(),
        " - ?1 AND tokens + (",
        sqlite_now!(),
        " - updated_at) * (per_second / 1000.0) >= burst ORDER BY updated_at LIMIT ?2)"
    );
    let idle = i64::try_from(idle.as_micros()).unwrap_or(i64::MAX);
    Ok(on_conn!(conn,
        pg c => diesel::sql_query(POSTGRES).bind::<BigInt, _>(idle).bind::<BigInt, _>(SWEEP).prepared().execute(c).await,
        sqlite c => diesel::sql_query(SQLITE).bind::<BigInt, _>(idle).bind::<BigInt, _>(SWEEP).prepared().execute(c).await,
    )?)
}

fn written(slices: &[Slice]) -> Value {
    let rows = slices.iter().map(|slice| match &slice.lease {
        Some(lease) => json!({
            "n": slice.permits, "f": slice.frees_at.as_micros(), "h": lease.holder, "l": lease.until.as_micros(),
        }),
        None => json!({"n": slice.permits, "f": slice.frees_at.as_micros()}),
    });
    Value::Array(rows.collect())
}

fn read(stored: &Value) -> Result<Vec<Slice>, Error> {
    let slice = |row: &Value| {
        let lease = match (row["h"].as_str(), row["l"].as_i64()) {
            (Some(holder), Some(until)) => Some(Lease {
                holder: holder.to_owned(),
                until: Timestamp::from_micros(until),
            }),
            _ => None,
        };
        Some(Slice {
            permits: row["n"].as_u64()?.try_into().ok()?,
            frees_at: Timestamp::from_micros(row["f"].as_i64()?),
            lease,
        })
    };
    let rows = stored.as_array().map(Vec::as_slice);
    rows.and_then(|rows| rows.iter().map(slice).collect())
        .ok_or_else(|| Error::corrupt("rate_limit_buckets", "slices"))
}
