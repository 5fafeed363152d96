//! Roles, grants, and what they add up to for an actor.

use std::collections::BTreeMap;

use certctl_domain::{
    access::{ActorType, EffectivePermission, Permission, Scope},
    id::{ActorRoleId, RoleId},
    time::Timestamp,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    Conn, Error,
    schema::{actor_roles, api_keys, permissions, role_permissions},
    types::At,
};

/// The roles of an actor and what it may do by them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// The ids of the roles, in order.
    pub roles: Vec<RoleId>,
    /// Every permission with its scope, without duplicates.
    pub permissions: Vec<EffectivePermission>,
}

type GrantRow = (String, String, Option<String>);
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
        .select((actor_roles::role_id, actor_roles::scope_type, actor_roles::scope_id))
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
    let mut effective = BTreeMap::new();
    for (role, grant_kind, grant_id) in grants {
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
                effective.insert(key, EffectivePermission { permission, scope });
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

/// Grants a role; a grant that exists already stays as it is.
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

/// Whether a stored key that has not ended holds the administrator's role. A grant alone lets nobody in: the key of the
/// configuration that it is for may be gone.
///
/// # Errors
/// What the database says.
pub async fn an_admin_can_enter(conn: &mut Conn, now: Timestamp) -> Result<bool, Error> {
    let keys = api_keys::table
        .inner_join(actor_roles::table.on(actor_roles::actor_id.eq(api_keys::name)))
        .filter(actor_roles::role_id.eq("r-admin"))
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
