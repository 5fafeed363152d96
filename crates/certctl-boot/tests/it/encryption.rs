//! The encryption key over the life of an installation: set late, lost, wrong, changed.

use std::fs;

use certctl_boot::Step;
use certctl_repository::Backend;
use certctl_testkit::TestDb;

use crate::installation::{Installation, chain};

const KEY: &str = "CONFIG_ENCRYPTION_KEY";
const PREVIOUS: &str = "CONFIG_ENCRYPTION_KEY_PREVIOUS";
const OLD: &str = "the key before, of 32 bytes and more";
const NEW: &str = "the present key, of 32 bytes and more";

/// The root that a start tells clients to trust.
async fn root(installation: &Installation) -> String {
    let server = installation.build().await;
    let server = server.unwrap_or_else(|error| panic!("{}", chain(&error)));
    fs::read_to_string(server.welcome().root.as_ref().unwrap()).unwrap()
}

fn ca_key(installation: &Installation) -> Vec<u8> {
    fs::read(installation.data_dir().join("ca/iss-local.key")).unwrap()
}

async fn reencrypt(installation: &Installation) -> Result<(bool, Vec<String>), String> {
    let mut lines = Vec::new();
    let mut report = |step: Step<'_>| lines.push(step.to_string());
    let whole = certctl_boot::reencrypt(&installation.settings(), &mut report).await;
    Ok((whole.map_err(|error| chain(&error))?, lines))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_key_that_was_kept_in_the_clear_is_sealed_once_there_is_a_key() {
    let installation = Installation::new();
    let first = root(&installation).await;
    assert!(ca_key(&installation).starts_with(b"-----BEGIN "));
    let installation = installation.set(KEY, OLD);
    assert_eq!(root(&installation).await, first, "it is the same CA");
    let sealed = ca_key(&installation);
    assert_eq!(sealed[0], 4);
    assert!(!sealed.windows(7).any(|window| window == b"PRIVATE"));
    let left: Vec<_> = fs::read_dir(installation.data_dir().join("ca"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("tmp") || name.contains("orphan"))
        .collect();
    assert_eq!(left, [""; 0], "nothing of the key in the clear is left");
    assert_eq!(root(&installation).await, first);
    assert_eq!(ca_key(&installation), sealed, "sealed once");

    // Without the key, or with another, nothing starts and nothing is made anew.
    let installation = installation.without(KEY);
    let refusal = installation.refusal().await;
    assert!(
        refusal.contains("CERTCTL_CONFIG_ENCRYPTION_KEY is not set")
            && refusal.contains("iss-local"),
        "{refusal}"
    );
    let installation = installation.set(KEY, NEW);
    let refusal = installation.refusal().await;
    assert!(
        refusal.contains("sealed with another key than CERTCTL_CONFIG_ENCRYPTION_KEY"),
        "{refusal}"
    );
    assert_eq!(reencrypt(&installation).await.unwrap_err(), refusal);
    assert_eq!(ca_key(&installation), sealed);

    // With the one before at hand it starts; sealed anew, it needs the present one only.
    let installation = installation.set(PREVIOUS, OLD);
    assert_eq!(root(&installation).await, first);
    let (whole, lines) = reencrypt(&installation).await.unwrap();
    assert!(whole);
    assert_eq!(lines, ["ca key files: 1 checked, 1 sealed anew"]);
    assert_ne!(ca_key(&installation), sealed);
    let installation = installation.without(PREVIOUS);
    assert_eq!(root(&installation).await, first);
    let (whole, lines) = reencrypt(&installation).await.unwrap();
    assert!(whole);
    assert_eq!(lines, ["ca key files: 1 checked, 0 sealed anew"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_nothing_to_seal_with_without_a_key() {
    let refusal = reencrypt(&Installation::new()).await.unwrap_err();
    assert!(
        refusal.starts_with("CERTCTL_CONFIG_ENCRYPTION_KEY is not set"),
        "{refusal}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_key_that_cannot_be_opened_is_named_and_the_rest_is_done() {
    let installation = Installation::new().set(KEY, OLD);
    root(&installation).await;
    let ca = installation.data_dir().join("ca");
    for extension in ["crt", "key"] {
        let file = |name: &str| ca.join(format!("{name}.{extension}"));
        fs::copy(file("iss-local"), file("iss-moved")).unwrap();
    }
    let installation = installation.set(KEY, NEW).set(PREVIOUS, OLD);
    let (whole, lines) = reencrypt(&installation).await.unwrap();
    assert!(!whole, "the exit status says so");
    assert!(
        lines[0].starts_with("ca key files: iss-moved cannot be opened"),
        "{lines:?}"
    );
    assert_eq!(lines[1], "ca key files: 2 checked, 1 sealed anew");
}

/// A second replica, or another start, must not come with a CA that nobody trusts.
#[tokio::test(flavor = "multi_thread")]
async fn the_ca_of_a_server_without_a_key_is_shared_once_there_is_one_postgres() {
    let db = TestDb::empty(Backend::Postgres).await;
    let alone = Installation::on(db.url()).without(KEY);
    let first = root(&alone).await;
    assert!(ca_key(&alone).starts_with(b"-----BEGIN "));
    let alone = alone.set(KEY, OLD);
    assert_eq!(root(&alone).await, first);
    assert_eq!(ca_key(&alone)[0], 4, "what is left in the folder is sealed");
    let stored = "SELECT CAST(get_byte(private_key, 0) AS text) AS value FROM local_authorities";
    assert_eq!(db.text(stored).await, "4");
    let replica = Installation::on(db.url()).set(KEY, OLD);
    assert_eq!(root(&replica).await, first);
    // Changed keys reach both.
    let alone = alone.set(KEY, NEW).set(PREVIOUS, OLD);
    let (whole, lines) = reencrypt(&alone).await.unwrap();
    assert!(
        whole
            && lines
                .contains(&"local_authorities:private_key: 1 checked, 1 sealed anew".to_owned()),
        "{lines:?}"
    );
    assert_eq!(root(&replica.set(KEY, NEW)).await, first);
    let refusal = alone.without(KEY).without(PREVIOUS).refusal().await;
    assert!(
        refusal.contains("CERTCTL_CONFIG_ENCRYPTION_KEY is not set"),
        "{refusal}"
    );
}
