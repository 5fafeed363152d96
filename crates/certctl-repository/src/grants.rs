//! Grants as people give and take them, and who holds any.

use std::collections::BTreeMap;

use certctl_domain::{
    access::{ActorType, Scope},
    id::RoleId,
    page::{Page, PageRequest},
    time::Timestamp,
};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    db::dialect,
    prepared::Prepare as _,
    roles::{self, NewGrant},
    schema::actor_roles,
    types::{At, UtcTimestamp, at},
};

/// Grants a role; a grant of the same role for the same scope gets the new end.
///
/// # Errors
/// [`Error::Reference`] when there is no such role.
pub async fn give(conn: &mut Conn, grant: &NewGrant<'_>) -> Result<(), Error> {
    let held = of(
        conn,
        grant.actor_id,
        grant.actor_type,
        grant.role_id,
        Some(&grant.scope),
    )
    .await?;
    if held.is_empty() {
        return roles::grant(conn, grant).await;
    }
    let change = (
        actor_roles::expires_at.eq(at(grant.expires_at)),
        actor_roles::granted_by.eq(grant.granted_by),
        actor_roles::granted_at.eq(At(grant.granted_at)),
    );
    on_conn!(conn, c => diesel::update(actor_roles::table.filter(actor_roles::id.eq_any(&held))).set(change).execute(c).await)?;
    Ok(())
}

/// Takes a role from an actor, for one scope or for all; how many grants that were.
///
/// # Errors
/// What the database says.
pub async fn take(
    conn: &mut Conn,
    actor_id: &str,
    actor_type: ActorType,
    role: &RoleId,
    scope: Option<&Scope>,
) -> Result<usize, Error> {
    let held = of(conn, actor_id, actor_type, role, scope).await?;
    Ok(
        on_conn!(conn, c => diesel::delete(actor_roles::table.filter(actor_roles::id.eq_any(&held))).execute(c).await)?,
    )
}

/// The ids of the grants of a role to an actor, whether they have ended or not.
async fn of(
    conn: &mut Conn,
    actor_id: &str,
    actor_type: ActorType,
    role: &RoleId,
    scope: Option<&Scope>,
) -> Result<Vec<String>, Error> {
    let rows: Vec<(String, String, Option<String>)> = on_conn!(conn, c => actor_roles::table
        .filter(actor_roles::actor_id.eq(actor_id))
        .filter(actor_roles::actor_type.eq(actor_type.as_str()))
        .filter(actor_roles::role_id.eq(role.as_str()))
        .select((actor_roles::id, actor_roles::scope_type, actor_roles::scope_id))
        .load(c)
        .await)?;
    // The scope is compared here, because NULL equals nothing in SQL.
    let wanted = |kind: &str, id: Option<&str>| {
        scope.is_none_or(|scope| scope.kind() == kind && scope.id() == id)
    };
    Ok(rows
        .into_iter()
        .filter(|(_, kind, id)| wanted(kind, id.as_deref()))
        .map(|(id, ..)| id)
        .collect())
}

/// The ids of all grants of an actor, whether they have ended or not.
///
/// # Errors
/// What the database says.
pub async fn ids_of(
    conn: &mut Conn,
    actor_id: &str,
    actor_type: ActorType,
) -> Result<Vec<String>, Error> {
    Ok(on_conn!(conn, c => actor_roles::table
        .filter(actor_roles::actor_id.eq(actor_id))
        .filter(actor_roles::actor_type.eq(actor_type.as_str()))
        .select(actor_roles::id)
        .order(actor_roles::id)
        .load(c)
        .await)?)
}

/// Somebody who holds a role, or whose key is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The id of the actor.
    pub actor_id: String,
    /// What kind of actor.
    pub actor_type: ActorType,
    /// The roles of its grants that have not ended, in order.
    pub roles: Vec<RoleId>,
}

#[derive(QueryableByName)]
struct HolderRow {
    #[diesel(sql_type = Text)]
    actor_id: String,
    #[diesel(sql_type = Text)]
    actor_type: String,
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    total: i64,
}

/// Everybody with a grant that has not ended and every stored key, once each.
macro_rules! holders {
    ($what:literal, $end:literal) => {
        concat!(
            "SELECT ",
            $what,
            " FROM (SELECT actor_id, actor_type FROM actor_roles WHERE expires_at IS NULL OR expires_at > $1 \
             UNION SELECT name, 'APIKey' FROM api_keys) AS holders WHERE $2 = '' OR actor_type = $2 ",
            $end
        )
    };
}

/// Reads one page of the holders, in order of their ids; with a kind, only those of this kind.
///
/// # Errors
/// What the database says.
pub async fn list(
    conn: &mut Conn,
    kind: Option<ActorType>,
    page: PageRequest,
    now: Timestamp,
) -> Result<Page<Holder>, Error> {
    let kind = kind.map_or("", |kind| kind.as_str());
    let sql = dialect(
        conn,
        holders!(
            "actor_id, actor_type",
            "ORDER BY actor_id, actor_type LIMIT $3 OFFSET $4"
        ),
    );
    let rows: Vec<HolderRow> = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<Text, _>(kind)
        .bind::<BigInt, _>(page.limit())
        .bind::<BigInt, _>(page.offset())
        .prepared()
        .load(c)
        .await)?;
    let sql = dialect(conn, holders!("count(*) AS total", ""));
    let count: CountRow = on_conn!(conn, c => diesel::sql_query(sql)
        .bind::<UtcTimestamp, _>(At(now))
        .bind::<Text, _>(kind)
        .prepared()
        .get_result(c)
        .await)?;
    let ids: Vec<&str> = rows.iter().map(|row| row.actor_id.as_str()).collect();
    let mut roles = roles_of(conn, &ids, now).await?;
    let holder = |row: HolderRow| {
        let actor_type = ActorType::parse(&row.actor_type)
            .map_err(|error| Error::corrupt("actor_roles", error))?;
        Ok(Holder {
            roles: roles
                .remove(&(row.actor_id.clone(), row.actor_type))
                .unwrap_or_default(),
            actor_id: row.actor_id,
            actor_type,
        })
    };
    Ok(Page {
        rows: rows.into_iter().map(holder).collect::<Result<_, Error>>()?,
        total: count.total,
    })
}

/// The roles of the unexpired grants of actors, by id and type.
///
/// # Errors
/// What the database says.
pub async fn roles_of(
    conn: &mut Conn,
    actors: &[&str],
    now: Timestamp,
) -> Result<BTreeMap<(String, String), Vec<RoleId>>, Error> {
    let rows: Vec<(String, String, String)> = on_conn!(conn, c => actor_roles::table
        .filter(actor_roles::actor_id.eq_any(actors))
        .filter(actor_roles::expires_at.is_null().or(actor_roles::expires_at.gt(Some(At(now)))))
        .select((actor_roles::actor_id, actor_roles::actor_type, actor_roles::role_id))
        .order((actor_roles::actor_id, actor_roles::actor_type, actor_roles::role_id))
        .distinct()
        .load(c)
        .await)?;
    let mut roles: BTreeMap<(String, String), Vec<RoleId>> = BTreeMap::new();
    for (actor, kind, role) in rows {
        roles
            .entry((actor, kind))
            .or_default()
            .push(RoleId::from_stored(role));
    }
    Ok(roles)
}

/// Removes the grants of a role that have ended.
///
/// # Errors
/// What the database says.
pub async fn drop_ended(conn: &mut Conn, role: &RoleId, now: Timestamp) -> Result<usize, Error> {
    let ended = actor_roles::table
        .filter(actor_roles::role_id.eq(role.as_str()))
        .filter(actor_roles::expires_at.le(Some(At(now))));
    Ok(on_conn!(conn, c => diesel::delete(ended).execute(c).await)?)
}
