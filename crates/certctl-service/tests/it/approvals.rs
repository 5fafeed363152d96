//! The second person.

use std::time::Duration;

use certctl_domain::{
    access::{Actor, ActorType, SeededRole},
    approval::ApprovalState,
    certificate::CertificateStatus,
    id::{ApprovalId, JobId, ProfileId},
    page::PageRequest,
};
use certctl_service::{
    ApprovalFilter,
    approvals::Verdict,
    bulk::BulkCriteria,
    config::ServiceConfig,
    profiles::{ProfileChange, ProfileInput},
};
use certctl_testkit::{TestDb, db_tests, services::config};

use crate::support::{World, actor_of, outcome, process, refusal, server_keys};

const HOUR: Duration = Duration::from_secs(3600);
const WEEK: Duration = Duration::from_secs(168 * 3600);

fn person(id: &str) -> Actor {
    actor_of(id, ActorType::User, SeededRole::Admin)
}

/// A renewal that waits for a second person: its job and the request.
async fn waiting(world: &World) -> (JobId, ApprovalId) {
    world.profile(|one| one.requires_approval = true).await;
    let renewed = world
        .services
        .renew_certificate(&world.admin, &world.ids.certificate, false)
        .await
        .unwrap();
    let request = ApprovalId::from_stored(renewed.approval_id.unwrap());
    (renewed.job_id, request)
}

impl World {
    async fn decide(&self, by: &str, id: &ApprovalId, verdict: Verdict) -> String {
        outcome(
            self.services
                .decide_approval(&person(by), id, verdict, Some("seen"))
                .await,
        )
    }

    async fn state_of(&self, id: &ApprovalId) -> (ApprovalState, Option<String>) {
        let approval = self.services.get_approval(&self.admin, id).await.unwrap();
        (approval.state, approval.decided_by)
    }
}

fn edit(name: &str, ttl: u32) -> ProfileInput {
    ProfileInput {
        name: name.to_owned(),
        max_ttl_seconds: ttl,
        requires_approval: true,
        ..ProfileInput::default()
    }
}

async fn ask_edit(world: &World, input: ProfileInput) -> ApprovalId {
    let changed = world
        .services
        .update_profile(&world.admin, &world.ids.profile, input);
    match changed.await.unwrap() {
        ProfileChange::Pending { approval_id } => ApprovalId::from_stored(approval_id),
        ProfileChange::Applied(profile) => panic!("{} was changed", profile.id),
    }
}

db_tests! {
    async fn who_asked_and_who_owns_it_cannot_decide_and_a_second_person_can(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let (job, request) = waiting(&world).await;
        world.db.execute("UPDATE owners SET name = 'Alice', email = 'alice@example.test'").await.unwrap();
        for no_second in ["ann", "ANN", "o-alice", "Alice", "alice@example.test"] {
            for verdict in [Verdict::Approve, Verdict::Reject] {
                assert_eq!(world.decide(no_second, &request, verdict).await, "not yours", "{no_second}");
                assert_eq!(outcome(world.services.decide_job(&person(no_second), &job, verdict, None).await), "not yours", "{no_second}");
            }
        }
        assert_eq!((world.ended(&job).await.0, world.work().await.claimed), ("AwaitingApproval", 0));
        let viewer = actor_of("bob", ActorType::User, SeededRole::Viewer);
        assert_eq!(outcome(world.services.decide_approval(&viewer, &request, Verdict::Approve, None).await), "needs approval.approve");
        assert_eq!(outcome(world.services.decide_job(&viewer, &job, Verdict::Reject, None).await), "needs approval.reject");
        assert_eq!(world.decide("bob", &request, Verdict::Approve).await, "ok");
        assert_eq!(world.state_of(&request).await, (ApprovalState::Approved, Some("bob".into())));
        assert_eq!(world.work().await.completed, 1);
        assert_eq!((world.ended(&job).await.0, world.status().await), ("Completed", "Active"));
        for verdict in [Verdict::Approve, Verdict::Reject] {
            assert_eq!(world.decide("carol", &request, verdict).await, "conflict", "decisions are final");
            assert_eq!(outcome(world.services.decide_job(&person("carol"), &job, verdict, None).await), "bad request");
        }
        assert_eq!((world.recorded("approval_requested").await, world.recorded("approval_approved").await), (1, 1));
        assert_eq!(world.decide("bob", &ApprovalId::from_stored("ar-none".into()), Verdict::Approve).await, "no approval");
    }

    async fn what_is_approved_waits_for_its_agent_then(db: TestDb) {
        let world = World::new(db).await;
        let (job, request) = waiting(&world).await;
        world.clock.advance(48 * HOUR);
        assert_eq!(world.decide("bob", &request, Verdict::Approve).await, "ok");
        world.services.woken().await;
        assert_eq!(world.ended(&job).await.0, "Pending");
        assert_eq!(world.work().await.awaiting_csr, 1);
        world.hand_in(&crate::support::csr()).await.unwrap();
        assert_eq!(world.work().await.completed, 1);
    }

    async fn a_refusal_calls_the_job_off_and_the_certificate_goes_on(db: TestDb) {
        let world = World::with_server_keys(db).await;
        for (by_job, said) in [(false, "approval rejected: seen"), (true, "rejected: seen")] {
            let (job, request) = waiting(&world).await;
            assert_eq!(world.status().await, "RenewalInProgress");
            let refused = if by_job {
                outcome(world.services.decide_job(&person("bob"), &job, Verdict::Reject, Some("seen")).await)
            } else {
                world.decide("bob", &request, Verdict::Reject).await
            };
            assert_eq!(refused, "ok");
            assert_eq!(world.ended(&job).await, ("Cancelled", said.into()));
            assert_eq!(world.state_of(&request).await, (ApprovalState::Rejected, Some("bob".into())));
            assert_eq!((world.status().await, world.work().await.claimed), ("Pending", 0));
        }
        assert_eq!(world.recorded("approval_rejected").await, 2);
        let long = "n".repeat(1001);
        let (_, request) = waiting(&world).await;
        assert_eq!(outcome(world.services.decide_approval(&person("bob"), &request, Verdict::Reject, Some(&long)).await), "invalid note");
    }

    async fn a_job_is_approved_with_its_request_and_also_without_one(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let (job, request) = waiting(&world).await;
        world.services.decide_job(&person("bob"), &job, Verdict::Approve, None).await.unwrap();
        assert_eq!(world.state_of(&request).await, (ApprovalState::Approved, Some("bob".into())));
        assert_eq!(world.work().await.completed, 1);
        let (job, _) = waiting(&world).await;
        world.db.execute("DELETE FROM issuance_approval_requests").await.unwrap();
        assert_eq!(outcome(world.services.decide_job(&person("o-alice"), &job, Verdict::Approve, None).await), "not yours");
        world.services.decide_job(&person("bob"), &job, Verdict::Approve, None).await.unwrap();
        assert_eq!(world.work().await.completed, 1);
        assert_eq!(outcome(world.services.decide_job(&person("bob"), &JobId::from_stored("job-none".into()), Verdict::Approve, None).await), "no job");
    }

    async fn of_many_who_decide_at_once_one_does(db: TestDb) {
        let world = World::with_server_keys(db).await;
        for round in 0..4 {
            let (job, request) = waiting(&world).await;
            let deciding: Vec<_> = (0..6).map(|number| {
                let (services, job, request) = (world.services.clone(), job.clone(), request.clone());
                tokio::spawn(async move {
                    let verdict = if number % 2 == 0 { Verdict::Approve } else { Verdict::Reject };
                    let by = person(&format!("person-{number}"));
                    let decided = if number < 3 {
                        services.decide_approval(&by, &request, verdict, None).await
                    } else {
                        services.decide_job(&by, &job, verdict, None).await
                    };
                    (outcome(decided), number)
                })
            }).collect();
            let mut winners = Vec::new();
            for one in deciding {
                let (outcome, number) = one.await.unwrap();
                match outcome.as_str() {
                    "ok" => winners.push(number),
                    other => assert!(["conflict", "bad request"].contains(&other), "{other}"),
                }
            }
            assert_eq!(winners.len(), 1, "round {round}");
            let approved = winners[0] % 2 == 0;
            let (state, by) = world.state_of(&request).await;
            assert_eq!((state == ApprovalState::Approved, by), (approved, Some(format!("person-{}", winners[0]))));
            assert_eq!(world.work().await.completed, usize::from(approved));
            assert_eq!(world.ended(&job).await.0, if approved { "Completed" } else { "Cancelled" });
        }
    }

    async fn a_request_that_expires_can_never_run(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let (job, request) = waiting(&world).await;
        world.clock.advance(WEEK);
        assert_eq!(world.services.expire_approvals().await.unwrap(), 0, "not a moment early");
        world.clock.advance(Duration::from_secs(1));
        // Its time is over whether or not the loop has run.
        assert_eq!(world.decide("bob", &request, Verdict::Approve).await, "conflict");
        assert_eq!(outcome(world.services.decide_job(&person("bob"), &job, Verdict::Approve, None).await), "conflict");
        assert_eq!(world.services.expire_approvals().await.unwrap(), 1);
        assert_eq!(world.state_of(&request).await, (ApprovalState::Expired, Some("system-reaper".into())));
        assert_eq!(world.ended(&job).await, ("Failed", "approval_timeout".into()));
        assert_eq!(world.status().await, "Failed", "it is under renewal no more");
        for _ in 0..3 {
            assert_eq!(world.decide("bob", &request, Verdict::Approve).await, "conflict");
            assert_eq!(outcome(world.services.decide_job(&person("bob"), &job, Verdict::Approve, None).await), "bad request");
            assert_eq!(world.services.retry_jobs().await.unwrap(), 0);
            assert_eq!(world.services.recover_jobs().await.unwrap(), 0);
            assert_eq!(world.work().await.claimed, 0);
            world.clock.advance(1000 * HOUR);
        }
        assert_eq!(world.ended(&job).await.0, "Failed");
        assert!(world.ca.signed().is_empty());
        assert_eq!(world.services.expire_approvals().await.unwrap(), 0);
        assert_eq!((world.recorded("approval_expired").await, world.recorded("job_timeout").await), (1, 1));
    }

    async fn either_loop_ends_both_and_a_decision_beside_it_counts_once(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let (job, request) = waiting(&world).await;
        world.clock.advance(WEEK + HOUR);
        let (left, right) = tokio::join!(world.services.time_out_jobs(), world.services.expire_approvals());
        assert_eq!(left.unwrap().approval + right.unwrap(), 1);
        assert_eq!((world.ended(&job).await.0, world.state_of(&request).await.0), ("Failed", ApprovalState::Expired));
        assert_eq!((world.recorded("approval_expired").await, world.recorded("job_timeout").await), (1, 1));
    }

    async fn a_backlog_of_requests_expires_in_steps(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let (_, request) = waiting(&world).await;
        let copies = match world.db.backend() {
            certctl_repository::Backend::Postgres => "generate_series(1, 1200) AS s(n)",
            certctl_repository::Backend::Sqlite => "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 1200) SELECT n FROM s)",
        };
        world.db.execute(&format!("INSERT INTO issuance_approval_requests (id, approval_kind, profile_id, requested_by, state, created_at, updated_at) \
            SELECT 'ar-more-' || n, 'profile_edit', profile_id, requested_by, state, created_at, updated_at FROM issuance_approval_requests, {copies} \
            WHERE id = '{request}'")).await.unwrap();
        world.clock.advance(WEEK + HOUR);
        assert_eq!(world.services.expire_approvals().await.unwrap(), 1201);
        assert_eq!(world.db.texts("SELECT DISTINCT state AS value FROM issuance_approval_requests").await, ["expired"]);
        assert_eq!(world.recorded("approval_profile_expired").await, 1200);
    }

    async fn the_edit_of_a_profile_is_made_when_a_second_person_agrees_and_not_otherwise(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let id = &world.ids.profile;
        let ttl = async || world.services.get_profile(&world.admin, id).await.unwrap().max_ttl_seconds;
        let before = ttl().await;
        let refused = ask_edit(&world, edit("one", 86_400)).await;
        assert_eq!(world.decide("ann", &refused, Verdict::Approve).await, "not yours");
        assert_eq!(world.decide("bob", &refused, Verdict::Reject).await, "ok");
        assert_eq!((ttl().await, world.state_of(&refused).await.0), (before, ApprovalState::Rejected));
        let agreed = ask_edit(&world, edit("one", 86_400)).await;
        assert_ne!(agreed, refused, "a refused request is not taken up again");
        assert_eq!(world.decide("bob", &agreed, Verdict::Approve).await, "ok");
        let profile = world.services.get_profile(&world.admin, id).await.unwrap();
        assert_eq!((profile.max_ttl_seconds, profile.name.as_str(), profile.requires_approval), (86_400, "one", true));
        assert_eq!((world.recorded("profile.edit_applied").await, world.recorded("approval_profile_approved").await), (1, 1));
        assert_eq!(world.decide("carol", &agreed, Verdict::Approve).await, "conflict");
        let late = ask_edit(&world, edit("two", 3600)).await;
        world.clock.advance(WEEK + HOUR);
        assert_eq!(world.services.expire_approvals().await.unwrap(), 1);
        assert_eq!(world.decide("bob", &late, Verdict::Approve).await, "conflict");
        assert_eq!(ttl().await, 86_400);
    }

    async fn an_edit_is_checked_again_when_it_is_made(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let taken = ask_edit(&world, edit("Taken", 3600)).await;
        let other = ProfileInput { id: Some("prof-other".into()), name: "Taken".into(), ..ProfileInput::default() };
        world.services.create_profile(&world.admin, other).await.unwrap();
        assert_eq!(world.decide("bob", &taken, Verdict::Approve).await, "conflict");
        assert_eq!(world.state_of(&taken).await.0, ApprovalState::Pending, "it may still be refused, or its name be freed");
        world.services.delete_profile(&world.admin, &ProfileId::from_stored("prof-other".into())).await.unwrap();
        assert_eq!(world.decide("bob", &taken, Verdict::Approve).await, "ok");
        let unfit = ask_edit(&world, edit("Unfit", 3600)).await;
        let spoilt = format!("UPDATE issuance_approval_requests SET payload = '{{\"name\": \"x\", \"required_san_patterns\": [\"(\"]}}' WHERE id = '{unfit}'");
        world.db.execute(&spoilt).await.unwrap();
        let said = refusal(world.services.decide_approval(&person("bob"), &unfit, Verdict::Approve, None).await);
        assert!(said.contains("can no longer be applied"), "{said}");
        assert_eq!(world.decide("bob", &unfit, Verdict::Reject).await, "ok");
    }

    async fn an_open_gate_lets_everything_through_and_says_so(db: TestDb) {
        let world = World::with(db, ServiceConfig { approval_bypass: true, ..server_keys() }).await;
        let (job, request) = waiting(&world).await;
        assert_eq!(world.state_of(&request).await, (ApprovalState::Approved, Some("system-bypass".into())));
        assert_eq!(world.work().await.completed, 1);
        assert_eq!(world.ended(&job).await.0, "Completed");
        let mut due = world.ids.certificate("mc-due");
        due.status = CertificateStatus::Active;
        due.expires_at = Some(world.now() + 24 * HOUR);
        due.renew_at = Some(world.now());
        world.enter(&due).await;
        assert_eq!(world.services.scan_renewals().await.unwrap().enqueued, 1);
        world.enter(&world.ids.certificate("mc-bulk")).await;
        let criteria = BulkCriteria { certificate_ids: vec!["mc-bulk".into()], ..BulkCriteria::default() };
        assert_eq!(world.services.bulk_renew(&world.admin, &criteria).await.unwrap().changed, 1);
        assert_eq!(process(&world.services).await.completed, 2);
        let changed = world.services.update_profile(&world.admin, &world.ids.profile, edit("free", 3600)).await.unwrap();
        assert!(matches!(changed, ProfileChange::Applied(profile) if profile.name == "free"));
        let entered = world.db.texts("SELECT state || ' ' || decided_by AS value FROM issuance_approval_requests").await;
        assert_eq!(entered, ["approved system-bypass"; 4]);
        assert_eq!((world.recorded("approval_bypassed").await, world.recorded("approval_profile_bypassed").await), (3, 1));
    }

    async fn the_second_person_is_shown_what_it_is_about(db: TestDb) {
        let world = World::with(db, config()).await;
        let (job, request) = waiting(&world).await;
        let approval = world.services.get_approval(&world.admin, &request).await.unwrap();
        assert_eq!((approval.job_id, approval.requested_by.as_str()), (Some(job), "ann"));
        let shown: Vec<_> = approval.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(shown, ["common_name=mc-web.example.test", "issuer_id=iss-local", "sans=mc-web.example.test", "severity_tier=informational"]);
        let mine = ApprovalFilter { requested_by: Some("ann".into()), ..ApprovalFilter::default() };
        let listed = world.services.list_approvals(&world.admin, &mine, PageRequest::default()).await.unwrap();
        assert_eq!((listed.total, &listed.rows[0].id), (1, &request));
        assert_eq!(outcome(world.services.list_approvals(&Actor::anonymous(), &mine, PageRequest::default()).await), "needs approval.read");
        assert_eq!(outcome(world.services.get_approval(&Actor::anonymous(), &request).await), "needs approval.read");
    }
}
