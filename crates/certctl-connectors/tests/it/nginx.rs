//! What is particular to nginx, and what is said of configurations before anything is run.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use certctl_connectors::{
    deploy::command::{CommandLine, CommandRunner, Running},
    target::Error,
};
use certctl_testkit::ca::Ca;
use serde_json::json;

use crate::web::{Kind, Web};

#[tokio::test]
async fn chain_and_key_go_to_files_of_their_own_with_the_modes_of_the_type() {
    let web = Web::start(Kind::Nginx);
    let mut config = web.verified_config();
    config["cert_path"] = json!(web.path("new.pem"));
    config["chain_path"] = json!(web.path("new-chain.pem"));
    config["key_path"] = json!(web.path("new-key.pem"));
    config["post_deploy_verify"]["enabled"] = json!(false);
    let pair = web.ca.issue("third.example");
    Kind::Nginx
        .real_connector()
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
        assert_eq!(files["new-key.pem"].2, Kind::Nginx.account());
    }
}

/// A chain file without a certificate would keep nginx from starting; a CA that is itself the root has none to put there.
#[tokio::test]
async fn without_intermediates_the_chain_file_stays_as_it_is() {
    let web = Web::start(Kind::Nginx);
    let mut config = web.verified_config();
    config["chain_path"] = json!(web.path("kept-chain.pem"));
    fs::write(web.path("kept-chain.pem"), "as it was").unwrap();
    let mut request = web.ca.issue("localhost").request(config);
    request.chain_pem = String::new();
    Kind::Nginx.real_connector().deploy(&request).await.unwrap();
    assert_eq!(web.snapshot()["kept-chain.pem"].0, b"as it was");
    assert_eq!(web.snapshot()["cert.pem"].0, request.cert_pem.as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_deployments_at_once_one_wins_whole() {
    let web = Web::start(Kind::Nginx);
    let connector = Kind::Nginx.real_connector();
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
    let connector = Kind::Nginx.connector(Arc::clone(&runner) as Arc<dyn CommandRunner>);
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
    let mut mismatched = pair.request(good.clone());
    mismatched.key_pem = Some(Ca::new("Connector Test Root").issue("b.example").key_pem);
    assert!(matches!(
        connector.deploy(&mismatched).await,
        Err(Error::KeyMismatch)
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
