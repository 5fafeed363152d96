use std::time::Duration;

use certctl_domain::{
    access::Actor,
    agent::{Agent, AgentStatus},
    id::{AgentId, TargetId},
    issuer::TestStatus,
    page::PageRequest,
    target::{Target, TargetType},
};
use certctl_repository::{Error as RepositoryError, agents, targets, transaction};
use certctl_service::{JobFilter, targets::TargetInput};
use certctl_testkit::{TestDb, database::START, db_tests, entities};
use serde_json::{Value, json};

use crate::kit::{Kit, outcome, sealer, with};

const SECRET: &str = "canary-7342";
const MASK: &str = "********";

fn input(id: &str, kind: &str, config: Value) -> TargetInput {
    TargetInput {
        id: Some(id.to_owned()),
        name: format!("Target {id}"),
        target_type: kind.to_owned(),
        agent_id: "ag-web".to_owned(),
        config: Some(config),
        enabled: None,
    }
}

fn nginx() -> Value {
    json!({"cert_path": "/etc/nginx/cert.pem", "reload_command": "nginx -s reload", "validate_command": "nginx -t"})
}

fn id(text: &str) -> TargetId {
    TargetId::from_stored(text.to_owned())
}

async fn enter(kit: &Kit, agent: &Agent) {
    let entered: Result<(), RepositoryError> =
        transaction!(kit.db, "enter", conn => { agents::insert(conn, agent, "hash").await });
    entered.unwrap();
}

async fn row(kit: &Kit, target: &str) -> Target {
    targets::find(&mut kit.db.read().await.unwrap(), &id(target))
        .await
        .unwrap()
}

/// The whole configuration as it is stored.
async fn stored(kit: &Kit, target: &str) -> Value {
    let target = row(kit, target).await;
    let sealed = target.encrypted_config.expect("a secret is sealed");
    let place = format!("deployment_targets:encrypted_config:{}", target.id);
    serde_json::from_slice(&sealer().open(&place, &sealed).unwrap()).unwrap()
}

/// The least of each kind; of those with secrets, with all of them.
fn every_kind() -> Vec<(&'static str, Value)> {
    vec![
        ("NGINX", nginx()),
        (
            "apache",
            with(&nginx(), json!({"chain_path": "/etc/apache2/chain.pem"})),
        ),
        (
            "HAProxy",
            json!({"pem_path": "/etc/haproxy/all.pem", "reload_command": "systemctl reload haproxy"}),
        ),
        (
            "F5",
            json!({"host": "f5", "username": "u", "password": SECRET, "ssl_profile": "p"}),
        ),
        (
            "IIS",
            json!({"site_name": "s", "cert_store": "My", "winrm": {"winrm_host": "w", "winrm_password": SECRET}}),
        ),
        (
            "Traefik",
            json!({"cert_dir": "/etc/traefik/certs", "cert_file": "web.pem"}),
        ),
        (
            "Caddy",
            json!({"admin_token": SECRET, "admin_headers": {"Authorization": SECRET}}),
        ),
        (
            "Envoy",
            json!({"cert_dir": "/etc/envoy", "sds_config": true}),
        ),
        ("Postfix", json!({})),
        ("Dovecot", json!({"reload_command": "doveadm reload"})),
        (
            "SSH",
            json!({"host": "h", "user": "u", "cert_path": "/c", "key_path": "/k", "private_key": SECRET, "password": SECRET, "passphrase": SECRET}),
        ),
        (
            "WinCertStore",
            json!({"winrm_password": SECRET, "winrm_username": "u"}),
        ),
        (
            "JavaKeystore",
            json!({"keystore_path": "C:\\certs\\store.p12", "keystore_password": SECRET}),
        ),
        (
            "KubernetesSecrets",
            json!({"namespace": "n", "secret_name": "s"}),
        ),
        ("AWSACM", json!({"region": "eu-west-1"})),
        (
            "AzureKeyVault",
            json!({"vault_url": "https://v.vault.azure.net", "certificate_name": "c"}),
        ),
    ]
}

/// What became of the jobs of a test.
async fn jobs_of(kit: &Kit) -> Vec<(String, Option<String>)> {
    let mut conn = kit.db.read().await.unwrap();
    let page =
        certctl_repository::jobs::list(&mut conn, JobFilter::default(), PageRequest::default())
            .await
            .unwrap();
    page.rows
        .into_iter()
        .map(|job| {
            (
                job.status.to_string(),
                job.agent_id.map(AgentId::into_string),
            )
        })
        .collect()
}

db_tests! {
    async fn a_target_is_made_read_replaced_and_deleted_and_each_is_on_record(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        kit.db.seed_basics().await;
        let made = services.create_target(admin, input("tgt-1", "nginx", nginx())).await.unwrap();
        assert_eq!((made.target_type, made.enabled, &made.config), (TargetType::Nginx, true, &nginx()));
        assert_eq!(services.get_target(admin, &made.id).await.unwrap(), made);
        let off = TargetInput { enabled: Some(false), ..input("", "Envoy", json!({"cert_dir": "/etc/envoy"})) };
        let replaced = services.update_target(admin, &made.id, off).await.unwrap();
        assert_eq!((replaced.target_type, replaced.enabled, &replaced.config), (TargetType::Envoy, false, &json!({"cert_dir": "/etc/envoy"})));
        let on = services.update_target(admin, &made.id, input("", "NGINX", nginx())).await.unwrap();
        assert!(on.enabled, "what is not said has its default");
        assert_eq!(services.list_targets(admin, PageRequest::default()).await.unwrap().total, 2);
        services.delete_target(admin, &made.id).await.unwrap();
        services.delete_target(admin, &id("tgt-web")).await.unwrap();
        assert_eq!(kit.db.text("SELECT CAST(count(*) AS TEXT) AS value FROM certificate_target_mappings").await, "0");
        assert_eq!(kit.audit_of("tgt-1").await, [
            "ann create_target target tgt-1 config",
            "ann delete_target target tgt-1 config",
            "ann update_target target tgt-1 config",
            "ann update_target target tgt-1 config",
        ]);
    }

    async fn every_kind_is_taken_and_no_secret_of_any_is_shown_or_lost(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        kit.db.seed_basics().await;
        assert_eq!(every_kind().len(), TargetType::ALL.len());
        for (kind, config) in every_kind() {
            let name = format!("tgt-{kind}");
            let made = services.create_target(admin, input(&name, kind, config.clone())).await.unwrap();
            assert_eq!(made.target_type, TargetType::parse(kind).unwrap());
            let shown = services.get_target(admin, &made.id).await.unwrap().config;
            assert_eq!(shown, made.config);
            // Sending back what was shown changes nothing.
            let again = services.update_target(admin, &made.id, input(&name, kind, shown.clone())).await.unwrap();
            assert_eq!(again.config, shown, "{kind}");
            if config.to_string().contains(SECRET) {
                assert_eq!(shown.to_string(), config.to_string().replace(&format!(r#"{{"Authorization":"{SECRET}"}}"#), &format!("\"{MASK}\"")).replace(SECRET, MASK), "{kind}");
                assert_eq!(stored(&kit, &name).await, config, "{kind}");
            } else {
                assert_eq!((shown, row(&kit, &name).await.encrypted_config), (config, None), "{kind}");
            }
        }
        let listed = services.list_targets(admin, PageRequest::default()).await.unwrap();
        assert!(listed.rows.iter().all(|target| target.encrypted_config.is_none() && !target.config.to_string().contains(SECRET)));
        for text in kit.db.texts("SELECT CAST(config AS TEXT) AS value FROM deployment_targets UNION ALL SELECT CAST(details AS TEXT) FROM audit_events").await {
            assert!(!text.contains(SECRET), "{text}");
        }
    }

    async fn changes_at_the_same_moment_come_one_after_another_and_lose_no_secret(db: TestDb) {
        let kit = Kit::new(db);
        kit.db.seed_basics().await;
        let f5 = |host: &str, password: &str| json!({"host": host, "username": "u", "password": password, "ssl_profile": "p"});
        kit.services.create_target(&kit.admin, input("tgt-1", "F5", f5("first", SECRET))).await.unwrap();
        let running: Vec<_> = (0..8).map(|number| {
            let (services, admin) = (kit.services.clone(), kit.admin.clone());
            let said = input("", "F5", f5(&format!("host-{number}"), MASK));
            tokio::spawn(async move { outcome(services.update_target(&admin, &id("tgt-1"), said).await) })
        }).collect();
        let mut done = 0;
        for one in running {
            match one.await.unwrap().as_str() {
                "ok" => done += 1,
                other => assert_eq!(other, "conflict"),
            }
        }
        assert!(done >= 1, "one of them is always first");
        let kept = stored(&kit, "tgt-1").await;
        assert!(kept["password"] == SECRET && kept["host"].as_str().unwrap().starts_with("host-"), "{kept}");
        assert_eq!(kit.audit_of("tgt-1").await.iter().filter(|event| event.contains("update_target")).count(), done);
    }

    async fn a_secret_does_not_follow_to_another_kind(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        kit.db.seed_basics().await;
        let f5 = json!({"host": "f5", "username": "u", "password": SECRET, "ssl_profile": "p"});
        services.create_target(admin, input("tgt-1", "F5", f5)).await.unwrap();
        let acm = json!({"region": "eu-west-1", "password": MASK});
        let changed = services.update_target(admin, &id("tgt-1"), input("", "AWSACM", acm)).await.unwrap();
        assert_eq!(changed.config, json!({"region": "eu-west-1", "password": null}));
        assert_eq!(row(&kit, "tgt-1").await.config, changed.config);
    }

    async fn without_a_key_a_secret_is_not_stored(db: TestDb) {
        let kit = Kit::with_sealer(db, None);
        kit.db.seed_basics().await;
        let secret = input("tgt-1", "WinCertStore", json!({"winrm_password": SECRET}));
        assert_eq!(outcome(kit.services.create_target(&kit.admin, secret).await), "bad request");
        assert_eq!(outcome(kit.services.create_target(&kit.admin, input("tgt-1", "NGINX", nginx())).await), "ok");
    }

    async fn other_names_of_fields_become_the_canonical_ones(db: TestDb) {
        let kit = Kit::new(db);
        kit.db.seed_basics().await;
        for (kind, given, kept) in [
            ("HAProxy", json!({"combined_pem_path": "/a.pem", "reload_command": "r"}), json!({"pem_path": "/a.pem", "reload_command": "r"})),
            ("Traefik", json!({"watch_dir": "/certs"}), json!({"cert_dir": "/certs"})),
            ("Caddy", json!({"admin_url": "http://localhost:2019"}), json!({"admin_api": "http://localhost:2019"})),
            ("Caddy", json!({"admin_url": "http://a", "admin_api": "http://b"}), json!({"admin_api": "http://b"})),
        ] {
            let made = kit.services.create_target(&kit.admin, input("tgt-1", kind, given)).await.unwrap();
            assert_eq!(made.config, kept);
            kit.services.delete_target(&kit.admin, &made.id).await.unwrap();
        }
    }

    async fn what_is_wrong_with_a_configuration_is_named(db: TestDb) {
        let kit = Kit::new(db);
        kit.db.seed_basics().await;
        for (kind, over, expected) in [
            ("NGINX", json!({"cert_path": null}), "config: cert_path: is required"),
            ("NGINX", json!({"cert_path": " "}), "config: cert_path: is required"),
            ("NGINX", json!({"cert_path": 5}), "config: cert_path: must be text"),
            ("NGINX", json!({"cert_path": "cert.pem"}), "config: cert_path: must be an absolute path without `..`"),
            ("NGINX", json!({"key_path": "/etc/../root/key"}), "config: key_path: must be an absolute path without `..`"),
            ("NGINX", json!({"reload_command": null}), "config: reload_command: is required"),
            ("NGINX", json!({"validate_command": null}), "config: validate_command: is required"),
            ("NGINX", json!({"reload_command": "nginx; rm -rf /"}), "config: reload_command: holds the refused character ';'"),
            ("NGINX", json!({"validate_command": "a".repeat(1025)}), "config: validate_command: is longer than 1024 characters"),
            ("NGINX", json!({"restart_command": "$(id)"}), "config: restart_command: holds the refused character '$'"),
            ("Apache", json!({}), "config: chain_path: is required"),
            ("HAProxy", json!({}), "config: pem_path: is required"),
            ("Postfix", json!({"reload_command": "a|b"}), "config: reload_command: holds the refused character '|'"),
            ("Dovecot", json!({"reload_command": "a`b"}), "config: reload_command: holds the refused character '`'"),
            ("SSH", json!({"host": "h", "user": "u"}), "config: key_path: is required"),
            ("SSH", json!({"host": "h", "user": "u", "key_path": "/k", "reload_command": "a\nb"}), "config: reload_command: holds the refused character '\\n'"),
            ("JavaKeystore", json!({"keystore_path": "/s", "keystore_password": "p", "reload_command": "a>b"}), "config: reload_command: holds the refused character '>'"),
            ("JavaKeystore", json!({"keystore_path": "C:\\..\\s", "keystore_password": "p"}), "config: keystore_path: must be an absolute path without `..`"),
            ("Traefik", json!({"cert_dir": "/c", "cert_file": "../c"}), "config: cert_file: must be the name of a file, without a folder"),
            ("Caddy", json!({"mode": "file"}), "config: cert_dir: is required"),
            ("F5", json!({"host": "h", "username": "u", "ssl_profile": "p"}), "config: password: is required"),
            ("F5", json!({"host": "h", "username": "u", "password": "p", "ssl_profile": "a/b"}), "config: ssl_profile: may hold letters, digits, `.`, `_` and `-`"),
            ("F5", json!({"host": "h", "username": "u", "password": "p", "ssl_profile": "a", "partition": "~"}), "config: partition: may hold letters, digits, `.`, `_` and `-`"),
            ("F5", json!({"host": "h", "username": "u", "password": "p", "ssl_profile": "a", "ca_bundle_path": "f5.pem"}), "config: ca_bundle_path: must be an absolute path without `..`"),
        ] {
            let refused = input("tgt-1", kind, with(&nginx(), over));
            let error = kit.services.create_target(&kit.admin, refused.clone()).await.unwrap_err();
            assert_eq!(error.to_string(), expected);
            let error = kit.services.update_target(&kit.admin, &id("tgt-web"), refused).await.unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    async fn what_is_wrong_with_a_target_is_named(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        kit.db.seed_basics().await;
        enter(&kit, &Agent { retired_at: Some(START), ..entities::agent("ag-gone") }).await;
        enter(&kit, &entities::agent("ag-two")).await;
        services.create_target(admin, input("tgt-1", "NGINX", nginx())).await.unwrap();
        let with = |change: fn(&mut TargetInput)| {
            let mut input = input("tgt-2", "NGINX", nginx());
            change(&mut input);
            input
        };
        for (refused, expected) in [
            (with(|t| t.name.clear()), "invalid name"),
            (with(|t| t.name = "Target tgt-1".to_owned()), "conflict"),
            (with(|t| t.id = Some("tgt-1".to_owned())), "conflict"),
            (with(|t| t.id = Some("/".to_owned())), "invalid id"),
            (with(|t| t.target_type.clear()), "invalid type"),
            (with(|t| t.target_type = "IIS 7".to_owned()), "invalid type"),
            (with(|t| t.agent_id.clear()), "invalid agent_id"),
            (with(|t| t.agent_id = "ag-none".to_owned()), "invalid agent_id"),
            (with(|t| t.agent_id = "ag-gone".to_owned()), "invalid agent_id"),
            (with(|t| t.agent_id = "server-scanner".to_owned()), "invalid agent_id"),
            (with(|t| t.config = Some(json!("text"))), "invalid config"),
            (with(|t| t.config = None), "invalid config"),
        ] {
            assert_eq!(outcome(services.create_target(admin, refused).await), expected);
        }
        // The name is the agent's own.
        services.create_target(admin, with(|t| (t.name, t.agent_id) = ("Target tgt-1".to_owned(), "ag-two".to_owned()))).await.unwrap();
        for (outcome, expected) in [
            (outcome(services.update_target(admin, &id("tgt-2"), with(|t| t.name = "Target tgt-1".to_owned())).await), "conflict"),
            (outcome(services.update_target(admin, &id("tgt-1"), with(|t| t.agent_id = "ag-gone".to_owned())).await), "invalid agent_id"),
            (outcome(services.update_target(admin, &id("none"), with(|_| ())).await), "no target"),
            (outcome(services.get_target(admin, &id("none")).await), "no target"),
            (outcome(services.test_target(admin, &id("none")).await), "no target"),
            (outcome(services.delete_target(admin, &id("none")).await), "no target"),
        ] {
            assert_eq!(outcome, expected);
        }
        assert_eq!(kit.audit().await, ["ann create_target target tgt-1 config", "ann create_target target tgt-2 config"]);
    }

    async fn a_target_that_was_retired_with_its_agent_stays_as_it_is(db: TestDb) {
        let kit = Kit::new(db);
        kit.db.seed_basics().await;
        let retired = Target { retired_at: Some(START), ..entities::target("tgt-old", &AgentId::from_stored("ag-web".to_owned())) };
        let entered: Result<(), RepositoryError> = transaction!(kit.db, "enter", conn => { targets::insert(conn, &retired).await });
        entered.unwrap();
        assert_eq!(outcome(kit.services.update_target(&kit.admin, &id("tgt-old"), input("", "NGINX", nginx())).await), "conflict");
        let test = kit.services.test_target(&kit.admin, &id("tgt-old")).await.unwrap();
        assert_eq!((test.success, test.message.as_str()), (false, "the target is retired"));
        assert_eq!(outcome(kit.services.delete_target(&kit.admin, &id("tgt-old")).await), "ok");
    }

    async fn a_test_says_whether_the_agent_could_deploy_now(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        kit.db.seed_basics().await;
        let offline = Agent { status: AgentStatus::Offline, ..entities::agent("ag-off") };
        let unheard = Agent { last_heartbeat_at: None, ..entities::agent("ag-new") };
        let retired = Agent { retired_at: Some(START), ..entities::agent("ag-gone") };
        for agent in [&offline, &unheard, &retired] {
            enter(&kit, agent).await;
            let target = entities::target(&format!("tgt-{}", agent.id), &agent.id);
            let entered: Result<(), RepositoryError> = transaction!(kit.db, "enter", conn => { targets::insert(conn, &target).await });
            entered.unwrap();
        }
        let five_minutes = Duration::from_secs(300);
        for (wait, target, success, message) in [
            (five_minutes, "tgt-web", true, "agent ag-web is online"),
            (Duration::ZERO, "tgt-ag-off", false, "agent ag-off is Offline"),
            (Duration::ZERO, "tgt-ag-new", false, "agent ag-new has not been heard of for five minutes"),
            (Duration::ZERO, "tgt-ag-gone", false, "agent ag-gone is retired"),
            (Duration::from_micros(1), "tgt-web", false, "agent ag-web has not been heard of for five minutes"),
        ] {
            kit.db.clock().advance(wait);
            let test = services.test_target(admin, &id(target)).await.unwrap();
            assert_eq!((test.success, test.message.as_str()), (success, message));
            let status = if success { TestStatus::Success } else { TestStatus::Failed };
            let stored = services.get_target(admin, &id(target)).await.unwrap();
            assert_eq!((stored.test_status, stored.last_tested_at.is_some()), (status, true));
        }
        assert_eq!(kit.audit_of("tgt-web").await, [
            "ann target_test_connection_failed target tgt-web config",
            "ann target_test_connection_success target tgt-web config",
        ]);
        let changed = services.update_target(admin, &id("tgt-web"), input("", "NGINX", nginx())).await.unwrap();
        assert_eq!(changed.test_status, TestStatus::Untested);
    }

    async fn who_holds_nothing_does_nothing_with_targets(db: TestDb) {
        let kit = Kit::new(db);
        let (services, nobody) = (&kit.services, &Actor::anonymous());
        assert_eq!([
            outcome(services.list_targets(nobody, PageRequest::default()).await),
            outcome(services.get_target(nobody, &id("x")).await),
            outcome(services.create_target(nobody, input("x", "NGINX", nginx())).await),
            outcome(services.update_target(nobody, &id("x"), input("x", "NGINX", nginx())).await),
            outcome(services.test_target(nobody, &id("x")).await),
            outcome(services.delete_target(nobody, &id("x")).await),
        ], ["needs target.read", "needs target.read", "needs target.edit", "needs target.edit", "needs target.edit", "needs target.delete"]);
    }

    async fn deployments_follow_a_target_that_moves_and_end_with_one_that_goes(db: TestDb) {
        let kit = Kit::new(db);
        let basics = kit.db.seed_basics().await;
        let mut other = entities::agent("ag-other");
        other.name = "other".to_owned();
        enter(&kit, &other).await;
        let job = entities::deployment("job-1", &basics.certificate, &basics.target, Some(&basics.agent));
        let entered: Result<(), RepositoryError> =
            transaction!(kit.db, "enter", conn => { certctl_repository::jobs::insert_all(conn, std::slice::from_ref(&job)).await });
        entered.unwrap();

        let mut moved = input(basics.target.as_str(), "NGINX", nginx());
        moved.agent_id = "ag-other".to_owned();
        kit.services.update_target(&kit.admin, &basics.target, moved).await.unwrap();
        assert_eq!(jobs_of(&kit).await, [("Pending".to_owned(), Some("ag-other".to_owned()))]);

        kit.services.delete_target(&kit.admin, &basics.target).await.unwrap();
        assert_eq!(jobs_of(&kit).await[0].0, "Cancelled");
    }
}
