//! Facts that are true once per database.

use certctl_domain::time::Timestamp;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{Conn, Error, schema::installation, types::At};

/// Enters a fact; false when it was entered before, by whichever replica.
///
/// # Errors
/// What the database says.
pub async fn claim(conn: &mut Conn, key: &str, value: &str, now: Timestamp) -> Result<bool, Error> {
    let row = (
        installation::key.eq(key),
        installation::value.eq(value),
        installation::created_at.eq(At(now)),
    );
    let inserted = on_conn!(conn, c => diesel::insert_into(installation::table).values(row).on_conflict_do_nothing().execute(c).await)?;
    Ok(inserted == 1)
}

/// Reads a fact.
///
/// # Errors
/// What the database says.
pub async fn get(conn: &mut Conn, key: &str) -> Result<Option<String>, Error> {
    Ok(
        on_conn!(conn, c => installation::table.find(key).select(installation::value).first(c).await.optional())?,
    )
}

/// Enters a fact, or another value for it.
///
/// # Errors
/// What the database says.
pub async fn set(conn: &mut Conn, key: &str, value: &str, now: Timestamp) -> Result<(), Error> {
    if claim(conn, key, value, now).await? {
        return Ok(());
    }
    let fact = installation::table.find(key);
    on_conn!(conn, c => diesel::update(fact).set(installation::value.eq(value)).execute(c).await)?;
    Ok(())
}
