//! What is about to be signed, what was revoked, who signs, who agrees.

use certctl_domain::{
    id::{IssuerId, JobId, RevocationId},
    revocation::{Revocation, RevocationReason},
    serial::SerialNumber,
};
use certctl_repository::{
    Error,
    authorities::{self, Authority},
    installation,
    intents::{self, Intent},
    revocations,
};
use certctl_testkit::{TestDb, database::START, db_tests};

use crate::jobs::{insert, validation};

fn serial(hex: &str) -> SerialNumber {
    SerialNumber::parse(hex).unwrap()
}

db_tests! {
    async fn an_intent_is_read_back_whole(db: TestDb) {
        let basics = db.seed_basics().await;
        insert(&db, &[validation("job-1", &basics.certificate), validation("job-2", &basics.certificate)]).await;
        let intent = |job: &str, hex: &str| Intent {
            job_id: JobId::from_stored(job.to_owned()),
            issuer_id: basics.issuer.clone(),
            serial_number: serial(hex),
            not_before: START,
            spki: vec![0, 1, 255],
            request: serde_json::json!({"common_name": "a.example"}),
            csr_pem: "csr".into(),
            sealed_key: None,
            created_at: START,
        };
        let sealed = Intent { sealed_key: Some(vec![7]), csr_pem: String::new(), ..intent("job-2", "b2") };
        let both = [intent("job-1", "a1"), sealed];
        tx!(db, conn => intents::insert_all(conn, &both).await).unwrap();
        tx!(db, conn => intents::insert_all(conn, &[]).await).unwrap();
        let ids: Vec<JobId> = ["job-2", "job-1", "job-x"].map(|id| JobId::from_stored(id.into())).to_vec();
        let mut found = intents::find_many(reader!(db), &ids).await.unwrap();
        found.sort_by(|a, b| a.job_id.cmp(&b.job_id));
        assert_eq!(found, both);
        // A job has one intent and a serial one job, whoever comes second.
        for second in [intent("job-1", "c3"), intent("job-2", "a1")] {
            let refused = tx!(db, conn => intents::insert_all(conn, std::slice::from_ref(&second)).await);
            assert!(matches!(refused, Err(Error::AlreadyExists)), "{refused:?}");
        }
        // Where another worker was first, its intent stays.
        tx!(db, conn => intents::insert_absent(conn, &[intent("job-1", "c3")]).await).unwrap();
        assert_eq!(intents::find_many(reader!(db), &ids[1..2]).await.unwrap(), both[..1]);
        let taken = tx!(db, conn => { intents::delete_many(conn, &ids[..1]).await?; intents::insert_absent(conn, &[intent("job-2", "a1")]).await });
        assert!(matches!(taken, Err(Error::AlreadyExists)), "{taken:?}");
        // Of those, the ones whose jobs have ended are over; one that is tried again is not.
        let certificates = [basics.certificate.clone()];
        for (columns, over) in [
            ("status = 'Pending'", 0), ("status = 'Running'", 0), ("status = 'Completed'", 0), ("status = 'Cancelled'", 1),
            ("status = 'Failed'", 1), ("status = 'Failed', attempts = 1, next_attempt_at = created_at", 0), ("status = 'Failed', attempts = 3", 1),
        ] {
            crate::jobs::set(&db, "job-1", columns).await;
            let found = intents::unfinished(reader!(db), &certificates).await.unwrap();
            assert_eq!(found.len(), over, "{columns}");
            assert!(found.iter().all(|one| one.job_id.as_str() == "job-1" && one.serial_number == serial("a1") && one.certificate_id == basics.certificate));
        }
        tx!(db, conn => intents::delete_many(conn, &ids[1..2]).await).unwrap();
        assert!(intents::find_many(reader!(db), &ids[1..2]).await.unwrap().is_empty());
        let orphan = intent("job-x", "d4");
        let refused = tx!(db, conn => intents::insert_all(conn, std::slice::from_ref(&orphan)).await);
        assert!(matches!(refused, Err(Error::Reference)), "{refused:?}");
    }

    async fn a_serial_is_revoked_once(db: TestDb) {
        let basics = db.seed_basics().await;
        let revocation = |id: &str, reason| Revocation {
            id: RevocationId::from_stored(id.to_owned()),
            certificate_id: basics.certificate.clone(),
            issuer_id: basics.issuer.clone(),
            serial_number: serial("a1"),
            reason,
            revoked_by: "ann".into(),
            revoked_at: START,
            issuer_notified: false,
        };
        let first = revocation("rev-1", RevocationReason::KeyCompromise);
        assert!(!revocations::is_revoked(reader!(db), &basics.issuer, &serial("a1")).await.unwrap());
        tx!(db, conn => revocations::enter(conn, std::slice::from_ref(&first)).await).unwrap();
        let second = revocation("rev-2", RevocationReason::Superseded);
        tx!(db, conn => revocations::enter(conn, std::slice::from_ref(&second)).await).unwrap();
        let rows = "SELECT id || ' ' || reason || ' ' || CAST(issuer_notified AS text) AS value FROM certificate_revocations";
        let no = if db.backend() == certctl_repository::Backend::Sqlite { "0" } else { "false" };
        assert_eq!(db.texts(rows).await, [format!("rev-1 keyCompromise {no}")]);
        tx!(db, conn => revocations::set_notified(conn, &first.id).await).unwrap();
        assert_ne!(db.texts(rows).await, [format!("rev-1 keyCompromise {no}")]);
        assert!(revocations::is_revoked(reader!(db), &basics.issuer, &serial("A1")).await.unwrap());
        assert!(!revocations::is_revoked(reader!(db), &basics.issuer, &serial("a2")).await.unwrap());
        let other = IssuerId::from_stored("iss-other".into());
        assert!(!revocations::is_revoked(reader!(db), &other, &serial("a1")).await.unwrap());
        let unknown = Revocation { issuer_id: other, ..revocation("rev-3", RevocationReason::Unspecified) };
        let refused = tx!(db, conn => revocations::enter(conn, std::slice::from_ref(&unknown)).await);
        assert!(matches!(refused, Err(Error::Reference)), "{refused:?}");
    }

    async fn replicas_agree_on_one_authority(db: TestDb) {
        let issuer = IssuerId::from_stored("iss-local".into());
        assert_eq!(authorities::find(reader!(db), &issuer).await.unwrap(), None);
        let replicas: Vec<_> = (0..6_u8)
            .map(|number| {
                let (db, issuer) = (db.db(), issuer.clone());
                tokio::spawn(async move {
                    let own = Authority { certificate_pem: format!("pem-{number}"), private_key: vec![number] };
                    tx!(db, conn => authorities::insert_if_absent(conn, &issuer, &own, START).await).unwrap()
                })
            })
            .collect();
        let stored = async { authorities::find(reader!(db), &issuer).await.unwrap() };
        let mut answers = Vec::new();
        for replica in replicas {
            answers.push(Some(replica.await.unwrap()));
        }
        let stored = stored.await;
        assert!(stored.is_some() && answers.iter().all(|answer| *answer == stored), "{answers:?}");
    }

    async fn a_fact_has_one_winner(db: TestDb) {
        assert_eq!(installation::get(reader!(db), "first_key").await.unwrap(), None);
        let claims: Vec<_> = (0..8)
            .map(|number| {
                let db = db.db();
                tokio::spawn(async move {
                    let value = format!("w{number}");
                    tx!(db, conn => installation::claim(conn, "first_key", &value, START).await).unwrap().then_some(value)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for claim in claims {
            winners.extend(claim.await.unwrap());
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(installation::get(reader!(db), "first_key").await.unwrap(), winners.pop());
    }
}
