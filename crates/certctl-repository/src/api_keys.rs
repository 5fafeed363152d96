//! API keys: only their hashes.

use certctl_domain::{
    access::ApiKey,
    id::ApiKeyId,
    page::{Page, PageRequest},
    time::Timestamp,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    schema::api_keys,
    types::{At, at, time},
};

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = api_keys, treat_none_as_null = true, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct ApiKeyRow {
    id: String,
    name: String,
    key_hash: String,
    admin: bool,
    created_by: String,
    created_at: At,
    expires_at: Option<At>,
    last_used_at: Option<At>,
}

impl From<&ApiKey> for ApiKeyRow {
    fn from(key: &ApiKey) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name.clone(),
            key_hash: key.key_hash.clone(),
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
            admin: row.admin,
            created_by: row.created_by,
            created_at: row.created_at.0,
            expires_at: time(row.expires_at),
            last_used_at: time(row.last_used_at),
        })
    }
}

crud!(api_keys, ApiKeyRow, ApiKey, ApiKeyId, order api_keys::created_at.desc(), api_keys::id);

/// Reads the key with a hash.
///
/// # Errors
/// What the database says.
pub async fn find_by_hash(conn: &mut Conn, hash: &str) -> Result<Option<ApiKey>, Error> {
    let row: Option<ApiKeyRow> = on_conn!(conn, c => api_keys::table
        .filter(api_keys::key_hash.eq(hash))
        .select(ApiKeyRow::as_select())
        .first(c)
        .await
        .optional())?;
    row.map(TryInto::try_into).transpose()
}

/// Notes that a key was used; callers do so at most once a minute.
///
/// # Errors
/// What the database says.
pub async fn touch(conn: &mut Conn, id: &ApiKeyId, now: Timestamp) -> Result<(), Error> {
    on_conn!(conn, c => diesel::update(api_keys::table.find(id.as_str()))
        .set(api_keys::last_used_at.eq(Some(At(now))))
        .execute(c)
        .await)?;
    Ok(())
}
