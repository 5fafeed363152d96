//! API keys, roles and what they add up to.

use std::time::Duration;

use certctl_domain::{
    access::{ActorType, EffectivePermission, Permission, Scope, SeededRole},
    id::{ActorRoleId, RoleId},
    page::PageRequest,
    time::Timestamp,
};
use certctl_repository::{
    Error, api_keys,
    roles::{self, NewGrant},
};
use certctl_testkit::{TestDb, database::START, db_tests, entities};

const HOUR: Duration = Duration::from_secs(3600);

async fn grant(
    db: &TestDb,
    id: &str,
    role: &str,
    scope: Scope,
    expires_at: Option<Timestamp>,
) -> Result<(), Error> {
    let role = RoleId::from_stored(role.to_owned());
    let new = NewGrant {
        id: ActorRoleId::from_stored(id.to_owned()),
        actor_id: "ann",
        actor_type: ActorType::ApiKey,
        role_id: &role,
        scope,
        granted_by: "test",
        granted_at: START,
        expires_at,
    };
    tx!(db, conn => roles::grant(conn, &new).await)
}

async fn holdings(db: &TestDb, now: Timestamp) -> roles::Holdings {
    roles::holdings(reader!(db), "ann", ActorType::ApiKey, now)
        .await
        .unwrap()
}

db_tests! {
    async fn a_key_is_known_by_its_hash_only(db: TestDb) {
        let key = entities::api_key("ak-1");
        tx!(db, conn => api_keys::insert(conn, &key).await).unwrap();
        let again = tx!(db, conn => api_keys::insert(conn, &key).await);
        assert!(matches!(again, Err(Error::AlreadyExists)), "{again:?}");
        let mut same_hash = entities::api_key("ak-2");
        same_hash.key_hash.clone_from(&key.key_hash);
        let again = tx!(db, conn => api_keys::insert(conn, &same_hash).await);
        assert!(matches!(again, Err(Error::AlreadyExists)), "{again:?}");
        assert_eq!(api_keys::find_by_hash(reader!(db), &key.key_hash).await.unwrap(), Some(key.clone()));
        assert_eq!(api_keys::find_by_hash(reader!(db), "hash").await.unwrap(), None);
        tx!(db, conn => api_keys::touch(conn, &key.id, START + HOUR).await).unwrap();
        let mut found = api_keys::find(reader!(db), &key.id).await.unwrap();
        assert_eq!(found.last_used_at, Some(START + HOUR));
        found.expires_at = Some(START);
        found.admin = true;
        tx!(db, conn => api_keys::update(conn, &found).await).unwrap();
        let page = api_keys::list(reader!(db), PageRequest::default()).await.unwrap();
        assert_eq!((page.rows, page.total), (vec![found], 1));
        tx!(db, conn => api_keys::delete(conn, &key.id).await).unwrap();
        let gone = api_keys::find(reader!(db), &key.id).await;
        assert!(matches!(gone, Err(Error::NotFound)), "{gone:?}");
    }

    async fn seeded_roles_hold_what_the_contract_gives_them(db: TestDb) {
        for role in SeededRole::ALL {
            grant(&db, &format!("ar-{}", role.id()), &role.id(), Scope::Global, None).await.unwrap();
            let held = holdings(&db, START).await;
            assert_eq!(held.roles, [RoleId::from_stored(role.id())]);
            let expected: Vec<Permission> = Permission::ALL.iter().copied().filter(|permission| role.holds(*permission)).collect();
            let mut found: Vec<Permission> = held.permissions.iter().map(|one| one.permission).collect();
            found.sort();
            let mut expected = expected;
            expected.sort();
            assert_eq!(found, expected, "{role:?}");
            assert_eq!(tx!(db, conn => roles::revoke_all(conn, "ann", ActorType::ApiKey).await).unwrap(), 1);
        }
        assert_eq!(holdings(&db, START).await, roles::Holdings::default());
    }

    async fn a_grant_reaches_as_far_as_its_scope_and_its_time(db: TestDb) {
        let viewer = SeededRole::ALL.iter().find(|role| role.as_str() == "viewer").unwrap().id();
        let local = Scope::Issuer("iss-local".into());
        grant(&db, "ar-1", &viewer, local.clone(), Some(START + HOUR)).await.unwrap();
        let held = holdings(&db, START).await;
        assert!(held.permissions.iter().all(|one| one.scope == local) && !held.permissions.is_empty());
        assert!(holdings(&db, START + HOUR).await.permissions.is_empty(), "an hour later");
        // The same grant a second time stays the first.
        grant(&db, "ar-2", &viewer, local.clone(), None).await.unwrap();
        assert!(holdings(&db, START + HOUR).await.permissions.is_empty(), "granted again");
        grant(&db, "ar-3", &viewer, Scope::Global, None).await.unwrap();
        grant(&db, "ar-4", &viewer, Scope::Global, None).await.unwrap();
        let held = holdings(&db, START).await;
        assert_eq!(held.roles.len(), 1);
        for scope in [local, Scope::Global] {
            let one = EffectivePermission { permission: Permission::CertRead, scope };
            assert_eq!(held.permissions.iter().filter(|found| **found == one).count(), 1, "{one:?}");
        }
        let other = roles::holdings(reader!(db), "ann", ActorType::User, START).await.unwrap();
        assert_eq!(other, roles::Holdings::default());
        let unknown = grant(&db, "ar-5", "r-unknown", Scope::Global, None).await;
        assert!(matches!(unknown, Err(Error::Reference)), "{unknown:?}");
    }

    async fn an_administrator_is_a_stored_key_with_the_role_and_not_a_grant_alone(db: TestDb) {
        assert!(!roles::an_admin_can_enter(reader!(db), START).await.unwrap());
        // A key of the configuration has the grant and no row.
        grant(&db, "ar-1", "r-admin", Scope::Global, None).await.unwrap();
        assert!(!roles::an_admin_can_enter(reader!(db), START).await.unwrap());
        let mut key = entities::api_key("ak-1");
        key.name = "ann".to_owned();
        key.expires_at = Some(START + HOUR);
        tx!(db, conn => api_keys::insert(conn, &key).await).unwrap();
        assert!(roles::an_admin_can_enter(reader!(db), START).await.unwrap());
        assert!(!roles::an_admin_can_enter(reader!(db), START + HOUR).await.unwrap(), "the key has ended");
    }

    async fn only_what_the_program_granted_itself_is_taken_back(db: TestDb) {
        let (admin, viewer) = (RoleId::from_stored("r-admin".into()), RoleId::from_stored("r-viewer".into()));
        for (id, role, by) in [("ar-1", &admin, "system"), ("ar-2", &viewer, "bob")] {
            let new = NewGrant {
                id: ActorRoleId::from_stored(id.to_owned()),
                actor_id: "key",
                actor_type: ActorType::ApiKey,
                role_id: role,
                scope: Scope::Global,
                granted_by: by,
                granted_at: START,
                expires_at: None,
            };
            tx!(db, conn => roles::grant(conn, &new).await).unwrap();
        }
        for role in [&admin, &viewer] {
            tx!(db, conn => roles::revoke_own_grant(conn, "key", ActorType::ApiKey, role).await).unwrap();
        }
        let held = roles::holdings(reader!(db), "key", ActorType::ApiKey, START).await.unwrap();
        assert_eq!(held.roles, [viewer]);
    }

    async fn permissions_of_a_newer_program_mean_nothing_to_this_one(db: TestDb) {
        db.execute("INSERT INTO permissions (id, name, namespace) VALUES ('p-new', 'moon.land', 'moon'); \
            INSERT INTO role_permissions (role_id, permission_id) VALUES ('r-viewer', 'p-new')").await.unwrap();
        let viewer = SeededRole::ALL.iter().find(|role| role.as_str() == "viewer").unwrap();
        grant(&db, "ar-1", &viewer.id(), Scope::Global, None).await.unwrap();
        let expected = Permission::ALL.iter().filter(|permission| viewer.holds(**permission)).count();
        assert_eq!(holdings(&db, START).await.permissions.len(), expected);
    }
}
