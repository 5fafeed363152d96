//! Becoming an agent.

use std::{fs, os::unix::fs::MetadataExt as _};

use certctl_agent_core::{Error, environment, register, register_into, remembered_or_registered};
use certctl_domain::secret::Secret;

use crate::{
    bench::Bench,
    server::{AGENT, API_KEY, TOKEN},
};

#[tokio::test]
async fn a_token_is_exchanged_for_an_id_and_a_key() {
    let bench = Bench::start().await;
    let identity = register(&bench.server_config(), &Secret::new(TOKEN), "web-1")
        .await
        .unwrap();
    assert_eq!(identity.agent_id.as_str(), AGENT);
    assert_eq!(identity.api_key.expose(), API_KEY);
    let sent = bench.server.calls("agents").remove(0).body;
    assert_eq!(sent["name"], "web-1");
    assert!(
        ["hostname", "os", "architecture", "ip_address", "version"]
            .iter()
            .all(|f| sent[f].is_string())
    );
    assert!(!format!("{identity:?}").contains("canary"));
}

/// The agent is started from another folder than it was registered in.
#[tokio::test]
async fn a_bundle_that_was_given_by_a_relative_path_is_written_down_as_an_absolute_one() {
    let bench = Bench::start().await;
    let identity = register(&bench.server_config(), &Secret::new(TOKEN), "web-1")
        .await
        .unwrap();
    let mut config = bench.server_config();
    config.ca_bundle = Some("tls/root.crt".into());
    let text = environment(&config, "web-1", &identity);
    let here = std::env::current_dir().unwrap().join("tls/root.crt");
    let line = format!("CERTCTL_SERVER_CA_BUNDLE_PATH={}", here.display());
    assert!(text.lines().any(|found| found == line), "{line} in {text}");
}

#[tokio::test]
async fn the_identity_goes_to_a_new_file_that_only_its_owner_reads() {
    let bench = Bench::start().await;
    let (config, token) = (bench.server_config(), Secret::new(TOKEN));
    let file = bench.folder().join("agent.env");
    register_into(&file, &config, &token, "web-1")
        .await
        .unwrap();
    let text = fs::read_to_string(&file).unwrap();
    for line in [
        format!("CERTCTL_SERVER_URL={}", bench.server.url()),
        format!("CERTCTL_AGENT_ID={AGENT}"),
        format!("CERTCTL_API_KEY={API_KEY}"),
        "CERTCTL_AGENT_NAME=web-1".to_owned(),
        format!(
            "CERTCTL_SERVER_CA_BUNDLE_PATH={}",
            bench.server.ca_bundle().display()
        ),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);

    // A second key must not be asked for when there is nowhere to put it.
    let again = register_into(&file, &config, &token, "web-2").await;
    assert!(matches!(again, Err(Error::File { .. })));
    assert_eq!(bench.server.calls("agents").len(), 1);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[tokio::test]
async fn a_refused_registration_says_why_and_leaves_no_file() {
    let bench = Bench::start().await;
    let file = bench.folder().join("agent.env");
    for (token, name, status, said) in [
        ("wrong", "web-1", 401, "invalid_or_missing_bootstrap_token"),
        (TOKEN, "taken", 409, "the name is taken"),
    ] {
        let refused = register_into(&file, &bench.server_config(), &Secret::new(token), name)
            .await
            .unwrap_err();
        assert_eq!(refused.status(), Some(status));
        assert!(refused.to_string().contains(said), "{refused}");
        assert!(!file.exists());
    }
}

#[tokio::test]
async fn an_agent_that_registered_itself_remembers_who_it_is() {
    let bench = Bench::start().await;
    let (config, token) = (bench.server_config(), Secret::new(TOKEN));
    let dir = bench.key_dir();
    let first = remembered_or_registered(&dir, &config, &token, "web-1")
        .await
        .unwrap();
    let second = remembered_or_registered(&dir, &config, &Secret::new("wrong"), "web-1")
        .await
        .unwrap();
    assert_eq!(first, second);
    assert_eq!(bench.server.calls("agents").len(), 1);
    let kept = dir.join("agent-identity.env");
    assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);

    fs::write(&kept, "CERTCTL_AGENT_ID=x\n").unwrap();
    let damaged = remembered_or_registered(&dir, &config, &token, "web-1").await;
    assert!(matches!(damaged, Err(Error::Identity(_))));
}
