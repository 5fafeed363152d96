//! The ends of batches: what is stored, and what a former holder may no longer write.

use std::time::Duration;

use certctl_domain::{
    certificate::CertificateStatus,
    id::{CertificateId, IssuerId, JobId},
    job::JobStatus,
    page::PageRequest,
    serial::SerialNumber,
    time::Timestamp,
};
use certctl_repository::{
    Error, certificates, intents,
    jobs::{
        NewJob, claim,
        complete::{self, Completion, Failure},
    },
    renewals, revocations, versions,
};
use certctl_testkit::{Basics, TestDb, database::START, db_tests, entities};

use crate::jobs::{insert, job, set, validation};

const LEASE: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(86_400);

/// A certificate with a running renewal, `job-<id>`, and what is to be stored for it.
async fn renewing(db: &TestDb, basics: &Basics, id: &str, serial: &str) -> Completion {
    let certificate = basics.certificate(&format!("mc-{id}"));
    tx!(db, conn => certificates::insert(conn, &certificate).await).unwrap();
    let new = [entities::renewal(&format!("job-{id}"), &certificate.id)];
    insert(db, &new).await;
    tx!(db, conn => renewals::mark_in_progress(conn, std::slice::from_ref(&certificate.id), START).await).unwrap();
    let claimed = tx!(db, conn => claim::claim(conn, "w1", LEASE, 100, START).await).unwrap();
    let claimed = claimed
        .into_iter()
        .find(|one| one.job.id == new[0].id)
        .unwrap();
    let intent = intents::Intent {
        job_id: claimed.job.id.clone(),
        issuer_id: basics.issuer.clone(),
        serial_number: SerialNumber::parse(serial).unwrap(),
        not_before: START,
        spki: vec![48, 0],
        request: serde_json::json!({"common_name": "a.example"}),
        csr_pem: String::new(),
        sealed_key: None,
        created_at: START,
    };
    tx!(db, conn => intents::insert_all(conn, std::slice::from_ref(&intent)).await).unwrap();
    Completion {
        job_id: claimed.job.id,
        token: claimed.token,
        version: basics.version(&certificate.id, serial),
        sealed_key: Some(vec![4, 0, 255]),
        renew_at: START + 60 * DAY,
    }
}

async fn complete(db: &TestDb, done: &[Completion], now: Timestamp) -> Result<Vec<JobId>, Error> {
    tx!(db, conn => complete::complete(conn, done, now).await)
}

async fn certificate(db: &TestDb, id: &CertificateId) -> certctl_domain::certificate::Certificate {
    certificates::find(reader!(db), id).await.unwrap()
}

db_tests! {
    async fn a_batch_that_ended_well_is_stored_whole(db: TestDb) {
        let basics = db.seed_basics().await;
        let mut done = Vec::new();
        for (id, serial) in [("a", "a1"), ("b", "b2"), ("c", "c3")] {
            done.push(renewing(&db, &basics, id, serial).await);
        }
        done[1].version.not_after = START + 45 * DAY + Duration::from_micros(123_457);
        let now = START + Duration::from_secs(7);
        let ended = complete(&db, &done, now).await.unwrap();
        assert_eq!(ended, done.iter().map(|one| one.job_id.clone()).collect::<Vec<_>>());
        for one in &done {
            let found = certificate(&db, &one.version.certificate_id).await;
            assert_eq!((found.status, found.expires_at), (CertificateStatus::Active, Some(one.version.not_after)));
            assert_eq!((found.renew_at, found.last_renewal_at, found.updated_at), (Some(one.renew_at), Some(now), now));
            let latest = versions::latest(reader!(db), &found.id).await.unwrap();
            assert_eq!(latest.as_ref(), Some(&one.version));
            let sealed = versions::sealed_key(reader!(db), &one.version.id).await.unwrap();
            assert_eq!(sealed, one.sealed_key);
            let found = job(&db, one.job_id.as_str()).await;
            assert_eq!((found.status, found.completed_at, found.last_error), (JobStatus::Completed, Some(now), None));
        }
        let ids: Vec<JobId> = done.iter().map(|one| one.job_id.clone()).collect();
        assert!(intents::find_many(reader!(db), &ids).await.unwrap().is_empty());
        // A second report of the same batch changes nothing.
        assert!(complete(&db, &done, now).await.unwrap().is_empty());
        assert_eq!(db.text("SELECT CAST(count(*) AS text) AS value FROM certificate_versions").await, "3");
        assert!(complete(&db, &[], now).await.unwrap().is_empty());
    }

    async fn whoever_lost_the_lease_writes_nothing(db: TestDb) {
        let basics = db.seed_basics().await;
        let old = renewing(&db, &basics, "a", "a1").await;
        let late = START + LEASE + LEASE;
        assert_eq!(tx!(db, conn => claim::recover(conn, late).await).unwrap().len(), 1);
        // Between the loss and the next claim, and after it.
        for round in 0..2 {
            assert!(complete(&db, std::slice::from_ref(&old), late).await.unwrap().is_empty(), "{round}");
            let failure = Failure { job_id: old.job_id.clone(), token: old.token, error: "late".into(), next_attempt_at: None };
            assert!(tx!(db, conn => complete::fail(conn, std::slice::from_ref(&failure), late).await).unwrap().is_empty());
            let handed = [(old.job_id.clone(), old.token)];
            assert!(tx!(db, conn => complete::await_csr(conn, &handed, late).await).unwrap().is_empty());
            if round == 0 {
                let again = tx!(db, conn => claim::claim(conn, "w2", LEASE, 1, late).await).unwrap();
                assert_eq!(again[0].token, old.token + 1);
            }
        }
        let found = certificate(&db, &old.version.certificate_id).await;
        assert_eq!((found.status, found.expires_at), (CertificateStatus::RenewalInProgress, None));
        assert_eq!(versions::latest(reader!(db), &found.id).await.unwrap(), None);
        assert_eq!(intents::find_many(reader!(db), std::slice::from_ref(&old.job_id)).await.unwrap().len(), 1);
        assert_eq!(job(&db, "job-a").await.status, JobStatus::Running);
        let new = Completion { token: old.token + 1, ..old };
        assert_eq!(complete(&db, std::slice::from_ref(&new), late).await.unwrap(), [new.job_id]);
    }

    async fn a_batch_is_stored_for_those_who_still_hold_their_jobs(db: TestDb) {
        let basics = db.seed_basics().await;
        let held = renewing(&db, &basics, "held", "a1").await;
        let mut lost = renewing(&db, &basics, "lost", "b2").await;
        lost.token += 1;
        let ended = complete(&db, &[lost.clone(), held.clone()], START).await.unwrap();
        assert_eq!(ended, [held.job_id]);
        assert_eq!(versions::latest(reader!(db), &lost.version.certificate_id).await.unwrap(), None);
        assert_eq!(job(&db, "job-lost").await.status, JobStatus::Running);
    }

    async fn what_was_revoked_or_archived_meanwhile_stays_so_and_its_new_serial_is_revoked(db: TestDb) {
        let basics = db.seed_basics().await;
        let revoked = renewing(&db, &basics, "revoked", "a1").await;
        let archived = renewing(&db, &basics, "archived", "b2").await;
        let active = renewing(&db, &basics, "active", "c3").await;
        for (one, to) in [(&revoked, CertificateStatus::Revoked), (&archived, CertificateStatus::Archived)] {
            let id = &one.version.certificate_id.clone();
            let moved = tx!(db, conn => certificates::set_status(conn, id, CertificateStatus::RenewalInProgress, to, START).await);
            assert!(moved.unwrap());
        }
        let done = [revoked.clone(), archived.clone(), active.clone()];
        let ended = complete(&db, &done, START).await.unwrap();
        assert_eq!(ended.len(), 3);
        assert_eq!(job(&db, "job-revoked").await.status, JobStatus::Completed);
        for (one, status) in [
            (&revoked, CertificateStatus::Revoked), (&archived, CertificateStatus::Archived), (&active, CertificateStatus::Active),
        ] {
            let found = certificate(&db, &one.version.certificate_id).await;
            assert_eq!(found.status, status);
            // What was signed is on record whatever became of the certificate.
            assert_eq!(versions::latest(reader!(db), &found.id).await.unwrap().as_ref(), Some(&one.version));
            let serial = &one.version.serial_number;
            let is_revoked = revocations::is_revoked(reader!(db), &basics.issuer, serial).await.unwrap();
            assert_eq!(is_revoked, status != CertificateStatus::Active, "{status}");
        }
    }

    async fn one_serial_is_stored_once(db: TestDb) {
        let basics = db.seed_basics().await;
        let first = renewing(&db, &basics, "a", "a1").await;
        let second = renewing(&db, &basics, "b", "b2").await;
        complete(&db, std::slice::from_ref(&first), START).await.unwrap();
        let mut twin = second.clone();
        twin.version.serial_number = first.version.serial_number.clone();
        let refused = complete(&db, &[twin.clone()], START).await;
        assert!(matches!(refused, Err(Error::AlreadyExists)), "{refused:?}");
        assert_eq!(job(&db, "job-b").await.status, JobStatus::Running);
        // Serials belong to an issuer.
        twin.version.issuer_id = IssuerId::from_stored("iss-other".into());
        assert_eq!(complete(&db, &[twin], START).await.unwrap().len(), 1);
    }

    async fn failures_are_told_and_planned(db: TestDb) {
        let basics = db.seed_basics().await;
        let once = NewJob { max_attempts: 1, ..validation("job-once", &basics.certificate) };
        insert(&db, &[once, validation("job-again", &basics.certificate), validation("job-final", &basics.certificate)]).await;
        let claimed = tx!(db, conn => claim::claim(conn, "w1", LEASE, 10, START).await).unwrap();
        let (now, again) = (START + LEASE, START + DAY);
        let failures: Vec<Failure> = claimed
            .iter()
            .map(|one| Failure {
                job_id: one.job.id.clone(),
                token: one.token,
                error: "the CA said \"no\"".into(),
                next_attempt_at: (one.job.id.as_str() != "job-final").then_some(again),
            })
            .collect();
        let told = tx!(db, conn => complete::fail(conn, &failures, now).await).unwrap();
        assert_eq!(told.len(), 3);
        for (id, next) in [("job-again", Some(again)), ("job-final", None), ("job-once", None)] {
            let found = job(&db, id).await;
            assert_eq!((found.status, found.next_attempt_at, found.completed_at), (JobStatus::Failed, next, Some(now)), "{id}");
            assert_eq!(found.last_error.as_deref(), Some("the CA said \"no\""));
        }
        assert!(tx!(db, conn => complete::fail(conn, &[], now).await).unwrap().is_empty());
    }

    async fn a_renewal_is_handed_to_an_agent_without_counting_the_attempt(db: TestDb) {
        let basics = db.seed_basics().await;
        let one = renewing(&db, &basics, "a", "a1").await;
        let handed = [(one.job_id.clone(), one.token)];
        let done = tx!(db, conn => complete::await_csr(conn, &handed, START + LEASE).await).unwrap();
        assert_eq!(done, [one.job_id]);
        let found = job(&db, "job-a").await;
        assert_eq!((found.status, found.attempts, found.status_changed_at), (JobStatus::AwaitingCsr, 0, START + LEASE));
        assert_eq!(found.last_error, None);
        assert!(tx!(db, conn => complete::await_csr(conn, &[], START).await).unwrap().is_empty());
    }

    async fn certificates_fail_with_their_last_renewal(db: TestDb) {
        let basics = db.seed_basics().await;
        let one = renewing(&db, &basics, "a", "a1").await;
        let ids = [one.version.certificate_id.clone(), basics.certificate.clone()];
        tx!(db, conn => complete::fail_certificates(conn, &ids, START).await).unwrap();
        assert_eq!(certificate(&db, &ids[0]).await.status, CertificateStatus::RenewalInProgress, "another renewal is under way");
        set(&db, "job-a", "status = 'Failed'").await;
        tx!(db, conn => complete::fail_certificates(conn, &ids, START).await).unwrap();
        tx!(db, conn => complete::fail_certificates(conn, &[], START).await).unwrap();
        assert_eq!(certificate(&db, &ids[0]).await.status, CertificateStatus::Failed);
        // It was not under renewal.
        assert_eq!(certificate(&db, &ids[1]).await.status, CertificateStatus::Pending);
    }

    async fn versions_are_listed_newest_first(db: TestDb) {
        let basics = db.seed_basics().await;
        let one = renewing(&db, &basics, "a", "a1").await;
        complete(&db, std::slice::from_ref(&one), START).await.unwrap();
        let id = &one.version.certificate_id.clone();
        set(&db, "job-a", "status = 'Running'").await;
        let mut second = one.clone();
        second.version = basics.version(id, "b2");
        second.version.created_at = START + LEASE;
        second.version.csr_pem = "-----BEGIN CERTIFICATE REQUEST-----".into();
        second.sealed_key = None;
        complete(&db, &[second.clone()], START).await.unwrap();
        let page = versions::list(reader!(db), id, PageRequest::default()).await.unwrap();
        assert_eq!(page.rows, [second.version.clone(), one.version]);
        let page = versions::list(reader!(db), id, PageRequest::lenient(Some("2"), Some("1"))).await.unwrap();
        assert_eq!((page.rows.len(), page.total), (1, 2));
        assert_eq!(versions::sealed_key(reader!(db), &second.version.id).await.unwrap(), None);
        let unknown = certctl_domain::id::CertificateVersionId::from_stored("certver-x".into());
        let absent = versions::sealed_key(reader!(db), &unknown).await;
        assert!(matches!(absent, Err(Error::NotFound)), "{absent:?}");
    }
}
