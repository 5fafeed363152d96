//! Challenges, and the leases under which they are looked at.

use std::time::Duration;

use certctl_domain::{
    acme::{
        AcmeAuthorizationId, AcmeChallengeId, Challenge, ChallengeStatus, ChallengeType, Order,
        Problem,
    },
    text_enum::UnknownValue,
    time::Timestamp,
};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl;

use super::{
    authorizations::{AuthorizationRow, Kept},
    orders::OrderRow,
    stored,
};
use crate::{
    Conn, Error,
    prepared::{Prepare as _, one_of},
    schema::{acme_accounts, acme_authorizations, acme_challenges, acme_orders},
    types::{At, Json, UtcTimestamp, at, time},
};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = acme_challenges, treat_none_as_default_value = false, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct ChallengeRow {
    id: String,
    authz_id: String,
    #[diesel(column_name = kind)]
    kind: String,
    status: String,
    token: String,
    validated_at: Option<At>,
    error: Option<Json>,
    created_at: At,
}

impl From<&Challenge> for ChallengeRow {
    fn from(challenge: &Challenge) -> Self {
        Self {
            id: challenge.id.to_string(),
            authz_id: challenge.authorization_id.to_string(),
            kind: challenge.challenge_type.as_str().to_owned(),
            status: challenge.status.as_str().to_owned(),
            token: challenge.token.clone(),
            validated_at: at(challenge.validated_at),
            error: challenge
                .error
                .as_ref()
                .map(|error| Json(stored::problem(error))),
            created_at: At(challenge.created_at),
        }
    }
}

impl TryFrom<ChallengeRow> for Challenge {
    type Error = Error;

    fn try_from(row: ChallengeRow) -> Result<Self, Error> {
        let corrupt = |error: UnknownValue| Error::corrupt("acme_challenges", error);
        let error = match &row.error {
            Some(error) => Some(
                stored::read_problem(&error.0)
                    .ok_or_else(|| Error::corrupt("acme_challenges", "error"))?,
            ),
            None => None,
        };
        Ok(Self {
            id: AcmeChallengeId::from_stored(row.id),
            authorization_id: AcmeAuthorizationId::from_stored(row.authz_id),
            challenge_type: ChallengeType::parse(&row.kind).map_err(corrupt)?,
            status: ChallengeStatus::parse(&row.status).map_err(corrupt)?,
            token: row.token,
            validated_at: time(row.validated_at),
            error,
            created_at: row.created_at.0,
        })
    }
}

/// A challenge with everything it stands under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InContext {
    /// The challenge.
    pub challenge: Challenge,
    /// Grows whenever a replica takes it up.
    pub token: i64,
    /// What it is to prove.
    pub authorization: Kept,
    /// For which order.
    pub order: Order,
    /// The thumbprint of the account's key.
    pub thumbprint: String,
}

/// Enters challenges.
///
/// # Errors
/// [`Error::Reference`] when an authorisation is gone.
pub async fn insert_all(conn: &mut Conn, challenges: &[Challenge]) -> Result<(), Error> {
    let rows: Vec<ChallengeRow> = challenges.iter().map(ChallengeRow::from).collect();
    insert_all!(conn, acme_challenges::table, rows)
}

/// Reads the challenges of an authorisation, in the order of their ids.
///
/// # Errors
/// What the database says.
pub async fn of_authorization(
    conn: &mut Conn,
    id: &AcmeAuthorizationId,
) -> Result<Vec<Challenge>, Error> {
    use acme_challenges as c;
    let rows: Vec<ChallengeRow> = on_conn!(conn, conn => c::table
        .filter(c::authz_id.eq(id.as_str()))
        .select(ChallengeRow::as_select())
        .order((c::kind, c::id))
        .load(conn)
        .await)?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Reads a challenge and what it stands under.
///
/// # Errors
/// What the database says.
pub async fn find(conn: &mut Conn, id: &AcmeChallengeId) -> Result<Option<InContext>, Error> {
    Ok(find_many(conn, std::slice::from_ref(id)).await?.pop())
}

/// Reads challenges and what they stand under; absent ones are left out.
///
/// # Errors
/// What the database says.
pub async fn find_many(conn: &mut Conn, ids: &[AcmeChallengeId]) -> Result<Vec<InContext>, Error> {
    use acme_authorizations as a;
    use acme_challenges as c;
    use acme_orders as o;
    type Row = (ChallengeRow, i64, AuthorizationRow, OrderRow, String);
    let ids: Vec<&str> = ids.iter().map(AcmeChallengeId::as_str).collect();
    let rows: Vec<Row> = on_conn!(conn, conn => c::table
        .inner_join(a::table.on(a::id.eq(c::authz_id)))
        .inner_join(o::table.on(o::id.eq(a::order_id)))
        .inner_join(acme_accounts::table.on(acme_accounts::id.eq(o::account_id)))
        .filter(one_of(c::id, &ids))
        .select((
            ChallengeRow::as_select(),
            c::lease_token,
            AuthorizationRow::as_select(),
            OrderRow::as_select(),
            acme_accounts::jwk_thumbprint,
        ))
        .load(conn)
        .await)?;
    rows.into_iter()
        .map(|(challenge, token, authorization, order, thumbprint)| {
            Ok(InContext {
                challenge: challenge.try_into()?,
                token,
                authorization: authorization.try_into()?,
                order: order.try_into()?,
                thumbprint,
            })
        })
        .collect()
}

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = BigInt)]
    lease_token: i64,
}

/// Takes up a challenge that is pending; its token, or none when it is not pending any more.
///
/// # Errors
/// What the database says.
pub async fn begin(
    conn: &mut Conn,
    id: &AcmeChallengeId,
    lease: Duration,
    now: Timestamp,
) -> Result<Option<i64>, Error> {
    let sql = crate::db::dialect(
        conn,
        "UPDATE acme_challenges SET status = 'processing', lease_token = lease_token + 1, lease_expires_at = $2 \
         WHERE id = $1 AND status = 'pending' RETURNING id, lease_token",
    );
    let rows: Vec<Taken> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<Text, _>(id.as_str())
        .bind::<UtcTimestamp, _>(At(now + lease))
        .prepared()
        .load(c)
        .await)?;
    Ok(rows.into_iter().next().map(|row| row.lease_token))
}

/// Takes up challenges whose holder died, `limit` at the most.
///
/// # Errors
/// What the database says.
pub async fn take_over(
    conn: &mut Conn,
    lease: Duration,
    limit: i64,
    now: Timestamp,
) -> Result<Vec<(AcmeChallengeId, i64)>, Error> {
    const DUE: &str = "SELECT id FROM acme_challenges WHERE status = 'processing' AND lease_expires_at <= $1 \
        ORDER BY lease_expires_at LIMIT $3";
    let update = |picked: &str| {
        format!(
            "UPDATE acme_challenges SET lease_token = lease_token + 1, lease_expires_at = $2 \
             WHERE status = 'processing' AND lease_expires_at <= $1 AND {picked} RETURNING id, lease_token"
        )
    };
    let sql = match conn {
        Conn::Postgres(_) => update(&format!("id = ANY (ARRAY({DUE} FOR UPDATE SKIP LOCKED))")),
        Conn::Sqlite(_) => update(&format!("id IN ({DUE})")).replace('$', "?"),
    };
    let rows: Vec<Taken> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<UtcTimestamp, _>(At(now + lease))
        .bind::<BigInt, _>(limit)
        .prepared()
        .load(c)
        .await)?;
    Ok(rows
        .into_iter()
        .map(|row| (AcmeChallengeId::from_stored(row.id), row.lease_token))
        .collect())
}

/// Ends a challenge by what was found; false when somebody else took it up meanwhile, or ended it.
///
/// # Errors
/// What the database says.
pub async fn end(
    conn: &mut Conn,
    id: &AcmeChallengeId,
    token: i64,
    found: Result<(), &Problem>,
    now: Timestamp,
) -> Result<bool, Error> {
    use acme_challenges as c;
    let held = c::table
        .find(id.as_str())
        .filter(c::status.eq(ChallengeStatus::Processing.as_str()))
        .filter(c::lease_token.eq(token));
    let (status, validated_at, error) = match found {
        Ok(()) => (ChallengeStatus::Valid, Some(At(now)), None),
        Err(problem) => (
            ChallengeStatus::Invalid,
            None,
            Some(Json(stored::problem(problem))),
        ),
    };
    let changed = on_conn!(conn, conn => diesel::update(held)
        .set((
            c::status.eq(status.as_str()),
            c::validated_at.eq(validated_at),
            c::error.eq(&error),
            c::lease_expires_at.eq(None::<At>),
        ))
        .execute(conn)
        .await)?;
    Ok(changed == 1)
}

/// Gives up the leases of challenges that could not be looked at, so that whoever sweeps next takes them up at once.
///
/// # Errors
/// What the database says.
pub async fn release(
    conn: &mut Conn,
    held: &[(AcmeChallengeId, i64)],
    now: Timestamp,
) -> Result<usize, Error> {
    use acme_challenges as c;
    let mut released = 0;
    for (id, token) in held {
        let row = c::table
            .find(id.as_str())
            .filter(c::status.eq(ChallengeStatus::Processing.as_str()))
            .filter(c::lease_token.eq(token));
        released += on_conn!(conn, conn => diesel::update(row)
            .set(c::lease_expires_at.eq(Some(At(now))))
            .execute(conn)
            .await)?;
    }
    Ok(released)
}
