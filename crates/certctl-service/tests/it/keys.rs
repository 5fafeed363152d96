//! API keys made, rotated and deleted over the API.

use std::time::Duration;

use certctl_domain::{
    access::{ActorType, Permission, Scope, SeededRole},
    id::RoleId,
    page::PageRequest,
    secret::Secret,
};
use certctl_service::{
    config::{ConfiguredKey, ServiceConfig},
    grants::{GrantInput, ScopeInput},
    keys::{KeyInput, MAX_GRACE, ShownKey},
};
use certctl_testkit::{TestDb, db_tests, services::config};

use crate::{
    kit::{actor, actor_until},
    support::{World, actor_of, outcome, refusal},
};

fn key(name: &str, roles: &[&str]) -> KeyInput {
    KeyInput {
        name: name.to_owned(),
        role_ids: roles.iter().map(ToString::to_string).collect(),
        expires_at: None,
    }
}

async fn is_known(world: &World, value: &str) -> bool {
    world.services.authenticate(value).await.unwrap().is_some()
}

async fn make(world: &World, name: &str, roles: &[&str]) -> ShownKey {
    world
        .services
        .create_key(&world.admin, key(name, roles))
        .await
        .unwrap()
}

/// A world whose configuration has a key of a viewer.
async fn with_a_configured_key(db: TestDb) -> World {
    let keys = vec![ConfiguredKey {
        name: "board".to_owned(),
        key: Secret::new("board-key"),
        admin: false,
    }];
    let config = ServiceConfig {
        api_keys: keys,
        ..config()
    };
    let world = World::with(db, config).await;
    world.services.grant_configured_keys().await.unwrap();
    world
}

db_tests! {
    async fn a_key_is_made_shown_once_and_works_until_it_ends(db: TestDb) {
        let world = World::new(db).await;
        let until = world.now() + Duration::from_secs(60);
        let input = KeyInput { expires_at: Some(until), ..key("ci", &["r-viewer", "r-auditor", "r-viewer"]) };
        let made = world.services.create_key(&world.admin, input).await.unwrap();
        let value = made.value.expose();
        assert!(value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit()));
        let stored = world.db.texts("SELECT key_hash || created_by AS value FROM api_keys").await;
        assert_eq!(stored, [format!("{}ann", certctl_service::access::key_hash(value))], "the value is nowhere");
        let who = world.services.authenticate(value).await.unwrap().unwrap();
        assert_eq!((who.id(), who.actor_type()), ("ci", ActorType::ApiKey));
        assert!(who.may(Permission::CertRead, &Scope::Global) && who.may(Permission::AuditExport, &Scope::Global));
        assert_eq!(made.roles.iter().map(RoleId::as_str).collect::<Vec<_>>(), ["r-auditor", "r-viewer"]);
        world.clock.advance(Duration::from_secs(60));
        assert!(!is_known(&world, value).await);
        assert_eq!(world.recorded("auth.key_created").await, 1);
        let rotated = world.services.rotate_key(&world.admin, "ci", Duration::ZERO).await;
        assert!(refusal(rotated).contains("has ended"));
    }

    async fn what_makes_no_key_is_refused(db: TestDb) {
        let world = with_a_configured_key(db).await;
        make(&world, "ci", &[]).await;
        let past = KeyInput { expires_at: Some(world.now()), ..key("b", &[]) };
        let many: Vec<&str> = std::iter::repeat_n("r-viewer", 51).collect();
        for (input, expected) in [
            (key("", &[]), "invalid name"),
            (key("a b", &[]), "invalid name"),
            (key("actor-x", &[]), "invalid name"),
            (key("ak-1", &[]), "invalid name"),
            (past, "invalid expires_at"),
            (key("b", &["r-none"]), "invalid role_ids"),
            (key("b", &["a/b"]), "invalid role_ids"),
            (key("b", &many), "invalid role_ids"),
            (key("ci", &[]), "conflict"),
            (key("board", &[]), "conflict"),
        ] {
            assert_eq!(outcome(world.services.create_key(&world.admin, input.clone()).await), expected, "{input:?}");
        }
        assert_eq!(world.db.texts("SELECT name AS value FROM api_keys").await, ["ci"]);
    }

    async fn nobody_makes_or_takes_over_a_key_that_may_do_more(db: TestDb) {
        let world = World::new(db).await;
        let s = &world.services;
        let cli = &actor_of("cli", ActorType::ApiKey, SeededRole::Cli);
        for (role, expected) in [("r-viewer", "ok"), ("r-mcp", "ok"), ("r-cli", "ok"), ("r-admin", "not yours"), ("r-operator", "not yours"), ("r-auditor", "not yours")] {
            assert_eq!(outcome(s.create_key(cli, key(role, &[role])).await), expected, "{role}");
        }
        assert_eq!(outcome(s.create_key(cli, key("two", &["r-viewer", "r-admin"])).await), "not yours");
        assert_eq!(world.db.texts("SELECT name AS value FROM api_keys ORDER BY 1").await, ["r-cli", "r-mcp", "r-viewer"]);
        // Rotating shows a new value: whoever rotates a stronger key becomes it.
        make(&world, "root", &["r-admin"]).await;
        assert_eq!(outcome(s.rotate_key(cli, "root", Duration::ZERO).await), "not yours");
        assert_eq!(outcome(s.rotate_key(cli, "r-viewer", Duration::ZERO).await), "ok");
        // Grants that wait for a key of a name come with the name.
        let grant = GrantInput { role_id: "r-admin".into(), scope: ScopeInput::default(), expires_at: None };
        s.grant_role(&world.admin, "waiting", grant).await.unwrap();
        assert_eq!(outcome(s.create_key(cli, key("waiting", &[])).await), "not yours");
        let made = make(&world, "waiting", &[]).await;
        assert_eq!(made.roles[0].as_str(), "r-admin");
        // A key that is deleted leaves nothing for the next one of its name.
        s.delete_key(&world.admin, "waiting").await.unwrap();
        let again = s.create_key(cli, key("waiting", &[])).await.unwrap();
        assert!(again.roles.is_empty());
        // Who holds all of it for one issuer only makes no key, since those hold it for everything.
        let local = &actor("local", Permission::ALL, &Scope::Issuer("iss-local".into()));
        assert_eq!(outcome(s.create_key(local, key("b", &["r-viewer"])).await), "needs auth.key.create");
    }

    async fn no_key_outlives_what_its_maker_holds(db: TestDb) {
        let world = World::new(db).await;
        let s = &world.services;
        let end = world.now() + Duration::from_secs(3600);
        let lent = &actor_until("lent", Permission::ALL, end);
        let ending = |name: &str, expires_at| KeyInput { expires_at, ..key(name, &["r-viewer"]) };
        assert_eq!(outcome(s.create_key(lent, ending("a", None)).await), "not yours");
        assert_eq!(outcome(s.create_key(lent, ending("a", Some(end + Duration::from_secs(1)))).await), "not yours");
        assert_eq!(outcome(s.create_key(lent, ending("a", Some(end))).await), "ok");
        let grants = world.db.texts("SELECT CASE WHEN expires_at IS NULL THEN 'for good' ELSE 'ends' END AS value FROM actor_roles WHERE actor_id = 'a'").await;
        assert_eq!(grants, ["ends"], "with the key, so that no later one of this name holds it for good");
        // Whoever rotates a key has its value, for as long as the key lasts.
        make(&world, "lasting", &["r-viewer"]).await;
        make(&world, "bare", &[]).await;
        for (name, expected) in [("lasting", "not yours"), ("a", "ok"), ("bare", "ok")] {
            assert_eq!(outcome(s.rotate_key(lent, name, Duration::ZERO).await), expected, "{name}");
        }
        // Grants that wait for a name count for as long as the key will last.
        let grant = GrantInput { role_id: "r-viewer".into(), scope: ScopeInput::default(), expires_at: None };
        s.grant_role(&world.admin, "waiting", grant).await.unwrap();
        let named = |expires_at| KeyInput { expires_at, ..key("waiting", &[]) };
        assert_eq!(outcome(s.create_key(lent, named(None)).await), "not yours");
        assert_eq!(outcome(s.create_key(lent, named(Some(end))).await), "ok");
        // A key that ends makes none that does not, and its old value, accepted for a while, does not take the new one over.
        let root = s.create_key(&world.admin, KeyInput { expires_at: Some(end), ..key("root", &["r-admin"]) }).await.unwrap();
        let itself = s.authenticate(root.value.expose()).await.unwrap().unwrap();
        assert_eq!(outcome(s.create_key(&itself, ending("b", None)).await), "not yours");
        let newer = s.rotate_key(&itself, "root", Duration::from_secs(60)).await.unwrap();
        let old = s.authenticate(root.value.expose()).await.unwrap().unwrap();
        assert_eq!(outcome(s.rotate_key(&old, "root", Duration::ZERO).await), "not yours");
        let itself = s.authenticate(newer.value.expose()).await.unwrap().unwrap();
        assert_eq!(outcome(s.rotate_key(&itself, "root", Duration::ZERO).await), "ok");
    }

    async fn a_rotated_key_changes_at_once_or_after_its_grace(db: TestDb) {
        let world = World::new(db).await;
        let s = &world.services;
        let first = make(&world, "ci", &["r-viewer"]).await;
        assert!(is_known(&world, first.value.expose()).await);
        let second = s.rotate_key(&world.admin, "ci", Duration::ZERO).await.unwrap();
        assert!(!is_known(&world, first.value.expose()).await && is_known(&world, second.value.expose()).await);
        let third = s.rotate_key(&world.admin, second.key.id.as_str(), Duration::from_secs(60)).await.unwrap();
        assert_eq!(third.key.previous.as_ref().unwrap().valid_until, world.now() + Duration::from_secs(60));
        world.clock.advance(Duration::from_micros(59_999_999));
        assert!(is_known(&world, second.value.expose()).await && is_known(&world, third.value.expose()).await);
        world.clock.advance(Duration::from_micros(1));
        assert!(!is_known(&world, second.value.expose()).await && is_known(&world, third.value.expose()).await);
        // Of two old values the older one ends.
        let fourth = s.rotate_key(&world.admin, "ci", MAX_GRACE).await.unwrap();
        let fifth = s.rotate_key(&world.admin, "ci", MAX_GRACE).await.unwrap();
        let known = [&third, &fourth, &fifth].map(|one| one.value.expose());
        assert!(!is_known(&world, known[0]).await && is_known(&world, known[1]).await && is_known(&world, known[2]).await);
        assert_eq!(outcome(s.rotate_key(&world.admin, "ci", MAX_GRACE + Duration::from_secs(1)).await), "invalid grace_seconds");
        assert_eq!(outcome(s.rotate_key(&world.admin, "none", Duration::ZERO).await), "no API key");
        assert_eq!(world.recorded("auth.key_rotated").await, 4);
    }

    async fn a_deleted_key_is_refused_at_once(db: TestDb) {
        let world = with_a_configured_key(db).await;
        let s = &world.services;
        let made = make(&world, "ci", &["r-viewer"]).await;
        assert!(is_known(&world, made.value.expose()).await);
        s.delete_key(&world.admin, "ci").await.unwrap();
        assert!(!is_known(&world, made.value.expose()).await);
        assert_eq!(outcome(s.delete_key(&world.admin, "ci").await), "no API key");
        assert_eq!(outcome(s.get_key(&world.admin, "ci").await), "no API key");
        for text in [refusal(s.delete_key(&world.admin, "board").await), refusal(s.rotate_key(&world.admin, "board", Duration::ZERO).await)] {
            assert_eq!(text, "the key board is set by the configuration (CERTCTL_API_KEYS_NAMED, CERTCTL_AUTH_SECRET) and is changed there");
        }
        make(&world, "root", &["r-admin"]).await;
        let root = &actor("root", Permission::ALL, &Scope::Global);
        assert_eq!(outcome(s.delete_key(root, "root").await), "conflict");
        assert_eq!(world.recorded("auth.key_deleted").await, 1);
    }

    async fn keys_are_listed_with_their_roles_and_what_is_stored(db: TestDb) {
        let world = with_a_configured_key(db).await;
        let s = &world.services;
        let made = make(&world, "ci", &["r-viewer"]).await;
        make(&world, "idle", &[]).await;
        let page = s.list_keys(&world.admin, Some(ActorType::ApiKey), PageRequest::default()).await.unwrap();
        let rows: Vec<_> = page.rows.iter().map(|one| {
            let roles: Vec<_> = one.holder.roles.iter().map(RoleId::as_str).collect();
            format!("{} [{}] {} {}", one.holder.actor_id, roles.join(","), one.key.is_some(), one.is_configured)
        }).collect();
        assert_eq!((rows, page.total), (["board [r-viewer] false true", "ci [r-viewer] true false", "idle [] true false"].map(str::to_owned).to_vec(), 3));
        let all = s.list_keys(&world.admin, None, PageRequest::default()).await.unwrap();
        assert_eq!(all.total, 4, "and the demo actor");
        for id in ["ci", made.key.id.as_str()] {
            let one = s.get_key(&world.admin, id).await.unwrap();
            assert_eq!((one.holder.actor_id.as_str(), one.key.unwrap().id), ("ci", made.key.id.clone()));
        }
        assert!(s.get_key(&world.admin, "board").await.unwrap().is_configured);
    }
}
