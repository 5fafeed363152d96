//! Roles, what they permit, and what grants of them add up to for an actor.

use std::collections::BTreeMap;

use certctl_domain::{
    access::{ActorType, EffectivePermission, Held, Permission, Role, Scope},
    id::{ActorRoleId, RoleId},
    page::{Page, PageRequest},
    time::Timestamp,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    schema::{actor_roles, api_keys, permissions, role_permissions, roles},
    types::{At, time},
};

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = roles, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct RoleRow {
    id: String,
    name: String,
    description: String,
    created_at: At,
    updated_at: At,
}

impl From<&Role> for RoleRow {
    fn from(role: &Role) -> Self {
        Self {
            id: role.id.to_string(),
            name: role.name.clone(),
            description: role.description.clone(),
            created_at: At(role.created_at),
            updated_at: At(role.updated_at),
        }
    }
}

impl TryFrom<RoleRow> for Role {
    type Error = Error;

    fn try_from(row: RoleRow) -> Result<Self, Error> {
        Ok(Self {
            id: RoleId::from_stored(row.id),
            name: row.name,
            description: row.description,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

crud!(roles, RoleRow, Role, RoleId, order roles::name, roles::id);

/// What a role permits, in order of the names.
///
/// # Errors
/// What the database says.
pub async fn permissions_of(
    conn: &mut Conn,
    role: &RoleId,
) -> Result<Vec<EffectivePermission>, Error> {
    let rows: Vec<(String, String, Option<String>)> = on_conn!(conn, c => role_permissions::table
        .inner_join(permissions::table)
        .filter(role_permissions::role_id.eq(role.as_str()))
        .select((permissions::name, role_permissions::scope_type, role_permissions::scope_id))
        .order((permissions::name, role_permissions::scope_type, role_permissions::scope_id))
        .load(c)
        .await)?;
    // What a newer program seeded means nothing to this one.
    let known = rows.into_iter().filter_map(|(name, kind, id)| {
        Some(EffectivePermission {
            permission: Permission::parse(&name).ok()?,
            scope: Scope::from_parts(&kind, id.as_deref())?,
        })
    });
    Ok(known.collect())
}

/// Lets a role permit something; false when it did so before.
///
/// # Errors
/// [`Error::Reference`] when there is no such role.
pub async fn add_permission(
    conn: &mut Conn,
    role: &RoleId,
    added: &EffectivePermission,
) -> Result<bool, Error> {
    let row = (
        role_permissions::role_id.eq(role.as_str()),
        role_permissions::permission_id.eq(added.permission.id()),
        role_permissions::scope_type.eq(added.scope.kind()),
        role_permissions::scope_id.eq(added.scope.id()),
    );
    let inserted = on_conn!(conn, c => diesel::insert_into(role_permissions::table).values(row).on_conflict_do_nothing().execute(c).await)?;
    Ok(inserted == 1)
}

/// Takes a permission from a role; false when it did not have it for this scope.
///
/// # Errors
/// What the database says.
pub async fn remove_permission(
    conn: &mut Conn,
    role: &RoleId,
    removed: &EffectivePermission,
) -> Result<bool, Error> {
    // The kind and the id go together (a CHECK), so the missing id of the global scope needs no comparison of its own.
    let rows = role_permissions::table
        .filter(role_permissions::role_id.eq(role.as_str()))
        .filter(role_permissions::permission_id.eq(removed.permission.id()))
        .filter(role_permissions::scope_type.eq(removed.scope.kind()));
    let deleted = match removed.scope.id() {
        None => on_conn!(conn, c => diesel::delete(rows).execute(c).await)?,
        Some(id) => {
            let rows = rows.filter(role_permissions::scope_id.eq(id));
            on_conn!(conn, c => diesel::delete(rows).execute(c).await)?
        }
    };
    Ok(deleted > 0)
}

/// The roles of an actor and what it may do by them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// The ids of the roles, in order.
    pub roles: Vec<RoleId>,
    /// Every permission with its scope, without duplicates: of several grants of one the end is that of the last to end.
    pub permissions: Vec<Held>,
    /// When the first of the grants ends, and with it all this is no longer so.
    pub until: Option<Timestamp>,
}

type GrantRow = (String, String, Option<String>, Option<At>);
type RolePermissionRow = (String, String, String, Option<String>);

/// Adds up the unexpired grants of an actor (model §4, scope algebra).
///
/// # Errors
/// What the database says.
pub async fn holdings(
    conn: &mut Conn,
    actor_id: &str,
    actor_type: ActorType,
    now: Timestamp,
) -> Result<Holdings, Error> {
    let grants: Vec<GrantRow> = on_conn!(conn, c => actor_roles::table
        .filter(actor_roles::actor_id.eq(actor_id))
        .filter(actor_roles::actor_type.eq(actor_type.as_str()))
        .filter(actor_roles::expires_at.is_null().or(actor_roles::expires_at.gt(Some(At(now)))))
        .select((actor_roles::role_id, actor_roles::scope_type, actor_roles::scope_id, actor_roles::expires_at))
        .order(actor_roles::role_id)
        .load(c)
        .await)?;
    let roles: Vec<&str> = grants.iter().map(|grant| grant.0.as_str()).collect();
    let held: Vec<RolePermissionRow> = on_conn!(conn, c => role_permissions::table
        .inner_join(permissions::table)
        .filter(role_permissions::role_id.eq_any(&roles))
        .select((role_permissions::role_id, permissions::name, role_permissions::scope_type, role_permissions::scope_id))
        .load(c)
        .await)?;
    Ok(add_up(&grants, &held))
}

fn add_up(grants: &[GrantRow], held: &[RolePermissionRow]) -> Holdings {
    let mut effective: BTreeMap<_, Held> = BTreeMap::new();
    for (role, grant_kind, grant_id, end) in grants {
        let until = time(*end);
        let Some(granted) = Scope::from_parts(grant_kind, grant_id.as_deref()) else {
            continue;
        };
        for (_, name, kind, id) in held.iter().filter(|row| row.0 == *role) {
            // A permission that a newer program seeded means nothing to this one.
            let Ok(permission) = Permission::parse(name) else {
                continue;
            };
            if let Some(scope) =
                Scope::from_parts(kind, id.as_deref()).and_then(|scope| scope.intersect(&granted))
            {
                let key = (permission, scope.kind(), scope.id().map(str::to_owned));
                let what = EffectivePermission { permission, scope };
                let one = effective.entry(key).or_insert(Held { what, until });
                // A grant without an end outlasts every other.
                one.until = one.until.zip(until).map(|(a, b)| a.max(b));
            }
        }
    }
    let mut roles: Vec<RoleId> = grants
        .iter()
        .map(|grant| RoleId::from_stored(grant.0.clone()))
        .collect();
    roles.dedup();
    Holdings {
        roles,
        permissions: effective.into_values().collect(),
        until: grants.iter().filter_map(|grant| time(grant.3)).min(),
    }
}

/// A grant of a role to an actor.
#[derive(Debug, Clone)]
pub struct NewGrant<'a> {
    /// The id of the grant.
    pub id: ActorRoleId,
    /// To whom.
    pub actor_id: &'a str,
    /// What kind of actor.
    pub actor_type: ActorType,
    /// Which role.
    pub role_id: &'a RoleId,
    /// For what.
    pub scope: Scope,
    /// By whom.
    pub granted_by: &'a str,
    /// When.
    pub granted_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// Grants a role as the program itself does; a grant that exists already stays as it is.
///
/// # Errors
/// [`Error::Reference`] when there is no such role.
pub async fn grant(conn: &mut Conn, grant: &NewGrant<'_>) -> Result<(), Error> {
    let row = (
        actor_roles::id.eq(grant.id.as_str()),
        actor_roles::actor_id.eq(grant.actor_id),
        actor_roles::actor_type.eq(grant.actor_type.as_str()),
        actor_roles::role_id.eq(grant.role_id.as_str()),
        actor_roles::granted_at.eq(At(grant.granted_at)),
        actor_roles::expires_at.eq(grant.expires_at.map(At)),
        actor_roles::granted_by.eq(grant.granted_by),
        actor_roles::scope_type.eq(grant.scope.kind()),
        actor_roles::scope_id.eq(grant.scope.id()),
    );
    on_conn!(conn, c => diesel::insert_into(actor_roles::table).values(row).on_conflict_do_nothing().execute(c).await)?;
    Ok(())
}

/// Takes every grant of an actor away.
///
/// # Errors
/// What the database says.
pub async fn revoke_all(
    conn: &mut Conn,
    actor_id: &str,
    actor_type: ActorType,
) -> Result<usize, Error> {
    let held = actor_roles::table
        .filter(actor_roles::actor_id.eq(actor_id))
        .filter(actor_roles::actor_type.eq(actor_type.as_str()));
    Ok(on_conn!(conn, c => diesel::delete(held).execute(c).await)?)
}

/// Takes one role away from an actor that the program itself granted it; what a person granted stays.
///
/// # Errors
/// What the database says.
pub async fn revoke_own_grant(
    conn: &mut Conn,
    actor_id: &str,
    actor_type: ActorType,
    role: &RoleId,
) -> Result<usize, Error> {
    let held = actor_roles::table
        .filter(actor_roles::actor_id.eq(actor_id))
        .filter(actor_roles::actor_type.eq(actor_type.as_str()))
        .filter(actor_roles::role_id.eq(role.as_str()))
        .filter(actor_roles::granted_by.eq("system"));
    Ok(on_conn!(conn, c => diesel::delete(held).execute(c).await)?)
}

/// Whether a stored key that has not ended holds the administrator's role for everything. A grant alone lets nobody in: the key of the
/// configuration that it is for may be gone.
///
/// # Errors
/// What the database says.
pub async fn an_admin_can_enter(conn: &mut Conn, now: Timestamp) -> Result<bool, Error> {
    let keys = api_keys::table
        .inner_join(actor_roles::table.on(actor_roles::actor_id.eq(api_keys::name)))
        .filter(actor_roles::role_id.eq("r-admin"))
        .filter(actor_roles::scope_type.eq("global"))
        .filter(actor_roles::actor_type.eq(ActorType::ApiKey.as_str()))
        .filter(
            actor_roles::expires_at
                .is_null()
                .or(actor_roles::expires_at.gt(Some(At(now)))),
        )
        .filter(
            api_keys::expires_at
                .is_null()
                .or(api_keys::expires_at.gt(Some(At(now)))),
        );
    let count: i64 = on_conn!(conn, c => keys.count().get_result(c).await)?;
    Ok(count > 0)
}
