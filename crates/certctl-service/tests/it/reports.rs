use std::time::Duration;

use certctl_domain::{
    access::{ActorType, SeededRole},
    id::JobId,
    job::VerificationStatus,
};
use certctl_service::{jobs::VerificationInput, work::JobReport};
use certctl_testkit::{TestDb, db_tests, entities};
use serde_json::json;

use crate::support::{World, actor_of, agent_actor, agent_id, certificate_id, enter, outcome};

const HOUR: Duration = Duration::from_secs(3600);

fn says(status: &str) -> JobReport {
    JobReport {
        status: status.to_owned(),
        ..JobReport::default()
    }
}

impl World {
    async fn report(&self, job: &JobId, report: &JobReport) -> String {
        let reported = self
            .services
            .report_job(&self.agent, &self.ids.agent, job, report);
        outcome(reported.await)
    }

    /// The deployment that follows the first issuance, taken by its agent.
    async fn deploying(&self) -> JobId {
        self.issued().await;
        self.take().await
    }

    async fn take(&self) -> JobId {
        let work = self.services.poll_work(&self.agent, &self.ids.agent);
        work.await.unwrap().remove(0).job.id
    }
}

fn seen(expected: &str, actual: &str, verified: bool, error: Option<&str>) -> VerificationInput {
    VerificationInput {
        target_id: "tgt-web".into(),
        expected_fingerprint: expected.to_owned(),
        actual_fingerprint: actual.to_owned(),
        verified,
        error: error.map(str::to_owned),
    }
}

db_tests! {
    async fn a_deployment_ends_as_its_agent_says_and_only_once(db: TestDb) {
        let world = World::new(db).await;
        let job = world.deploying().await;
        for status in ["Pending", "AwaitingCSR", "Cancelled", "done", ""] {
            assert_eq!(world.report(&job, &says(status)).await, "invalid status", "{status:?}");
        }
        let long = JobReport { error: Some("e".repeat(4097)), ..says("Failed") };
        assert_eq!(world.report(&job, &long).await, "invalid error");
        let large = JobReport { deploy: Some(json!({"metadata": "m".repeat(17_000)})), ..says("Completed") };
        assert_eq!(world.report(&job, &large).await, "invalid deploy");
        let deep = (0..20).fold(json!({}), |inner, _| json!({"in": inner}));
        for unfit in [json!({"outcome": "deployed\0"}), json!({"metadata": {"a\0": 1}}), json!(["deployed"]), deep] {
            let report = JobReport { deploy: Some(unfit.clone()), ..says("Completed") };
            assert_eq!(world.report(&job, &report).await, "invalid deploy", "{unfit}");
        }
        assert_eq!(world.ended(&job).await.0, "Running", "nothing half done");
        assert_eq!(world.report(&job, &says("Running")).await, "ok");
        let done = JobReport { deploy: Some(json!({"outcome": "deployed", "idempotent": false})), ..says("Completed") };
        assert_eq!(world.report(&job, &done).await, "ok");
        assert_eq!(world.report(&job, &done).await, "ok", "it repeats what it got no answer to");
        assert_eq!(world.report(&job, &says("Failed")).await, "conflict");
        assert_eq!(world.report(&job, &says("Running")).await, "conflict");
        let told = world.db.texts("SELECT message AS value FROM notification_events WHERE type = 'DeploymentSuccess'").await;
        assert_eq!(told, ["Certificate name-mc-web was deployed to tgt-web"]);
        assert_eq!(world.ended(&job).await, ("Completed", String::new()));
        assert_eq!(world.certificate(&world.ids.certificate).await.last_deployment_at, Some(world.now()));
        assert_eq!(world.recorded("deployment_job_completed").await, 1);
    }

    async fn a_failed_deployment_is_tried_again_until_its_attempts_are_used_up(db: TestDb) {
        let world = World::new(db).await;
        let mut job = world.deploying().await;
        let failed = JobReport { error: Some("nginx -t failed".into()), ..says("Failed") };
        for attempt in 1..=3_u32 {
            assert_eq!(world.job(&job).await.attempts, attempt);
            assert_eq!(world.report(&job, &failed).await, "ok");
            assert_eq!(world.ended(&job).await, ("Failed", "nginx -t failed".into()));
            assert_eq!(world.services.retry_jobs().await.unwrap(), 0, "not at once");
            world.clock.advance(2 * HOUR);
            let again = world.services.retry_jobs().await.unwrap();
            assert_eq!(again, usize::from(attempt < 3));
            if again == 1 {
                job = world.take().await;
            }
        }
        assert_eq!(world.status().await, "Active", "what was issued stays so");
        assert_eq!(world.recorded("deployment_job_failed").await, 3);
        let told = world.db.texts("SELECT message AS value FROM notification_events WHERE type = 'DeploymentFailure'").await;
        assert_eq!(told.len(), 1, "told once, when it is given up: {told:?}");
    }

    async fn an_agent_that_says_it_is_at_work_keeps_its_deployment(db: TestDb) {
        let world = World::new(db).await;
        let job = world.deploying().await;
        let minutes = |count: u32| count * (HOUR / 60);
        for _ in 0..3 {
            world.clock.advance(minutes(14));
            assert_eq!(world.report(&job, &says("Running")).await, "ok");
            assert_eq!(world.services.recover_jobs().await.unwrap(), 0);
        }
        world.clock.advance(minutes(16));
        assert_eq!(world.services.recover_jobs().await.unwrap(), 1);
        assert_eq!(world.ended(&job).await.0, "Pending");
        // It was slow, not gone; what it did counts, and is not done again.
        assert_eq!(world.report(&job, &says("Completed")).await, "ok");
        assert_eq!(world.ended(&job).await, ("Completed", String::new()));
        assert_eq!(world.recorded("deployment_job_completed").await, 1);
        assert!(world.services.poll_work(&world.agent, &world.ids.agent).await.unwrap().is_empty());
    }

    async fn a_failure_that_comes_after_the_lease_counts_once(db: TestDb) {
        let world = World::new(db).await;
        let job = world.deploying().await;
        world.clock.advance(HOUR);
        assert_eq!(world.services.recover_jobs().await.unwrap(), 1);
        let failed = JobReport { error: Some("nginx -t failed".into()), ..says("Failed") };
        assert_eq!(world.report(&job, &failed).await, "ok");
        assert_eq!(world.ended(&job).await, ("Failed", "nginx -t failed".into()));
        world.clock.advance(2 * HOUR);
        assert_eq!(world.services.retry_jobs().await.unwrap(), 1);
        // The next try is nobody's yet.
        for status in ["Completed", "Failed"] {
            assert_eq!(world.report(&job, &says(status)).await, "conflict", "{status}");
        }
        assert_eq!(world.take().await, job);
        assert_eq!(world.job(&job).await.attempts, 2);
    }

    async fn jobs_of_others_are_not_there(db: TestDb) {
        let world = World::new(db).await;
        let job = world.deploying().await;
        let next = agent_id("ag-next");
        enter!(world, agents::insert(&entities::agent("ag-next"), "hash-next"));
        let report = async |actor: &certctl_domain::access::Actor, agent, job: &JobId| outcome(world.services.report_job(actor, agent, job, &says("Completed")).await);
        assert_eq!(report(&agent_actor("ag-next"), &next, &job).await, "no job");
        assert_eq!(report(&world.admin, &next, &job).await, "no job", "whoever asks");
        assert_eq!(report(&agent_actor("ag-next"), &world.ids.agent, &job).await, "not yours");
        assert_eq!(report(&world.agent, &world.ids.agent, &JobId::from_stored("job-gone".into())).await, "no job");
        let viewer = actor_of("bob", ActorType::ApiKey, SeededRole::Viewer);
        assert_eq!(report(&viewer, &world.ids.agent, &job).await, "needs agent.job.complete");
        let ordinary = actor_of("compose", ActorType::ApiKey, SeededRole::Agent);
        assert_eq!(report(&ordinary, &world.ids.agent, &job).await, "ok");
    }

    // An agent that could end what the server signs would have a signed certificate lost.
    async fn what_the_server_runs_is_not_the_agents_to_end(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let job = world.renew(&world.ids.certificate).await;
        for status in ["Running", "Completed", "Failed"] {
            assert_eq!(world.report(&job, &says(status)).await, "conflict", "a pending one as {status}");
        }
        let shut = world.ca.shut(true);
        let services = world.services.clone();
        let working = tokio::spawn(async move { crate::support::process(&services).await });
        shut.arrived().await;
        for status in ["Completed", "Failed"] {
            assert_eq!(world.report(&job, &says(status)).await, "conflict", "a running one as {status}");
        }
        shut.open();
        assert_eq!(working.await.unwrap().completed, 1);
        assert_eq!(world.report(&job, &says("Failed")).await, "conflict");
    }

    async fn a_renewal_that_waits_for_a_request_is_not_run_by_saying_so(db: TestDb) {
        let world = World::new(db).await;
        let job = world.renew(&world.ids.certificate).await;
        for status in ["Running", "Completed"] {
            assert_eq!(world.report(&job, &says(status)).await, "conflict", "{status}");
        }
        let failed = JobReport { error: Some("no entropy".into()), ..says("Failed") };
        assert_eq!(world.report(&job, &failed).await, "ok", "it may give up");
        assert_eq!(world.ended(&job).await, ("Failed", "no entropy".into()));
        assert_eq!(world.status().await, "RenewalInProgress", "it is tried again");
    }

    async fn an_agent_that_can_make_no_request_is_not_asked_for_ever(db: TestDb) {
        let world = World::new(db).await;
        let job = world.renew(&world.ids.certificate).await;
        let most = world.job(&job).await.max_attempts;
        let failed = JobReport { error: Some("no entropy".into()), ..says("Failed") };
        for attempt in 1..=most {
            assert_eq!(world.report(&job, &failed).await, "ok");
            assert_eq!(world.job(&job).await.attempts, attempt);
            world.clock.advance(24 * HOUR);
            let retried = world.services.retry_jobs().await.unwrap();
            assert_eq!(retried, usize::from(attempt < most), "attempt {attempt}");
            world.work().await;
        }
        assert_eq!(world.status().await, "Failed");
    }

    async fn a_deployment_that_was_not_polled_is_not_run_by_saying_so(db: TestDb) {
        let world = World::new(db).await;
        world.issued().await;
        let job = JobId::from_stored(world.db.text("SELECT id AS value FROM jobs WHERE type = 'Deployment'").await);
        for status in ["Running", "Completed", "Failed"] {
            assert_eq!(world.report(&job, &says(status)).await, "conflict", "{status}");
        }
        assert_eq!(world.take().await, job);
    }

    async fn certificates_go_to_the_agents_that_serve_them(db: TestDb) {
        let world = World::new(db).await;
        let (services, agent) = (&world.services, &world.ids.agent);
        let fetch = async |id: &str| outcome(services.agent_certificate(&world.agent, agent, &certificate_id(id)).await);
        assert_eq!(fetch("mc-web").await, "no issued version of certificate");
        assert_eq!(fetch("mc-gone").await, "no certificate");
        world.enter(&world.ids.certificate("mc-lone")).await;
        assert_eq!(fetch("mc-lone").await, "not yours");
        world.issued().await;
        assert_eq!(fetch("mc-web").await, "ok");
        assert_eq!(outcome(services.agent_certificate(&world.admin, &agent_id("ag-gone"), &world.ids.certificate).await), "no agent");
    }

    async fn what_was_seen_is_what_the_fingerprints_say(db: TestDb) {
        let world = World::new(db).await;
        let job = world.deploying().await;
        let (one, two) = ("a".repeat(64), "b".repeat(64));
        assert_eq!(outcome(world.services.get_verification(&world.admin, &job).await), "no verification of job");
        let cases = [
            (seen(&one, &one, true, None), true),
            (seen(&one, &one, false, None), false),
            (seen(&one, &two, true, None), false),
            (seen(&one, &two, false, None), false),
            (seen(&one, "", false, Some("connection refused")), false),
            (seen("", "", true, Some("connection refused")), false),
        ];
        for (input, expected) in cases {
            let said = format!("{input:?}");
            let verified = world.services.verify_job(&world.agent, &job, input.clone()).await.unwrap();
            assert_eq!((verified.verified, verified.at), (expected, world.now()), "{said}");
            let stored = world.services.get_verification(&world.admin, &job).await.unwrap();
            assert_eq!(stored.verification_status == VerificationStatus::Success, expected, "{said}");
            assert_eq!((stored.expected_fingerprint, stored.verification_fingerprint, stored.verification_error), (Some(input.expected_fingerprint), Some(input.actual_fingerprint), input.error));
        }
        assert_eq!(world.ended(&job).await.0, "Running", "looking changes no state");
        assert_eq!((world.recorded("job_verification_success").await, world.recorded("job_verification_failed").await), (1, 5));
    }

    async fn a_look_that_makes_no_sense_is_refused(db: TestDb) {
        let world = World::new(db).await;
        let job = world.deploying().await;
        let good = "a".repeat(64);
        let cases = [
            (VerificationInput { target_id: String::new(), ..seen(&good, &good, true, None) }, "invalid target_id"),
            (VerificationInput { target_id: "tgt-other".into(), ..seen(&good, &good, true, None) }, "invalid target_id"),
            (seen("", &good, true, None), "invalid expected_fingerprint"),
            (seen(&good.to_uppercase(), &good, true, None), "invalid expected_fingerprint"),
            (seen(&good, "", false, None), "invalid actual_fingerprint"),
            (seen(&good, "", false, Some("")), "invalid actual_fingerprint"),
            (seen(&good, "abc", false, Some("x")), "invalid actual_fingerprint"),
            (seen(&good, &good, false, Some(&"x".repeat(4097))), "invalid error"),
        ];
        for (input, expected) in cases {
            assert_eq!(outcome(world.services.verify_job(&world.agent, &job, input).await), expected);
        }
        let ok = || seen(&good, &good, true, None);
        assert_eq!(outcome(world.services.verify_job(&agent_actor("ag-next"), &job, ok()).await), "not yours");
        assert_eq!(outcome(world.services.verify_job(&world.agent, &JobId::from_stored("job-gone".into()), ok()).await), "no job");
        assert_eq!(world.db.text("SELECT CAST(count(*) AS TEXT) AS value FROM jobs WHERE verified_at IS NOT NULL").await, "0");
        let fresh = world.services.deploy_certificate(&world.admin, &world.ids.certificate, None).await.unwrap().remove(0);
        world.db.execute("UPDATE jobs SET agent_id = NULL WHERE status = 'Pending'").await.unwrap();
        assert_eq!(outcome(world.services.verify_job(&agent_actor("ag-next"), &fresh, ok()).await), "not yours", "the target's agent looks");
    }
}
