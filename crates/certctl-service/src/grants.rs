//! Granting roles to keys and taking them back.
//!
//! Nobody hands on what they do not hold: whoever grants a role, adds to one, or makes or rotates a key must hold everything that
//! comes of it, each permission at least as widely and as long. It is looked at in the transaction that writes, so that a role cannot grow in
//! between.

use certctl_domain::{
    access::{
        Actor, ActorType, DEMO_ACTOR, EffectivePermission, Held, Permission, Scope,
        is_reserved_actor,
    },
    audit::EventCategory,
    id::{ActorRoleId, ApiKeyId, IssuerId, ProfileId, RoleId},
    time::Timestamp,
    validation::InvalidField,
};
use certctl_repository::{
    Conn, Error as RepositoryError, api_keys, grants, installation, issuers, profiles, roles,
    transaction,
};
use serde_json::json;

use crate::{
    Error, Services,
    error::Expect as _,
    input::known,
    services::{authorise, event, record},
};

/// The grant of the demo actor that the baseline seed makes.
const SEEDED_DEMO_GRANT: &str = "ar-demo-anon-admin";

/// What a grant or a permission extends to, as a caller says it; nothing said is everything.
#[derive(Debug, Clone, Default)]
pub struct ScopeInput {
    /// `global`, `profile` or `issuer`.
    pub scope_type: Option<String>,
    /// The profile or issuer.
    pub scope_id: Option<String>,
}

impl ScopeInput {
    /// Whether the caller said nothing.
    #[must_use]
    pub fn is_unsaid(&self) -> bool {
        self.scope_type.is_none() && self.scope_id.is_none()
    }

    /// # Errors
    /// [`InvalidField`] for a kind that is none, and for an id where none belongs or one is missing.
    pub(crate) fn parse(&self) -> Result<Scope, InvalidField> {
        let kind = self.scope_type.as_deref().unwrap_or("global");
        let kind = kind.to_ascii_lowercase();
        match (kind.as_str(), self.scope_id.as_deref()) {
            ("global", None) => Ok(Scope::Global),
            ("global", Some(_)) => Err(InvalidField::new(
                "scope_id",
                "belongs to a scope_type of profile or issuer",
            )),
            ("profile" | "issuer", None) => Err(InvalidField::required("scope_id")),
            (kind @ ("profile" | "issuer"), Some(id)) => {
                // Ids of both kinds have one alphabet.
                let id = ProfileId::parse(id)
                    .map_err(|error| InvalidField::new("scope_id", error.to_string()))?
                    .into_string();
                Ok(match kind {
                    "profile" => Scope::Profile(id),
                    _ => Scope::Issuer(id),
                })
            }
            _ => Err(InvalidField::new(
                "scope_type",
                "is global, profile or issuer",
            )),
        }
    }
}

/// What a caller says of a grant.
#[derive(Debug, Clone, Default)]
pub struct GrantInput {
    /// Which role; required.
    pub role_id: String,
    /// For what.
    pub scope: ScopeInput,
    /// When it ends; must be in the future.
    pub expires_at: Option<Timestamp>,
}

impl Services {
    /// Grants a role to the key of this name or id. The same grant again gets the new end.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `auth.role.assign`, [`Error::NotYours`] for a role that permits what the actor does not hold,
    /// [`Error::Invalid`], [`Error::NotFound`] when there is no such role, [`Error::Conflict`] for an actor of the program itself.
    pub async fn grant_role(
        &self,
        actor: &Actor,
        key: &str,
        input: GrantInput,
    ) -> Result<(), Error> {
        authorise(actor, Permission::AuthRoleAssign)?;
        not_reserved(key)?;
        let now = self.now();
        if input.role_id.is_empty() {
            return Err(InvalidField::required("role_id").into());
        }
        // What cannot be an id belongs to no role.
        let role =
            RoleId::parse(&input.role_id).map_err(|_| Error::not_found("role", &input.role_id))?;
        let scope = input.scope.parse()?;
        ends_later(input.expires_at, now)?;
        transaction!(self.db, "grant role", conn => {
            roles::find(conn, &role).await.or_not_found("role", &role)?;
            exists(conn, &scope).await?;
            may_grant(conn, actor, &role, &scope, input.expires_at).await?;
            let name = actor_id(conn, key).await?;
            let grant = roles::NewGrant {
                id: ActorRoleId::generate(now),
                actor_id: &name,
                actor_type: ActorType::ApiKey,
                role_id: &role,
                scope: scope.clone(),
                granted_by: actor.id(),
                granted_at: now,
                expires_at: input.expires_at,
            };
            grants::give(conn, &grant).await.or_not_found("role", &role)?;
            let details = json!({"role_id": role.as_str(), "scope_type": scope.kind(), "scope_id": scope.id(),
                "expires_at": input.expires_at.map(Timestamp::to_rfc3339)});
            record(conn, event(actor, EventCategory::Auth, "actor_role.grant", ("actor", &name), details, now)).await
        })?;
        self.access.clear();
        Ok(())
    }

    /// Takes a role from the key of this name or id: for one scope, or with nothing said for all.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `auth.role.revoke`, [`Error::Invalid`], [`Error::NotFound`] when a scope was said and there is
    /// no such grant, [`Error::Conflict`] for an actor of the program itself.
    pub async fn revoke_role(
        &self,
        actor: &Actor,
        key: &str,
        role: &RoleId,
        scope: &ScopeInput,
    ) -> Result<(), Error> {
        authorise(actor, Permission::AuthRoleRevoke)?;
        not_reserved(key)?;
        let now = self.now();
        let scope = match scope.is_unsaid() {
            true => None,
            false => Some(scope.parse()?),
        };
        transaction!(self.db, "revoke role", conn => {
            let name = actor_id(conn, key).await?;
            let taken = grants::take(conn, &name, ActorType::ApiKey, role, scope.as_ref()).await?;
            if taken == 0 {
                return match &scope {
                    None => Ok(()),
                    Some(_) => Err(Error::not_found("grant", format!("of {role} to {name}"))),
                };
            }
            let details = json!({"role_id": role.as_str(), "grants": taken,
                "scope_type": scope.as_ref().map(Scope::kind), "scope_id": scope.as_ref().and_then(Scope::id)});
            record(conn, event(actor, EventCategory::Auth, "actor_role.revoke", ("actor", &name), details, now)).await
        })?;
        self.access.clear();
        Ok(())
    }

    /// Looks at a start for what is left of a server that asked nobody who they are: grants of the demo actor that somebody could
    /// have used, since certctl ran without authentication on this database, or that somebody made. The grant that every database
    /// begins with is none where everybody was always asked. Returns how many there are.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn look_for_demo_grants(&self) -> Result<usize, Error> {
        const RAN_OPEN: &str = "ran_without_authentication";
        let now = self.now();
        if self.config.auth_none {
            transaction!(self.db, "note that nobody is asked", conn => {
                Ok::<_, Error>(installation::claim(conn, RAN_OPEN, &self.config.instance, now).await?)
            })?;
            return Ok(0);
        }
        let mut conn = self.read().await?;
        let ran_open = installation::get(&mut conn, RAN_OPEN).await?.is_some();
        let mut left = grants::ids_of(&mut conn, DEMO_ACTOR, ActorType::Anonymous).await?;
        drop(conn);
        left.retain(|id| ran_open || id != SEEDED_DEMO_GRANT);
        if left.is_empty() {
            return Ok(0);
        }
        tracing::warn!(
            grants = left.len(),
            "grants of the demo actor are left from a time without authentication; POST /api/v1/auth/demo-residual/cleanup removes them"
        );
        transaction!(self.db, "record demo grants", conn => {
            let details = json!({"grants": &left});
            let resource = ("actor", DEMO_ACTOR);
            record(conn, event(&Actor::system(), EventCategory::Auth, "auth.demo_residual_grants_detected", resource, details, now)).await
        })?;
        Ok(left.len())
    }

    /// Removes what is left of a server that asked nobody who they are: the grants of the demo actor, for good. How many there
    /// were.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `auth.role.assign`, [`Error::Disabled`] on a server that still asks nobody.
    pub async fn remove_demo_grants(&self, actor: &Actor) -> Result<usize, Error> {
        authorise(actor, Permission::AuthRoleAssign)?;
        if self.config.auth_none {
            return Err(Error::Disabled(
                "the demo actor is in use: CERTCTL_AUTH_TYPE is none".to_owned(),
            ));
        }
        let now = self.now();
        let removed = transaction!(self.db, "remove demo grants", conn => {
            let removed = roles::revoke_all(conn, DEMO_ACTOR, ActorType::Anonymous).await?;
            // Otherwise the next start would make the grant again.
            installation::claim(conn, "demo_grants_removed", actor.id(), now).await?;
            let details = json!({"removed": removed});
            record(conn, event(actor, EventCategory::Auth, "auth.demo_residual_grants_removed", ("actor", DEMO_ACTOR), details, now)).await?;
            Ok::<_, Error>(removed)
        })?;
        self.access.clear();
        Ok(removed)
    }
}

/// Refuses an actor that lacks part of what it would hand on, or does not hold it for as long.
pub(crate) fn may_hand_on(actor: &Actor, wanted: &[Held]) -> Result<(), Error> {
    let Some(one) = actor.lacks(wanted) else {
        return Ok(());
    };
    let EffectivePermission { permission, scope } = &one.what;
    let problem = if actor.may(*permission, scope) {
        format!(
            "nobody hands on what they do not hold: your {permission} for {scope} ends before what you hand on"
        )
    } else {
        format!("nobody hands on what they do not hold: you lack {permission} for {scope}")
    };
    Err(Error::NotYours(problem))
}

/// Refuses an actor that lacks part of what a role permits within a scope, until `until`.
pub(crate) async fn may_grant(
    conn: &mut Conn,
    actor: &Actor,
    role: &RoleId,
    scope: &Scope,
    until: Option<Timestamp>,
) -> Result<(), Error> {
    let permitted = roles::permissions_of(conn, role).await?;
    let within: Vec<Held> = permitted
        .into_iter()
        .filter_map(|one| {
            let scope = one.scope.intersect(scope)?;
            let permission = one.permission;
            let what = EffectivePermission { permission, scope };
            Some(Held { what, until })
        })
        .collect();
    may_hand_on(actor, &within)
}

/// Refuses a scope that leads nowhere: such a grant would come alive with whatever gets that id later.
pub(crate) async fn exists(conn: &mut Conn, scope: &Scope) -> Result<(), Error> {
    match scope {
        Scope::Global => Ok(()),
        Scope::Profile(id) => {
            let id = ProfileId::from_stored(id.clone());
            known("scope_id", profiles::find(conn, &id).await).map(drop)
        }
        Scope::Issuer(id) => {
            let id = IssuerId::from_stored(id.clone());
            known("scope_id", issuers::find(conn, &id).await).map(drop)
        }
    }
}

/// Refuses an end that has passed.
pub(crate) fn ends_later(end: Option<Timestamp>, now: Timestamp) -> Result<(), InvalidField> {
    match end {
        Some(end) if end <= now => Err(InvalidField::new("expires_at", "is not in the future")),
        _ => Ok(()),
    }
}

fn not_reserved(key: &str) -> Result<(), Error> {
    if is_reserved_actor(key) {
        return Err(Error::Conflict(format!(
            "{key} is an actor of the program itself; its grants are not changed by hand"
        )));
    }
    Ok(())
}

/// The actor of a key: the name itself, or the name of the stored key with this id.
async fn actor_id(conn: &mut Conn, key: &str) -> Result<String, Error> {
    match api_keys::find(conn, &ApiKeyId::from_stored(key.to_owned())).await {
        Ok(stored) => Ok(stored.name),
        Err(RepositoryError::NotFound) => Ok(key.to_owned()),
        Err(error) => Err(error.into()),
    }
}
