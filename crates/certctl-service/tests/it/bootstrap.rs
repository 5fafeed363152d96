//! The first administrator, made once.

use certctl_domain::{
    access::{Permission, Scope},
    secret::Secret,
};
use certctl_service::{
    config::{ConfiguredKey, ServiceConfig},
    keys::KeyInput,
};
use certctl_testkit::{TestDb, db_tests, services::config};

use crate::support::{World, outcome};

const TOKEN: &str = "a-token-for-the-first-one";

fn fresh() -> ServiceConfig {
    ServiceConfig {
        api_keys: Vec::new(),
        bootstrap_token: Some(Secret::new(TOKEN)),
        ..config()
    }
}

db_tests! {
    async fn the_first_administrator_is_made_once(db: TestDb) {
        let world = World::with(db, fresh()).await;
        let s = &world.services;
        assert!(s.make_first_key().await.unwrap().is_none(), "the token is in its place");
        assert!(s.is_bootstrap_available().await.unwrap());
        let token = Secret::new(TOKEN);
        for (token, name, expected) in [
            ("", "root", "unauthenticated"),
            ("a-token-for-the-first-onf", "root", "unauthenticated"),
            (TOKEN, "Root", "invalid actor_name"),
            (TOKEN, "actor-demo-anon", "invalid actor_name"),
        ] {
            assert_eq!(outcome(s.bootstrap(&Secret::new(token), name).await), expected, "{name}");
        }
        assert_eq!(world.recorded("bootstrap.consume_failed").await, 2);
        let (key, value) = s.bootstrap(&token, "root").await.unwrap();
        assert_eq!(value.expose().len(), 64);
        let root = s.authenticate(value.expose()).await.unwrap().unwrap();
        assert_eq!((root.id(), key.name.as_str()), ("root", "root"));
        assert!(Permission::ALL.iter().all(|one| root.may(*one, &Scope::Global)));
        assert!(!s.is_bootstrap_available().await.unwrap());
        assert_eq!(outcome(s.bootstrap(&token, "second").await), "gone");
        // Nor by another process, nor when the administrator is gone.
        let (other, _) = world.replica("other", fresh());
        assert_eq!(outcome(other.bootstrap(&token, "second").await), "gone");
        s.delete_key(&world.admin, "root").await.unwrap();
        assert!(!other.is_bootstrap_available().await.unwrap());
        assert_eq!(outcome(other.bootstrap(&token, "second").await), "gone");
        assert_eq!(world.recorded("bootstrap.consume").await, 1);
    }

    async fn of_replicas_that_are_asked_at_once_one_makes_it(db: TestDb) {
        let world = World::with(db, fresh()).await;
        let asked: Vec<_> = (0..4).map(|number| {
            let (services, _) = world.replica(&format!("replica:{number}"), fresh());
            tokio::spawn(async move { outcome(services.bootstrap(&Secret::new(TOKEN), &format!("root-{number}")).await) })
        }).collect();
        let mut answers = Vec::new();
        for one in asked {
            answers.push(one.await.unwrap());
        }
        answers.sort();
        assert_eq!(answers, ["gone", "gone", "gone", "ok"]);
        assert_eq!(world.db.texts("SELECT name AS value FROM api_keys").await.len(), 1);
    }

    async fn it_is_not_for_a_server_without_token_or_with_an_administrator(db: TestDb) {
        let token = Secret::new(TOKEN);
        let world = World::with(db, ServiceConfig { bootstrap_token: None, ..fresh() }).await;
        assert_eq!(outcome(world.services.bootstrap(&token, "root").await), "gone");
        let key = |admin| ConfiguredKey { name: "ops".into(), key: Secret::new("ops-key"), admin };
        let (with_admin, _) = world.replica("admin", ServiceConfig { api_keys: vec![key(true)], ..fresh() });
        assert!(!with_admin.is_bootstrap_available().await.unwrap());
        let (with_viewer, _) = world.replica("viewer", ServiceConfig { api_keys: vec![key(false)], ..fresh() });
        assert!(with_viewer.is_bootstrap_available().await.unwrap());
        assert_eq!(outcome(with_viewer.bootstrap(&token, "ops").await), "conflict", "the viewer would be made an administrator");
        let input = KeyInput { name: "root".into(), role_ids: vec!["r-admin".into()], expires_at: None };
        world.services.create_key(&world.admin, input).await.unwrap();
        assert!(!with_viewer.is_bootstrap_available().await.unwrap());
    }
}
