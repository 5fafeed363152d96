//! What one replica changes of keys, grants and roles, the other heeds: by a word of PostgreSQL at once, and without one within a
//! second.

use std::time::Duration;

use certctl_domain::{
    access::{Permission, Scope},
    id::RoleId,
};
use certctl_service::{
    Services,
    grants::{GrantInput, ScopeInput},
    keys::KeyInput,
    roles::{RoleInput, RolePermissionInput},
};
use certctl_testkit::{TestDb, database, db_tests, services::config};

use crate::support::World;

/// Longer than a word ever takes; only bounds a hang.
const LIMIT: Duration = Duration::from_secs(60);

/// What the other replica says of a key: nothing when it does not know it, or whether it may read certificates.
async fn sees(other: &Services, key: &str) -> Option<bool> {
    let actor = other.authenticate(key).await.unwrap()?;
    Some(actor.may(Permission::CertRead, &Scope::Global))
}

/// Changes something on one replica, one step after another, and after each has `until` wait for what the other must see.
async fn change_and_see(
    world: &World,
    other: &Services,
    until: impl AsyncFn(&'static str, &str, Option<bool>),
) {
    let (s, admin) = (&world.services, &world.admin);
    let role = s
        .create_role(
            admin,
            RoleInput {
                name: "reader".into(),
                ..RoleInput::default()
            },
        )
        .await
        .unwrap()
        .id;
    let input = KeyInput {
        name: "ci".into(),
        ..KeyInput::default()
    };
    let first = s.create_key(admin, input).await.unwrap().value;
    let first = first.expose();
    assert_eq!(sees(other, first).await, Some(false));
    let reads = RolePermissionInput {
        permission: "cert.read".into(),
        ..RolePermissionInput::default()
    };
    let grant = |role: &RoleId| GrantInput {
        role_id: role.to_string(),
        ..GrantInput::default()
    };

    s.grant_role(admin, "ci", grant(&role)).await.unwrap();
    s.add_role_permission(admin, &role, &reads).await.unwrap();
    until("a role permits more", first, Some(true)).await;
    s.remove_role_permission(admin, &role, &reads)
        .await
        .unwrap();
    until("a role permits less", first, Some(false)).await;
    let viewer = RoleId::from_stored("r-viewer".into());
    s.grant_role(admin, "ci", grant(&viewer)).await.unwrap();
    until("a role is granted", first, Some(true)).await;
    s.revoke_role(admin, "ci", &viewer, &ScopeInput::default())
        .await
        .unwrap();
    until("a grant is revoked", first, Some(false)).await;
    let second = s
        .rotate_key(admin, "ci", Duration::ZERO)
        .await
        .unwrap()
        .value;
    until("a key is rotated", first, None).await;
    until("and its new value known", second.expose(), Some(false)).await;
    s.delete_key(admin, "ci").await.unwrap();
    until("a key is deleted", second.expose(), None).await;
}

mod postgres {
    use super::{LIMIT, TestDb, World, change_and_see, config, database, sees};

    /// The clock stands still, so that nothing remembered ever grows old: what is seen is seen because it was told.
    #[test]
    fn a_change_on_one_replica_is_told_to_the_other() {
        database::run(TestDb::postgres, |db| async move {
            let world = World::new(db).await;
            let (other, _) = world.replica("other", config());
            let hearing = other.clone();
            let ear = tokio::spawn(async move { hearing.hear_wakes().await });
            until_heard(&world, &other).await;
            change_and_see(&world, &other, async |what, key, expected| {
                let asked = tokio::time::Instant::now();
                let seen = tokio::time::timeout(LIMIT, async {
                    while sees(&other, key).await != expected {
                        tokio::task::yield_now().await;
                    }
                });
                seen.await.unwrap_or_else(|_| panic!("{what}: not seen"));
                println!(
                    "{what}: seen by the other replica after {:?}",
                    asked.elapsed()
                );
            })
            .await;
            ear.abort();
        });
    }

    /// Waits until the other replica listens on its last channel; what is said before is lost, as it is in a server that starts.
    async fn until_heard(world: &World, other: &certctl_service::Services) {
        let listening = async {
            let sql = "SELECT CAST(count(*) AS text) AS value FROM pg_stat_activity \
                WHERE datname = current_database() AND query LIKE 'LISTEN%certctl_revocations%'";
            while world.db.text(sql).await != "1" {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, listening)
            .await
            .expect("it listens");
        assert_eq!(
            other.authenticate("nobody's").await.unwrap().map(|_| ()),
            None
        );
    }
}

db_tests! {
    async fn a_change_that_was_not_told_is_seen_within_a_second(db: TestDb) {
        let world = World::new(db).await;
        // Nobody listens here.
        let (other, _) = world.replica("other", config());
        change_and_see(&world, &other, async |what, key, expected| {
            world.clock.advance(Duration::from_millis(999));
            let _ = sees(&other, key).await;
            world.clock.advance(Duration::from_millis(1));
            assert_eq!(sees(&other, key).await, expected, "{what}");
        })
        .await;
    }

    async fn remembering_costs_one_small_query_for_all_keys(db: TestDb) {
        let world = World::new(db).await;
        let (other, _) = world.replica("other", config());
        let mut keys = Vec::new();
        for name in ["a", "b", "c"] {
            let input = KeyInput { name: name.into(), role_ids: vec!["r-viewer".into()], expires_at: None };
            keys.push(world.services.create_key(&world.admin, input).await.unwrap().value);
        }
        for key in &keys {
            assert_eq!(sees(&other, key.expose()).await, Some(true));
        }
        // Somebody takes the grants away behind the triggers' back: what is remembered is not asked for again.
        let behind = match world.db.backend() {
            certctl_repository::Backend::Postgres => "ALTER TABLE actor_roles DISABLE TRIGGER access_regranted",
            certctl_repository::Backend::Sqlite => "DROP TRIGGER access_revoked",
        };
        world.db.execute(behind).await.unwrap();
        world.db.execute("DELETE FROM actor_roles WHERE actor_type = 'APIKey'").await.unwrap();
        for _ in 0..59 {
            world.clock.advance(Duration::from_secs(1));
            for key in &keys {
                assert_eq!(sees(&other, key.expose()).await, Some(true));
            }
        }
        // Even that heals.
        world.clock.advance(Duration::from_secs(1));
        for key in &keys {
            assert_eq!(sees(&other, key.expose()).await, Some(false));
        }
    }
}
