use std::{collections::BTreeSet, time::Duration};

use certctl_domain::{
    access::{ActorType, ApiKey, Permission, Scope, SeededRole},
    id::{ActorRoleId, RoleId},
    secret::Secret,
};
use certctl_repository::roles::NewGrant;
use certctl_service::{
    access::key_hash,
    config::{ConfiguredKey, ServiceConfig},
};
use certctl_testkit::{
    TestDb, db_tests, entities,
    services::{ADMIN_KEY, config},
};

use crate::support::World;

/// Stores a key with a role.
async fn store(world: &World, name: &str, key: &str, role: SeededRole, ends_in: Option<Duration>) {
    let now = world.now();
    let row = ApiKey {
        name: name.to_owned(),
        key_hash: key_hash(key),
        expires_at: ends_in.map(|rest| now + rest),
        ..entities::api_key(name)
    };
    let role_id = RoleId::from_stored(role.id());
    let grant = NewGrant {
        id: ActorRoleId::generate(now),
        actor_id: name,
        actor_type: ActorType::ApiKey,
        role_id: &role_id,
        scope: Scope::Global,
        granted_by: "test",
        granted_at: now,
        expires_at: None,
    };
    let stored: Result<(), certctl_repository::Error> = certctl_repository::transaction!(world.db, "store key", conn => {
        certctl_repository::api_keys::insert(conn, &row).await?;
        certctl_repository::roles::grant(conn, &grant).await
    });
    stored.unwrap();
}

/// Id and roles of whoever has a key.
async fn who(world: &World, key: &str) -> Option<String> {
    let actor = world.services.authenticate(key).await.unwrap()?;
    let roles: Vec<_> = actor.roles().iter().map(RoleId::as_str).collect();
    Some(format!(
        "{} {} {}",
        actor.actor_type(),
        actor.id(),
        roles.join(",")
    ))
}

fn configured(name: &str, key: &str, admin: bool) -> ConfiguredKey {
    ConfiguredKey {
        name: name.to_owned(),
        key: Secret::new(key),
        admin,
    }
}

db_tests! {
    async fn keys_of_the_configuration_are_known_with_their_roles(db: TestDb) {
        let keys = vec![configured("ops", "ops-key", true), configured("board", "board-key", false), configured("board", "board-key-next", false)];
        let world = World::with(db, ServiceConfig { api_keys: keys, ..config() }).await;
        for _ in 0..2 {
            world.services.grant_configured_keys().await.unwrap();
        }
        assert_eq!(who(&world, "ops-key").await.unwrap(), "APIKey ops r-admin");
        assert_eq!(who(&world, "board-key").await.unwrap(), "APIKey board r-viewer");
        assert_eq!(who(&world, "board-key-next").await.unwrap(), "APIKey board r-viewer", "while a key is replaced both work");
        assert_eq!(who(&world, ADMIN_KEY).await, None, "a key of another configuration");
        for wrong in ["", "ops-key ", "OPS-KEY", "nobody's"] {
            assert_eq!(who(&world, wrong).await, None, "{wrong:?}");
        }
        assert!(world.services.authenticate("ops-key").await.unwrap().unwrap().may(Permission::CertRevoke, &Scope::Global));
    }

    async fn a_stored_key_works_until_it_ends_and_its_use_is_noted(db: TestDb) {
        let world = World::new(db).await;
        store(&world, "ci", "ci-key", SeededRole::Operator, Some(Duration::from_secs(90))).await;
        let used = async || world.db.text("SELECT COALESCE(CAST(last_used_at AS TEXT), 'never') AS value FROM api_keys WHERE name = 'ci'").await;
        let flush = async || world.services.flush_key_uses().await.unwrap();
        let commits = world.db.commits();
        assert_eq!(who(&world, "ci-key").await.unwrap(), "APIKey ci r-operator");
        assert_eq!((used().await.as_str(), world.db.commits()), ("never", commits), "a request costs no commit");
        assert_eq!((flush().await, flush().await), (1, 0));
        let first = used().await;
        assert_ne!(first, "never");
        world.clock.advance(Duration::from_secs(59));
        assert!(who(&world, "ci-key").await.is_some());
        assert_eq!((flush().await, used().await), (0, first.clone()), "noted once a minute");
        world.clock.advance(Duration::from_secs(2));
        assert!(who(&world, "ci-key").await.is_some());
        assert_eq!(flush().await, 1);
        assert_ne!(used().await, first);
        world.clock.advance(Duration::from_millis(28_500));
        assert!(who(&world, "ci-key").await.is_some(), "half a second is left");
        world.clock.advance(Duration::from_millis(500));
        assert_eq!(who(&world, "ci-key").await, None, "what was found a moment ago does not outlive its end");
        world.clock.advance(Duration::from_secs(60));
        assert_eq!(who(&world, "ci-key").await, None);
    }

    async fn what_changes_elsewhere_is_seen_within_a_second(db: TestDb) {
        let world = World::new(db).await;
        store(&world, "ci", "ci-key", SeededRole::Operator, None).await;
        assert!(who(&world, "ci-key").await.is_some());
        world.db.execute("DELETE FROM actor_roles WHERE actor_id = 'ci'").await.unwrap();
        world.clock.advance(Duration::from_millis(499));
        assert_eq!(who(&world, "ci-key").await.unwrap(), "APIKey ci r-operator", "it costs no query");
        world.clock.advance(Duration::from_millis(501));
        assert_eq!(who(&world, "ci-key").await.unwrap(), "APIKey ci ");
        world.db.execute("DELETE FROM api_keys").await.unwrap();
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(who(&world, "ci-key").await, None);
        store(&world, "ci", "ci-key", SeededRole::Viewer, None).await;
        assert_eq!(who(&world, "ci-key").await, None, "that it is unknown is remembered too");
        world.clock.advance(Duration::from_millis(500));
        assert_eq!(who(&world, "ci-key").await.unwrap(), "APIKey ci r-viewer");
    }

    async fn a_clock_that_is_set_back_keeps_nothing_that_was_found(db: TestDb) {
        let world = World::new(db).await;
        store(&world, "ci", "ci-key", SeededRole::Operator, None).await;
        world.clock.advance(Duration::from_secs(3600));
        assert!(who(&world, "ci-key").await.is_some());
        world.db.execute("DELETE FROM api_keys").await.unwrap();
        let earlier = certctl_domain::time::ManualClock::starting_at(world.now() - Duration::from_secs(1800));
        world.clock.set(&earlier);
        assert_eq!(who(&world, "ci-key").await, None);
    }

    async fn the_key_of_a_retired_agent_is_refused_whatever_it_asks(db: TestDb) {
        let world = World::new(db).await;
        let hash = key_hash("agent-key");
        world.db.execute(&format!("UPDATE agents SET api_key_hash = '{hash}' WHERE id = 'ag-web'")).await.unwrap();
        assert!(who(&world, "agent-key").await.unwrap().starts_with("Agent ag-web"));
        let retired = world.services.retire_agent(&world.admin, &world.ids.agent, true, Some("scrapped")).await;
        assert!(retired.is_ok(), "{retired:?}");
        for _ in 0..2 {
            let refused = world.services.authenticate("agent-key").await;
            assert_eq!(refused.unwrap_err().to_string(), "agent ag-web is retired", "found and remembered");
        }
    }

    async fn the_first_key_is_made_once_however_many_servers_start(db: TestDb) {
        let bare = ServiceConfig { api_keys: Vec::new(), ..config() };
        let world = World::with(db, bare.clone()).await;
        let starts: Vec<_> = (0..4).map(|number| {
            let (services, _) = world.replica(&format!("start:{number}"), bare.clone());
            tokio::spawn(async move { services.make_first_key().await.unwrap() })
        }).collect();
        let mut made = Vec::new();
        for start in starts {
            made.extend(start.await.unwrap());
        }
        assert_eq!(made.len(), 1);
        let kept: BTreeSet<String> = world.db.texts("SELECT key_hash AS value FROM api_keys").await.into_iter().collect();
        assert_eq!(kept, BTreeSet::from([key_hash(made[0].expose())]), "as its hash only");
        assert_eq!(who(&world, made[0].expose()).await.unwrap(), "APIKey first-admin r-admin");
        assert!(world.services.make_first_key().await.unwrap().is_none());
        assert_eq!(world.recorded("bootstrap.consume").await, 1);
    }

    async fn a_key_that_is_no_longer_marked_is_no_administrators_any_more(db: TestDb) {
        let world = World::new(db).await;
        let with = |admin| ServiceConfig {
            api_keys: vec![ConfiguredKey { name: "ops".to_owned(), key: Secret::new("ops-key"), admin }],
            ..config()
        };
        for (admin, expected) in [(true, "APIKey ops r-admin"), (false, "APIKey ops r-viewer"), (true, "APIKey ops r-admin")] {
            let (services, _) = world.replica("start:1", with(admin));
            services.grant_configured_keys().await.unwrap();
            let actor = services.authenticate("ops-key").await.unwrap().unwrap();
            let roles: Vec<String> = actor.roles().iter().map(ToString::to_string).collect();
            assert_eq!(format!("{} {} {}", actor.actor_type(), actor.id(), roles.join(" ")), expected);
        }
        // Without any configured key there must be a way in again, whatever grants are left.
        let (services, _) = world.replica("start:2", ServiceConfig { api_keys: Vec::new(), ..config() });
        assert!(services.make_first_key().await.unwrap().is_some());
    }

    async fn no_first_key_where_there_is_another_way_in(db: TestDb) {
        let world = World::new(db).await;
        assert!(world.services.make_first_key().await.unwrap().is_none(), "the configuration names one");
        let (open, _) = world.replica("open:1", ServiceConfig { api_keys: Vec::new(), auth_none: true, ..config() });
        assert!(open.make_first_key().await.unwrap().is_none(), "nobody is asked who they are");
        assert_eq!(world.db.text("SELECT CAST(count(*) AS TEXT) AS value FROM api_keys").await, "0");
    }

    async fn everybody_is_an_administrator_only_where_nobody_is_asked(db: TestDb) {
        let world = World::new(db).await;
        assert!(world.services.demo_actor().is_none());
        let (open, _) = world.replica("open:1", ServiceConfig { auth_none: true, ..config() });
        let actor = open.demo_actor().unwrap();
        assert_eq!((actor.id(), actor.actor_type(), actor.roles()[0].as_str()), ("actor-demo-anon", ActorType::Anonymous, "r-admin"));
        assert!(Permission::ALL.iter().all(|one| actor.may(*one, &Scope::Global)));
    }

    async fn grants_end_when_they_say(db: TestDb) {
        let world = World::new(db).await;
        store(&world, "ci", "ci-key", SeededRole::Viewer, None).await;
        let later = world.now() + Duration::from_secs(10);
        let role_id = RoleId::from_stored(SeededRole::Operator.id());
        let grant = NewGrant { id: ActorRoleId::generate(world.now()), actor_id: "ci", actor_type: ActorType::ApiKey, role_id: &role_id, scope: Scope::Global, granted_by: "test", granted_at: world.now(), expires_at: Some(later) };
        let granted: Result<(), certctl_repository::Error> = certctl_repository::transaction!(world.db, "grant", conn => { certctl_repository::roles::grant(conn, &grant).await });
        granted.unwrap();
        assert_eq!(who(&world, "ci-key").await.unwrap(), "APIKey ci r-operator,r-viewer");
        world.clock.advance(Duration::from_secs(11));
        assert_eq!(who(&world, "ci-key").await.unwrap(), "APIKey ci r-viewer");
    }
}
