//! What is counted of jobs, and how long they take.

use std::time::Duration;

use certctl_domain::ports::issuer::IssuerError;
use certctl_service::work::JobReport;
use certctl_testkit::{TestDb, db_tests, services::config};

use crate::support::{World, process, server_keys};

const HOUR: Duration = Duration::from_secs(3600);
/// Longer than an answer of the metrics is kept.
const SECOND: Duration = Duration::from_secs(1);

/// What is counted; an answer is kept for a second.
async fn totals(world: &World) -> (i64, i64) {
    world.clock.advance(2 * SECOND);
    let counts = world.services.counts(&world.admin).await.unwrap();
    (counts.jobs_completed, counts.jobs_failed)
}

/// Everything that ends a run, once each.
async fn end_every_way(db: TestDb) {
    let world = World::with(db, server_keys()).await;
    world
        .ca
        .refuse(Some(IssuerError::Network("no route".into())));
    world.renew(&world.ids.certificate).await;
    assert_eq!(world.work().await.failed, 1);
    world.ca.refuse(None);
    world.clock.advance(2 * HOUR);
    assert_eq!(world.services.retry_jobs().await.unwrap(), 1);
    assert_eq!(world.work().await.completed, 1);
    let refused = IssuerError::Validation("no".into());
    world.ca.refuse(Some(refused));
    world.renew(&world.ids.certificate).await;
    assert_eq!(world.work().await.failed, 1);
    let work = world
        .services
        .poll_work(&world.agent, &world.ids.agent)
        .await
        .unwrap();
    world.clock.advance(Duration::from_secs(7));
    let done = JobReport {
        status: "Completed".into(),
        ..JobReport::default()
    };
    let deployed =
        world
            .services
            .report_job(&world.agent, &world.ids.agent, &work[0].job.id, &done);
    deployed.await.unwrap();
}

/// A recorder sees what its own thread does, so that all of it happens on one.
fn on_one_thread(make: impl AsyncFnOnce() -> TestDb) -> String {
    let (recorder, handle) = certctl_telemetry::build();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let guard = metrics::set_default_local_recorder(&recorder);
    runtime.block_on(async { end_every_way(make().await).await });
    drop(guard);
    handle.render()
}

#[track_caller]
fn shows_every_end(text: &str) {
    for (kind, outcome) in [
        ("Issuance", "retry"),
        ("Issuance", "completed"),
        ("Renewal", "failed"),
        ("Deployment", "completed"),
    ] {
        let line = format!(
            "certctl_job_duration_seconds_count{{type=\"{kind}\",outcome=\"{outcome}\"}} 1"
        );
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let sum = "certctl_job_duration_seconds_sum{type=\"Deployment\",outcome=\"completed\"} 7";
    assert!(text.lines().any(|found| found == sum), "{text}");
}

#[test]
fn every_run_is_timed_to_its_end_sqlite() {
    shows_every_end(&on_one_thread(TestDb::sqlite));
}

mod postgres {
    use certctl_testkit::TestDb;

    #[test]
    fn every_run_is_timed_to_its_end() {
        super::shows_every_end(&super::on_one_thread(TestDb::postgres));
    }
}

db_tests! {
    async fn totals_grow_with_every_end_and_never_fall(db: TestDb) {
        let world = World::with_server_keys(db).await;
        world.ca.refuse(Some(IssuerError::Network("no route".into())));
        world.renew(&world.ids.certificate).await;
        assert_eq!(world.work().await.failed, 1);
        assert_eq!(totals(&world).await, (0, 1));
        world.clock.advance(2 * HOUR);
        assert_eq!(world.services.retry_jobs().await.unwrap(), 1);
        assert_eq!(totals(&world).await, (0, 1), "a retry lowers nothing");
        world.ca.refuse(None);
        assert_eq!(world.work().await.completed, 1);
        assert_eq!(totals(&world).await, (1, 1));
        // An agent that gives a request up fails a run too.
        let (agents, _) = world.replica("agent-keys:1", config());
        let job = agents.renew_certificate(&world.admin, &world.ids.certificate, false).await.unwrap().job_id;
        let failed = JobReport { status: "Failed".into(), ..JobReport::default() };
        agents.report_job(&world.agent, &world.ids.agent, &job, &failed).await.unwrap();
        assert_eq!(totals(&world).await, (1, 2));
        world.db.execute("DELETE FROM jobs").await.unwrap();
        assert_eq!(totals(&world).await, (1, 2), "neither does a removal");
    }

    async fn a_batch_is_counted_as_a_whole(db: TestDb) {
        let world = World::with_server_keys(db).await;
        for number in 0..40 {
            let one = world.ids.certificate(&format!("mc-{number}"));
            world.enter(&one).await;
            world.renew(&one.id).await;
        }
        assert_eq!(process(&world.services).await.completed, 40);
        assert_eq!(totals(&world).await, (40, 0));
        assert_eq!(world.db.texts("SELECT name AS value FROM counters WHERE slot >= 0").await, ["job_completed"]);
    }
}
