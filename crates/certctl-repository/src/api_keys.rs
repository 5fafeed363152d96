//! API keys: only their hashes.

use certctl_domain::{
    access::{ApiKey, PreviousKey},
    id::ApiKeyId,
    page::{Page, PageRequest},
    time::Timestamp,
};
use diesel::{
    prelude::*,
    sql_types::{Array, Text},
};
use diesel_async::RunQueryDsl;
use serde_json::json;

use crate::{
    Conn, Error,
    prepared::Prepare as _,
    schema::api_keys,
    types::{At, UtcTimestamp, at, time},
};

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = api_keys, treat_none_as_null = true, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct ApiKeyRow {
    id: String,
    name: String,
    key_hash: String,
    previous_key_hash: Option<String>,
    previous_valid_until: Option<At>,
    admin: bool,
    created_by: String,
    created_at: At,
    expires_at: Option<At>,
    last_used_at: Option<At>,
}

impl From<&ApiKey> for ApiKeyRow {
    fn from(key: &ApiKey) -> Self {
        let previous = key.previous.as_ref();
        Self {
            id: key.id.to_string(),
            name: key.name.clone(),
            key_hash: key.key_hash.clone(),
            previous_key_hash: previous.map(|one| one.key_hash.clone()),
            previous_valid_until: previous.map(|one| At(one.valid_until)),
            admin: key.admin,
            created_by: key.created_by.clone(),
            created_at: At(key.created_at),
            expires_at: at(key.expires_at),
            last_used_at: at(key.last_used_at),
        }
    }
}

impl TryFrom<ApiKeyRow> for ApiKey {
    type Error = Error;

    fn try_from(row: ApiKeyRow) -> Result<Self, Error> {
        Ok(Self {
            id: ApiKeyId::from_stored(row.id),
            name: row.name,
            key_hash: row.key_hash,
            previous: row.previous_key_hash.zip(row.previous_valid_until).map(
                |(key_hash, valid_until)| PreviousKey {
                    key_hash,
                    valid_until: valid_until.0,
                },
            ),
            admin: row.admin,
            created_by: row.created_by,
            created_at: row.created_at.0,
            expires_at: time(row.expires_at),
            last_used_at: time(row.last_used_at),
        })
    }
}

crud!(api_keys, ApiKeyRow, ApiKey, ApiKeyId, order api_keys::created_at.desc(), api_keys::id);

/// Reads the key that has a hash, or had it before it was rotated.
///
/// # Errors
/// What the database says.
pub async fn find_by_hash(conn: &mut Conn, hash: &str) -> Result<Option<ApiKey>, Error> {
    let row: Option<ApiKeyRow> = on_conn!(conn, c => api_keys::table
        .filter(api_keys::key_hash.eq(hash).or(api_keys::previous_key_hash.eq(hash)))
        .select(ApiKeyRow::as_select())
        .first(c)
        .await
        .optional())?;
    row.map(TryInto::try_into).transpose()
}

/// Reads the key with a name.
///
/// # Errors
/// [`Error::NotFound`] when there is none.
pub async fn find_by_name(conn: &mut Conn, name: &str) -> Result<ApiKey, Error> {
    let row: ApiKeyRow = on_conn!(conn, c => api_keys::table
        .filter(api_keys::name.eq(name))
        .select(ApiKeyRow::as_select())
        .first(c)
        .await)?;
    row.try_into()
}

/// Reads the keys with these names.
///
/// # Errors
/// What the database says.
pub async fn named(conn: &mut Conn, names: &[&str]) -> Result<Vec<ApiKey>, Error> {
    let rows: Vec<ApiKeyRow> = on_conn!(conn, c => api_keys::table
        .filter(api_keys::name.eq_any(names))
        .select(ApiKeyRow::as_select())
        .load(c)
        .await)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Gives a key another value, if nobody did so since it was read.
///
/// # Errors
/// [`Error::NotFound`] when the key is gone or has another value by now.
pub async fn rotate(
    conn: &mut Conn,
    key: &ApiKey,
    new_hash: &str,
    previous: Option<&PreviousKey>,
) -> Result<(), Error> {
    let change = (
        api_keys::key_hash.eq(new_hash),
        api_keys::previous_key_hash.eq(previous.map(|one| one.key_hash.as_str())),
        api_keys::previous_valid_until.eq(previous.map(|one| At(one.valid_until))),
    );
    let row = api_keys::table
        .filter(api_keys::id.eq(key.id.as_str()))
        .filter(api_keys::key_hash.eq(&key.key_hash));
    let changed = on_conn!(conn, c => diesel::update(row).set(change).execute(c).await)?;
    if changed == 0 {
        Err(Error::NotFound)
    } else {
        Ok(())
    }
}

/// A key was used at this time, for the last time that is known of.
pub type KeyUse = (ApiKeyId, Timestamp);

/// Notes when keys were last used, in one statement. What is noted already and less than a minute older stays, so that several
/// replicas together write a row once a minute at the most.
///
/// # Errors
/// What the database says.
pub async fn note_uses(conn: &mut Conn, uses: &[KeyUse]) -> Result<usize, Error> {
    const POSTGRES: &str = "UPDATE api_keys SET last_used_at = used.at \
        FROM unnest($1, $2) AS used (id, at) \
        WHERE api_keys.id = used.id AND (last_used_at IS NULL OR last_used_at <= used.at - interval '1 minute')";
    const SQLITE: &str = "UPDATE api_keys SET last_used_at = used.at \
        FROM (SELECT value ->> 0 AS id, value ->> 1 AS at FROM json_each(?1)) AS used \
        WHERE api_keys.id = used.id AND (last_used_at IS NULL OR last_used_at <= used.at - 60000000)";
    if uses.is_empty() {
        return Ok(0);
    }
    let changed = on_conn!(conn,
        pg c => diesel::sql_query(POSTGRES)
            .bind::<Array<Text>, _>(uses.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>())
            .bind::<Array<UtcTimestamp>, _>(uses.iter().map(|(_, at)| At(*at)).collect::<Vec<_>>())
            .prepared()
            .execute(c)
            .await,
        sqlite c => {
            let rows: Vec<_> = uses.iter().map(|(id, at)| json!([id.as_str(), at.as_micros()])).collect();
            diesel::sql_query(SQLITE).bind::<Text, _>(json!(rows).to_string()).prepared().execute(c).await
        },
    )?;
    Ok(changed)
}
