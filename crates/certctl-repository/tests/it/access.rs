//! API keys, roles and what they add up to.

use std::time::Duration;

use certctl_domain::{
    access::{ActorType, EffectivePermission, Held, Permission, PreviousKey, Scope, SeededRole},
    id::{ActorRoleId, ApiKeyId, RoleId},
    page::PageRequest,
    time::Timestamp,
};
use certctl_repository::{
    Error, access_version, api_keys, grants,
    roles::{self, NewGrant},
};
use certctl_testkit::{TestDb, database::START, db_tests, entities};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// The id of a key that was deleted since it was used.
fn again_id() -> ApiKeyId {
    ApiKeyId::from_stored("ak-gone".to_owned())
}

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
        assert_eq!(api_keys::find_by_name(reader!(db), &key.name).await.unwrap(), key);
        let note = async |at| tx!(db, conn => api_keys::note_uses(conn, &[(key.id.clone(), at), (again_id(), at)]).await).unwrap();
        assert_eq!(note(START + HOUR).await, 1);
        // Within the same minute another replica may say the same, and nothing is written.
        assert_eq!(note(START + HOUR + MINUTE - Duration::from_micros(1)).await, 0);
        let mut found = api_keys::find(reader!(db), &key.id).await.unwrap();
        assert_eq!(found.last_used_at, Some(START + HOUR));
        assert_eq!(note(START + HOUR + MINUTE).await, 1);
        found.last_used_at = Some(START + HOUR + MINUTE);
        found.expires_at = Some(START);
        found.admin = true;
        tx!(db, conn => api_keys::update(conn, &found).await).unwrap();
        let page = api_keys::list(reader!(db), PageRequest::default()).await.unwrap();
        assert_eq!((page.rows, page.total), (vec![found], 1));
        tx!(db, conn => api_keys::delete(conn, &key.id).await).unwrap();
        let gone = api_keys::find(reader!(db), &key.id).await;
        assert!(matches!(gone, Err(Error::NotFound)), "{gone:?}");
    }

    async fn a_rotated_key_is_known_by_both_values_and_rotates_from_its_own_value_only(db: TestDb) {
        let mut key = entities::api_key("ak-1");
        tx!(db, conn => api_keys::insert(conn, &key).await).unwrap();
        let previous = PreviousKey { key_hash: key.key_hash.clone(), valid_until: START + HOUR };
        tx!(db, conn => api_keys::rotate(conn, &key, "second", Some(&previous)).await).unwrap();
        let lost = tx!(db, conn => api_keys::rotate(conn, &key, "third", None).await);
        assert!(matches!(lost, Err(Error::NotFound)), "{lost:?}");
        key.previous = Some(previous);
        key.key_hash = "second".into();
        for hash in ["hash-ak-1", "second"] {
            assert_eq!(api_keys::find_by_hash(reader!(db), hash).await.unwrap(), Some(key.clone()), "{hash}");
        }
        tx!(db, conn => api_keys::rotate(conn, &key, "third", None).await).unwrap();
        for hash in ["hash-ak-1", "second"] {
            assert_eq!(api_keys::find_by_hash(reader!(db), hash).await.unwrap(), None, "{hash}");
        }
    }

    async fn whatever_changes_who_may_do_what_is_counted_and_nothing_else_is(db: TestDb) {
        db.seed_basics().await;
        let mut key = entities::api_key("ak-1");
        tx!(db, conn => api_keys::insert(conn, &key).await).unwrap();
        grant(&db, "ar-1", "r-viewer", Scope::Global, None).await.unwrap();
        key.name = "other".into();
        let changes = [
            "INSERT INTO actor_roles (id, actor_id, actor_type, role_id) VALUES ('ar-2', 'x', 'APIKey', 'r-admin')",
            "UPDATE actor_roles SET role_id = 'r-cli' WHERE id = 'ar-1'",
            "DELETE FROM actor_roles WHERE id = 'ar-1'",
            "DELETE FROM role_permissions WHERE role_id = 'r-auditor' AND permission_id = 'p-audit-read'",
            "INSERT INTO role_permissions (role_id, permission_id) VALUES ('r-auditor', 'p-audit-read')",
            "UPDATE api_keys SET key_hash = 'new'",
            "UPDATE api_keys SET previous_key_hash = 'old'",
            "UPDATE api_keys SET expires_at = created_at",
            "DELETE FROM api_keys",
            "UPDATE agents SET api_key_hash = 'new' WHERE id = 'ag-web'",
            "UPDATE agents SET retired_at = registered_at WHERE id = 'ag-web'",
        ];
        for change in changes {
            let before = access_version::get(reader!(db)).await.unwrap();
            db.execute(change).await.unwrap();
            assert_eq!(access_version::get(reader!(db)).await.unwrap(), before + 1, "{change}");
        }
        let before = access_version::get(reader!(db)).await.unwrap();
        for quiet in [
            // An agent that registers: a fleet of them must not queue behind one row.
            "INSERT INTO actor_roles (id, actor_id, actor_type, role_id) VALUES ('ar-3', 'ag-new', 'Agent', 'r-agent')",
            "UPDATE agents SET status = 'Offline', retired_at = retired_at WHERE id = 'ag-web'",
            "UPDATE roles SET description = 'x'",
        ] {
            db.execute(quiet).await.unwrap();
            assert_eq!(access_version::get(reader!(db)).await.unwrap(), before, "{quiet}");
        }
        tx!(db, conn => api_keys::insert(conn, &key).await).unwrap();
        let before = access_version::get(reader!(db)).await.unwrap();
        tx!(db, conn => api_keys::note_uses(conn, &[(key.id.clone(), START)]).await).unwrap();
        assert_eq!(access_version::get(reader!(db)).await.unwrap(), before, "a use");
    }

    async fn a_grant_is_given_taken_and_prolonged_by_its_scope(db: TestDb) {
        let role = RoleId::from_stored("r-viewer".into());
        let give = async |scope: &Scope, expires_at| {
            let new = NewGrant {
                id: ActorRoleId::generate(START),
                actor_id: "ann",
                actor_type: ActorType::ApiKey,
                role_id: &role,
                scope: scope.clone(),
                granted_by: "bob",
                granted_at: START,
                expires_at,
            };
            tx!(db, conn => grants::give(conn, &new).await).unwrap();
        };
        let (local, other) = (Scope::Issuer("iss-local".into()), Scope::Profile("iss-local".into()));
        for scope in [&local, &other, &Scope::Global, &local] {
            give(scope, Some(START + HOUR)).await;
        }
        assert_eq!(holdings(&db, START).await.until, Some(START + HOUR));
        give(&local, None).await;
        assert!(holdings(&db, START + HOUR).await.permissions.iter().all(|one| one.what.scope == local));
        let take = async |scope: Option<&Scope>| tx!(db, conn => grants::take(conn, "ann", ActorType::ApiKey, &role, scope).await).unwrap();
        assert_eq!(take(Some(&Scope::Issuer("none".into()))).await, 0);
        assert_eq!(take(Some(&Scope::Global)).await, 1);
        assert_eq!(take(None).await, 2);
        assert_eq!(holdings(&db, START).await, roles::Holdings::default());
    }

    async fn holders_are_those_with_grants_that_last_and_the_stored_keys(db: TestDb) {
        let viewer = RoleId::from_stored("r-viewer".into());
        let key = entities::api_key("ak-1");
        tx!(db, conn => api_keys::insert(conn, &key).await).unwrap();
        grant(&db, "ar-1", "r-viewer", Scope::Global, Some(START + HOUR)).await.unwrap();
        grant(&db, "ar-2", "r-viewer", Scope::Issuer("iss-local".into()), None).await.unwrap();
        grant(&db, "ar-3", "r-cli", Scope::Global, Some(START)).await.unwrap();
        db.execute("INSERT INTO actor_roles (id, actor_id, actor_type, role_id) VALUES ('ar-4', 'ann', 'Agent', 'r-agent')").await.unwrap();
        let list = async |kind, page, per_page| {
            let page = PageRequest::lenient(Some(page), Some(per_page));
            let page = grants::list(reader!(db), kind, page, START).await.unwrap();
            let rows: Vec<String> = page.rows.iter().map(|one| {
                let roles: Vec<&str> = one.roles.iter().map(RoleId::as_str).collect();
                format!("{} {} {}", one.actor_type, one.actor_id, roles.join(","))
            }).collect();
            (rows, page.total)
        };
        let demo = "Anonymous actor-demo-anon r-admin";
        let all = [demo, "APIKey ann r-viewer", "Agent ann r-agent", "APIKey name-ak-1 "];
        assert_eq!(list(None, "1", "500").await, (all.map(str::to_owned).to_vec(), 4));
        assert_eq!(list(None, "2", "3").await, (vec![all[3].to_owned()], 4));
        assert_eq!(list(Some(ActorType::Agent), "1", "50").await, (vec![all[2].to_owned()], 1));
        assert_eq!(tx!(db, conn => grants::drop_ended(conn, &viewer, START + HOUR).await).unwrap(), 1);
    }

    async fn a_role_permits_what_it_is_given(db: TestDb) {
        let role = certctl_domain::access::Role {
            id: RoleId::from_stored("r-mine".into()),
            name: "mine".into(),
            description: String::new(),
            created_at: START,
            updated_at: START,
        };
        tx!(db, conn => roles::insert(conn, &role).await).unwrap();
        let page = roles::list(reader!(db), PageRequest::default()).await.unwrap();
        assert_eq!((page.total, page.rows[5].clone()), (8, role.clone()), "by name");
        let local = EffectivePermission { permission: Permission::IssuerEdit, scope: Scope::Issuer("iss-local".into()) };
        let all = EffectivePermission { permission: Permission::IssuerEdit, scope: Scope::Global };
        for (one, is_new) in [(&local, true), (&local, false), (&all, true), (&all, false)] {
            assert_eq!(tx!(db, conn => roles::add_permission(conn, &role.id, one).await).unwrap(), is_new);
        }
        assert_eq!(roles::permissions_of(reader!(db), &role.id).await.unwrap(), [all.clone(), local.clone()]);
        for (there, left) in [(true, vec![local.clone()]), (false, vec![local])] {
            assert_eq!(tx!(db, conn => roles::remove_permission(conn, &role.id, &all).await).unwrap(), there);
            assert_eq!(roles::permissions_of(reader!(db), &role.id).await.unwrap(), left);
        }
        tx!(db, conn => roles::delete(conn, &role.id).await).unwrap();
        let unknown = tx!(db, conn => roles::add_permission(conn, &role.id, &all).await);
        assert!(matches!(unknown, Err(Error::Reference)), "{unknown:?}");
    }

    async fn seeded_roles_hold_what_the_contract_gives_them(db: TestDb) {
        for role in SeededRole::ALL {
            grant(&db, &format!("ar-{}", role.id()), &role.id(), Scope::Global, None).await.unwrap();
            let held = holdings(&db, START).await;
            assert_eq!(held.roles, [RoleId::from_stored(role.id())]);
            let expected: Vec<Permission> = Permission::ALL.iter().copied().filter(|permission| role.holds(*permission)).collect();
            let mut found: Vec<Permission> = held.permissions.iter().map(|one| one.what.permission).collect();
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
        assert!(held.permissions.iter().all(|one| one.what.scope == local && one.until == Some(START + HOUR)) && !held.permissions.is_empty());
        assert!(holdings(&db, START + HOUR).await.permissions.is_empty(), "an hour later");
        // The same grant a second time stays the first.
        grant(&db, "ar-2", &viewer, local.clone(), None).await.unwrap();
        assert!(holdings(&db, START + HOUR).await.permissions.is_empty(), "granted again");
        grant(&db, "ar-3", &viewer, Scope::Global, None).await.unwrap();
        grant(&db, "ar-4", &viewer, Scope::Global, None).await.unwrap();
        let held = holdings(&db, START).await;
        assert_eq!(held.roles.len(), 1);
        for (scope, until) in [(local, Some(START + HOUR)), (Scope::Global, None)] {
            let what = EffectivePermission { permission: Permission::CertRead, scope };
            let one = Held { what, until };
            assert_eq!(held.permissions.iter().filter(|found| **found == one).count(), 1, "{one:?}");
        }
        // Of two grants of the same, whatever their order, the one that lasts longer counts.
        for (first, second) in [(1, 2), (4, 3)] {
            tx!(db, conn => roles::revoke_all(conn, "ann", ActorType::ApiKey).await).unwrap();
            grant(&db, "ar-6", &viewer, Scope::Global, Some(START + first * HOUR)).await.unwrap();
            grant(&db, "ar-7", "r-operator", Scope::Global, Some(START + second * HOUR)).await.unwrap();
            let held = holdings(&db, START).await;
            let read = held.permissions.iter().find(|one| one.what.permission == Permission::CertRead).unwrap();
            assert_eq!(read.until, Some(START + first.max(second) * HOUR));
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
