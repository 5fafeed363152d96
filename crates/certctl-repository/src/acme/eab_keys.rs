//! Keys for external account binding (RFC 8555 §7.3.4).

use certctl_domain::{
    acme::{AcmeAccountId, EabKey, EabKeyId},
    id::ProfileId,
    page::{Page, PageRequest},
    time::Timestamp,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    schema::acme_eab_keys,
    types::{At, time},
};

#[derive(Queryable, Selectable)]
#[diesel(table_name = acme_eab_keys, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct KeyRow {
    id: String,
    profile_id: String,
    bound_account_id: Option<String>,
    created_at: At,
    revoked_at: Option<At>,
}

impl TryFrom<KeyRow> for EabKey {
    type Error = Error;

    fn try_from(row: KeyRow) -> Result<Self, Error> {
        Ok(Self {
            id: EabKeyId::parse(&row.id).ok_or_else(|| Error::corrupt("acme_eab_keys", "id"))?,
            profile_id: ProfileId::from_stored(row.profile_id),
            bound_account_id: row.bound_account_id.map(AcmeAccountId::from_stored),
            created_at: row.created_at.0,
            revoked_at: time(row.revoked_at),
        })
    }
}

/// Enters a key with its sealed secret.
///
/// # Errors
/// [`Error::AlreadyExists`] when its name is taken, [`Error::Reference`] when the profile does not exist.
pub async fn insert(conn: &mut Conn, key: &EabKey, sealed: &[u8]) -> Result<(), Error> {
    use acme_eab_keys as k;
    let row = (
        k::id.eq(key.id.as_str()),
        k::hmac_ciphertext.eq(sealed),
        k::profile_id.eq(key.profile_id.as_str()),
        k::created_at.eq(At(key.created_at)),
    );
    on_conn!(conn, c => diesel::insert_into(k::table).values(row).execute(c).await)?;
    Ok(())
}

/// Reads a key with its sealed secret.
///
/// # Errors
/// What the database says.
pub async fn find(conn: &mut Conn, id: &EabKeyId) -> Result<Option<(EabKey, Vec<u8>)>, Error> {
    use acme_eab_keys as k;
    let row: Option<(KeyRow, Vec<u8>)> = on_conn!(conn, c => k::table
        .find(id.as_str())
        .select((KeyRow::as_select(), k::hmac_ciphertext))
        .first(c)
        .await
        .optional())?;
    row.map(|(key, sealed)| Ok((key.try_into()?, sealed)))
        .transpose()
}

/// Binds a key to an account; false when it is bound or revoked already.
///
/// # Errors
/// What the database says.
pub async fn bind(conn: &mut Conn, id: &EabKeyId, account: &AcmeAccountId) -> Result<bool, Error> {
    use acme_eab_keys as k;
    let free = k::table
        .find(id.as_str())
        .filter(k::bound_account_id.is_null())
        .filter(k::revoked_at.is_null());
    let changed = on_conn!(conn, c => diesel::update(free)
        .set(k::bound_account_id.eq(Some(account.as_str())))
        .execute(c)
        .await)?;
    Ok(changed == 1)
}

/// Revokes a key; the account that was made with it stays. False when it is revoked already.
///
/// # Errors
/// [`Error::NotFound`] when there is none.
pub async fn revoke(conn: &mut Conn, id: &EabKeyId, now: Timestamp) -> Result<bool, Error> {
    use acme_eab_keys as k;
    let in_force = k::table.find(id.as_str()).filter(k::revoked_at.is_null());
    let changed = on_conn!(conn, c => diesel::update(in_force)
        .set(k::revoked_at.eq(Some(At(now))))
        .execute(c)
        .await)?;
    if changed == 0 {
        let _: String =
            on_conn!(conn, c => k::table.find(id.as_str()).select(k::id).first(c).await)?;
    }
    Ok(changed == 1)
}

/// Reads one page of keys, newest first, and their count.
///
/// # Errors
/// What the database says.
pub async fn list(conn: &mut Conn, page: PageRequest) -> Result<Page<EabKey>, Error> {
    use acme_eab_keys as k;
    let rows: Vec<KeyRow> = on_conn!(conn, c => k::table
        .select(KeyRow::as_select())
        .order((k::created_at.desc(), k::id))
        .limit(page.limit())
        .offset(page.offset())
        .load(c)
        .await)?;
    let total: i64 = on_conn!(conn, c => k::table.count().get_result(c).await)?;
    let rows = rows
        .into_iter()
        .map(TryInto::try_into)
        .collect::<Result<_, Error>>()?;
    Ok(Page { rows, total })
}
