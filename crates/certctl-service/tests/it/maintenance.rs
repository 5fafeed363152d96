use std::time::Duration;

use certctl_domain::{agent::AgentReport, id::JobId};
use certctl_service::maintenance::Timeouts;
use certctl_testkit::{TestDb, db_tests};

use crate::support::{World, csr, outcome};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

async fn timeouts(world: &World) -> (usize, usize, usize) {
    let Timeouts {
        csr,
        approval,
        silent_agent,
    } = world.services.time_out_jobs().await.unwrap();
    (csr, approval, silent_agent)
}

async fn beat(world: &World) {
    let report = AgentReport::default();
    world
        .services
        .heartbeat(&world.agent, &world.ids.agent, report)
        .await
        .unwrap();
    world.services.flush_heartbeats().await.unwrap();
}

db_tests! {
    async fn a_request_that_never_comes_is_asked_for_again_until_the_attempts_are_used_up(db: TestDb) {
        let world = World::new(db).await;
        let job = world.renew(&world.ids.certificate).await;
        for attempt in 1..=3_u32 {
            // Each try waits a whole day of its own.
            world.clock.advance(24 * HOUR);
            assert_eq!(timeouts(&world).await, (0, 0, 0), "not a moment early");
            world.clock.advance(Duration::from_secs(1));
            assert_eq!(timeouts(&world).await, (1, 0, 0));
            assert_eq!(world.ended(&job).await, ("Failed", "csr_timeout".into()));
            assert_eq!(world.job(&job).await.attempts, attempt);
            assert_eq!(outcome(world.hand_in(&csr()).await), "conflict");
            assert_eq!(world.status().await, if attempt < 3 { "RenewalInProgress" } else { "Failed" });
            world.clock.advance(HOUR);
            assert_eq!(world.services.retry_jobs().await.unwrap(), usize::from(attempt < 3));
            assert_eq!(world.work().await.awaiting_csr, usize::from(attempt < 3));
        }
        world.clock.advance(24 * HOUR);
        assert_eq!((world.services.retry_jobs().await.unwrap(), timeouts(&world).await), (0, (0, 0, 0)));
        assert_eq!(world.recorded("job_timeout").await, 3);
        let told = world.db.texts("SELECT type || ' ' || message AS value FROM notification_events").await;
        assert_eq!(told, ["RenewalFailure Certificate name-mc-web could not be renewed: no request came"], "once, when it is given up");
    }

    async fn a_request_that_comes_at_the_second_try_is_taken(db: TestDb) {
        let world = World::new(db).await;
        let job = world.renew(&world.ids.certificate).await;
        world.clock.advance(25 * HOUR);
        assert_eq!(timeouts(&world).await, (1, 0, 0));
        world.clock.advance(HOUR);
        assert_eq!(world.services.retry_jobs().await.unwrap(), 1);
        assert_eq!(world.work().await.awaiting_csr, 1);
        world.hand_in(&csr()).await.unwrap();
        assert_eq!(world.work().await.completed, 1);
        assert_eq!((world.ended(&job).await.0, world.status().await), ("Completed", "Active"));
    }

    async fn waiting_counts_from_when_the_state_was_entered(db: TestDb) {
        let world = World::new(db).await;
        let job = world.renew(&world.ids.certificate).await;
        world.clock.advance(23 * HOUR);
        // The agent gives up, the job is tried again and waits anew.
        let report = certctl_service::work::JobReport { status: "Failed".into(), ..Default::default() };
        world.services.report_job(&world.agent, &world.ids.agent, &job, &report).await.unwrap();
        world.clock.advance(2 * HOUR);
        assert_eq!(world.services.retry_jobs().await.unwrap(), 1);
        assert_eq!(world.work().await.awaiting_csr, 1);
        assert_eq!(timeouts(&world).await, (0, 0, 0), "it is older than a day, and waits since just now");
        world.clock.advance(24 * HOUR + MINUTE);
        assert_eq!(timeouts(&world).await, (1, 0, 0));
    }

    async fn what_nobody_approves_ends_with_its_request(db: TestDb) {
        let world = World::with_server_keys(db).await;
        world.profile(|one| one.requires_approval = true).await;
        let job = world.renew(&world.ids.certificate).await;
        world.clock.advance(168 * HOUR);
        assert_eq!(timeouts(&world).await, (0, 0, 0));
        world.clock.advance(MINUTE);
        assert_eq!(timeouts(&world).await, (0, 1, 0));
        assert_eq!(world.ended(&job).await, ("Failed", "approval_timeout".into()));
        assert_eq!(world.db.text("SELECT state || ' ' || decided_by AS value FROM issuance_approval_requests").await, "expired system-reaper");
        assert_eq!(world.services.retry_jobs().await.unwrap(), 0, "no retry leads past the gate");
        assert_eq!(world.work().await.claimed, 0);
    }

    async fn a_deployment_of_an_agent_that_fell_silent_is_tried_again(db: TestDb) {
        let world = World::new(db).await;
        world.issued().await;
        let work = world.services.poll_work(&world.agent, &world.ids.agent).await.unwrap();
        let job = work[0].job.id.clone();
        world.clock.advance(4 * MINUTE);
        beat(&world).await;
        world.clock.advance(4 * MINUTE);
        assert_eq!(timeouts(&world).await, (0, 0, 0), "it was heard of four minutes ago");
        world.clock.advance(2 * MINUTE);
        assert_eq!(timeouts(&world).await, (0, 0, 1));
        assert_eq!(world.ended(&job).await, ("Failed", "agent_offline".into()));
        assert_eq!(world.recorded("job_offline_agent_reap").await, 1);
        world.clock.advance(2 * MINUTE);
        assert_eq!(world.services.retry_jobs().await.unwrap(), 1);
        let again = world.services.poll_work(&world.agent, &world.ids.agent).await.unwrap();
        assert_eq!((&again[0].job.id, again[0].job.attempts), (&job, 2));
    }

    async fn silent_agents_are_offline_and_a_heartbeat_brings_them_back(db: TestDb) {
        let world = World::new(db).await;
        let status = async || world.services.get_agent(&world.admin, &world.ids.agent).await.unwrap().status.as_str();
        world.clock.advance(3 * MINUTE);
        assert_eq!((world.services.check_agents().await.unwrap(), status().await), (0, "Online"));
        world.clock.advance(Duration::from_secs(1));
        assert_eq!((world.services.check_agents().await.unwrap(), status().await), (1, "Offline"));
        assert_eq!(world.services.check_agents().await.unwrap(), 0);
        beat(&world).await;
        assert_eq!(status().await, "Online");
    }

    async fn a_retry_that_was_overtaken_is_not_made(db: TestDb) {
        let world = World::with_server_keys(db).await;
        world.ca.refuse(Some(certctl_domain::ports::issuer::IssuerError::Timeout("slow".into())));
        let first = world.renew(&world.ids.certificate).await;
        assert_eq!(world.work().await.failed, 1);
        world.ca.refuse(None);
        world.clock.advance(Duration::from_secs(1));
        let second: JobId = world.services.renew_certificate(&world.admin, &world.ids.certificate, true).await.unwrap().job_id;
        assert_ne!(first, second);
        assert_eq!(world.work().await.completed, 1);
        world.clock.advance(2 * HOUR);
        assert_eq!(world.services.retry_jobs().await.unwrap(), 0);
        assert_eq!((world.ended(&first).await.0, world.versions().await.len()), ("Failed", 1));
        // The CA may have signed before it was too slow.
        assert_eq!(world.revoked().await.len(), 1);
        assert_eq!(world.db.texts("SELECT job_id AS value FROM issuance_intents").await, Vec::<String>::new());
    }
}
