//! Names whose proof fails again and again for an account, until no order may have them.

use certctl_domain::{
    acme::{AcmeAccountId, Identifier},
    page::{Page, PageRequest},
    time::Timestamp,
};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Integer, Text},
};
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    db::dialect,
    prepared::{Prepare as _, one_of},
    schema::acme_failing_names,
    types::{At, UtcTimestamp},
};

/// A name that no order of an account may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PausedName {
    /// Whose orders.
    pub account_id: AcmeAccountId,
    /// Which name.
    pub identifier: Identifier,
    /// How often its proof failed since it last went well.
    pub failures: u32,
    /// When it last failed.
    pub last_failed_at: Timestamp,
    /// Since when it is paused.
    pub paused_at: Timestamp,
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = Integer)]
    failures: i32,
}

/// Counts a failure; from `pause_after` in a row on, the name is paused. Returns how many there were.
///
/// # Errors
/// What the database says.
pub async fn count(
    conn: &mut Conn,
    account: &AcmeAccountId,
    identifier: &Identifier,
    pause_after: u32,
    now: Timestamp,
) -> Result<u32, Error> {
    let sql = dialect(
        conn,
        "INSERT INTO acme_failing_names AS f (account_id, identifier_type, identifier_value, failures, last_failed_at, paused_at) \
         VALUES ($1, $2, $3, 1, $4, CASE WHEN $5 <= 1 THEN $4 END) \
         ON CONFLICT (account_id, identifier_type, identifier_value) DO UPDATE SET failures = f.failures + 1, \
            last_failed_at = excluded.last_failed_at, \
            paused_at = COALESCE(f.paused_at, CASE WHEN f.failures + 1 >= $5 THEN excluded.last_failed_at END) \
         RETURNING failures",
    );
    let limit = i32::try_from(pause_after).unwrap_or(i32::MAX);
    let rows: Vec<Counted> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(account.as_str())
        .bind::<Text, _>(identifier.identifier_type().as_str())
        .bind::<Text, _>(identifier.to_string())
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<Integer, _>(limit)
        .prepared()
        .load(c)
        .await)?;
    let counted = rows.into_iter().next();
    Ok(counted.map_or(0, |row| row.failures.unsigned_abs()))
}

/// Forgets the failures of a name, because it was proved.
///
/// # Errors
/// What the database says.
pub async fn forget(
    conn: &mut Conn,
    account: &AcmeAccountId,
    identifier: &Identifier,
) -> Result<usize, Error> {
    let key = (
        account.as_str(),
        identifier.identifier_type().as_str(),
        identifier.to_string(),
    );
    Ok(on_conn!(conn, c => diesel::delete(acme_failing_names::table.find(key)).execute(c).await)?)
}

/// Lets an account have all names again. Returns how many were paused.
///
/// # Errors
/// What the database says.
pub async fn forget_all(conn: &mut Conn, account: &AcmeAccountId) -> Result<usize, Error> {
    use acme_failing_names as f;
    let of = f::table
        .filter(f::account_id.eq(account.as_str()))
        .filter(f::paused_at.is_not_null());
    Ok(on_conn!(conn, c => diesel::delete(of).execute(c).await)?)
}

/// Those of these pairs of account and name that are paused.
///
/// # Errors
/// [`Error::Corrupt`] for a name no program writes.
pub async fn paused(
    conn: &mut Conn,
    accounts: &[AcmeAccountId],
    names: &[String],
) -> Result<Vec<(AcmeAccountId, Identifier)>, Error> {
    use acme_failing_names as f;
    if accounts.is_empty() || names.is_empty() {
        return Ok(Vec::new());
    }
    let accounts: Vec<&str> = accounts.iter().map(AcmeAccountId::as_str).collect();
    let rows: Vec<(String, String, String)> = on_conn!(conn, c => f::table
        .filter(one_of(f::account_id, &accounts))
        .filter(one_of(f::identifier_value, names))
        .filter(f::paused_at.is_not_null())
        .select((f::account_id, f::identifier_type, f::identifier_value))
        .load(c)
        .await)?;
    rows.into_iter()
        .map(|(account, kind, value)| {
            Ok((AcmeAccountId::from_stored(account), read(&kind, &value)?))
        })
        .collect()
}

/// Reads one page of paused names, the latest first, and their count.
///
/// # Errors
/// [`Error::Corrupt`] for a name no program writes.
pub async fn list_paused(conn: &mut Conn, page: PageRequest) -> Result<Page<PausedName>, Error> {
    use acme_failing_names as f;
    type Row = (String, String, String, i32, At, Option<At>);
    let rows: Vec<Row> = on_conn!(conn, c => f::table
        .filter(f::paused_at.is_not_null())
        .select((f::account_id, f::identifier_type, f::identifier_value, f::failures, f::last_failed_at, f::paused_at))
        .order((f::paused_at.desc(), f::account_id.desc(), f::identifier_value.desc(), f::identifier_type.desc()))
        .limit(page.limit())
        .offset(page.offset())
        .load(c)
        .await)?;
    let total: i64 = on_conn!(conn, c => f::table
        .filter(f::paused_at.is_not_null())
        .count()
        .get_result(c)
        .await)?;
    let rows = rows
        .into_iter()
        .map(|(account, kind, value, failures, last, paused)| {
            Ok(PausedName {
                account_id: AcmeAccountId::from_stored(account),
                identifier: read(&kind, &value)?,
                failures: failures.unsigned_abs(),
                last_failed_at: last.0,
                paused_at: paused.unwrap_or(last).0,
            })
        })
        .collect::<Result<_, Error>>()?;
    Ok(Page { rows, total })
}

/// Forgets up to `limit` names that are not paused and have not failed since a time.
///
/// # Errors
/// What the database says.
pub async fn sweep(conn: &mut Conn, before: Timestamp, limit: i64) -> Result<usize, Error> {
    let sql = match conn {
        Conn::Postgres(_) => {
            "DELETE FROM acme_failing_names WHERE ctid = ANY (ARRAY(SELECT ctid FROM acme_failing_names \
                WHERE paused_at IS NULL AND last_failed_at < $1 ORDER BY last_failed_at LIMIT $2)) AND paused_at IS NULL"
        }
        Conn::Sqlite(_) => {
            "DELETE FROM acme_failing_names WHERE rowid IN (SELECT rowid FROM acme_failing_names \
                WHERE paused_at IS NULL AND last_failed_at < ?1 ORDER BY last_failed_at LIMIT ?2)"
        }
    };
    Ok(on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(before))
        .bind::<BigInt, _>(limit)
        .prepared()
        .execute(c)
        .await)?)
}

fn read(kind: &str, value: &str) -> Result<Identifier, Error> {
    Identifier::from_stored(kind, value).ok_or_else(|| Error::corrupt("acme_failing_names", value))
}
