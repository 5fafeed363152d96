//! Roles, grants of them, and that nobody hands on what they do not hold.

use std::time::Duration;

use certctl_domain::{
    access::{Actor, ActorType, Permission, Scope, SeededRole},
    id::RoleId,
    page::PageRequest,
};
use certctl_service::{
    config::ServiceConfig,
    grants::{GrantInput, ScopeInput},
    roles::{RoleInput, RolePermissionInput},
};
use certctl_testkit::{TestDb, db_tests, services::config};

use crate::{
    kit::{actor, actor_until},
    support::{World, actor_of, outcome, refusal},
};

fn role_id(id: &str) -> RoleId {
    RoleId::from_stored(id.to_owned())
}

fn named(name: &str) -> RoleInput {
    RoleInput {
        name: name.to_owned(),
        description: String::new(),
    }
}

fn scope(kind: &str, id: &str) -> ScopeInput {
    ScopeInput {
        scope_type: Some(kind.to_owned()),
        scope_id: (!id.is_empty()).then(|| id.to_owned()),
    }
}

fn permission(name: &str, scope: ScopeInput) -> RolePermissionInput {
    RolePermissionInput {
        permission: name.to_owned(),
        scope,
    }
}

fn grant(role: &str, scope: ScopeInput) -> GrantInput {
    GrantInput {
        role_id: role.to_owned(),
        scope,
        expires_at: None,
    }
}

/// What a role permits, in a word each.
async fn permits(world: &World, id: &RoleId) -> Vec<String> {
    let (_, permissions) = world.services.get_role(&world.admin, id).await.unwrap();
    let one = |one: &certctl_domain::access::EffectivePermission| match &one.scope {
        Scope::Global => one.permission.to_string(),
        scope => format!("{}@{}", one.permission, scope.id().unwrap()),
    };
    permissions.iter().map(one).collect()
}

/// The scopes of the grants of a key.
async fn granted(world: &World, key: &str) -> Vec<String> {
    let sql = format!(
        "SELECT role_id || ' ' || scope_type || ' ' || COALESCE(scope_id, '') || ' ' || granted_by AS value FROM actor_roles \
        WHERE actor_id = '{key}' AND actor_type = 'APIKey' ORDER BY 1"
    );
    world.db.texts(&sql).await
}

db_tests! {
    async fn a_role_is_made_changed_and_deleted_while_nobody_holds_it(db: TestDb) {
        let world = World::new(db).await;
        let (s, admin) = (&world.services, &world.admin);
        let role = s.create_role(admin, named("release")).await.unwrap();
        assert!(role.id.as_str().starts_with("r-"));
        assert_eq!(outcome(s.create_role(admin, named("release")).await), "conflict");
        assert_eq!(outcome(s.create_role(admin, named(" ")).await), "invalid name");
        assert_eq!(outcome(s.create_role(admin, named(&"x".repeat(256))).await), "invalid name");
        assert_eq!(outcome(s.update_role(admin, &role.id, named("viewer")).await), "conflict");
        assert_eq!(outcome(s.update_role(admin, &role_id("r-none"), named("x")).await), "no role");
        world.clock.advance(Duration::from_secs(5));
        let changed = s.update_role(admin, &role.id, named("release engineers")).await.unwrap();
        assert_eq!((changed.name.as_str(), changed.created_at, changed.updated_at), ("release engineers", role.created_at, world.now()));
        assert_eq!(s.list_roles(admin, PageRequest::default()).await.unwrap().total, 8);
        let until = world.now() + Duration::from_secs(10);
        s.grant_role(admin, "ci", GrantInput { expires_at: Some(until), ..grant(role.id.as_str(), ScopeInput::default()) }).await.unwrap();
        assert_eq!(outcome(s.delete_role(admin, &role.id).await), "conflict", "it is granted");
        world.clock.advance(Duration::from_secs(10));
        s.delete_role(admin, &role.id).await.unwrap();
        assert_eq!(outcome(s.delete_role(admin, &role.id).await), "no role");
        for seeded in SeededRole::ALL {
            assert_eq!(outcome(s.delete_role(admin, &role_id(&seeded.id())).await), "conflict");
        }
        for (action, times) in [("role.create", 1), ("role.update", 1), ("role.delete", 1), ("actor_role.grant", 1)] {
            assert_eq!(world.recorded(action).await, times, "{action}");
        }
    }

    async fn a_role_permits_what_is_added_until_it_is_removed(db: TestDb) {
        let world = World::new(db).await;
        let (s, admin) = (&world.services, &world.admin);
        let role = s.create_role(admin, named("release")).await.unwrap().id;
        let local = || scope("issuer", "iss-local");
        for _ in 0..2 {
            s.add_role_permission(admin, &role, &permission("cert.read", ScopeInput::default())).await.unwrap();
            s.add_role_permission(admin, &role, &permission("ISSUER.EDIT", scope("Issuer", "iss-local"))).await.unwrap();
            s.add_role_permission(admin, &role, &permission("auth.user.read", scope("global", ""))).await.unwrap();
        }
        assert_eq!(permits(&world, &role).await, ["auth.user.read", "cert.read", "issuer.edit@iss-local"]);
        assert_eq!(world.recorded("role.permission.add").await, 3, "what changes nothing leaves no trace");
        for (wrong, expected) in [
            (permission("moon.land", ScopeInput::default()), "invalid permission"),
            (permission("cert.read", scope("team", "t-1")), "invalid scope_type"),
            (permission("cert.read", scope("issuer", "")), "invalid scope_id"),
            (permission("cert.read", scope("global", "iss-local")), "invalid scope_id"),
            (permission("cert.read", scope("issuer", "iss-none")), "invalid scope_id"),
            (permission("cert.read", scope("profile", "a/b")), "invalid scope_id"),
        ] {
            assert_eq!(outcome(s.add_role_permission(admin, &role, &wrong).await), expected, "{wrong:?}");
        }
        assert_eq!(outcome(s.add_role_permission(admin, &role_id("r-none"), &permission("cert.read", ScopeInput::default())).await), "no role");
        let remove = async |id: &RoleId, name: &str, scope| outcome(s.remove_role_permission(admin, id, &permission(name, scope)).await);
        assert_eq!(remove(&role, "issuer.edit", ScopeInput::default()).await, "ok", "it has it for one issuer, which stays");
        assert_eq!(remove(&role, "issuer.edit", local()).await, "ok");
        assert_eq!(permits(&world, &role).await, ["auth.user.read", "cert.read"]);
        assert_eq!(remove(&role, "moon.land", local()).await, "no permission");
        assert_eq!(remove(&role_id("r-none"), "cert.read", local()).await, "no role");
        assert_eq!(world.recorded("role.permission.remove").await, 1);
        // What the next start would bring back is not taken away; what somebody added is.
        let viewer = role_id("r-viewer");
        assert_eq!(remove(&viewer, "cert.read", ScopeInput::default()).await, "conflict");
        s.add_role_permission(admin, &viewer, &permission("audit.export", ScopeInput::default())).await.unwrap();
        assert_eq!(remove(&viewer, "audit.export", ScopeInput::default()).await, "ok");
    }

    async fn roles_are_granted_to_keys_and_taken_back(db: TestDb) {
        let world = World::new(db).await;
        let (s, admin) = (&world.services, &world.admin);
        let profile = world.ids.profile.as_str().to_owned();
        for scope in [ScopeInput::default(), scope("issuer", "iss-local"), scope("profile", &profile), ScopeInput::default()] {
            s.grant_role(admin, "ci", grant("r-operator", scope)).await.unwrap();
        }
        assert_eq!(granted(&world, "ci").await, [
            "r-operator global  ann".to_owned(),
            "r-operator issuer iss-local ann".to_owned(),
            format!("r-operator profile {profile} ann"),
        ]);
        let past = GrantInput { expires_at: Some(world.now()), ..grant("r-viewer", ScopeInput::default()) };
        assert_eq!(outcome(s.grant_role(admin, "ci", past).await), "invalid expires_at");
        assert_eq!(outcome(s.grant_role(admin, "ci", grant("", ScopeInput::default())).await), "invalid role_id");
        assert_eq!(outcome(s.grant_role(admin, "ci", grant("r-none", ScopeInput::default())).await), "no role");
        assert_eq!(outcome(s.grant_role(admin, "ci", grant("r-viewer", scope("issuer", "iss-none"))).await), "invalid scope_id");
        assert_eq!(outcome(s.grant_role(admin, "actor-demo-anon", grant("r-viewer", ScopeInput::default())).await), "conflict");
        let operator = &role_id("r-operator");
        assert_eq!(outcome(s.revoke_role(admin, "actor-demo-anon", operator, &ScopeInput::default()).await), "conflict");
        assert_eq!(outcome(s.revoke_role(admin, "ci", operator, &scope("issuer", "iss-other")).await), "no grant");
        s.revoke_role(admin, "ci", operator, &scope("issuer", "iss-local")).await.unwrap();
        assert_eq!(outcome(s.revoke_role(admin, "ci", operator, &scope("issuer", "iss-local")).await), "no grant");
        for _ in 0..2 {
            s.revoke_role(admin, "ci", operator, &ScopeInput::default()).await.unwrap();
        }
        assert!(granted(&world, "ci").await.is_empty());
        assert_eq!(world.recorded("actor_role.revoke").await, 2);
    }

    async fn nobody_hands_on_what_they_do_not_hold(db: TestDb) {
        let world = World::new(db).await;
        let s = &world.services;
        // May do everything with roles, and little else.
        let mut held: Vec<Permission> = Permission::ALL.iter().copied().filter(|one| one.as_str().starts_with("auth.role.")).collect();
        held.extend([Permission::CertRead, Permission::AuditRead]);
        let clerk = &actor("clerk", &held, &Scope::Global);
        let role = s.create_role(clerk, named("release")).await.unwrap().id;
        let add = async |who: &Actor, name: &str, scope| outcome(s.add_role_permission(who, &role, &permission(name, scope)).await);
        assert_eq!(add(clerk, "cert.read", ScopeInput::default()).await, "ok");
        assert_eq!(add(clerk, "audit.read", scope("issuer", "iss-local")).await, "ok");
        for name in ["cert.revoke", "auth.key.create", "audit.export"] {
            assert_eq!(add(clerk, name, ScopeInput::default()).await, "not yours", "{name}");
        }
        assert_eq!(permits(&world, &role).await, ["audit.read@iss-local", "cert.read"]);
        s.grant_role(clerk, "ci", grant(role.as_str(), ScopeInput::default())).await.unwrap();
        for wider in SeededRole::ALL {
            let text = refusal(s.grant_role(clerk, "clerk", grant(&wider.id(), ScopeInput::default())).await);
            assert!(text.starts_with("nobody hands on what they do not hold: you lack"), "{text}");
        }
        // Somebody else makes the role wider than the clerk: it can be granted by the clerk no longer.
        assert_eq!(add(&world.admin, "cert.revoke", scope("issuer", "iss-local")).await, "ok");
        let text = refusal(s.grant_role(clerk, "ci", grant(role.as_str(), ScopeInput::default())).await);
        assert!(text.ends_with("you lack cert.revoke for the issuer iss-local"), "{text}");
        // Within another scope the part that is missing does not come along.
        let profile = world.ids.profile.as_str().to_owned();
        s.grant_role(clerk, "ci", grant(role.as_str(), scope("profile", &profile))).await.unwrap();
        // What is held for one issuer is handed on for that issuer and no other.
        let local = Scope::Issuer("iss-local".into());
        let mut scoped = actor("local", Permission::ALL, &local).permissions().to_vec();
        scoped.push(certctl_domain::access::EffectivePermission { permission: Permission::AuthRoleAssign, scope: Scope::Global });
        let local = &Actor::new("local", ActorType::ApiKey, false, Vec::new(), scoped);
        s.grant_role(local, "ci", grant("r-viewer", scope("issuer", "iss-local"))).await.unwrap();
        for wider in [ScopeInput::default(), scope("profile", &profile)] {
            assert_eq!(outcome(s.grant_role(local, "ci", grant("r-viewer", wider)).await), "not yours");
        }
        // An operator's own role is not enough to make operators: that takes the permission to grant.
        let operator = &actor_of("op", ActorType::ApiKey, SeededRole::Operator);
        assert_eq!(outcome(s.grant_role(operator, "ci", grant("r-operator", ScopeInput::default())).await), "needs auth.role.assign");
    }

    async fn nobody_hands_on_for_longer_than_they_hold_it_themselves(db: TestDb) {
        let world = World::new(db).await;
        let s = &world.services;
        let end = world.now() + Duration::from_secs(3600);
        let lent = &actor_until("lent", Permission::ALL, end);
        let until = |expires_at| GrantInput { expires_at, ..grant("r-viewer", ScopeInput::default()) };
        for (wanted, expected) in [(Some(end), "ok"), (Some(end - Duration::from_secs(1)), "ok"), (Some(end + Duration::from_micros(1)), "not yours"), (None, "not yours")] {
            for key in ["ci", "lent"] {
                assert_eq!(outcome(s.grant_role(lent, key, until(wanted)).await), expected, "{wanted:?}");
            }
        }
        let text = refusal(s.grant_role(lent, "ci", until(None)).await);
        assert!(text.ends_with("for everything ends before what you hand on"), "{text}");
        let role = s.create_role(lent, named("release")).await.unwrap().id;
        assert_eq!(outcome(s.add_role_permission(lent, &role, &permission("cert.read", ScopeInput::default())).await), "not yours", "a role has no end");
        assert!(permits(&world, &role).await.is_empty());
        // The same by real grants and keys: an hour's administrator, found by the key.
        let made = s.create_key(&world.admin, certctl_service::keys::KeyInput { name: "hour".into(), ..Default::default() }).await.unwrap();
        s.grant_role(&world.admin, "hour", GrantInput { role_id: "r-admin".into(), scope: ScopeInput::default(), expires_at: Some(end) }).await.unwrap();
        let hour = s.authenticate(made.value.expose()).await.unwrap().unwrap();
        assert_eq!(outcome(s.grant_role(&hour, "hour", GrantInput { role_id: "r-admin".into(), scope: ScopeInput::default(), expires_at: None }).await), "not yours");
        assert_eq!(outcome(s.grant_role(&hour, "ci", until(Some(end))).await), "ok");
        // A second grant without an end makes the first one's end no bound any more, for what the second one holds.
        s.grant_role(&world.admin, "hour", grant("r-viewer", ScopeInput::default())).await.unwrap();
        let hour = s.authenticate(made.value.expose()).await.unwrap().unwrap();
        assert_eq!(outcome(s.grant_role(&hour, "ci", until(None)).await), "ok");
        assert_eq!(outcome(s.grant_role(&hour, "ci", grant("r-operator", ScopeInput::default())).await), "not yours");
    }

    async fn grants_of_the_demo_are_left_where_nobody_was_asked_or_somebody_made_them(db: TestDb) {
        let world = World::new(db).await;
        let s = &world.services;
        assert_eq!(s.look_for_demo_grants().await.unwrap(), 0, "every database begins with one");
        world.db.execute("INSERT INTO actor_roles (id, actor_id, actor_type, role_id) VALUES ('ar-x', 'actor-demo-anon', 'Anonymous', 'r-viewer')").await.unwrap();
        assert_eq!(s.look_for_demo_grants().await.unwrap(), 1);
        let (open, _) = world.replica("open", ServiceConfig { auth_none: true, ..config() });
        for _ in 0..2 {
            assert_eq!(open.look_for_demo_grants().await.unwrap(), 0, "they are in use there");
        }
        assert_eq!(s.look_for_demo_grants().await.unwrap(), 2);
        assert_eq!(world.recorded("auth.demo_residual_grants_detected").await, 2);
        assert_eq!(s.remove_demo_grants(&world.admin).await.unwrap(), 2);
        assert_eq!(s.look_for_demo_grants().await.unwrap(), 0);
    }

    async fn what_is_left_of_a_demo_is_removed_for_good(db: TestDb) {
        let world = World::with(db, ServiceConfig { auth_none: true, ..config() }).await;
        let grants = async || world.db.text("SELECT CAST(count(*) AS TEXT) AS value FROM actor_roles WHERE actor_id = 'actor-demo-anon'").await;
        assert_eq!(grants().await, "1");
        assert_eq!(outcome(world.services.remove_demo_grants(&world.admin).await), "disabled");
        let (asking, _) = world.replica("asking", config());
        assert_eq!(asking.remove_demo_grants(&world.admin).await.unwrap(), 1);
        assert_eq!(asking.remove_demo_grants(&world.admin).await.unwrap(), 0);
        // The next start does not make it again.
        let options = certctl_repository::migrations::Options {
            url: certctl_domain::secret::Secret::new(world.db.url()),
            lock_timeout: Duration::from_secs(60),
            allow_newer: false,
            applied_by: "test".to_owned(),
        };
        let files = certctl_repository::migrations::embedded(world.db.backend());
        certctl_repository::migrations::up(&options, &files).await.unwrap();
        assert_eq!(grants().await, "0");
    }
}
