//! The local CA with a root of its own, on real files and against the real openssl.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use certctl_connectors::issuer::{
    Factory,
    ca_store::{CaStore, FileCaStore, StoredCa},
};
use certctl_domain::{
    id::IssuerId,
    issuer::IssuerType,
    key::KeySpec,
    name::SubjectAltName,
    ports::{
        BoxFuture,
        issuer::{IssuanceRequest, Issuer, IssuerError, IssuerFactory as _},
    },
    profile::ExtendedKeyUsage,
    revocation::RevocationReason,
    secret::Secret,
    time::{ManualClock, Timestamp},
};
use certctl_pki::{
    cert::{ParsedCertificate, random_serial},
    key::PrivateKey,
    pem,
    seal::Sealer,
};
use serde_json::{Value, json};

pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);
const AT: &str = "1790003600";
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

fn id() -> IssuerId {
    IssuerId::parse("iss-local").unwrap()
}

fn sealer(passphrase: &str) -> Option<Arc<Sealer>> {
    Some(Arc::new(Sealer::new(&Secret::new(passphrase))))
}

pub(crate) fn factory(data_dir: &Path, sealer: Option<Arc<Sealer>>) -> Factory {
    let store = Arc::new(FileCaStore::new(data_dir));
    Factory::new(store, sealer, Arc::new(ManualClock::starting_at(NOW)))
}

pub(crate) async fn connect(
    factory: &Factory,
    config: &Value,
) -> Result<Arc<dyn Issuer>, IssuerError> {
    factory.connect(&id(), IssuerType::GenericCa, config).await
}

/// The refusal of a configuration or a state; the connected issuer has no `Debug` to unwrap by.
pub(crate) async fn refused(factory: &Factory, config: &Value) -> IssuerError {
    match connect(factory, config).await {
        Ok(_) => panic!("{config} was accepted"),
        Err(error) => error,
    }
}

pub(crate) fn request(common_name: &str, sans: &[&str]) -> IssuanceRequest {
    let key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
    IssuanceRequest {
        common_name: common_name.to_owned(),
        sans: sans
            .iter()
            .map(|san| SubjectAltName::parse(san).unwrap())
            .collect(),
        spki_der: key.spki_der().to_vec(),
        csr_pem: String::new(),
        ekus: vec![ExtendedKeyUsage::ServerAuth],
        max_ttl_seconds: 0,
        must_staple: false,
        serial: random_serial().unwrap(),
        not_before: NOW,
    }
}

/// Whether openssl verifies a leaf under these trusted and untrusted certificates.
pub(crate) fn openssl_verifies(leaf: &str, trusted: &str, untrusted: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("leaf.pem", leaf),
        ("ca.pem", trusted),
        ("mid.pem", untrusted),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let mut command = Command::new("openssl");
    command
        .args([
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-attime",
            AT,
            "-CAfile",
            "ca.pem",
        ])
        .current_dir(folder.path());
    if !untrusted.is_empty() {
        command.args(["-untrusted", "mid.pem"]);
    }
    let output = command
        .arg("leaf.pem")
        .output()
        .expect("this test runs the program `openssl`; install the package openssl");
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

pub(crate) async fn issue_one(ca: &dyn Issuer, request: IssuanceRequest) -> ParsedCertificate {
    let issued = ca.issue(vec![request]).await.remove(0).unwrap();
    ParsedCertificate::from_der(&issued.leaf_der).unwrap()
}

#[tokio::test]
async fn a_leaf_of_the_own_root_verifies_and_the_root_stays() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({"ca_common_name": "Own Root"});
    let ca = connect(&factory(folder.path(), None), &config)
        .await
        .unwrap();
    let request = request("web.example.com", &["192.0.2.7"]);
    let issued = ca.issue(vec![request.clone()]).await.remove(0).unwrap();
    let root = ca.ca_pem().await.unwrap();
    openssl_verifies(&issued.leaf_pem, &root, "").unwrap();
    assert_eq!(issued.chain_pem, "", "the root is not sent");
    assert_eq!(issued.serial, request.serial);
    assert_eq!(
        issued.fingerprint_sha256,
        pem::fingerprint(&issued.leaf_der)
    );

    let parsed = ParsedCertificate::from_pem(&root).unwrap();
    assert_eq!(parsed.common_name(), Some("Own Root"));
    assert_eq!(parsed.not_after(), NOW + 3650 * DAY);
    // Another name in the configuration, another start of the server: the same root.
    let again = connect(&factory(folder.path(), None), &json!({}))
        .await
        .unwrap();
    assert_eq!(again.ca_pem().await.unwrap(), root);
    ca.revoke(&issued.serial, RevocationReason::Superseded)
        .await
        .unwrap();
}

#[tokio::test]
async fn files_are_for_the_owner_alone_and_the_key_is_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let sealed = factory(folder.path(), sealer("a passphrase"));
    let root = connect(&sealed, &json!({}))
        .await
        .unwrap()
        .ca_pem()
        .await
        .unwrap();
    let mode = |name: &str| {
        let path = folder.path().join("ca").join(name);
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode(""), mode("iss-local.key")), (0o700, 0o600));
    let key = fs::read(folder.path().join("ca/iss-local.key")).unwrap();
    assert_eq!(key[0], 4);
    assert!(!key.windows(7).any(|window| window == b"PRIVATE"));

    // The right passphrase opens it, also as the one before; without it nothing does, and no new CA is made.
    let rotated =
        Sealer::new(&Secret::new("another")).with_previous(Some(&Secret::new("a passphrase")));
    let rotated = connect(&factory(folder.path(), Some(Arc::new(rotated))), &json!({}))
        .await
        .unwrap();
    assert_eq!(rotated.ca_pem().await.unwrap(), root);
    for wrong in [None, sealer("another")] {
        let error = refused(&factory(folder.path(), wrong), &json!({})).await;
        assert!(matches!(error, IssuerError::Other(_)), "{error:?}");
    }
    assert_eq!(
        fs::read(folder.path().join("ca/iss-local.key")).unwrap(),
        key
    );
}

#[tokio::test]
async fn a_key_sealed_for_one_issuer_does_not_open_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let factory = factory(folder.path(), sealer("a passphrase"));
    connect(&factory, &json!({})).await.unwrap();
    for extension in ["crt", "key"] {
        let file = |name: &str| folder.path().join("ca").join(format!("{name}.{extension}"));
        fs::copy(file("iss-local"), file("iss-other")).unwrap();
    }
    let other = IssuerId::parse("iss-other").unwrap();
    let moved = factory
        .connect(&other, IssuerType::GenericCa, &Value::Null)
        .await;
    assert!(matches!(moved.err(), Some(IssuerError::Other(_))));
}

/// What a kill at each step of making a CA leaves behind.
#[tokio::test]
async fn a_half_made_ca_is_never_used() {
    let other_key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap().to_pem();
    let other_key = other_key.expose();
    let long = "x".repeat(10_000);
    for leftovers in [
        &[("iss-local.lock", "")][..],
        &[("iss-local.key.tmp", "-----BEGIN EC PRI")],
        &[
            ("iss-local.key.tmp", other_key),
            ("iss-local.crt.tmp", &long),
        ],
        &[("iss-local.key", other_key)],
        &[("iss-local.key", other_key), ("iss-local.crt.tmp", &long)],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let ca_folder = folder.path().join("ca");
        fs::create_dir(&ca_folder).unwrap();
        for (name, contents) in leftovers {
            fs::write(ca_folder.join(name), contents).unwrap();
        }
        let ca = connect(&factory(folder.path(), None), &json!({}))
            .await
            .unwrap();
        let root = ca.ca_pem().await.unwrap();
        let leaf = issue_one(&*ca, request("a.example", &[])).await;
        openssl_verifies(&leaf.to_pem(), &root, "").unwrap();
        let again = connect(&factory(folder.path(), None), &json!({}))
            .await
            .unwrap();
        assert_eq!(again.ca_pem().await.unwrap(), root, "{leftovers:?}");
        let temporary = fs::read_dir(&ca_folder)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().extension() == Some("tmp".as_ref()));
        assert_eq!(temporary.count(), 0, "{leftovers:?}");
        // A key that nobody knows the certificate of is kept for the one who may.
        if leftovers[0].0 == "iss-local.key" {
            let orphan = fs::read_to_string(ca_folder.join("iss-local.key.orphan")).unwrap();
            assert_eq!(orphan, other_key);
        }
    }
}

#[tokio::test]
async fn a_ca_that_is_destroyed_leaves_no_key_and_the_next_one_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let ca_folder = folder.path().join("ca");
    let factory = factory(folder.path(), None);
    let id = IssuerId::parse("iss-local").unwrap();
    factory.destroy(&id).await.unwrap();
    assert!(
        !ca_folder.exists(),
        "nothing was there, and nothing is made"
    );
    let ca = connect(&factory, &json!({})).await.unwrap();
    let root = ca.ca_pem().await.unwrap();
    fs::write(ca_folder.join("iss-other.key"), "another's").unwrap();
    for _ in 0..2 {
        factory.destroy(&id).await.unwrap();
        let mut left: Vec<_> = fs::read_dir(&ca_folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["iss-local.lock", "iss-other.key"]);
    }
    let again = connect(&factory, &json!({})).await.unwrap();
    assert_ne!(again.ca_pem().await.unwrap(), root);
}

#[tokio::test]
async fn a_root_whose_key_is_lost_is_not_replaced_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let factory = factory(folder.path(), None);
    connect(&factory, &json!({})).await.unwrap();
    let certificate = fs::read(folder.path().join("ca/iss-local.crt")).unwrap();
    fs::remove_file(folder.path().join("ca/iss-local.key")).unwrap();
    let error = refused(&factory, &json!({})).await;
    assert!(
        error
            .to_string()
            .ends_with("the store of CAs cannot be used"),
        "{error}"
    );
    assert_eq!(
        fs::read(folder.path().join("ca/iss-local.crt")).unwrap(),
        certificate
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn servers_that_start_at_once_end_with_one_ca() {
    let folder = tempfile::tempdir().unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let factory = factory(folder.path(), sealer("a passphrase"));
            tokio::spawn(async move {
                let ca = connect(&factory, &json!({})).await.unwrap();
                let leaf = issue_one(&*ca, request("a.example", &[])).await;
                (ca.ca_pem().await.unwrap(), leaf)
            })
        })
        .collect();
    let mut roots = Vec::new();
    for task in tasks {
        let (root, leaf) = task.await.unwrap();
        leaf.verify_signed_by(&ParsedCertificate::from_pem(&root).unwrap())
            .unwrap();
        roots.push(root);
    }
    roots.dedup();
    assert_eq!(roots.len(), 1);
}

/// A store as a database would be one: no plain keys, and the first insert wins.
#[derive(Default)]
struct MemoryStore(Mutex<HashMap<IssuerId, StoredCa>>);

impl CaStore for MemoryStore {
    fn load<'a>(
        &'a self,
        id: &'a IssuerId,
    ) -> BoxFuture<'a, Result<Option<StoredCa>, IssuerError>> {
        let found = self.0.lock().unwrap().get(id).cloned();
        Box::pin(async { Ok(found) })
    }

    fn insert_if_absent<'a>(
        &'a self,
        id: &'a IssuerId,
        ca: StoredCa,
    ) -> BoxFuture<'a, Result<StoredCa, IssuerError>> {
        let winner = self
            .0
            .lock()
            .unwrap()
            .entry(id.clone())
            .or_insert(ca)
            .clone();
        Box::pin(async { Ok(winner) })
    }

    fn remove<'a>(&'a self, id: &'a IssuerId) -> BoxFuture<'a, Result<(), IssuerError>> {
        self.0.lock().unwrap().remove(id);
        Box::pin(async { Ok(()) })
    }

    fn place(&self, id: &IssuerId) -> String {
        format!("local_cas:key_blob:{id}")
    }
}

#[tokio::test]
async fn replicas_that_share_a_store_share_the_ca_and_never_keep_its_key_in_the_open() {
    let store = Arc::new(MemoryStore::default());
    let replica = |sealer: Option<Arc<Sealer>>| {
        let store: Arc<dyn CaStore> = Arc::<MemoryStore>::clone(&store);
        Factory::new(store, sealer, Arc::new(ManualClock::starting_at(NOW)))
    };
    let error = refused(&replica(None), &json!({})).await;
    assert!(error.to_string().contains("encryption key"), "{error}");
    assert!(store.0.lock().unwrap().is_empty());

    let (one, other) = (
        replica(sealer("a passphrase")),
        replica(sealer("a passphrase")),
    );
    let (one, other) = tokio::join!(async { connect(&one, &json!({})).await }, async {
        connect(&other, &json!({})).await
    });
    assert_eq!(
        one.unwrap().ca_pem().await.unwrap(),
        other.unwrap().ca_pem().await.unwrap()
    );
    let kept = store.0.lock().unwrap()[&id()].clone();
    assert_eq!(kept.key_blob[0], 4);
    assert!(format!("{kept:?}").contains("<redacted>"));
}

// === What is issued.

#[tokio::test]
async fn a_life_is_the_least_of_the_three_bounds_to_the_second() {
    let folder = tempfile::tempdir().unwrap();
    let factory = factory(folder.path(), None);
    let second = Duration::from_secs(1);
    for (days, bound, life) in [
        (90, 0, 90 * DAY),
        (90, 3600, Duration::from_secs(3600)),
        (1, 7 * 86_400, DAY),
        (90, 1, second),
    ] {
        let ca = connect(&factory, &json!({"validity_days": days}))
            .await
            .unwrap();
        let leaf = issue_one(
            &*ca,
            IssuanceRequest {
                max_ttl_seconds: bound,
                not_before: NOW + Duration::from_micros(999_999),
                ..request("a.example", &[])
            },
        )
        .await;
        assert_eq!(leaf.not_before(), NOW);
        // From the first to the last second, both included, it is `life` seconds.
        assert_eq!(leaf.not_after(), NOW + life - second);
    }
    let ca = connect(&factory, &json!({"validity_days": 36_500}))
        .await
        .unwrap();
    let leaf = issue_one(&*ca, request("a.example", &[])).await;
    assert_eq!(leaf.not_after(), NOW + 3650 * DAY);
    let late = IssuanceRequest {
        not_before: NOW + 3651 * DAY,
        ..request("a.example", &[])
    };
    let refused = ca.issue(vec![late]).await.remove(0).unwrap_err();
    assert!(refused.to_string().contains("expired"), "{refused}");
}

#[tokio::test]
async fn names_usages_and_pointers_are_those_of_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "crl_distribution_point_urls": ["http://crl.example.com/a.crl"], "ocsp_url": "http://ocsp.example.com",
    });
    let ca = connect(&factory(folder.path(), None), &config)
        .await
        .unwrap();
    let leaf = issue_one(
        &*ca,
        IssuanceRequest {
            ekus: Vec::new(),
            must_staple: true,
            ..request("localhost", &["spiffe://example.com/a", "localhost"])
        },
    )
    .await;
    let names: Vec<String> = leaf.sans().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["localhost", "spiffe://example.com/a", "127.0.0.1"]);
    assert_eq!(
        leaf.extended_key_usages(),
        ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]
    );
    let holds = |needle: &[u8]| {
        leaf.der()
            .windows(needle.len())
            .any(|window| window == needle)
    };
    assert!(holds(b"http://crl.example.com/a.crl"));
    assert!(holds(b"http://ocsp.example.com"));
    assert!(holds(&[0x30, 0x03, 0x02, 0x01, 0x05]));
}

#[tokio::test]
async fn a_batch_keeps_its_order_and_a_bad_request_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ca = connect(&factory(folder.path(), None), &json!({}))
        .await
        .unwrap();
    let mut requests: Vec<_> = (0..100)
        .map(|n| request(&format!("host-{n}.example.com"), &[]))
        .collect();
    requests[7].spki_der = b"no key".to_vec();
    requests[50].common_name = "two words".to_owned();
    requests[99].serial = certctl_domain::serial::SerialNumber::parse("01").unwrap();
    let outcomes = ca.issue(requests.clone()).await;
    assert_eq!(outcomes.len(), 100);
    for (n, (outcome, request)) in outcomes.iter().zip(&requests).enumerate() {
        match outcome {
            Ok(issued) => {
                assert_eq!(issued.serial, request.serial);
                let leaf = ParsedCertificate::from_der(&issued.leaf_der).unwrap();
                assert_eq!(leaf.common_name(), Some(request.common_name.as_str()));
                assert_eq!(leaf.spki_der(), request.spki_der);
            }
            Err(error) => {
                assert!([7, 50, 99].contains(&n), "{n}: {error}");
                assert!(matches!(error, IssuerError::Validation(_)), "{error:?}");
            }
        }
    }
    assert_eq!(
        outcomes.iter().filter(|outcome| outcome.is_err()).count(),
        3
    );
    assert_eq!(ca.issue(Vec::new()).await, []);
}

// === The factory.

#[tokio::test]
async fn other_kinds_of_issuers_are_not_supported_yet_but_their_secrets_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let factory = factory(folder.path(), None);
    for kind in IssuerType::ALL
        .iter()
        .filter(|kind| **kind != IssuerType::GenericCa)
    {
        let config = json!({});
        assert_eq!(
            factory.validate(*kind, &config),
            Err(IssuerError::NotSupported)
        );
        let connected = factory.connect(&id(), *kind, &config).await;
        assert_eq!(connected.err(), Some(IssuerError::NotSupported));
    }
    assert_eq!(factory.secret_fields(IssuerType::VaultPki), ["token"]);
    assert!(factory.secret_fields(IssuerType::GenericCa).is_empty());
    // Validating a root of its own makes none.
    factory.validate(IssuerType::GenericCa, &json!({})).unwrap();
    assert!(!folder.path().join("ca").exists());
}
