use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use certctl_domain::{
    access::{Actor, Permission, Scope},
    id::IssuerId,
    issuer::{ConfigSource, HierarchyMode, Issuer, IssuerType, TestStatus},
    page::PageRequest,
    ports::issuer::IssuerError,
};
use certctl_repository::{Error as RepositoryError, issuers, transaction};
use certctl_service::{certificates::CertificateInput, issuers::IssuerInput};
use certctl_testkit::{TestDb, database::START, db_tests, entities};
use serde_json::{Value, json};

use crate::{
    kit::{Kit, actor, outcome, sealer},
    support::{World, refusal},
};

const SECRET: &str = "canary-7342";
const MASK: &str = "********";

fn input(id: &str, kind: &str, config: Value) -> IssuerInput {
    IssuerInput {
        id: Some(id.to_owned()),
        name: Some(format!("CA {id}")),
        issuer_type: Some(kind.to_owned()),
        config: Some(config),
        ..IssuerInput::default()
    }
}

fn digicert(id: &str) -> IssuerInput {
    input(
        id,
        "digicert",
        json!({"api_key": SECRET, "org_id": "12", "key_path": "/etc/key.pem"}),
    )
}

fn config(config: Value) -> IssuerInput {
    IssuerInput {
        config: Some(config),
        ..IssuerInput::default()
    }
}

fn id(text: &str) -> IssuerId {
    IssuerId::from_stored(text.to_owned())
}

/// Has another program run a statement the first `times` that a configuration is looked at; counts how often that was.
fn elsewhere(
    kit: &Kit,
    times: u32,
    statement: impl Fn(u32) -> String + Send + 'static,
) -> Arc<AtomicU32> {
    let (db, runtime) = (kit.db.replica(), tokio::runtime::Handle::current());
    let seen = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&seen);
    *kit.cas.meanwhile.lock().unwrap() = Some(Box::new(move || {
        let number = count.fetch_add(1, Ordering::SeqCst);
        if number < times {
            runtime
                .block_on(certctl_repository::testing::execute(
                    &db,
                    &statement(number),
                ))
                .unwrap();
        }
    }));
    seen
}

/// What the CA is connected to with.
async fn connected(kit: &Kit, issuer: &str) -> Value {
    kit.services
        .test_issuer(&kit.admin, &id(issuer))
        .await
        .unwrap();
    kit.cas.connected.lock().unwrap().clone()
}

/// Nothing of the secret is readable anywhere in the database.
async fn nothing_in_the_clear(kit: &Kit) {
    for column in ["config FROM issuers", "details FROM audit_events"] {
        let (column, table) = column.split_once(" FROM ").unwrap();
        for text in kit
            .db
            .texts(&format!(
                "SELECT CAST({column} AS TEXT) AS value FROM {table}"
            ))
            .await
        {
            assert!(!text.contains(SECRET), "{text}");
        }
    }
}

db_tests! {
    async fn an_issuer_is_made_read_changed_and_deleted_and_each_is_on_record(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        let made = services.create_issuer(admin, input("iss-1", "local_ca", json!({"validity_days": 30}))).await.unwrap();
        assert_eq!((made.issuer_type, made.enabled, made.hierarchy_mode), (IssuerType::GenericCa, true, HierarchyMode::Single));
        assert_eq!(made.config, json!({"validity_days": 30}));
        assert_eq!(services.get_issuer(admin, &made.id).await.unwrap(), made);
        let off = IssuerInput { enabled: Some(false), hierarchy_mode: Some("Tree".to_owned()), ..IssuerInput::default() };
        let changed = services.update_issuer(admin, &made.id, off).await.unwrap();
        assert_eq!(changed, Issuer { enabled: false, hierarchy_mode: HierarchyMode::Tree, ..made.clone() }, "the rest stays");
        let renamed = IssuerInput { name: Some("Other".to_owned()), config: Some(json!({})), ..IssuerInput::default() };
        let renamed = services.update_issuer(admin, &made.id, renamed).await.unwrap();
        assert_eq!((renamed.name.as_str(), &renamed.config, renamed.enabled), ("Other", &json!({}), false));
        assert_eq!(services.list_issuers(admin, PageRequest::default()).await.unwrap().total, 2, "beside the seeded one");
        services.delete_issuer(admin, &made.id).await.unwrap();
        assert_eq!(kit.audit().await, [
            "ann create_issuer issuer iss-1 config",
            "ann delete_issuer issuer iss-1 config",
            "ann update_issuer issuer iss-1 config",
            "ann update_issuer issuer iss-1 config",
        ]);
    }

    async fn a_new_issuer_may_be_disabled_from_the_start(db: TestDb) {
        let kit = Kit::new(db);
        let disabled = IssuerInput { enabled: Some(false), config: None, id: None, ..input("", "GENERICCA", Value::Null) };
        let made = kit.services.create_issuer(&kit.admin, disabled).await.unwrap();
        assert!(!made.enabled && made.id.as_str().starts_with("issuer-"));
        assert_eq!(made.config, json!({}));
    }

    async fn the_environment_decides_until_the_configuration_is_changed(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        let rename = IssuerInput { name: Some("Ours".to_owned()), ..IssuerInput::default() };
        assert_eq!(services.update_issuer(admin, &id("iss-local"), rename).await.unwrap().source, ConfigSource::Env);
        services.configure_local_issuer(&json!({"validity_days": 10})).await.unwrap();
        assert_eq!(services.get_issuer(admin, &id("iss-local")).await.unwrap().config, json!({"validity_days": 10}));
        let changed = services.update_issuer(admin, &id("iss-local"), config(json!({"validity_days": 20}))).await.unwrap();
        assert_eq!(changed.source, ConfigSource::Database);
        services.configure_local_issuer(&json!({"validity_days": 30})).await.unwrap();
        assert_eq!(services.get_issuer(admin, &id("iss-local")).await.unwrap(), changed);
    }

    async fn a_secret_is_never_shown_and_the_mask_keeps_it(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        let masked = json!({"api_key": MASK, "org_id": "12", "key_path": "/etc/key.pem"});
        assert_eq!(services.create_issuer(admin, digicert("iss-d")).await.unwrap().config, masked);
        assert_eq!(services.get_issuer(admin, &id("iss-d")).await.unwrap().config, masked);
        let listed = services.list_issuers(admin, PageRequest::default()).await.unwrap();
        assert!(listed.rows.iter().all(|issuer| issuer.encrypted_config.is_none() && !issuer.config.to_string().contains(SECRET)));
        nothing_in_the_clear(&kit).await;
        assert_eq!(connected(&kit, "iss-d").await["api_key"], SECRET);
        // The mask keeps the secret, other fields are as they are sent.
        let changed = services.update_issuer(admin, &id("iss-d"), config(json!({"api_key": MASK, "org_id": "13"}))).await.unwrap();
        assert_eq!(changed.config, json!({"api_key": MASK, "org_id": "13"}));
        assert_eq!(connected(&kit, "iss-d").await, json!({"api_key": SECRET, "org_id": "13"}));
        services.update_issuer(admin, &id("iss-d"), config(json!({"api_key": "another"}))).await.unwrap();
        assert_eq!(connected(&kit, "iss-d").await, json!({"api_key": "another"}));
    }

    async fn a_secret_does_not_follow_to_another_kind(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        services.create_issuer(admin, digicert("iss-d")).await.unwrap();
        let local = |config| IssuerInput { issuer_type: Some("local".to_owned()), config, ..IssuerInput::default() };
        let changed = services.update_issuer(admin, &id("iss-d"), local(Some(json!({"api_key": MASK})))).await.unwrap();
        assert_eq!((changed.issuer_type, changed.config), (IssuerType::GenericCa, json!({"api_key": null})));
        services.create_issuer(admin, digicert("iss-e")).await.unwrap();
        let changed = services.update_issuer(admin, &id("iss-e"), local(None)).await.unwrap();
        assert_eq!(changed.config, json!({}));
        nothing_in_the_clear(&kit).await;
    }

    async fn a_secret_that_another_program_wrote_in_the_clear_is_masked_and_still_used(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        let foreign = Issuer { issuer_type: IssuerType::DigiCert, config: json!({"api_key": SECRET}), ..entities::issuer("iss-f") };
        let entered: Result<(), RepositoryError> = transaction!(kit.db, "enter", conn => { issuers::insert(conn, &foreign).await });
        entered.unwrap();
        assert_eq!(services.get_issuer(admin, &id("iss-f")).await.unwrap().config, json!({"api_key": MASK}));
        let renamed = IssuerInput { name: Some("Renamed".to_owned()), ..IssuerInput::default() };
        assert_eq!(services.update_issuer(admin, &id("iss-f"), renamed).await.unwrap().config, json!({"api_key": MASK}));
        assert_eq!(connected(&kit, "iss-f").await, json!({"api_key": SECRET}));
        services.update_issuer(admin, &id("iss-f"), config(json!({"api_key": MASK}))).await.unwrap();
        nothing_in_the_clear(&kit).await;
        assert_eq!(connected(&kit, "iss-f").await, json!({"api_key": SECRET}));
    }

    async fn without_a_key_a_secret_is_not_stored(db: TestDb) {
        let kit = Kit::with_sealer(db, None);
        let (services, admin) = (&kit.services, &kit.admin);
        assert_eq!(outcome(services.create_issuer(admin, digicert("iss-d")).await), "bad request");
        assert_eq!(outcome(services.create_issuer(admin, input("iss-l", "local", json!({}))).await), "ok");
    }

    async fn what_is_wrong_with_an_issuer_is_named(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        kit.db.seed_basics().await;
        services.create_issuer(admin, digicert("iss-d")).await.unwrap();
        let local = |config| input("iss-1", "local", config);
        for (refused, expected) in [
            (IssuerInput { name: None, ..local(json!({})) }, "invalid name"),
            (IssuerInput { name: Some(String::new()), ..local(json!({})) }, "invalid name"),
            (IssuerInput { name: Some("x".repeat(256)), ..local(json!({})) }, "invalid name"),
            (IssuerInput { name: Some("CA iss-d".to_owned()), ..local(json!({})) }, "conflict"),
            (IssuerInput { id: Some("iss-d".to_owned()), ..local(json!({})) }, "conflict"),
            (IssuerInput { id: Some("a b".to_owned()), ..local(json!({})) }, "invalid id"),
            (IssuerInput { issuer_type: None, ..local(json!({})) }, "invalid type"),
            (IssuerInput { issuer_type: Some("LetsEncrypt".to_owned()), ..local(json!({})) }, "invalid type"),
            (IssuerInput { issuer_type: Some("VaultPKI".to_owned()), ..local(json!({})) }, "invalid type"),
            (IssuerInput { hierarchy_mode: Some("forest".to_owned()), ..local(json!({})) }, "invalid hierarchy_mode"),
            (local(json!([])), "invalid config"),
            (local(json!({"validity_days": "many"})), "invalid config"),
            (local(json!({"x": "x".repeat(65_536)})), "invalid config"),
            (input("iss-1", "DigiCert", json!({"org_id": "12"})), "invalid config"),
            (input("iss-1", "DigiCert", json!({"api_key": MASK})), "invalid config"),
        ] {
            assert_eq!(outcome(services.create_issuer(admin, refused).await), expected);
        }
        for (outcome, expected) in [
            (outcome(services.update_issuer(admin, &id("iss-d"), config(json!({"api_key": ""}))).await), "invalid config"),
            (outcome(services.update_issuer(admin, &id("iss-d"), IssuerInput { name: Some("Local CA".to_owned()), ..IssuerInput::default() }).await), "conflict"),
            (outcome(services.update_issuer(admin, &id("none"), digicert("")).await), "no issuer"),
            (outcome(services.get_issuer(admin, &id("none")).await), "no issuer"),
            (outcome(services.test_issuer(admin, &id("none")).await), "no issuer"),
            (outcome(services.delete_issuer(admin, &id("none")).await), "no issuer"),
            (outcome(services.delete_issuer(admin, &id("iss-local")).await), "conflict"),
        ] {
            assert_eq!(outcome, expected);
        }
        let refusal = services.create_issuer(admin, input("iss-1", "vaultpki", json!({}))).await.unwrap_err();
        assert_eq!(refusal.to_string(), "type: this build does not connect to VaultPKI issuers yet");
        assert_eq!(kit.audit().await, ["ann create_issuer issuer iss-d config"], "what was refused is not on record");
    }

    async fn a_test_connects_anew_and_what_came_of_it_is_stored(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        services.create_issuer(admin, digicert("iss-d")).await.unwrap();
        services.test_issuer(admin, &id("iss-d")).await.unwrap();
        let tested = services.get_issuer(admin, &id("iss-d")).await.unwrap();
        assert_eq!((tested.test_status, tested.last_tested_at), (TestStatus::Success, Some(START)));
        *kit.cas.failure.lock().unwrap() = Some(IssuerError::Auth("status 401".to_owned()));
        let failure = services.test_issuer(admin, &id("iss-d")).await.unwrap_err();
        assert_eq!(failure.to_string(), "the issuer refused the credentials; the log of the server says more", "its own words stay here");
        assert_eq!(outcome::<()>(Err(failure)), "bad gateway");
        assert_eq!(services.get_issuer(admin, &id("iss-d")).await.unwrap().test_status, TestStatus::Failed);
        let changed = services.update_issuer(admin, &id("iss-d"), config(json!({"api_key": "x"}))).await.unwrap();
        assert_eq!(changed.test_status, TestStatus::Untested);
        assert_eq!(kit.audit().await, [
            "ann create_issuer issuer iss-d config",
            "ann issuer_test_connection_failed issuer iss-d config",
            "ann issuer_test_connection_success issuer iss-d config",
            "ann update_issuer issuer iss-d config",
        ]);
    }

    async fn a_configuration_sealed_with_another_key_fails_its_test_and_can_be_replaced(db: TestDb) {
        let kit = Kit::new(db);
        kit.services.create_issuer(&kit.admin, digicert("iss-d")).await.unwrap();
        let kit = Kit::with_sealer(kit.db, None);
        let (services, admin) = (&kit.services, &kit.admin);
        let failure = services.test_issuer(admin, &id("iss-d")).await.unwrap_err();
        assert!(failure.to_string().contains("CERTCTL_CONFIG_ENCRYPTION_KEY"), "{failure}");
        let local = IssuerInput { issuer_type: Some("local".to_owned()), ..config(json!({})) };
        services.update_issuer(admin, &id("iss-d"), local).await.unwrap();
        services.test_issuer(admin, &id("iss-d")).await.unwrap();
    }

    async fn what_another_changes_while_a_configuration_is_looked_at_is_not_lost(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        services.create_issuer(admin, digicert("iss-d")).await.unwrap();
        // The other writes while the first looks: it would wait for ever if that were done with the database locked.
        elsewhere(&kit, 1, |_| "UPDATE issuers SET name = 'Renamed', hierarchy_mode = 'tree' WHERE id = 'iss-d'".to_owned());
        let changed = services.update_issuer(admin, &id("iss-d"), config(json!({"api_key": MASK, "org_id": "13"}))).await.unwrap();
        assert_eq!((changed.name.as_str(), changed.hierarchy_mode, &changed.config["org_id"]), ("Renamed", HierarchyMode::Tree, &json!("13")));
        assert_eq!(services.get_issuer(admin, &id("iss-d")).await.unwrap(), changed);
        assert_eq!(connected(&kit, "iss-d").await["api_key"], SECRET);
        assert_eq!(kit.audit().await.iter().filter(|event| event.contains("update_issuer")).count(), 1, "one change, one event");
    }

    async fn a_secret_that_another_replaces_meanwhile_is_the_one_that_is_kept(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        services.create_issuer(admin, digicert("iss-d")).await.unwrap();
        let other = sealer().seal("issuers:encrypted_config:iss-d", br#"{"api_key":"newer"}"#).unwrap();
        let blob = kit.db.blob(&other);
        elsewhere(&kit, 1, move |_| format!("UPDATE issuers SET encrypted_config = {blob} WHERE id = 'iss-d'"));
        services.update_issuer(admin, &id("iss-d"), config(json!({"api_key": MASK}))).await.unwrap();
        assert_eq!(connected(&kit, "iss-d").await, json!({"api_key": "newer"}));
    }

    async fn an_issuer_that_others_change_all_the_time_is_a_conflict(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        services.create_issuer(admin, digicert("iss-d")).await.unwrap();
        let seen = elsewhere(&kit, u32::MAX, |number| format!("UPDATE issuers SET name = 'Renamed {number}' WHERE id = 'iss-d'"));
        assert_eq!(outcome(services.update_issuer(admin, &id("iss-d"), config(json!({"api_key": "x"}))).await), "conflict");
        assert_eq!(seen.load(Ordering::SeqCst), 5, "it does not go on for ever");
        *kit.cas.meanwhile.lock().unwrap() = None;
        assert_eq!(connected(&kit, "iss-d").await["api_key"], SECRET, "nothing half done stays");
        // What is deleted meanwhile is not there.
        elsewhere(&kit, 1, |_| "DELETE FROM issuers WHERE id = 'iss-d'".to_owned());
        assert_eq!(outcome(services.update_issuer(admin, &id("iss-d"), config(json!({"api_key": "x"}))).await), "no issuer");
    }

    async fn a_grant_for_one_issuer_reaches_no_other(db: TestDb) {
        let kit = Kit::new(db);
        let services = &kit.services;
        services.create_issuer(&kit.admin, digicert("iss-d")).await.unwrap();
        let held = [Permission::IssuerRead, Permission::IssuerEdit];
        let scoped = actor("bob", &held, &Scope::Issuer("iss-d".to_owned()));
        let nobody = Actor::anonymous();
        assert_eq!([
            outcome(services.get_issuer(&scoped, &id("iss-d")).await),
            outcome(services.update_issuer(&scoped, &id("iss-d"), IssuerInput::default()).await),
            outcome(services.test_issuer(&scoped, &id("iss-d")).await),
            outcome(services.delete_issuer(&scoped, &id("iss-d")).await),
            outcome(services.get_issuer(&scoped, &id("iss-local")).await),
            outcome(services.update_issuer(&scoped, &id("iss-local"), IssuerInput::default()).await),
            outcome(services.test_issuer(&scoped, &id("iss-local")).await),
            outcome(services.create_issuer(&scoped, digicert("iss-e")).await),
            outcome(services.list_issuers(&scoped, PageRequest::default()).await),
            outcome(services.get_issuer(&nobody, &id("iss-d")).await),
            outcome(services.test_issuer(&nobody, &id("iss-d")).await),
        ], [
            "ok", "ok", "ok", "needs issuer.delete", "needs issuer.read", "needs issuer.edit", "needs issuer.edit",
            "needs issuer.edit", "needs issuer.read", "needs issuer.read", "needs issuer.edit",
        ]);
    }

    async fn the_key_of_a_ca_goes_with_its_issuer_and_not_while_it_vouches_for_anything(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let (services, admin, web) = (&world.services, &world.admin, &world.ids.certificate);
        let two = services.create_issuer(admin, input("iss-2", "local_ca", json!({}))).await.unwrap().id;
        let issued_by = |issuer: &str| CertificateInput { issuer_id: Some(issuer.to_owned()), ..CertificateInput::default() };
        services.update_certificate(admin, web, issued_by("iss-2")).await.unwrap();
        world.renew(web).await;
        assert_eq!(world.work().await.completed, 1);
        assert!(world.has_ca_file("iss-2.key") && world.has_ca_file("iss-2.crt"));
        let refused = async |said: &str| {
            let text = refusal(services.delete_issuer(admin, &two).await);
            assert_eq!(text, said);
            assert!(world.has_ca_file("iss-2.key"), "nothing is destroyed");
        };
        refused("certificates that this issuer signed are still valid").await;
        // Not even when the certificate is somebody else's business by now.
        services.update_certificate(admin, web, issued_by("iss-local")).await.unwrap();
        refused("certificates that this issuer signed are still valid").await;
        world.clock.advance(std::time::Duration::from_secs(91 * 86_400));
        services.update_certificate(admin, web, issued_by("iss-2")).await.unwrap();
        refused("certificates or revocations refer to this issuer").await;
        services.update_certificate(admin, web, issued_by("iss-local")).await.unwrap();
        services.delete_issuer(admin, &two).await.unwrap();
        assert!(!world.has_ca_file("iss-2.key") && !world.has_ca_file("iss-2.crt"));
        assert_eq!(world.recorded("delete_issuer").await, 1);
        // The same id again is another CA.
        services.create_issuer(admin, input("iss-2", "local_ca", json!({}))).await.unwrap();
        services.test_issuer(admin, &two).await.unwrap();
        assert!(world.has_ca_file("iss-2.key"));
        services.delete_issuer(admin, &two).await.unwrap();
        assert!(!world.has_ca_file("iss-2.key"));
    }

    async fn an_issuer_that_is_about_to_sign_is_not_deleted(db: TestDb) {
        let world = World::new(db).await;
        let (services, admin, web) = (&world.services, &world.admin, &world.ids.certificate);
        let two = services.create_issuer(admin, input("iss-2", "local_ca", json!({}))).await.unwrap().id;
        let issued_by = |issuer: &str| CertificateInput { issuer_id: Some(issuer.to_owned()), ..CertificateInput::default() };
        services.update_certificate(admin, web, issued_by("iss-2")).await.unwrap();
        world.renew(web).await;
        world.hand_in(&crate::support::csr()).await.unwrap();
        services.update_certificate(admin, web, issued_by("iss-local")).await.unwrap();
        assert_eq!(refusal(services.delete_issuer(admin, &two).await), "this issuer is about to sign a certificate");
    }

    async fn the_ca_of_the_server_itself_stays(db: TestDb) {
        let world = World::new(db).await;
        let (services, admin) = (&world.services, &world.admin);
        services.test_issuer(admin, &id("iss-local")).await.unwrap();
        for table in ["certificate_target_mappings", "managed_certificates"] {
            world.db.execute(&format!("DELETE FROM {table}")).await.unwrap();
        }
        services.delete_issuer(admin, &id("iss-local")).await.unwrap();
        assert!(world.has_ca_file("iss-local.key"), "its own certificate comes from it");
    }
}
