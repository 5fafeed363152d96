//! The key that protects what is stored: refused when it is wrong, changed without losing anything.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, LazyLock},
};

use certctl_domain::secret::Secret;
use certctl_pki::seal::Sealer;
use certctl_repository::{
    Backend, Db,
    sealed::{self, SealedColumn, SealedValue},
    transaction,
};
use certctl_service::encryption::{self, Error, Step, Tally};
use certctl_testkit::{TestDb, database::START, db_tests};
use futures_util::FutureExt as _;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

const OLD: &str = "the key before, of 32 bytes and more";
const NEW: &str = "the present key, of 32 bytes and more";
const PLAIN: &[u8] = br#"{"token":"canary-7342"}"#;
const NOTHING: Tally = Tally {
    rewritten: 0,
    unreadable: 0,
};

/// Each is made once, because stretching its passphrase takes most of the time of these tests.
fn sealer(key: &str) -> Arc<Sealer> {
    static SEALERS: LazyLock<[Arc<Sealer>; 2]> =
        LazyLock::new(|| [OLD, NEW].map(|key| Arc::new(Sealer::new(&Secret::new(key)))));
    Arc::clone(&SEALERS[usize::from(key == NEW)])
}

/// While keys are changed.
fn both() -> Arc<Sealer> {
    static BOTH: LazyLock<Arc<Sealer>> = LazyLock::new(|| {
        Arc::new(Sealer::new(&Secret::new(NEW)).with_previous(Some(&Secret::new(OLD))))
    });
    Arc::clone(&BOTH)
}

/// A blob of an older format under the key before, made by its description (operations §9).
fn old_format(header: &[u8], salt: &[u8], rounds: u32) -> Vec<u8> {
    let (mut key, nonce) = ([0; 32], [8; 12]);
    ring::pbkdf2::derive(
        ring::pbkdf2::PBKDF2_HMAC_SHA256,
        rounds.try_into().unwrap(),
        salt,
        OLD.as_bytes(),
        &mut key,
    );
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
    let mut sealed = PLAIN.to_vec();
    key.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::empty(),
        &mut sealed,
    )
    .unwrap();
    [header, &nonce, &sealed].concat()
}

fn v1() -> Vec<u8> {
    old_format(b"", b"certctl-config-encryption-v1", 100_000)
}

fn v2() -> Vec<u8> {
    old_format(&[&[2][..], &[7; 16]].concat(), &[7; 16], 100_000)
}

fn v3() -> Vec<u8> {
    old_format(&[&[3][..], &[7; 16]].concat(), &[7; 16], 600_000)
}

/// Enters a row with a sealed value; where it has a serial number that is the key too.
async fn enter(db: &TestDb, column: SealedColumn, key: &str, blob: &[u8]) {
    let blob = db.blob(blob);
    let time = match db.backend() {
        Backend::Postgres => format!("'{START}'"),
        Backend::Sqlite => START.as_micros().to_string(),
    };
    let sql = match column {
        SealedColumn::IssuerConfigs => format!(
            "INSERT INTO issuers (id, name, type, encrypted_config) VALUES ('{key}', '{key}', 'VaultPKI', {blob})"
        ),
        SealedColumn::TargetConfigs => format!(
            "INSERT INTO deployment_targets (id, name, type, agent_id, encrypted_config) VALUES ('{key}', '{key}', 'F5', 'ag-web', {blob})"
        ),
        SealedColumn::AuthorityKeys => format!(
            "INSERT INTO local_authorities (issuer_id, certificate_pem, private_key) VALUES ('{key}', '', {blob})"
        ),
        SealedColumn::IntentKeys => format!(
            "INSERT INTO jobs (id, type) VALUES ('{key}', 'Validation'); \
             INSERT INTO issuance_intents (job_id, issuer_id, serial_number, not_before, spki, request, encrypted_private_key, created_at) \
             VALUES ('{key}', 'iss-local', '{key}', {time}, {blob}, '{{}}', {blob}, {time})"
        ),
        SealedColumn::VersionKeys => format!(
            "INSERT INTO certificate_versions (id, certificate_id, issuer_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain, encrypted_private_key) \
             VALUES ('{key}', 'mc-web', 'iss-local', '{key}', {time}, {time}, '{key}', '', {blob})"
        ),
        SealedColumn::ResponderKeys => format!(
            "INSERT INTO issuers (id, name, type) VALUES ('{key}', '{key}', 'GenericCA') ON CONFLICT DO NOTHING; \
             INSERT INTO ocsp_responders (issuer_id, cert_pem, cert_serial, encrypted_key, key_alg, not_before, not_after) \
             VALUES ('{key}', '', '1', {blob}, '', {time}, {time})"
        ),
        SealedColumn::AuditKeys => format!(
            "INSERT INTO audit_keys (key_id, public_key, private_key, created_at) VALUES ('{key}', {blob}, {blob}, {time})"
        ),
        SealedColumn::EabKeys => format!(
            "INSERT INTO acme_eab_keys (id, hmac_ciphertext, profile_id, created_at) VALUES ('{key}', {blob}, 'prof-standard-tls', {time})"
        ),
    };
    db.execute(&sql).await.unwrap();
}

async fn values(db: &Db, column: SealedColumn) -> Vec<SealedValue> {
    sealed::page(&mut db.read().await.unwrap(), column, "", 10_000)
        .await
        .unwrap()
}

/// How many values of a column open at their place with one key alone, in the newest format.
async fn opened(db: &Db, column: SealedColumn, key: &str) -> usize {
    let sealer = sealer(key);
    let opens = |value: &&SealedValue| {
        let opened = sealer.open(&column.place(&value.row), &value.blob);
        value.blob[0] == 4 && opened.is_ok_and(|plain| plain[..] == *PLAIN)
    };
    values(db, column).await.iter().filter(opens).count()
}

async fn reencrypt(db: &TestDb, sealer: &Arc<Sealer>) -> (Tally, Vec<String>) {
    let mut lines = Vec::new();
    let mut report = |step: Step<'_>| lines.push(step.to_string());
    let tally = encryption::rows(db, sealer, &mut report).await.unwrap();
    encryption::finish(db, sealer, tally, START).await.unwrap();
    (tally, lines)
}

async fn check(db: &TestDb, sealer: Option<Arc<Sealer>>) -> Result<(), Error> {
    encryption::check(db, sealer.as_ref(), START).await
}

db_tests! {
    async fn every_format_in_every_column_is_sealed_anew_for_its_place(db: TestDb) {
        db.seed_basics().await;
        let formats = [v1(), v2(), v3()];
        for column in SealedColumn::ALL {
            for (number, blob) in formats.iter().enumerate() {
                enter(&db, *column, &format!("a{number}"), blob).await;
            }
            for (key, by) in [("b0", OLD), ("b1", NEW)] {
                enter(&db, *column, key, &sealer(by).seal(&column.place(key), PLAIN).unwrap()).await;
            }
        }
        let before = values(&db, SealedColumn::IssuerConfigs).await;
        let (tally, lines) = reencrypt(&db, &both()).await;
        assert_eq!(tally, Tally { rewritten: 4 * SealedColumn::ALL.len() as u64, unreadable: 0 });
        assert!(lines.contains(&"issuers:encrypted_config: 5 checked, 4 sealed anew".to_owned()), "{lines:?}");
        for column in SealedColumn::ALL {
            assert_eq!(opened(&db, *column, NEW).await, 5, "{column:?}");
        }
        let after = values(&db, SealedColumn::IssuerConfigs).await;
        assert_eq!(before.last(), after.last(), "what was as it should be is not touched");
        assert_eq!(db.texts("SELECT CAST(updated_at AS TEXT) AS value FROM issuers WHERE updated_at <> created_at").await, [""; 0], "no issuer counts as changed");
        // Now the key before can go, and a second run finds nothing to do.
        check(&db, Some(sealer(NEW))).await.unwrap();
        assert_eq!(reencrypt(&db, &sealer(NEW)).await.0, NOTHING);
        assert_eq!(db.texts("SELECT action AS value FROM audit_events").await, ["reencrypt_secrets"], "what changed nothing is not on record");
    }

    /// Who adds a column for something sealed adds it to the table too, or it would be lost when the key is changed.
    async fn the_table_of_sealed_columns_is_whole(db: TestDb) {
        let columns = match db.backend() {
            Backend::Sqlite => "SELECT m.name || ':' || c.name AS value, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'",
            Backend::Postgres => "SELECT CAST(table_name || ':' || column_name AS text) AS value, column_name AS name FROM information_schema.columns \
                                  WHERE table_schema = 'public'",
        };
        let mut found = db.texts(&format!("SELECT value FROM ({columns}) AS c WHERE name LIKE '%encrypted%' OR name LIKE '%private_key%' OR name LIKE '%ciphertext%'")).await;
        let mut known: Vec<_> = SealedColumn::ALL.iter().map(|column| column.name()).collect();
        found.sort();
        known.sort_unstable();
        assert_eq!(found, known);
    }

    async fn what_was_ended_in_the_middle_is_finished_by_the_next_run(db: TestDb) {
        db.seed_basics().await;
        check(&db, Some(sealer(OLD))).await.unwrap();
        let column = SealedColumn::TargetConfigs;
        let before = sealer(OLD);
        for number in 0..350 {
            let key = format!("tgt-{number:03}");
            enter(&db, column, &key, &before.seal(&column.place(&key), PLAIN).unwrap()).await;
        }
        // Whoever is told of the first part ends the run there and then.
        let mut end = |_: Step<'_>| std::panic::resume_unwind(Box::new("ended"));
        let both = both();
        let ended = AssertUnwindSafe(encryption::rows(&db, &both, &mut end)).catch_unwind().await;
        assert_eq!(ended.unwrap_err().downcast_ref(), Some(&"ended"));
        let (done, left) = (opened(&db, column, NEW).await, opened(&db, column, OLD).await);
        assert!(done >= 100 && left > 0 && done + left == 350, "{done} and {left}");
        // A server that knows both keys starts meanwhile; with the new one alone it does not.
        check(&db, Some(Arc::clone(&both))).await.unwrap();
        assert!(matches!(check(&db, Some(sealer(NEW))).await, Err(Error::WrongKey)));
        assert_eq!(reencrypt(&db, &both).await.0, Tally { rewritten: left as u64, unreadable: 0 });
        assert_eq!(opened(&db, column, NEW).await, 350);
        check(&db, Some(sealer(NEW))).await.unwrap();
    }

    async fn what_cannot_be_opened_is_named_and_stays_as_it_is(db: TestDb) {
        db.seed_basics().await;
        check(&db, Some(sealer(OLD))).await.unwrap();
        let column = SealedColumn::IssuerConfigs;
        enter(&db, column, "iss-good", &sealer(OLD).seal(&column.place("iss-good"), PLAIN).unwrap()).await;
        // Sealed for another row: somebody moved it.
        let moved = sealer(OLD).seal(&column.place("iss-good"), PLAIN).unwrap();
        enter(&db, column, "iss-moved", &moved).await;
        let (tally, lines) = reencrypt(&db, &both()).await;
        assert_eq!(tally, Tally { rewritten: 1, unreadable: 1 });
        assert!(lines[0].starts_with("issuers:encrypted_config: iss-moved cannot be opened"), "{lines:?}");
        let found: BTreeMap<_, _> = values(&db, column).await.into_iter().map(|value| (value.key, value.blob)).collect();
        assert_eq!(found["iss-moved"], moved);
        // The key before is still needed, and a start says so.
        assert!(matches!(check(&db, Some(sealer(NEW))).await, Err(Error::WrongKey)));
        db.execute("DELETE FROM issuers WHERE id = 'iss-moved'").await.unwrap();
        assert_eq!(reencrypt(&db, &both()).await.0, NOTHING);
        check(&db, Some(sealer(NEW))).await.unwrap();
    }

    async fn a_value_that_a_server_replaced_meanwhile_is_left_alone(db: TestDb) {
        let column = SealedColumn::IssuerConfigs;
        enter(&db, column, "iss-1", b"first").await;
        let read = values(&db, column).await.remove(0);
        db.execute(&format!("UPDATE issuers SET encrypted_config = {} WHERE id = 'iss-1'", db.blob(b"second"))).await.unwrap();
        let replaced: Result<bool, certctl_repository::Error> =
            transaction!(db, "replace", conn => { sealed::replace(conn, column, &read, b"third").await });
        assert!(!replaced.unwrap());
        assert_eq!(values(&db, column).await[0].blob, b"second");
    }

    async fn a_start_with_no_key_or_another_is_refused_once_something_is_sealed(db: TestDb) {
        db.seed_basics().await;
        // Nothing is sealed: no key is needed, and the first one becomes the key.
        check(&db, None).await.unwrap();
        check(&db, Some(sealer(OLD))).await.unwrap();
        check(&db, None).await.unwrap();
        check(&db, Some(sealer(OLD))).await.unwrap();
        let refusal = check(&db, Some(sealer(NEW))).await.unwrap_err();
        assert!(matches!(refusal, Error::WrongKey) && refusal.to_string().contains("CERTCTL_CONFIG_ENCRYPTION_KEY"), "{refusal}");
        // While keys are changed the one before is enough.
        check(&db, Some(both())).await.unwrap();
        for column in SealedColumn::ALL {
            let blob = sealer(OLD).seal(&column.place("e0"), PLAIN).unwrap();
            enter(&db, *column, "e0", &blob).await;
            let refusal = check(&db, None).await.unwrap_err();
            assert!(matches!(&refusal, Error::KeyMissing { what } if what == column.name()), "{refusal}");
            assert!(refusal.to_string().contains("CERTCTL_CONFIG_ENCRYPTION_KEY is not set"));
            db.execute(match column {
                SealedColumn::IssuerConfigs => "DELETE FROM issuers WHERE id = 'e0'",
                SealedColumn::TargetConfigs => "DELETE FROM deployment_targets WHERE id = 'e0'",
                SealedColumn::AuthorityKeys => "DELETE FROM local_authorities",
                SealedColumn::IntentKeys => "DELETE FROM issuance_intents",
                SealedColumn::VersionKeys => "DELETE FROM certificate_versions",
                SealedColumn::ResponderKeys => "DELETE FROM ocsp_responders",
                SealedColumn::AuditKeys => "DELETE FROM audit_keys",
                SealedColumn::EabKeys => "DELETE FROM acme_eab_keys",
            }).await.unwrap();
        }
        // A wrong key is told from a damaged value: the canary opens.
        enter(&db, SealedColumn::IssuerConfigs, "iss-damaged", &[4; 60]).await;
        check(&db, Some(sealer(OLD))).await.unwrap();
    }

    async fn a_database_without_a_canary_is_judged_by_what_it_holds(db: TestDb) {
        let column = SealedColumn::IssuerConfigs;
        enter(&db, column, "iss-1", &[4; 60]).await;
        enter(&db, column, "iss-2", &sealer(OLD).seal(&column.place("iss-2"), PLAIN).unwrap()).await;
        assert!(matches!(check(&db, Some(sealer(NEW))).await, Err(Error::WrongKey)));
        // One of them is damaged; the other shows that the key is the right one.
        check(&db, Some(sealer(OLD))).await.unwrap();
        assert!(matches!(check(&db, Some(sealer(NEW))).await, Err(Error::WrongKey)));
        db.execute("DELETE FROM installation").await.unwrap();
        db.execute(&format!("UPDATE issuers SET encrypted_config = {} WHERE id LIKE 'iss-_'", db.blob(&v2()))).await.unwrap();
        let refusal = check(&db, Some(sealer(OLD))).await.unwrap_err();
        assert!(matches!(refusal, Error::OldFormat { .. }) && refusal.to_string().contains("--reencrypt"), "{refusal}");
        assert_eq!(reencrypt(&db, &both()).await.0, Tally { rewritten: 2, unreadable: 0 });
        check(&db, Some(sealer(NEW))).await.unwrap();
    }

    async fn a_wrong_key_changes_nothing(db: TestDb) {
        let column = SealedColumn::IssuerConfigs;
        check(&db, Some(sealer(OLD))).await.unwrap();
        enter(&db, column, "iss-1", &sealer(OLD).seal(&column.place("iss-1"), PLAIN).unwrap()).await;
        let mut told = Vec::new();
        let mut report = |step: Step<'_>| told.push(step.to_string());
        let refused = encryption::rows(&db, &sealer(NEW), &mut report).await;
        assert!(matches!(refused, Err(Error::WrongKey)) && told.is_empty(), "{refused:?}");
        assert_eq!(opened(&db, column, OLD).await, 1);
    }
}
