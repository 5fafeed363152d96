//! Workers that die or seem to, and jobs that are called off while they are worked on.

use std::time::Duration;

use certctl_domain::{id::JobId, ports::issuer::IssuerError};
use certctl_repository::{jobs::claim, transaction};
use certctl_service::certificates::CertificateInput;
use certctl_service::{config::ServiceConfig, engine::Pass};
use certctl_testkit::{TestDb, db_tests, services::config};

use crate::support::{World, csr, process, server_keys};

const LEASE: Duration = Duration::from_secs(300);

/// A moment after a lease has run out.
fn let_the_lease_run_out(world: &World) {
    world.clock.advance(LEASE + Duration::from_secs(1));
}

/// A job of the world's certificate that is ready to be signed, with the key of whoever makes keys.
async fn ready(world: &World, agent_keys: bool) -> JobId {
    let job = world.renew(&world.ids.certificate).await;
    if agent_keys {
        world.hand_in(&csr()).await.unwrap();
    }
    job
}

async fn world(db: TestDb, agent_keys: bool) -> World {
    World::with(db, mode(agent_keys)).await
}

fn mode(agent_keys: bool) -> ServiceConfig {
    if agent_keys { config() } else { server_keys() }
}

/// One version, with the serial that every worker signed, and nothing left of the work.
async fn ended_once(world: &World, job: &JobId, signed: &[String]) {
    assert_eq!(world.ended(job).await, ("Completed", String::new()));
    assert_eq!(world.status().await, "Active");
    let versions = world.versions().await;
    assert_eq!(versions.len(), 1);
    assert!(
        signed.iter().all(|serial| *serial == versions[0]),
        "{signed:?} {versions:?}"
    );
    assert_eq!(world.jobs("Deployment").await, ["Pending"]);
    assert_eq!(world.recorded("renewal_job_completed").await, 1);
    assert_eq!(world.revoked().await, Vec::<String>::new());
    assert_eq!(
        world
            .db
            .texts("SELECT job_id AS value FROM issuance_intents")
            .await,
        Vec::<String>::new()
    );
}

/// A worker dies before or after the CA signed; another one takes the job up, and the dead one comes back late.
async fn dies_at_the_ca(db: TestDb, agent_keys: bool, signs_first: bool) {
    let world = world(db, agent_keys).await;
    let job = ready(&world, agent_keys).await;
    let shut = world.ca.shut(signs_first);
    let services = world.services.clone();
    let dead = tokio::spawn(async move { process(&services).await });
    shut.arrived().await;
    let planned = world
        .db
        .text("SELECT serial_number AS value FROM issuance_intents")
        .await;
    let (other, ca) = world.replica("other:2", mode(agent_keys));
    assert_eq!(process(&other).await, Pass::default(), "the lease holds");
    let_the_lease_run_out(&world);
    assert_eq!(process(&other).await.completed, 1);
    ended_once(&world, &job, &[ca.signed(), vec![planned.clone()]].concat()).await;
    shut.open();
    assert_eq!(
        dead.await.unwrap(),
        Pass {
            claimed: 1,
            completed: 0,
            failed: 0,
            awaiting_csr: 0
        },
        "who comes late is refused"
    );
    ended_once(
        &world,
        &job,
        &[ca.signed(), world.ca.signed(), vec![planned]].concat(),
    )
    .await;
    assert_eq!(world.job(&job).await.attempts, 2);
}

db_tests! {
    async fn a_worker_that_dies_after_its_claim_is_replaced(db: TestDb) {
        let world = world(db, false).await;
        let job = ready(&world, false).await;
        let now = world.now();
        let claimed: Result<_, certctl_repository::Error> = transaction!(world.db, "claim", conn => { claim::claim(conn, "dead:1", LEASE, 10, now).await });
        assert_eq!(claimed.unwrap().len(), 1);
        assert_eq!(world.work().await, Pass::default(), "the lease holds");
        let_the_lease_run_out(&world);
        assert_eq!(world.work().await.completed, 1);
        assert_eq!(world.recorded("job_timeout").await, 1);
        ended_once(&world, &job, &world.ca.signed()).await;
    }

    async fn a_worker_that_dies_before_the_ca_signs_is_replaced_agent_keys(db: TestDb) {
        dies_at_the_ca(db, true, false).await;
    }

    async fn a_worker_that_dies_before_the_ca_signs_is_replaced_server_keys(db: TestDb) {
        dies_at_the_ca(db, false, false).await;
    }

    async fn a_worker_that_dies_with_the_signature_in_its_hands_is_replaced_agent_keys(db: TestDb) {
        dies_at_the_ca(db, true, true).await;
    }

    async fn a_worker_that_dies_with_the_signature_in_its_hands_is_replaced_server_keys(db: TestDb) {
        dies_at_the_ca(db, false, true).await;
    }

    async fn what_was_recorded_is_signed_whatever_the_certificate_says_by_then(db: TestDb) {
        let world = world(db, true).await;
        let job = ready(&world, true).await;
        let shut = world.ca.shut(true);
        let services = world.services.clone();
        let dead = tokio::spawn(async move { process(&services).await });
        shut.arrived().await;
        let edit = CertificateInput { sans: Some(vec!["added.example.test".to_owned()]), ..CertificateInput::default() };
        world.services.update_certificate(&world.admin, &world.ids.certificate, edit).await.unwrap();
        let (other, _) = world.replica("other:2", mode(true));
        let_the_lease_run_out(&world);
        assert_eq!(process(&other).await.completed, 1);
        assert_eq!(world.ended(&job).await.0, "Completed");
        let chain = world.db.text("SELECT pem_chain AS value FROM certificate_versions").await;
        let leaf = certctl_testkit::pki::cert::ParsedCertificate::from_pem(chain.split_inclusive("-----END CERTIFICATE-----").next().unwrap()).unwrap();
        assert!(leaf.sans().iter().all(|name| name.to_string() != "added.example.test"), "{:?}", leaf.sans());
        shut.open();
        dead.await.unwrap();
    }

    async fn a_late_worker_whose_ca_refuses_fails_nothing_of_the_one_that_took_over(db: TestDb) {
        let world = world(db, false).await;
        let job = ready(&world, false).await;
        let shut = world.ca.refuse_late(IssuerError::Validation("no".into()));
        let services = world.services.clone();
        let late = tokio::spawn(async move { process(&services).await });
        shut.arrived().await;
        let_the_lease_run_out(&world);
        // The other one holds the job now, and is not done yet.
        let (other, ca) = world.replica("other:2", server_keys());
        let held = ca.shut(false);
        let working = tokio::spawn(async move { process(&other).await });
        held.arrived().await;
        shut.open();
        assert_eq!(late.await.unwrap().failed, 0);
        assert_eq!((world.ended(&job).await.0, world.status().await), ("Running", "RenewalInProgress"));
        held.open();
        assert_eq!(working.await.unwrap().completed, 1);
        ended_once(&world, &job, &ca.signed()).await;
    }

    async fn what_a_late_worker_signed_is_not_revoked_while_it_will_be_asked_for_again(db: TestDb) {
        let world = world(db, false).await;
        let job = ready(&world, false).await;
        let shut = world.ca.shut(true);
        let services = world.services.clone();
        let late = tokio::spawn(async move { process(&services).await });
        shut.arrived().await;
        let_the_lease_run_out(&world);
        let (other, ca) = world.replica("other:2", server_keys());
        ca.refuse(Some(IssuerError::Network("no route".into())));
        assert_eq!(process(&other).await.failed, 1);
        shut.open();
        assert_eq!(late.await.unwrap().completed, 0);
        assert_eq!((world.ended(&job).await.0, world.revoked().await), ("Failed", Vec::new()));
        ca.refuse(None);
        world.clock.advance(Duration::from_secs(7200));
        assert_eq!(other.retry_jobs().await.unwrap(), 1);
        assert_eq!(process(&other).await.completed, 1);
        ended_once(&world, &job, &[world.ca.signed(), ca.signed()].concat()).await;
    }

    async fn what_was_signed_for_a_job_that_was_called_off_is_revoked(db: TestDb) {
        for_a_job_called_off(db, true).await;
    }

    async fn a_job_that_is_called_off_before_the_ca_signs_stays_so(db: TestDb) {
        for_a_job_called_off(db, false).await;
    }

    async fn what_a_ca_with_serials_of_its_own_signed_for_a_job_that_was_called_off_is_revoked(db: TestDb) {
        let world = world(db, false).await;
        world.ca.choose_serials();
        let job = ready(&world, false).await;
        let shut = world.ca.shut(true);
        let services = world.services.clone();
        let working = tokio::spawn(async move { process(&services).await });
        shut.arrived().await;
        world.services.cancel_job(&world.admin, &job).await.unwrap();
        let signed = world.ca.signed().remove(0);
        assert!(!world.revoked().await.contains(&format!("{signed} cessationOfOperation")), "nobody could know it");
        shut.open();
        assert_eq!(working.await.unwrap().completed, 0);
        assert!(world.revoked().await.contains(&format!("{signed} cessationOfOperation")));
        assert_eq!((world.ended(&job).await.0, world.versions().await.len()), ("Cancelled", 0));
    }

    async fn a_signature_whose_worker_died_is_revoked_when_the_job_is_called_off(db: TestDb) {
        let world = world(db, false).await;
        let job = ready(&world, false).await;
        let shut = world.ca.shut(true);
        let services = world.services.clone();
        let dead = tokio::spawn(async move { process(&services).await });
        shut.arrived().await;
        let_the_lease_run_out(&world);
        world.services.recover_jobs().await.unwrap();
        assert_eq!(world.ended(&job).await.0, "Pending");
        world.services.cancel_job(&world.admin, &job).await.unwrap();
        let serial = world.ca.signed().remove(0);
        assert_eq!(world.revoked().await, [format!("{serial} cessationOfOperation")]);
        dead.abort();
    }

    async fn a_job_whose_workers_all_die_fails_and_its_signature_is_revoked(db: TestDb) {
        let world = world(db, false).await;
        let job = ready(&world, false).await;
        let mut dead = Vec::new();
        for _ in 0..3 {
            let shut = world.ca.shut(true);
            let services = world.services.clone();
            dead.push(tokio::spawn(async move { process(&services).await }));
            shut.arrived().await;
            let_the_lease_run_out(&world);
        }
        assert_eq!(world.work().await, Pass::default());
        assert_eq!(world.ended(&job).await, ("Failed", "the worker that held this job died".into()));
        assert_eq!(world.status().await, "Failed");
        let signed = world.ca.signed();
        assert!(signed.len() == 3 && signed.iter().all(|serial| *serial == signed[0]), "one serial for one job: {signed:?}");
        assert_eq!(world.revoked().await, [format!("{} cessationOfOperation", signed[0])]);
        assert_eq!(world.services.retry_jobs().await.unwrap(), 0);
        dead.iter().for_each(tokio::task::JoinHandle::abort);
    }

    async fn a_renewal_of_a_certificate_that_ended_before_it_began_is_not_signed(db: TestDb) {
        let world = world(db, false).await;
        let job = ready(&world, false).await;
        world.db.execute("UPDATE managed_certificates SET status = 'Archived'").await.unwrap();
        assert_eq!(world.work().await.failed, 1);
        assert_eq!(world.ended(&job).await, ("Failed", "the certificate is Archived".into()));
        assert!(world.ca.signed().is_empty() && world.revoked().await.is_empty());
    }

    async fn a_shutdown_gives_jobs_back_without_counting_the_attempt(db: TestDb) {
        let world = world(db, false).await;
        let job = ready(&world, false).await;
        let shut = world.ca.shut(true);
        let services = world.services.clone();
        let slow = tokio::spawn(async move { process(&services).await });
        shut.arrived().await;
        assert_eq!(world.services.release_jobs().await.unwrap(), 1);
        assert_eq!((world.ended(&job).await.0, world.job(&job).await.attempts), ("Pending", 0));
        // The one that was too slow is refused; the next one stores the same serial.
        shut.open();
        assert_eq!(slow.await.unwrap().completed, 0);
        let (next, ca) = world.replica("next:2", server_keys());
        assert_eq!(process(&next).await.completed, 1);
        ended_once(&world, &job, &[world.ca.signed(), ca.signed()].concat()).await;
    }
}

async fn for_a_job_called_off(db: TestDb, signs_first: bool) {
    let world = world(db, true).await;
    let job = ready(&world, true).await;
    let shut = world.ca.shut(signs_first);
    let services = world.services.clone();
    let working = tokio::spawn(async move { process(&services).await });
    shut.arrived().await;
    world.services.cancel_job(&world.admin, &job).await.unwrap();
    shut.open();
    assert_eq!(working.await.unwrap().completed, 0);
    assert_eq!(world.ended(&job).await, ("Cancelled", "cancelled".into()));
    assert_eq!(world.status().await, "Pending");
    assert_eq!(
        world.versions().await,
        Vec::<String>::new(),
        "nobody is given it"
    );
    let serial = world.ca.signed().remove(0);
    assert_eq!(
        world.revoked().await,
        [format!("{serial} cessationOfOperation")]
    );
    assert_eq!(world.recorded("unfinished_issuance_revoked").await, 1);
    assert_eq!(world.jobs("Deployment").await, Vec::<String>::new());
}
