//! What is true of every server that reads files and is told to read them again, on real ones.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use certctl_connectors::{
    deploy::{
        HookFailure, Kind as Failure, Rollback,
        command::{CommandLine, CommandRunner, Running, SystemRunner},
    },
    probe::Prober,
    target::Error,
};
use certctl_testkit::ca::Ca;
use serde_json::json;

use crate::web::{Kind, LIMIT, Web};

/// Every test below once for each server.
macro_rules! on_each_server {
    ($($test:ident),+ $(,)?) => {
        on_each_server!(@ nginx Nginx $($test)+);
        on_each_server!(@ apache Apache $($test)+);
        on_each_server!(@ haproxy HaProxy $($test)+);
    };
    (@ $server:ident $kind:ident $($test:ident)+) => {
        mod $server {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(crate::web::Kind::$kind).await;
                }
            )+
        }
    };
}

on_each_server!(
    a_new_pair_is_served_and_a_second_time_nothing_is_done,
    new_files_have_the_mode_and_owner_of_the_type,
    what_is_said_of_mode_and_owner_counts_for_new_and_old_files,
    what_the_service_refuses_never_stays,
    a_configuration_that_was_broken_before_stops_the_deployment,
    a_failed_reload_brings_the_old_pair_back,
    when_nothing_can_be_reloaded_the_failure_names_the_backups,
    a_pair_that_is_not_seen_to_be_served_is_taken_back,
    no_handshake_fails_during_reloads,
    a_key_of_another_certificate_or_an_unknown_owner_is_refused_untouched,
);

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    // Only root can give a file away; for anybody else the present owner is the one to keep.
    if nix::unistd::Uid::effective().is_root() {
        chown(path, Some(1), Some(2)).unwrap();
    }
}

async fn a_new_pair_is_served_and_a_second_time_nothing_is_done(kind: Kind) {
    let web = Web::start(kind);
    let connector = kind.real_connector();
    assert_eq!(web.served().await, web.first.fingerprint);
    for (_, file, _, _) in kind.files(&web.first) {
        set(&web.path(file), 0o604);
    }
    let before = web.snapshot();

    let pair = web.ca.issue("second.example");
    let request = pair.request(web.verified_config());
    let result = connector.deploy(&request).await.unwrap();
    assert!(!result.idempotent && result.verified);
    let prefix = format!("{}-", kind.name());
    assert!(
        result.deployment_id.starts_with(&prefix),
        "{}",
        result.deployment_id
    );
    web.serves(&pair.fingerprint).await;
    let after = web.snapshot();
    let files = kind.files(&pair);
    for (field, name, text, _) in &files {
        let (was, is) = (&before[*name], &after[*name]);
        assert_eq!((was.1, was.2, was.3), (is.1, is.2, is.3), "{name}");
        assert_eq!(String::from_utf8_lossy(&is.0), *text, "{name}");
        assert_eq!(
            result.metadata[*field],
            web.path(name).display().to_string()
        );
    }
    let backups: Vec<_> = after
        .iter()
        .filter(|(name, _)| name.contains("certctl-bak"))
        .collect();
    assert!(
        backups
            .iter()
            .all(|(name, kept)| before[name.split(".certctl").next().unwrap()] == **kept)
    );
    // The chain is the one that was there, but all files of a plan are replaced together.
    assert_eq!(backups.len(), files.len());

    let again = connector.deploy(&request).await.unwrap();
    assert!(again.idempotent && !again.verified);
    assert_eq!(again.metadata["idempotent"], "true");
    assert_eq!(web.snapshot(), after);

    let config = &request.target_config;
    let seen = connector.validate_deployment(config, &pair.serial).await;
    let seen = seen.unwrap();
    assert!(seen.valid, "{}", seen.message);
    let other = connector.validate_deployment(config, "abc123").await;
    let other = other.unwrap();
    assert!(!other.valid && other.serial == pair.serial);
}

async fn new_files_have_the_mode_and_owner_of_the_type(kind: Kind) {
    let web = Web::start(kind);
    let pair = web.ca.issue("third.example");
    let request = pair.request(web.fresh_config());
    kind.real_connector().deploy(&request).await.unwrap();
    let files = web.snapshot();
    for (_, name, text, mode) in kind.files(&pair) {
        let made = &files[&format!("new-{name}")];
        assert_eq!(String::from_utf8_lossy(&made.0), text, "{name}");
        assert_eq!(made.1, mode, "{name}");
        if nix::unistd::Uid::effective().is_root() {
            assert_eq!(made.2, kind.account(), "{name}");
        }
    }
}

async fn what_is_said_of_mode_and_owner_counts_for_new_and_old_files(kind: Kind) {
    let web = Web::start(kind);
    let mut config = web.fresh_config();
    let (field, name) = match kind {
        Kind::HaProxy => ("pem", "new-site.pem"),
        Kind::Nginx | Kind::Apache => ("key", "new-key.pem"),
    };
    config[format!("{field}_file_mode")] = json!("0440");
    config[format!("{field}_file_owner")] = json!(1);
    config[format!("{field}_file_group")] = json!("2");
    for round in ["a.example", "b.example"] {
        let request = web.ca.issue(round).request(config.clone());
        kind.real_connector().deploy(&request).await.unwrap();
        let made = &web.snapshot()[name];
        assert_eq!(made.1, 0o440);
        if nix::unistd::Uid::effective().is_root() {
            assert_eq!((made.2, made.3), (1, 2));
        }
        set(&web.path(name), 0o600);
    }
}

async fn what_the_service_refuses_never_stays(kind: Kind) {
    let web = Web::start(kind);
    for (_, file, _, _) in kind.files(&web.first) {
        set(&web.path(file), 0o640);
    }
    let before = web.snapshot();
    // A damaged chain, which only the server finds out.
    let mut request = web.ca.issue("a.example").request(web.verified_config());
    request.target_config["post_deploy_verify_attempts"] = json!(3);
    request.chain_pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();

    let failure = kind.real_connector().deploy(&request).await.unwrap_err();
    // Apache looks into the files when it is reloaded, and does not survive it: its check looks at its configuration
    // only. It is missed when it is looked at, and started again with the old files.
    let expected = match kind {
        Kind::Nginx | Kind::HaProxy => Failure::ValidateFailed,
        Kind::Apache => Failure::VerifyFailed,
    };
    assert_eq!(failure.kind(), expected.as_str(), "{failure}");
    assert_eq!(failure.rollback(), Rollback::Restored);
    assert_eq!(
        web.snapshot(),
        before,
        "byte for byte, and nothing beside it"
    );
    web.serves(&web.first.fingerprint).await;
}

async fn a_configuration_that_was_broken_before_stops_the_deployment(kind: Kind) {
    let web = Web::start(kind);
    let before = web.snapshot();
    web.break_configuration();
    let connector = kind.real_connector();
    let request = web.ca.issue("a.example").request(web.verified_config());
    let refused = connector.validate_only(&request).await.unwrap_err();
    assert!(
        matches!(&refused, Error::DryRun(said) if said.contains("nonsense")),
        "{refused}"
    );
    let failure = connector.deploy(&request).await.unwrap_err();
    assert_eq!(failure.kind(), "validate_failed");
    assert_eq!(failure.rollback(), Rollback::Restored);
    assert_eq!(web.snapshot(), before);
    assert_eq!(web.served().await, web.first.fingerprint);
}

/// Fails the first reload and does everything else for real.
struct FirstReloadFails(AtomicBool);

impl CommandRunner for FirstReloadFails {
    fn run<'a>(&'a self, command: &'a CommandLine, limit: Duration) -> Running<'a> {
        let is_reload = command
            .words()
            .iter()
            .any(|word| word.ends_with("reload") || word == "graceful");
        if is_reload && !self.0.swap(true, Ordering::SeqCst) {
            return Box::pin(async { Err(HookFailure("no such process".to_owned())) });
        }
        SystemRunner.run(command, limit)
    }
}

async fn a_failed_reload_brings_the_old_pair_back(kind: Kind) {
    let web = Web::start(kind);
    let before = web.snapshot();
    let connector = kind.connector(Arc::new(FirstReloadFails(AtomicBool::new(false))));
    let request = web.ca.issue("a.example").request(web.verified_config());
    let failure = connector.deploy(&request).await.unwrap_err();
    assert_eq!(failure.kind(), "reload_failed");
    assert_eq!(failure.rollback(), Rollback::Restored);
    assert_eq!(failure.to_string(), "no such process");
    assert_eq!(web.snapshot(), before);
    assert_eq!(web.served().await, web.first.fingerprint);
    // The same request goes through once the reason is gone.
    connector.deploy(&request).await.unwrap();
}

async fn when_nothing_can_be_reloaded_the_failure_names_the_backups(kind: Kind) {
    let web = Web::start(kind);
    let before = web.snapshot();
    let mut config = web.verified_config();
    config["reload_command"] = json!("false");
    let request = web.ca.issue("a.example").request(config);
    let failure = kind.real_connector().deploy(&request).await.unwrap_err();
    assert_eq!(failure.kind(), "rollback_failed");
    assert_eq!(failure.rollback(), Rollback::AlsoFailed);
    assert!(
        failure.to_string().contains(".pem.certctl-bak."),
        "{failure}"
    );
    let after = web.snapshot();
    assert!(
        before.iter().all(|(name, was)| after[name] == *was),
        "the files are the old ones"
    );
    assert_eq!(web.served().await, web.first.fingerprint);
}

async fn a_pair_that_is_not_seen_to_be_served_is_taken_back(kind: Kind) {
    let web = Web::start(kind);
    let before = web.snapshot();
    let pair = web.ca.issue("a.example");
    let request = pair.request(web.misdirected_config());
    let failure = kind.real_connector().deploy(&request).await.unwrap_err();
    assert_eq!(failure.kind(), "verify_failed");
    assert_eq!(failure.rollback(), Rollback::Restored);
    assert!(failure.to_string().contains(&pair.fingerprint), "{failure}");
    assert_eq!(web.snapshot(), before);
    web.serves(&web.first.fingerprint).await;
}

async fn no_handshake_fails_during_reloads(kind: Kind) {
    // nginx is quick; the others start processes anew.
    let rounds = if kind == Kind::Nginx { 50 } else { 15 };
    let web = Arc::new(Web::start(kind));
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
    let connector = kind.real_connector();
    for round in 0..rounds {
        let pair = web.ca.issue(&format!("round-{round}.example"));
        let result = connector
            .deploy(&pair.request(web.verified_config()))
            .await
            .unwrap();
        assert!(result.verified);
    }
    done.store(true, Ordering::SeqCst);
    let handshakes = watcher.await.expect("no handshake failed");
    assert!(
        handshakes >= rounds,
        "only {handshakes} handshakes were made"
    );
    let backups = web
        .snapshot()
        .keys()
        .filter(|name| name.contains("certctl-bak"))
        .count();
    let files = kind.files(&web.first).len();
    assert_eq!(backups, 3 * files, "three of each file");
}

async fn a_key_of_another_certificate_or_an_unknown_owner_is_refused_untouched(kind: Kind) {
    let web = Web::start(kind);
    let before = web.snapshot();
    let connector = kind.real_connector();
    let mut request = web.ca.issue("a.example").request(web.verified_config());
    request.key_pem = Some(web.ca.issue("b.example").key_pem);
    let refused = connector.deploy(&request).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.rollback()),
        ("key_mismatch", Rollback::None)
    );
    request.key_pem = None;
    let refused = connector.deploy(&request).await.unwrap_err();
    assert_eq!(refused.kind(), "key_missing");

    let mut request = web.ca.issue("a.example").request(web.verified_config());
    let file = if kind == Kind::HaProxy { "pem" } else { "key" };
    request.target_config[format!("{file}_file_owner")] = json!("nobody-by-this-name");
    request.target_config[format!("{file}_file_group")] = json!(0);
    let refused = connector.deploy(&request).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.rollback()),
        ("plan_invalid", Rollback::None)
    );
    assert_eq!(web.snapshot(), before);
    assert_eq!(web.served().await, web.first.fingerprint);
}

/// HAProxy's check is the one that may be left out; then there is nothing to try beforehand either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_does_without_a_check() {
    let web = Web::start(Kind::HaProxy);
    let connector = Kind::HaProxy.real_connector();
    let mut config = web.verified_config();
    config["validate_command"] = json!(null);
    let pair = web.ca.issue("a.example");
    let request = pair.request(config);
    let refused = connector.validate_only(&request).await.unwrap_err();
    assert!(matches!(refused, Error::DryRunNotSupported));
    connector.deploy(&request).await.unwrap();
    web.serves(&pair.fingerprint).await;
}

/// Apache has no place for issuers but the chain file.
#[tokio::test]
async fn apache_wants_to_know_where_the_chain_goes() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "cert_path": folder.path().join("cert.pem"), "key_path": folder.path().join("key.pem"),
        "validate_command": "true", "reload_command": "true",
    });
    let connector = Kind::Apache.real_connector();
    let refused = connector.validate_config(&config).await.unwrap_err();
    assert!(refused.to_string().contains("chain_path"), "{refused}");
    let pair = Ca::new("Connector Test Root").issue("a.example");
    let refused = connector.deploy(&pair.request(config)).await.unwrap_err();
    assert_eq!(refused.kind(), "config_invalid");
}
