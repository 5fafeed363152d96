//! Who may do what: actors, grants, scopes.

mod key_name;
mod permission;

use std::{fmt, sync::Arc};

pub use key_name::{KeyName, is_reserved_actor};
pub use permission::{Permission, SeededRole};

use crate::{
    id::{ApiKeyId, RoleId},
    text_enum,
    time::Timestamp,
};

text_enum! {
    /// What kind of actor does something.
    pub enum ActorType ("actor type") {
        /// A person.
        User = "User",
        /// certctl itself.
        System = "System",
        /// An agent with its own key.
        Agent = "Agent",
        /// A program with an API key.
        ApiKey = "APIKey",
        /// Nobody in particular.
        Anonymous = "Anonymous",
    }
}

/// The actor of `CERTCTL_AUTH_TYPE=none`, whose grants nobody changes by hand.
pub const DEMO_ACTOR: &str = "actor-demo-anon";

/// The one tenant there is.
pub const DEFAULT_TENANT: &str = "t-default";

/// What a grant or a role's permission extends to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everything.
    Global,
    /// One profile.
    Profile(String),
    /// One issuer.
    Issuer(String),
}

impl Scope {
    /// The narrower of two scopes, or none where they have nothing in common (model §4, scope algebra).
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Global, scope) | (scope, Self::Global) => Some(scope.clone()),
            (a, b) if a == b => Some(a.clone()),
            _ => None,
        }
    }

    /// The name of the kind of scope.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Profile(_) => "profile",
            Self::Issuer(_) => "issuer",
        }
    }

    /// The id it is restricted to.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Global => None,
            Self::Profile(id) | Self::Issuer(id) => Some(id),
        }
    }

    /// Reads the two columns it is stored in.
    #[must_use]
    pub fn from_parts(kind: &str, id: Option<&str>) -> Option<Self> {
        match (kind, id) {
            ("global", None) => Some(Self::Global),
            ("profile", Some(id)) => Some(Self::Profile(id.to_owned())),
            ("issuer", Some(id)) => Some(Self::Issuer(id.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id() {
            None => f.write_str("everything"),
            Some(id) => write!(f, "the {} {id}", self.kind()),
        }
    }
}

/// A permission an actor has, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EffectivePermission {
    /// The permission.
    pub permission: Permission,
    /// What it extends to.
    pub scope: Scope,
}

/// A permission with the time until which it is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The permission, and for what.
    pub what: EffectivePermission,
    /// When it ends, exclusive; none where nothing ends it.
    pub until: Option<Timestamp>,
}

impl Held {
    /// What nothing ends.
    #[must_use]
    pub const fn for_good(what: EffectivePermission) -> Self {
        Self { what, until: None }
    }

    /// The same, ending at `end` at the latest.
    #[must_use]
    pub fn ending(self, end: Option<Timestamp>) -> Self {
        let until = self.until.into_iter().chain(end).min();
        Self { until, ..self }
    }

    /// Whether it is held for at least as much, and at least as long, as another.
    fn covers(&self, other: &Self) -> bool {
        let as_long = match (self.until, other.until) {
            (None, _) => true,
            (Some(mine), Some(end)) => mine >= end,
            (Some(_), None) => false,
        };
        let as_wide = self.what.scope == Scope::Global || self.what.scope == other.what.scope;
        self.what.permission == other.what.permission && as_wide && as_long
    }
}

/// Who asks, with everything that decides what they may do. Made by authentication only; cheap to clone.
#[derive(Clone)]
pub struct Actor(Arc<ActorInner>);

struct ActorInner {
    id: String,
    actor_type: ActorType,
    admin: bool,
    roles: Vec<RoleId>,
    permissions: Vec<EffectivePermission>,
    /// The same again with their ends; a permission stands here once for each end it has.
    held: Vec<Held>,
}

impl Actor {
    /// An actor that holds these permissions for good.
    #[must_use]
    pub fn new(
        id: impl Into<String>,
        actor_type: ActorType,
        admin: bool,
        roles: Vec<RoleId>,
        permissions: Vec<EffectivePermission>,
    ) -> Self {
        let held = permissions.into_iter().map(Held::for_good).collect();
        Self::holding(id, actor_type, admin, roles, held)
    }

    /// An actor with the permissions its grants give it, each for as long as they do.
    #[must_use]
    pub fn holding(
        id: impl Into<String>,
        actor_type: ActorType,
        admin: bool,
        roles: Vec<RoleId>,
        held: Vec<Held>,
    ) -> Self {
        Self(Arc::new(ActorInner {
            id: id.into(),
            actor_type,
            admin,
            roles,
            permissions: held.iter().map(|one| one.what.clone()).collect(),
            held,
        }))
    }

    /// certctl itself, which may do everything: loops, start-up, recovery.
    #[must_use]
    pub fn system() -> Self {
        let permissions = Permission::ALL
            .iter()
            .map(|permission| EffectivePermission {
                permission: *permission,
                scope: Scope::Global,
            })
            .collect();
        Self::new("system", ActorType::System, false, Vec::new(), permissions)
    }

    /// An actor without any permission.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new(
            "anonymous",
            ActorType::Anonymous,
            false,
            Vec::new(),
            Vec::new(),
        )
    }

    /// The id that audit rows carry.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// What kind of actor.
    #[must_use]
    pub fn actor_type(&self) -> ActorType {
        self.0.actor_type
    }

    /// Whether its key carries the admin flag; reported, never asked for a decision (model §4).
    #[must_use]
    pub fn has_admin_flag(&self) -> bool {
        self.0.admin
    }

    /// The roles it was granted.
    #[must_use]
    pub fn roles(&self) -> &[RoleId] {
        &self.0.roles
    }

    /// Everything it may do.
    #[must_use]
    pub fn permissions(&self) -> &[EffectivePermission] {
        &self.0.permissions
    }

    /// Whether it holds the permission globally or for exactly `scope`.
    #[must_use]
    pub fn may(&self, permission: Permission, scope: &Scope) -> bool {
        self.0.permissions.iter().any(|held| {
            held.permission == permission && (held.scope == Scope::Global || held.scope == *scope)
        })
    }

    /// The first of these that the actor does not hold at least as widely and as long; what an actor lacks it can give to nobody.
    #[must_use]
    pub fn lacks<'a>(&self, wanted: impl IntoIterator<Item = &'a Held>) -> Option<&'a Held> {
        wanted
            .into_iter()
            .find(|one| !self.0.held.iter().any(|held| held.covers(one)))
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Actor({} {})", self.0.actor_type, self.0.id)
    }
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// The id.
    pub id: RoleId,
    /// The name, unique in the tenant.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// An API key as it is stored: never the key, only its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The id.
    pub id: ApiKeyId,
    /// The name, unique; it is the actor's id.
    pub name: String,
    /// SHA-256 of the key, lowercase hex.
    pub key_hash: String,
    /// What the key was before it was rotated, while that is still accepted.
    pub previous: Option<PreviousKey>,
    /// Whether it was made for an administrator.
    pub admin: bool,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

impl ApiKey {
    /// Whether the key has ended.
    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// A key that was rotated and is accepted for a while beside the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousKey {
    /// SHA-256 of the key, lowercase hex.
    pub key_hash: String,
    /// Until when it is accepted, exclusive.
    pub valid_until: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::{Actor, ActorType, EffectivePermission, Held, Permission, Scope};
    use crate::time::Timestamp;

    #[test]
    fn scopes_intersect_as_the_algebra_says() {
        let issuer = Scope::Issuer("iss-local".into());
        assert_eq!(Scope::Global.intersect(&issuer), Some(issuer.clone()));
        assert_eq!(issuer.intersect(&issuer), Some(issuer.clone()));
        assert_eq!(issuer.intersect(&Scope::Issuer("other".into())), None);
        assert_eq!(issuer.intersect(&Scope::Profile("iss-local".into())), None);
    }

    #[test]
    fn a_scoped_permission_reaches_its_own_scope_only() {
        let held = EffectivePermission {
            permission: Permission::IssuerEdit,
            scope: Scope::Issuer("a".into()),
        };
        let actor = Actor::new("k", ActorType::ApiKey, false, Vec::new(), vec![held]);
        assert!(actor.may(Permission::IssuerEdit, &Scope::Issuer("a".into())));
        assert!(!actor.may(Permission::IssuerEdit, &Scope::Issuer("b".into())));
        assert!(!actor.may(Permission::IssuerEdit, &Scope::Global));
        assert!(!Actor::anonymous().may(Permission::CertRead, &Scope::Global));
        assert!(Actor::system().may(Permission::CertRead, &Scope::Global));
    }

    fn of(permission: Permission, scope: &Scope, until: Option<i64>) -> Held {
        Held {
            what: EffectivePermission {
                permission,
                scope: scope.clone(),
            },
            until: until.map(Timestamp::from_seconds),
        }
    }

    fn holder(held: Vec<Held>) -> Actor {
        Actor::holding("k", ActorType::ApiKey, false, Vec::new(), held)
    }

    #[test]
    fn an_actor_lacks_what_is_wider_than_what_it_holds() {
        let (a, b) = (Scope::Issuer("a".into()), Scope::Issuer("b".into()));
        let held = vec![
            of(Permission::IssuerEdit, &a, None),
            of(Permission::CertRead, &Scope::Global, None),
        ];
        let actor = holder(held.clone());
        assert_eq!(actor.lacks(&held), None);
        assert_eq!(actor.lacks(&[of(Permission::CertRead, &b, None)]), None);
        for wider in [&b, &Scope::Global] {
            let wanted = [
                of(Permission::CertRead, &Scope::Global, None),
                of(Permission::IssuerEdit, wider, None),
            ];
            assert_eq!(actor.lacks(&wanted), Some(&wanted[1]));
        }
    }

    #[test]
    fn an_actor_lacks_what_lasts_longer_than_what_it_holds() {
        let local = Scope::Issuer("a".into());
        let actor = holder(vec![
            of(Permission::IssuerEdit, &Scope::Global, Some(100)),
            of(Permission::IssuerEdit, &local, None),
        ]);
        for (scope, until, lacks) in [
            (&Scope::Global, Some(99), false),
            (&Scope::Global, Some(100), false),
            (&Scope::Global, Some(101), true),
            (&Scope::Global, None, true),
            (&local, None, false),
            (&Scope::Issuer("b".into()), None, true),
            (&Scope::Issuer("b".into()), Some(100), false),
        ] {
            let wanted = [of(Permission::IssuerEdit, scope, until)];
            assert_eq!(actor.lacks(&wanted).is_some(), lacks, "{wanted:?}");
        }
        let end = |seconds| Some(Timestamp::from_seconds(seconds));
        let one = of(Permission::IssuerEdit, &local, Some(50));
        assert_eq!(one.clone().ending(end(60)).until, end(50));
        assert_eq!(one.clone().ending(end(40)).until, end(40));
        assert_eq!(one.ending(None).until, end(50));
    }
}
