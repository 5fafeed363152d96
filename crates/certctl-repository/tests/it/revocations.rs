//! What is revoked, what is known of a serial, and how replicas learn of it.

use std::time::Duration;

use certctl_domain::{
    id::{CertificateId, IssuerId, RevocationId},
    revocation::{Revocation, RevocationReason},
    serial::SerialNumber,
    time::Timestamp,
};
use certctl_repository::{
    certificates,
    revocations::{self, Standing},
};
use certctl_testkit::{Basics, TestDb, database::START, db_tests};

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn serial(hex: &str) -> SerialNumber {
    SerialNumber::parse(hex).unwrap()
}

/// A version with a life, straight into the table.
pub(crate) async fn version(
    db: &TestDb,
    basics: &Basics,
    hex: &str,
    issuer: Option<&str>,
    ends: Timestamp,
    life: Duration,
) {
    let moment = |at: Timestamp| match db.backend() {
        certctl_repository::Backend::Postgres => format!("'{at}'"),
        certctl_repository::Backend::Sqlite => at.as_micros().to_string(),
    };
    let issuer = issuer.map_or("NULL".to_owned(), |id| format!("'{id}'"));
    db.execute(&format!(
        "INSERT INTO certificate_versions (id, certificate_id, issuer_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain, created_at) \
         VALUES ('cv-{hex}', '{}', {issuer}, '{hex}', {}, {}, 'print-{hex}', '', {})",
        basics.certificate,
        moment(ends - life),
        moment(ends),
        moment(ends - life),
    ))
    .await
    .unwrap();
}

pub(crate) fn revocation(basics: &Basics, hex: &str, reason: RevocationReason) -> Revocation {
    Revocation {
        id: RevocationId::from_stored(format!("rev-{hex}")),
        certificate_id: basics.certificate.clone(),
        issuer_id: basics.issuer.clone(),
        serial_number: serial(hex),
        reason,
        revoked_by: "ann".into(),
        revoked_at: START,
        issuer_notified: false,
    }
}

async fn version_of(db: &TestDb, issuer: &IssuerId) -> String {
    db.texts(&format!(
        "SELECT CAST(version AS text) AS value FROM revocation_status WHERE issuer_id = '{issuer}'"
    ))
    .await
    .join(",")
}

db_tests! {
    async fn what_is_known_of_a_serial(db: TestDb) {
        let basics = db.seed_basics().await;
        let own = Some(basics.issuer.as_str());
        version(&db, &basics, "a1", own, START + DAY, DAY).await;
        version(&db, &basics, "a2", own, START + DAY, DAY).await;
        version(&db, &basics, "a3", own, START + DAY, Duration::from_secs(3598)).await;
        version(&db, &basics, "a4", None, START + DAY, DAY).await;
        let hour = Duration::from_secs(3599);
        version(&db, &basics, "a5", own, START + DAY, hour).await;
        let all = [
            revocation(&basics, "a2", RevocationReason::KeyCompromise),
            revocation(&basics, "a3", RevocationReason::Superseded),
            revocation(&basics, "a5", RevocationReason::Unspecified),
            revocation(&basics, "ff", RevocationReason::CessationOfOperation),
        ];
        tx!(db, conn => revocations::enter(conn, &all).await).unwrap();
        let serials: Vec<_> = ["a1", "a2", "a3", "a4", "a5", "ff", "b0"].map(serial).to_vec();
        let revoked = |reason| Standing::Revoked { at: START, reason };
        let expected = [
            Standing::Good,
            revoked(RevocationReason::KeyCompromise),
            Standing::Good,
            Standing::Good,
            revoked(RevocationReason::Unspecified),
            revoked(RevocationReason::CessationOfOperation),
            Standing::Unknown,
        ];
        assert_eq!(revocations::standings(reader!(db), &basics.issuer, &serials).await.unwrap(), expected);
        assert_eq!(revocations::standings(reader!(db), &basics.issuer, &serials[1..3]).await.unwrap(), expected[1..3]);
        let other = IssuerId::from_stored("iss-other".into());
        assert_eq!(revocations::standings(reader!(db), &other, &serials).await.unwrap(), [Standing::Unknown; 7]);
        // What a row lacks is looked up once, and not again for the rows of others.
        let listed = db.texts("SELECT serial_number AS value FROM certificate_revocations WHERE listed_until IS NOT NULL ORDER BY 1").await;
        assert_eq!(listed, ["a2", "a5", "ff"], "all but the one that is too short-lived");
        let described = tx!(db, conn => revocations::describe(conn, basics.issuer.as_str()).await).unwrap();
        assert_eq!(described, 0);
    }

    async fn the_version_of_an_issuer_grows_with_each_transaction(db: TestDb) {
        let basics = db.seed_basics().await;
        let mut listener = db.listen(&[revocations::CHANNEL]).await.unwrap();
        assert_eq!(version_of(&db, &basics.issuer).await, "");
        let both = [revocation(&basics, "a1", RevocationReason::Unspecified), revocation(&basics, "a2", RevocationReason::Unspecified)];
        tx!(db, conn => revocations::enter(conn, &both).await).unwrap();
        assert_eq!(version_of(&db, &basics.issuer).await, "1");
        tx!(db, conn => revocations::enter(conn, &[]).await).unwrap();
        assert_eq!(version_of(&db, &basics.issuer).await, "1");
        let twice = [basics.issuer.clone(), basics.issuer.clone()];
        tx!(db, conn => revocations::mark_dirty(conn, &twice, START).await).unwrap();
        assert_eq!(version_of(&db, &basics.issuer).await, "2");
        if db.backend() == certctl_repository::Backend::Postgres {
            assert_eq!(listener.recv().await.unwrap().as_deref(), Some(revocations::CHANNEL));
        }
        let unknown = [IssuerId::from_stored("iss-none".into())];
        let refused = tx!(db, conn => revocations::mark_dirty(conn, &unknown, START).await);
        assert!(matches!(refused, Err(certctl_repository::Error::Reference)), "{refused:?}");
    }

    async fn a_certificate_is_revoked_with_every_version_that_is_still_valid(db: TestDb) {
        let basics = db.seed_basics().await;
        let own = Some(basics.issuer.as_str());
        let revocable = async |id: &CertificateId| {
            let found = revocations::revocable(reader!(db), id, START).await.unwrap();
            found.into_iter().map(|(issuer, serial)| format!("{issuer} {serial}")).collect::<Vec<_>>()
        };
        assert!(revocable(&basics.certificate).await.is_empty());
        version(&db, &basics, "a1", own, START - DAY, DAY).await;
        assert_eq!(revocable(&basics.certificate).await, ["iss-local a1"], "the latest, although it has expired");
        version(&db, &basics, "a2", None, START + DAY, 5 * DAY).await;
        version(&db, &basics, "a3", own, START + 3 * DAY, 5 * DAY).await;
        assert_eq!(revocable(&basics.certificate).await, ["iss-local a3", "iss-local a2"], "the first has expired and is not the latest");
        tx!(db, conn => certificates::insert(conn, &basics.certificate("mc-none")).await).unwrap();
        assert!(revocable(&CertificateId::from_stored("mc-none".into())).await.is_empty());
    }
}
