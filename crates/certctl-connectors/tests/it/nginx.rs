use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use certctl_connectors::{
    deploy::{
        HookFailure, Kind, Rollback,
        command::{CommandLine, CommandRunner, Running, SystemRunner},
    },
    probe::Prober,
    target::{Error, TargetConnector as _},
};
use certctl_testkit::ca::Ca;
use serde_json::json;

use crate::web::{LIMIT, Web, connector, real_connector};

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    // Only root can give a file away; for anybody else the present owner is the one to keep.
    if nix::unistd::Uid::effective().is_root() {
        chown(path, Some(1), Some(2)).unwrap();
    }
}

#[tokio::test]
async fn a_new_pair_is_served_and_a_second_time_nothing_is_done() {
    let web = Web::start();
    let connector = real_connector();
    assert_eq!(web.served().await, web.first.fingerprint);
    set(&web.path("cert.pem"), 0o604);
    set(&web.path("key.pem"), 0o600);
    let before = web.snapshot();

    let pair = web.ca.issue("second.example");
    let request = pair.request(web.verified_config());
    let result = connector.deploy(&request).await.unwrap();
    assert!(!result.idempotent && result.verified);
    assert!(result.deployment_id.starts_with("nginx-"));
    web.serves(&pair.fingerprint).await;
    let after = web.snapshot();
    for name in ["cert.pem", "key.pem"] {
        let (was, is) = (&before[name], &after[name]);
        assert_eq!(
            (was.1, was.2, was.3),
            (is.1, is.2, is.3),
            "{name} keeps mode and owner"
        );
    }
    let cert = String::from_utf8(after["cert.pem"].0.clone()).unwrap();
    assert_eq!(
        cert,
        format!("{}{}", pair.cert_pem, pair.chain_pem),
        "leaf, then chain"
    );
    let backups: Vec<_> = after
        .iter()
        .filter(|(name, _)| name.contains("certctl-bak"))
        .collect();
    assert_eq!(backups.len(), 2);
    assert!(
        backups
            .iter()
            .all(|(name, kept)| before[name.split(".certctl").next().unwrap()] == **kept)
    );

    let again = connector.deploy(&request).await.unwrap();
    assert!(again.idempotent && !again.verified);
    assert_eq!(again.metadata["idempotent"], "true");
    assert_eq!(web.snapshot(), after);

    let seen = connector
        .validate_deployment(&request.target_config, &pair.serial)
        .await
        .unwrap();
    assert!(seen.valid, "{}", seen.message);
    let other = connector
        .validate_deployment(&request.target_config, "abc123")
        .await
        .unwrap();
    assert!(!other.valid && other.serial == pair.serial);
}

#[tokio::test]
async fn chain_and_key_go_to_files_of_their_own_with_the_modes_of_the_type() {
    let web = Web::start();
    let mut config = web.verified_config();
    config["cert_path"] = json!(web.path("new.pem"));
    config["chain_path"] = json!(web.path("new-chain.pem"));
    config["key_path"] = json!(web.path("new-key.pem"));
    config["post_deploy_verify"]["enabled"] = json!(false);
    let pair = web.ca.issue("third.example");
    real_connector()
        .deploy(&pair.request(config))
        .await
        .unwrap();

    let files = web.snapshot();
    assert_eq!(files["new.pem"].0, pair.cert_pem.as_bytes());
    assert_eq!(files["new-chain.pem"].0, pair.chain_pem.as_bytes());
    assert_eq!(files["new-key.pem"].0, pair.key_pem.expose().as_bytes());
    let modes = ["new.pem", "new-chain.pem", "new-key.pem"].map(|name| files[name].1);
    assert_eq!(modes, [0o644, 0o644, 0o640]);
    if nix::unistd::Uid::effective().is_root() {
        let account = ["nginx", "www-data"]
            .iter()
            .find_map(|name| nix::unistd::User::from_name(name).unwrap())
            .expect("the package nginx brings one of the accounts");
        assert_eq!(files["new-key.pem"].2, account.uid.as_raw());
    }
}

/// A chain file without a certificate would keep nginx from starting; a CA that is itself the root has none to put there.
#[tokio::test]
async fn without_intermediates_the_chain_file_stays_as_it_is() {
    let web = Web::start();
    let mut config = web.verified_config();
    config["chain_path"] = json!(web.path("kept-chain.pem"));
    fs::write(web.path("kept-chain.pem"), "as it was").unwrap();
    let mut request = web.ca.issue("localhost").request(config);
    request.chain_pem = String::new();
    real_connector().deploy(&request).await.unwrap();
    assert_eq!(web.snapshot()["kept-chain.pem"].0, b"as it was");
    assert_eq!(web.snapshot()["cert.pem"].0, request.cert_pem.as_bytes());
}

#[tokio::test]
async fn files_that_nginx_refuses_never_become_the_live_ones() {
    let web = Web::start();
    set(&web.path("cert.pem"), 0o640);
    let before = web.snapshot();
    // The key belongs to another certificate, which only nginx's own check finds out.
    let (pair, stranger) = (web.ca.issue("a.example"), web.ca.issue("b.example"));
    let mut request = pair.request(web.verified_config());
    request.key_pem = Some(stranger.key_pem);

    let failure = real_connector().deploy(&request).await.unwrap_err();
    assert_eq!(failure.kind(), Kind::ValidateFailed.as_str());
    assert_eq!(failure.rollback(), Rollback::Restored);
    assert!(
        failure.to_string().contains("key values mismatch"),
        "{failure}"
    );
    assert_eq!(
        web.snapshot(),
        before,
        "byte for byte, and nothing beside it"
    );
    assert_eq!(web.served().await, web.first.fingerprint);
}

#[tokio::test]
async fn a_configuration_that_was_broken_before_stops_the_deployment() {
    let web = Web::start();
    let before = web.snapshot();
    fs::write(web.path("../nginx.conf"), "nonsense;").unwrap();
    let request = web.ca.issue("a.example").request(web.verified_config());
    let refused = real_connector().validate_only(&request).await.unwrap_err();
    assert!(
        matches!(&refused, Error::DryRun(said) if said.contains("unknown directive")),
        "{refused}"
    );
    let failure = real_connector().deploy(&request).await.unwrap_err();
    assert_eq!(failure.kind(), "validate_failed");
    assert_eq!(web.snapshot(), before);
    assert_eq!(web.served().await, web.first.fingerprint);
}

/// Fails the first reload and does everything else for real.
struct FirstReloadFails(AtomicBool);

impl CommandRunner for FirstReloadFails {
    fn run<'a>(&'a self, command: &'a CommandLine, limit: Duration) -> Running<'a> {
        let is_reload = command.words().ends_with(&["reload".to_owned()]);
        if is_reload && !self.0.swap(true, Ordering::SeqCst) {
            return Box::pin(async { Err(HookFailure("no such process".to_owned())) });
        }
        SystemRunner.run(command, limit)
    }
}

#[tokio::test]
async fn a_failed_reload_brings_the_old_pair_back() {
    let web = Web::start();
    let before = web.snapshot();
    let connector = connector(Arc::new(FirstReloadFails(AtomicBool::new(false))));
    let request = web.ca.issue("a.example").request(web.verified_config());
    let failure = connector.deploy(&request).await.unwrap_err();
    assert_eq!(failure.kind(), "reload_failed");
    assert_eq!(failure.to_string(), "no such process");
    assert_eq!(web.snapshot(), before);
    assert_eq!(web.served().await, web.first.fingerprint);
    // The same request goes through once the reason is gone.
    connector.deploy(&request).await.unwrap();
}

#[tokio::test]
async fn when_nothing_can_be_reloaded_the_failure_names_the_backups() {
    let web = Web::start();
    let before = web.snapshot();
    let mut config = web.verified_config();
    config["reload_command"] = json!("false");
    let failure = real_connector()
        .deploy(&web.ca.issue("a.example").request(config))
        .await
        .unwrap_err();
    assert_eq!(failure.kind(), "rollback_failed");
    assert_eq!(failure.rollback(), Rollback::AlsoFailed);
    assert!(
        failure.to_string().contains("cert.pem.certctl-bak."),
        "{failure}"
    );
    let after = web.snapshot();
    assert!(
        before.iter().all(|(name, was)| after[name] == *was),
        "the files are the old ones"
    );
    assert_eq!(web.served().await, web.first.fingerprint);
}

#[tokio::test]
async fn a_pair_that_is_not_seen_to_be_served_is_taken_back() {
    let web = Web::start();
    let before = web.snapshot();
    let pair = web.ca.issue("a.example");
    let failure = real_connector()
        .deploy(&pair.request(web.misdirected_config()))
        .await
        .unwrap_err();
    assert_eq!(failure.kind(), "verify_failed");
    assert!(failure.to_string().contains(&pair.fingerprint), "{failure}");
    assert_eq!(web.snapshot(), before);
    web.serves(&web.first.fingerprint).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_handshake_fails_during_fifty_reloads() {
    let web = Arc::new(Web::start());
    let done = Arc::new(AtomicBool::new(false));
    let watcher = tokio::spawn({
        let (web, done) = (Arc::clone(&web), Arc::clone(&done));
        async move {
            let (prober, mut handshakes) = (Prober::new(), 0_u32);
            while !done.load(Ordering::SeqCst) {
                prober.probe(&web.endpoint(), LIMIT).await.unwrap();
                handshakes += 1;
            }
            handshakes
        }
    });
    let connector = real_connector();
    for round in 0..50 {
        let pair = web.ca.issue(&format!("round-{round}.example"));
        let result = connector
            .deploy(&pair.request(web.verified_config()))
            .await
            .unwrap();
        assert!(result.verified);
    }
    done.store(true, Ordering::SeqCst);
    let handshakes = watcher.await.expect("no handshake failed");
    assert!(handshakes >= 50, "only {handshakes} handshakes were made");
    let backups = web
        .snapshot()
        .keys()
        .filter(|name| name.contains("certctl-bak"))
        .count();
    assert_eq!(backups, 6, "three of each file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_deployments_at_once_one_wins_whole() {
    let web = Web::start();
    let connector = real_connector();
    let (a, b) = (web.ca.issue("a.example"), web.ca.issue("b.example"));
    let mut config = web.verified_config();
    config["post_deploy_verify"]["enabled"] = json!(false);
    let (requests, validate) = (
        (a.request(config.clone()), b.request(config.clone())),
        a.request(config),
    );
    let (one, two) = tokio::join!(connector.deploy(&requests.0), connector.deploy(&requests.1));
    one.unwrap();
    two.unwrap();
    connector
        .validate_only(&validate)
        .await
        .expect("certificate and key belong together");
    let cert = fs::read_to_string(web.path("cert.pem")).unwrap();
    let key = fs::read_to_string(web.path("key.pem")).unwrap();
    let winner = if cert.starts_with(&a.cert_pem) {
        &a
    } else {
        &b
    };
    assert!(cert.starts_with(&winner.cert_pem) && key == winner.key_pem.expose());
}

/// Counts what it is asked to run, and runs nothing.
#[derive(Default)]
struct Counting(AtomicU32);

impl CommandRunner for Counting {
    fn run<'a>(&'a self, _command: &'a CommandLine, _limit: Duration) -> Running<'a> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_before_anything_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Arc::new(Counting::default());
    let connector = connector(Arc::clone(&runner) as Arc<dyn CommandRunner>);
    let good = json!({
        "cert_path": folder.path().join("cert.pem"), "key_path": folder.path().join("key.pem"),
        "validate_command": "true", "reload_command": "true",
    });
    let pair = Ca::new("Connector Test Root").issue("a.example");
    connector.validate_config(&good).await.unwrap();

    for (field, value, said) in [
        ("cert_path", json!(null), "cert_path"),
        (
            "cert_path",
            json!("relative.pem"),
            "cert_path: is not an absolute path",
        ),
        (
            "key_path",
            json!("/no/such/folder/key.pem"),
            "key_path: the folder /no/such/folder does not exist",
        ),
        (
            "validate_command",
            json!(""),
            "validate_command: is required",
        ),
        (
            "reload_command",
            json!("nginx; reboot"),
            "reload_command: holds the refused character ';'",
        ),
        (
            "key_file_mode",
            json!(640),
            "key_file_mode: expected file permissions",
        ),
        (
            "post_deploy_verify",
            json!({"endpoint": "nowhere"}),
            "is not host:port",
        ),
        (
            "post_deploy_verify",
            json!({"endpoint": "a:25", "starttls": "smtp"}),
            "not supported yet",
        ),
        (
            "post_deploy_verify_backoff",
            json!("soon"),
            "post_deploy_verify_backoff: expected a duration",
        ),
    ] {
        let mut config = good.clone();
        config[field] = value;
        let refused = connector.deploy(&pair.request(config)).await.unwrap_err();
        assert!(matches!(refused, Error::Config(_)), "{refused}");
        assert!(refused.to_string().contains(said), "{refused}");
    }
    let mut keyless = pair.request(good.clone());
    keyless.key_pem = None;
    assert!(matches!(
        connector.deploy(&keyless).await,
        Err(Error::KeyMissing)
    ));
    let mut unknown_owner = pair.request(good);
    unknown_owner.target_config["key_file_owner"] = json!("nobody-by-this-name");
    unknown_owner.target_config["key_file_group"] = json!(0);
    let refused = connector.deploy(&unknown_owner).await.unwrap_err();
    assert_eq!(refused.kind(), "plan_invalid");

    assert_eq!(runner.0.load(Ordering::SeqCst), 0, "no command was run");
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "no file was made"
    );
    assert_eq!(
        fs::metadata(folder.path()).unwrap().uid(),
        nix::unistd::Uid::effective().as_raw()
    );
}
