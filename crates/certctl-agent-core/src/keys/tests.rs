use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use certctl_domain::{
    id::{CertificateId, JobId},
    key::KeySpec,
    time::{Clock as _, SystemClock},
};
use certctl_pki::{
    cert::{CaSigner, CertificateSpec, ParsedCertificate, RootSpec, random_serial, sign_root},
    key::PrivateKey,
};
use proptest::prelude::*;

use super::{KeyStore, Slot};
use crate::Error;

fn certificate_of(key: &PrivateKey) -> ParsedCertificate {
    let now = SystemClock.now();
    let ca_key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
    let root = sign_root(
        &RootSpec {
            common_name: "Root",
            serial: &random_serial().unwrap(),
            not_before: now,
            not_after: now + Duration::from_secs(86_400),
        },
        &ca_key,
    )
    .unwrap();
    let signer = CaSigner::new(ParsedCertificate::from_der(root.der()).unwrap(), ca_key).unwrap();
    let signed = signer
        .sign(&CertificateSpec {
            common_name: "a.example",
            sans: &[certctl_domain::name::SubjectAltName::Dns(
                "a.example".into(),
            )],
            spki_der: key.spki_der(),
            serial: &random_serial().unwrap(),
            not_before: now,
            not_after: now + Duration::from_secs(3600),
            ekus: &[certctl_domain::profile::ExtendedKeyUsage::ServerAuth],
            must_staple: false,
            ca: None,
            crl_urls: &[],
            ocsp_urls: &[],
            ca_issuers_urls: &[],
        })
        .unwrap();
    ParsedCertificate::from_der(signed.der()).unwrap()
}

fn new_key() -> PrivateKey {
    PrivateKey::generate(KeySpec::EcdsaP256).unwrap()
}

fn id() -> CertificateId {
    CertificateId::parse("mc-1").unwrap()
}

fn job(number: u32) -> JobId {
    JobId::parse(&format!("job-{number}")).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_key_is_pending_until_its_certificate_comes_and_the_old_one_stays_until_it_is_proved() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("a/keys");
    let store = KeyStore::open(&dir).unwrap();
    assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);

    let (first, second) = (new_key(), new_key());
    store.stage(&id(), &job(1), &first.to_pem()).unwrap();
    assert_eq!(names(&dir), ["mc-1.key.pending", "mc-1.key.pending.job"]);
    assert_eq!(
        fs::metadata(dir.join("mc-1.key.pending")).unwrap().mode() & 0o777,
        0o600
    );
    let pem = store.claim(&id(), &certificate_of(&first)).unwrap();
    assert_eq!(pem, first.to_pem());
    assert!(pem.expose().starts_with("-----BEGIN EC PRIVATE KEY-----"));
    assert_eq!(names(&dir), ["mc-1.key"]);

    // A renewal that comes to nothing leaves the key in use alone.
    store.stage(&id(), &job(2), &second.to_pem()).unwrap();
    assert_eq!(
        store.find(&id(), &certificate_of(&first)).unwrap().0,
        Slot::Live
    );
    store.drop_pending(&id(), &job(3)).unwrap();
    assert_eq!(
        store.find(&id(), &certificate_of(&second)).unwrap().0,
        Slot::Pending
    );

    store.claim(&id(), &certificate_of(&second)).unwrap();
    assert_eq!(names(&dir), ["mc-1.key", "mc-1.key.prev"]);
    assert_eq!(
        store.claim(&id(), &certificate_of(&first)).unwrap(),
        first.to_pem()
    );
    store.settle(&id(), &certificate_of(&first)).unwrap();
    assert_eq!(
        names(&dir).len(),
        2,
        "the key of an older certificate proves nothing about the one in use"
    );
    store.settle(&id(), &certificate_of(&second)).unwrap();
    assert_eq!(names(&dir), ["mc-1.key"]);
    assert!(matches!(
        store.claim(&id(), &certificate_of(&first)),
        Err(Error::KeyMismatch(of)) if of == "mc-1"
    ));
}

#[test]
fn a_pending_key_serves_the_job_and_the_kind_it_was_made_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = KeyStore::open(folder.path()).unwrap();
    let key = new_key();
    store.stage(&id(), &job(1), &key.to_pem()).unwrap();
    let again = store
        .pending_for(&id(), &job(1), KeySpec::EcdsaP256)
        .unwrap()
        .unwrap();
    assert_eq!(again.spki_der(), key.spki_der());
    assert!(
        store
            .pending_for(&id(), &job(2), KeySpec::EcdsaP256)
            .unwrap()
            .is_none()
    );
    assert!(
        store
            .pending_for(&id(), &job(1), KeySpec::EcdsaP384)
            .unwrap()
            .is_none()
    );
    store.drop_pending(&id(), &job(1)).unwrap();
    assert!(names(folder.path()).is_empty());
}

#[test]
fn what_a_cut_off_write_left_goes_and_an_open_folder_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "mc-1.key.pending.tmp",
        "mc-1.key.prev.tmp",
        "notes.tmp",
        "mc-1.key",
    ] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let store = KeyStore::open(folder.path()).unwrap();
    assert_eq!(names(folder.path()), ["mc-1.key", "notes.tmp"]);
    assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);
    // A damaged key belongs to nothing, and is no reason to fall over.
    assert!(matches!(
        store.find(&id(), &certificate_of(&new_key())),
        Err(Error::KeyMismatch(_))
    ));
}

#[test]
fn a_folder_that_cannot_be_made_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(
        KeyStore::open(file.join("keys")),
        Err(Error::File { .. })
    ));
}

/// What an agent does with a certificate's keys, in any order and cut off anywhere.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A new job makes a key and the CA certifies it.
    Renew,
    /// The same job is polled again because the answer was lost.
    Resubmit,
    /// The newest certificate is fetched and its key looked for.
    Deploy,
    /// The deployment was proved.
    Prove,
    /// The renewal was refused.
    Refuse,
}

fn steps() -> impl Strategy<Value = Vec<(Step, u32)>> {
    let step = prop_oneof![
        3 => Just(Step::Renew),
        2 => Just(Step::Resubmit),
        4 => Just(Step::Deploy),
        2 => Just(Step::Prove),
        1 => Just(Step::Refuse),
    ];
    // Most steps are not cut off; no step takes more than a dozen operations on disk.
    let fuse = prop_oneof![2 => Just(u32::MAX), 3 => 0_u32..12];
    prop::collection::vec((step, fuse), 1..20)
}

/// The world outside the store.
#[derive(Default)]
struct World {
    jobs: u32,
    /// The certificate that was last proved to be served.
    proved: Option<ParsedCertificate>,
    /// The newest certificate of the server, which the next deployment fetches.
    newest: Option<ParsedCertificate>,
    /// Whether it came to the agent.
    came: bool,
}

impl World {
    /// One step of the agent; what it does to the world happens only when the store did its part.
    fn take(&mut self, store: &KeyStore, step: Step) -> Result<(), Error> {
        match step {
            Step::Renew => {
                let awaited = self.key_of_newest_is_pending(store);
                self.jobs += 1;
                let key = new_key();
                let staged = store.stage(&id(), &job(self.jobs), &key.to_pem());
                if staged.is_ok() {
                    self.offer(&key);
                } else if awaited {
                    // Its certificate can no longer come: a newer job has taken its place.
                    self.newest = None;
                }
                staged?;
            }
            Step::Resubmit => {
                if let Some(key) = store.pending_for(&id(), &job(self.jobs), KeySpec::EcdsaP256)? {
                    self.offer(&key);
                }
            }
            Step::Deploy => {
                if let Some(newest) = &self.newest {
                    store.claim(&id(), newest)?;
                    self.came = true;
                }
            }
            Step::Prove => {
                if let Some(newest) = self.newest.as_ref().filter(|_| self.came) {
                    store.settle(&id(), newest)?;
                    self.proved = Some(newest.clone());
                }
            }
            Step::Refuse => {
                if self.key_of_newest_is_pending(store) {
                    self.newest = None;
                }
                store.drop_pending(&id(), &job(self.jobs))?;
            }
        }
        Ok(())
    }

    fn offer(&mut self, key: &PrivateKey) {
        self.newest = Some(certificate_of(key));
        self.came = false;
    }

    fn key_of_newest_is_pending(&self, store: &KeyStore) -> bool {
        self.newest
            .as_ref()
            .is_some_and(|newest| matches!(store.find(&id(), newest), Ok((Slot::Pending, _))))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The key that was last proved is never lost, and neither is that of the newest certificate.
    #[test]
    fn no_stop_of_the_machine_loses_a_key_that_is_needed(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::default();
        for (step, fuse) in steps {
            let store = KeyStore::open(folder.path()).unwrap();
            store.lock().fuse.set(fuse);
            // Cut off or not, what counts is what the next start finds.
            let _ = world.take(&store, step);
            let store = KeyStore::open(folder.path()).unwrap();
            for needed in [&world.proved, &world.newest].into_iter().flatten() {
                prop_assert!(store.find(&id(), needed).is_ok(), "after {:?} with fuse {}", step, fuse);
            }
            for name in names(folder.path()) {
                let mode = fs::metadata(folder.path().join(&name)).unwrap().mode() & 0o777;
                prop_assert_eq!(mode, 0o600, "{}", name);
            }
        }
    }
}
