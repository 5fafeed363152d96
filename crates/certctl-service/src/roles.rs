//! Roles and what they permit.

use certctl_domain::{
    access::{Actor, EffectivePermission, Held, Permission, Role, SeededRole},
    audit::EventCategory,
    id::RoleId,
    page::{Page, PageRequest},
    validation::{MAX_NAME, optional_text, required_text},
};
use certctl_repository::{grants, roles, transaction};
use serde_json::json;

use crate::{
    Error, Services,
    error::Expect as _,
    grants::{ScopeInput, exists, may_hand_on},
    input::{deleted, one_of},
    services::{authorise, event, record},
};

/// What a caller says of a role.
#[derive(Debug, Clone, Default)]
pub struct RoleInput {
    /// The name; required, unique.
    pub name: String,
    /// What it is for.
    pub description: String,
}

/// What a caller says of something a role permits.
#[derive(Debug, Clone, Default)]
pub struct RolePermissionInput {
    /// The permission by its name; required.
    pub permission: String,
    /// For what.
    pub scope: ScopeInput,
}

impl RolePermissionInput {
    fn parse(&self) -> Result<EffectivePermission, Error> {
        Ok(EffectivePermission {
            permission: one_of("permission", &self.permission, Permission::parse)?,
            scope: self.scope.parse()?,
        })
    }
}

impl Services {
    /// Lists roles by name.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `auth.role.list`.
    pub async fn list_roles(&self, actor: &Actor, page: PageRequest) -> Result<Page<Role>, Error> {
        authorise(actor, Permission::AuthRoleList)?;
        Ok(roles::list(&mut self.read().await?, page).await?)
    }

    /// Reads a role and what it permits.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `auth.role.list`, [`Error::NotFound`].
    pub async fn get_role(
        &self,
        actor: &Actor,
        id: &RoleId,
    ) -> Result<(Role, Vec<EffectivePermission>), Error> {
        authorise(actor, Permission::AuthRoleList)?;
        let mut conn = self.read().await?;
        let role = roles::find(&mut conn, id).await.or_not_found("role", id)?;
        Ok((role, roles::permissions_of(&mut conn, id).await?))
    }

    /// Makes a role that permits nothing yet.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `auth.role.create`, [`Error::Invalid`], [`Error::Conflict`] when the name is taken.
    pub async fn create_role(&self, actor: &Actor, input: RoleInput) -> Result<Role, Error> {
        authorise(actor, Permission::AuthRoleCreate)?;
        let now = self.now();
        let role = Role {
            id: RoleId::generate(now),
            name: required_text("name", &input.name, MAX_NAME)?,
            description: optional_text("description", &input.description, 4096)?,
            created_at: now,
            updated_at: now,
        };
        transaction!(self.db, "create role", conn => {
            roles::insert(conn, &role).await.or_conflict(|| format!("a role named {:?} exists", role.name))?;
            record(conn, event(actor, EventCategory::Auth, "role.create", ("role", role.id.as_str()), json!({"role": role.name}), now)).await
        })?;
        Ok(role)
    }

    /// Gives a role another name and description; what it permits stays.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `auth.role.edit`, [`Error::NotFound`], [`Error::Invalid`], [`Error::Conflict`].
    pub async fn update_role(
        &self,
        actor: &Actor,
        id: &RoleId,
        input: RoleInput,
    ) -> Result<Role, Error> {
        authorise(actor, Permission::AuthRoleEdit)?;
        let now = self.now();
        let name = required_text("name", &input.name, MAX_NAME)?;
        let description = optional_text("description", &input.description, 4096)?;
        transaction!(self.db, "update role", conn => {
            let mut role = roles::find(conn, id).await.or_not_found("role", id)?;
            role.name.clone_from(&name);
            role.description.clone_from(&description);
            role.updated_at = now;
            roles::update(conn, &role).await.or_conflict(|| format!("a role named {name:?} exists"))?;
            record(conn, event(actor, EventCategory::Auth, "role.update", ("role", id.as_str()), json!({"role": name}), now)).await?;
            Ok::<_, Error>(role)
        })
    }

    /// Deletes a role that nobody holds.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `auth.role.delete`, [`Error::NotFound`], [`Error::Conflict`] while it is granted, and for the
    /// roles that every installation has.
    pub async fn delete_role(&self, actor: &Actor, id: &RoleId) -> Result<(), Error> {
        authorise(actor, Permission::AuthRoleDelete)?;
        if SeededRole::of_id(id.as_str()).is_some() {
            return Err(Error::Conflict(
                "every installation has this role; it is not deleted".to_owned(),
            ));
        }
        let now = self.now();
        transaction!(self.db, "delete role", conn => {
            // Grants that have ended are nobody's any more.
            grants::drop_ended(conn, id, now).await?;
            deleted(roles::delete(conn, id).await, "role", id, "the role is granted to somebody")?;
            record(conn, event(actor, EventCategory::Auth, "role.delete", ("role", id.as_str()), json!({}), now)).await
        })?;
        self.access.clear();
        Ok(())
    }

    /// Lets a role permit something more; nothing changes when it did so before.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `auth.role.edit`, [`Error::NotYours`] for what the actor does not hold itself, or
    /// not for good, [`Error::Invalid`] for a permission that is none and for a scope that leads nowhere, [`Error::NotFound`].
    pub async fn add_role_permission(
        &self,
        actor: &Actor,
        id: &RoleId,
        input: &RolePermissionInput,
    ) -> Result<(), Error> {
        authorise(actor, Permission::AuthRoleEdit)?;
        let added = input.parse()?;
        // What a role permits has no end, whoever holds the role.
        may_hand_on(actor, &[Held::for_good(added.clone())])?;
        let now = self.now();
        transaction!(self.db, "add role permission", conn => {
            roles::find(conn, id).await.or_not_found("role", id)?;
            exists(conn, &added.scope).await?;
            if roles::add_permission(conn, id, &added).await.or_not_found("role", id)? {
                record(conn, event(actor, EventCategory::Auth, "role.permission.add", ("role", id.as_str()), of(&added), now)).await?;
            }
            Ok::<_, Error>(())
        })?;
        self.access.clear();
        Ok(())
    }

    /// Takes a permission from a role; nothing changes when the role did not have it.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `auth.role.edit`, [`Error::NotFound`] for a role or permission that is none,
    /// [`Error::Invalid`], [`Error::Conflict`] for what a role of every installation has by definition.
    pub async fn remove_role_permission(
        &self,
        actor: &Actor,
        id: &RoleId,
        input: &RolePermissionInput,
    ) -> Result<(), Error> {
        authorise(actor, Permission::AuthRoleEdit)?;
        let permission = Permission::parse(&input.permission)
            .map_err(|_| Error::not_found("permission", &input.permission))?;
        let removed = EffectivePermission {
            permission,
            scope: input.scope.parse()?,
        };
        // The next start would add it again; and without it in `r-admin` nobody could repair anything.
        let is_by_definition = SeededRole::of_id(id.as_str())
            .is_some_and(|role| role.holds(permission) && removed.scope.id().is_none());
        if is_by_definition {
            return Err(Error::Conflict(
                "every installation has this role with this permission; make a role of your own"
                    .to_owned(),
            ));
        }
        let now = self.now();
        transaction!(self.db, "remove role permission", conn => {
            roles::find(conn, id).await.or_not_found("role", id)?;
            if roles::remove_permission(conn, id, &removed).await? {
                record(conn, event(actor, EventCategory::Auth, "role.permission.remove", ("role", id.as_str()), of(&removed), now)).await?;
            }
            Ok::<_, Error>(())
        })?;
        self.access.clear();
        Ok(())
    }
}

fn of(one: &EffectivePermission) -> serde_json::Value {
    json!({"permission": one.permission.as_str(), "scope_type": one.scope.kind(), "scope_id": one.scope.id()})
}
