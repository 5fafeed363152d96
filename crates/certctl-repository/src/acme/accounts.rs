//! Accounts.

use certctl_domain::{
    acme::{Account, AccountStatus, AcmeAccountId},
    id::{OwnerId, ProfileId},
    page::{Page, PageRequest},
    time::Timestamp,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    prepared::one_of,
    schema::acme_accounts,
    types::{At, Texts},
};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = acme_accounts, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct AccountRow {
    id: String,
    jwk_thumbprint: String,
    jwk_pem: String,
    contact: Texts,
    status: String,
    profile_id: String,
    owner_id: Option<String>,
    terms_agreed: bool,
    created_at: At,
    updated_at: At,
}

impl From<&Account> for AccountRow {
    fn from(account: &Account) -> Self {
        Self {
            id: account.id.to_string(),
            jwk_thumbprint: account.thumbprint.clone(),
            jwk_pem: account.jwk_pem.clone(),
            contact: Texts(account.contact.clone()),
            status: account.status.as_str().to_owned(),
            profile_id: account.profile_id.to_string(),
            owner_id: account.owner_id.as_ref().map(ToString::to_string),
            terms_agreed: account.terms_agreed,
            created_at: At(account.created_at),
            updated_at: At(account.updated_at),
        }
    }
}

impl TryFrom<AccountRow> for Account {
    type Error = Error;

    fn try_from(row: AccountRow) -> Result<Self, Error> {
        Ok(Self {
            id: AcmeAccountId::from_stored(row.id),
            thumbprint: row.jwk_thumbprint,
            jwk_pem: row.jwk_pem,
            contact: row.contact.0,
            status: AccountStatus::parse(&row.status)
                .map_err(|error| Error::corrupt("acme_accounts", error))?,
            profile_id: ProfileId::from_stored(row.profile_id),
            owner_id: row.owner_id.map(OwnerId::from_stored),
            terms_agreed: row.terms_agreed,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

/// Enters an account; false when its id or its key is taken under the profile, also by one that is entered at this moment.
///
/// # Errors
/// [`Error::Reference`] when the profile or the owner is gone.
pub async fn insert_absent(conn: &mut Conn, account: &Account) -> Result<bool, Error> {
    let row = AccountRow::from(account);
    let inserted = on_conn!(conn, c => diesel::insert_into(acme_accounts::table)
        .values(&row)
        .on_conflict_do_nothing()
        .execute(c)
        .await)?;
    Ok(inserted == 1)
}

/// Reads an account.
///
/// # Errors
/// What the database says.
pub async fn find(conn: &mut Conn, id: &AcmeAccountId) -> Result<Option<Account>, Error> {
    let row: Option<AccountRow> = on_conn!(conn, c => acme_accounts::table
        .find(id.as_str())
        .select(AccountRow::as_select())
        .first(c)
        .await
        .optional())?;
    row.map(TryInto::try_into).transpose()
}

/// Reads the account that has a key under a profile.
///
/// # Errors
/// What the database says.
pub async fn find_by_key(
    conn: &mut Conn,
    profile: &ProfileId,
    thumbprint: &str,
) -> Result<Option<Account>, Error> {
    use acme_accounts as a;
    let row: Option<AccountRow> = on_conn!(conn, c => a::table
        .filter(a::profile_id.eq(profile.as_str()))
        .filter(a::jwk_thumbprint.eq(thumbprint))
        .select(AccountRow::as_select())
        .first(c)
        .await
        .optional())?;
    row.map(TryInto::try_into).transpose()
}

/// Reads accounts; absent ones are left out.
///
/// # Errors
/// What the database says.
pub async fn find_many(conn: &mut Conn, ids: &[AcmeAccountId]) -> Result<Vec<Account>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = ids.iter().map(AcmeAccountId::as_str).collect();
    let rows: Vec<AccountRow> = on_conn!(conn, c => acme_accounts::table
        .filter(one_of(acme_accounts::id, &ids))
        .select(AccountRow::as_select())
        .load(c)
        .await)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Reads accounts and keeps others from changing them, and from ordering with them, until the transaction ends. They are locked in
/// the order of their ids, so that two transactions cannot wait for each other.
///
/// # Errors
/// What the database says.
pub async fn lock_many(conn: &mut Conn, ids: &[AcmeAccountId]) -> Result<Vec<Account>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let texts: Vec<&str> = ids.iter().map(AcmeAccountId::as_str).collect();
    let rows: Vec<AccountRow> = match conn {
        Conn::Postgres(object) => {
            acme_accounts::table
                .filter(one_of(acme_accounts::id, &texts))
                .select(AccountRow::as_select())
                .order(acme_accounts::id)
                .for_no_key_update()
                .load(&mut **object)
                .await?
        }
        // The one writer of SQLite has the whole database to itself.
        Conn::Sqlite(_) => return find_many(conn, ids).await,
    };
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Puts other contacts in the place of an account's.
///
/// # Errors
/// [`Error::NotFound`] when there is no such account.
pub async fn set_contact(
    conn: &mut Conn,
    id: &AcmeAccountId,
    contact: &[String],
    now: Timestamp,
) -> Result<(), Error> {
    use acme_accounts as a;
    let contact = Texts(contact.to_vec());
    let changed = on_conn!(conn, c => diesel::update(a::table.find(id.as_str()))
        .set((a::contact.eq(&contact), a::updated_at.eq(At(now))))
        .execute(c)
        .await)?;
    if changed == 0 {
        Err(Error::NotFound)
    } else {
        Ok(())
    }
}

/// Ends a valid account; false when it is not valid any more.
///
/// # Errors
/// What the database says.
pub async fn end(
    conn: &mut Conn,
    id: &AcmeAccountId,
    to: AccountStatus,
    now: Timestamp,
) -> Result<bool, Error> {
    use acme_accounts as a;
    let valid = a::table
        .find(id.as_str())
        .filter(a::status.eq(AccountStatus::Valid.as_str()));
    let changed = on_conn!(conn, c => diesel::update(valid)
        .set((a::status.eq(to.as_str()), a::updated_at.eq(At(now))))
        .execute(c)
        .await)?;
    Ok(changed == 1)
}

/// A change of an account's key.
#[derive(Debug, Clone)]
pub struct KeyRoll<'a> {
    /// Which account.
    pub id: &'a AcmeAccountId,
    /// The thumbprint of the key it must still have.
    pub old_thumbprint: &'a str,
    /// The thumbprint of the new key.
    pub thumbprint: &'a str,
    /// The new key.
    pub jwk_pem: &'a str,
    /// When.
    pub now: Timestamp,
}

/// Gives an account another key; false when it has not the old one any more.
///
/// # Errors
/// [`Error::AlreadyExists`] when another account of the profile has the new key.
pub async fn roll_key(conn: &mut Conn, roll: &KeyRoll<'_>) -> Result<bool, Error> {
    use acme_accounts as a;
    let unchanged = a::table
        .find(roll.id.as_str())
        .filter(a::jwk_thumbprint.eq(roll.old_thumbprint));
    let changed = on_conn!(conn, c => diesel::update(unchanged)
        .set((
            a::jwk_thumbprint.eq(roll.thumbprint),
            a::jwk_pem.eq(roll.jwk_pem),
            a::updated_at.eq(At(roll.now)),
        ))
        .execute(c)
        .await)?;
    Ok(changed == 1)
}

/// Reads one page of accounts, newest first, and their count.
///
/// # Errors
/// What the database says.
pub async fn list(conn: &mut Conn, page: PageRequest) -> Result<Page<Account>, Error> {
    use acme_accounts as a;
    let rows: Vec<AccountRow> = on_conn!(conn, c => a::table
        .select(AccountRow::as_select())
        .order((a::created_at.desc(), a::id))
        .limit(page.limit())
        .offset(page.offset())
        .load(c)
        .await)?;
    let total: i64 = on_conn!(conn, c => a::table.count().get_result(c).await)?;
    let rows = rows
        .into_iter()
        .map(TryInto::try_into)
        .collect::<Result<_, Error>>()?;
    Ok(Page { rows, total })
}

/// Takes back an account that this transaction has entered.
///
/// # Errors
/// [`Error::Reference`] when it has orders.
pub async fn delete_new(conn: &mut Conn, id: &AcmeAccountId) -> Result<(), Error> {
    on_conn!(conn, c => diesel::delete(acme_accounts::table.find(id.as_str())).execute(c).await)?;
    Ok(())
}
