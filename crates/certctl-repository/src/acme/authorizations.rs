//! Authorisations.

use certctl_domain::{
    acme::{
        AcmeAccountId, AcmeAuthorizationId, AcmeOrderId, Authorization, AuthorizationStatus,
        ChallengeType, Identifier,
    },
    time::Timestamp,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    prepared::{Prepare as _, one_of},
    schema::acme_authorizations,
    types::{At, time},
};

#[derive(Queryable, Selectable, Insertable, Clone)]
#[diesel(table_name = acme_authorizations, treat_none_as_default_value = false, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(super) struct AuthorizationRow {
    id: String,
    order_id: String,
    account_id: String,
    identifier_type: String,
    identifier_value: String,
    wildcard: bool,
    status: String,
    expires_at: At,
    proved_by: Option<String>,
    proved_at: Option<At>,
    created_at: At,
    updated_at: At,
}

/// An authorisation as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it says.
    pub authorization: Authorization,
    /// Whose it is.
    pub account_id: AcmeAccountId,
    /// What proved it, and when; none while nothing did, and where the account is trusted.
    pub proof: Option<(ChallengeType, Timestamp)>,
}

impl From<&Kept> for AuthorizationRow {
    fn from(kept: &Kept) -> Self {
        let one = &kept.authorization;
        Self {
            id: one.id.to_string(),
            order_id: one.order_id.to_string(),
            account_id: kept.account_id.to_string(),
            identifier_type: one.identifier.identifier_type().as_str().to_owned(),
            identifier_value: one.identifier.to_string(),
            wildcard: one.wildcard,
            status: one.status.as_str().to_owned(),
            expires_at: At(one.expires_at),
            proved_by: kept.proof.map(|(by, _)| by.as_str().to_owned()),
            proved_at: kept.proof.map(|(_, when)| At(when)),
            created_at: At(one.created_at),
            updated_at: At(one.updated_at),
        }
    }
}

impl TryFrom<AuthorizationRow> for Kept {
    type Error = Error;

    fn try_from(row: AuthorizationRow) -> Result<Self, Error> {
        let corrupt = |problem: String| Error::corrupt("acme_authorizations", problem);
        let proof = match (&row.proved_by, time(row.proved_at)) {
            (Some(by), Some(when)) => Some((
                ChallengeType::parse(by).map_err(|error| corrupt(error.to_string()))?,
                when,
            )),
            _ => None,
        };
        let identifier = Identifier::from_stored(&row.identifier_type, &row.identifier_value)
            .ok_or_else(|| corrupt(row.identifier_value.clone()))?;
        Ok(Self {
            authorization: Authorization {
                id: AcmeAuthorizationId::from_stored(row.id),
                order_id: AcmeOrderId::from_stored(row.order_id),
                identifier,
                wildcard: row.wildcard,
                status: AuthorizationStatus::parse(&row.status)
                    .map_err(|error| corrupt(error.to_string()))?,
                expires_at: row.expires_at.0,
                created_at: row.created_at.0,
                updated_at: row.updated_at.0,
            },
            account_id: AcmeAccountId::from_stored(row.account_id),
            proof,
        })
    }
}

/// Enters authorisations.
///
/// # Errors
/// [`Error::Reference`] when an order is gone.
pub async fn insert_all(conn: &mut Conn, kept: &[Kept]) -> Result<(), Error> {
    let rows: Vec<AuthorizationRow> = kept.iter().map(AuthorizationRow::from).collect();
    insert_all!(conn, acme_authorizations::table, rows)
}

/// Reads an authorisation.
///
/// # Errors
/// What the database says.
pub async fn find(conn: &mut Conn, id: &AcmeAuthorizationId) -> Result<Option<Kept>, Error> {
    let row: Option<AuthorizationRow> = on_conn!(conn, c => acme_authorizations::table
        .find(id.as_str())
        .select(AuthorizationRow::as_select())
        .first(c)
        .await
        .optional())?;
    row.map(TryInto::try_into).transpose()
}

/// Reads the authorisations of orders, in the order of their ids.
///
/// # Errors
/// What the database says.
pub async fn of_orders(conn: &mut Conn, orders: &[AcmeOrderId]) -> Result<Vec<Kept>, Error> {
    use acme_authorizations as a;
    if orders.is_empty() {
        return Ok(Vec::new());
    }
    let orders: Vec<&str> = orders.iter().map(AcmeOrderId::as_str).collect();
    let rows: Vec<AuthorizationRow> = on_conn!(conn, c => a::table
        .filter(one_of(a::order_id, &orders))
        .select(AuthorizationRow::as_select())
        .order((a::order_id, a::id))
        .load(c)
        .await)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// What accounts have proved of these names and may still use, the one that lasts longest first.
///
/// # Errors
/// What the database says.
pub async fn proved(
    conn: &mut Conn,
    accounts: &[AcmeAccountId],
    names: &[String],
    now: Timestamp,
) -> Result<Vec<Kept>, Error> {
    use acme_authorizations as a;
    if accounts.is_empty() || names.is_empty() {
        return Ok(Vec::new());
    }
    let accounts: Vec<&str> = accounts.iter().map(AcmeAccountId::as_str).collect();
    let rows: Vec<AuthorizationRow> = on_conn!(conn, c => a::table
        .filter(one_of(a::account_id, &accounts))
        .filter(one_of(a::identifier_value, names))
        .filter(diesel::dsl::sql::<diesel::sql_types::Bool>("status = 'valid' AND proved_by IS NOT NULL"))
        .filter(a::expires_at.gt(At(now)))
        .select(AuthorizationRow::as_select())
        .order((a::expires_at.desc(), a::id))
        .prepared()
        .load(c)
        .await)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// What becomes of an authorisation.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// The state it must be in.
    pub from: AuthorizationStatus,
    /// The state it goes to.
    pub to: AuthorizationStatus,
    /// What proved it, and until when it may be used then.
    pub proof: Option<(ChallengeType, Timestamp)>,
    /// When.
    pub now: Timestamp,
}

/// Carries a change out; false when it is no longer in the first state.
///
/// # Errors
/// What the database says.
pub async fn change(
    conn: &mut Conn,
    id: &AcmeAuthorizationId,
    change: Change,
) -> Result<bool, Error> {
    use acme_authorizations as a;
    let row = a::table
        .find(id.as_str())
        .filter(a::status.eq(change.from.as_str()));
    let moved = (
        a::status.eq(change.to.as_str()),
        a::updated_at.eq(At(change.now)),
    );
    let changed = match change.proof {
        Some((by, until)) => {
            let proved = (
                a::proved_by.eq(Some(by.as_str())),
                a::proved_at.eq(Some(At(change.now))),
                a::expires_at.eq(At(until)),
            );
            on_conn!(conn, c => diesel::update(row).set((moved, proved)).execute(c).await)?
        }
        None => on_conn!(conn, c => diesel::update(row).set(moved).execute(c).await)?,
    };
    Ok(changed == 1)
}

/// Gives an authorisation up, and with it all that stand for the same: those that later orders of the account took over from the
/// same proof. Returns the orders they belong to.
///
/// # Errors
/// What the database says.
pub async fn deactivate(
    conn: &mut Conn,
    kept: &Kept,
    now: Timestamp,
) -> Result<Vec<AcmeOrderId>, Error> {
    use acme_authorizations as a;
    let one = &kept.authorization;
    let identifier = one.identifier.to_string();
    // As the partial index has it; where the account is trusted there is no proof that others could share.
    let rows: Vec<(String, String)> = on_conn!(conn, c => a::table
        .filter(a::account_id.eq(kept.account_id.as_str()))
        .filter(a::identifier_value.eq(&identifier))
        .filter(a::wildcard.eq(one.wildcard))
        .filter(diesel::dsl::sql::<diesel::sql_types::Bool>("status = 'valid' AND proved_by IS NOT NULL"))
        .select((a::id, a::order_id))
        .load(c)
        .await)?;
    let (mut ids, mut orders): (Vec<String>, Vec<String>) = rows.into_iter().unzip();
    ids.push(one.id.to_string());
    orders.push(one.order_id.to_string());
    let open = a::table
        .filter(one_of(a::id, &ids))
        .filter(a::status.eq_any([
            AuthorizationStatus::Pending.as_str(),
            AuthorizationStatus::Valid.as_str(),
        ]));
    on_conn!(conn, c => diesel::update(open)
        .set((
            a::status.eq(AuthorizationStatus::Deactivated.as_str()),
            a::updated_at.eq(At(now)),
        ))
        .execute(c)
        .await)?;
    orders.sort_unstable();
    orders.dedup();
    Ok(orders.into_iter().map(AcmeOrderId::from_stored).collect())
}
