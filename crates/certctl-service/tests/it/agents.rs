use std::time::Duration;

use certctl_domain::{
    access::{ActorType, SeededRole},
    agent::{AgentDependencies, AgentReport},
    page::PageRequest,
    secret::Secret,
};
use certctl_service::{
    Error,
    agents::{AgentInput, Registrar, Retirement},
    jobs::VerificationInput,
    work::JobReport,
};
use certctl_testkit::{TestDb, db_tests, services::BOOTSTRAP_TOKEN};

use crate::support::{World, actor_of, agent_actor, agent_id, csr, outcome};

fn input(name: &str) -> AgentInput {
    let report = AgentReport {
        hostname: "web-1.example.test".into(),
        os: "linux".into(),
        architecture: "amd64".into(),
        ip_address: "192.0.2.9".into(),
        version: "1.0.0".into(),
    };
    AgentInput {
        name: name.to_owned(),
        report,
    }
}

fn token(text: &str) -> Registrar {
    Registrar::Token(Secret::new(text))
}

db_tests! {
    async fn an_agent_registers_with_the_token_or_an_operators_key(db: TestDb) {
        let world = World::new(db).await;
        let key = |role| Registrar::Actor(actor_of("bob", ActorType::ApiKey, role));
        let cases = [
            ("right token", token(BOOTSTRAP_TOKEN), "ok"),
            ("wrong token", token("test-bootstrap-token-0123456788"), "unauthenticated"),
            ("no token", token(""), "unauthenticated"),
            ("operator", key(SeededRole::Operator), "ok"),
            ("viewer", key(SeededRole::Viewer), "needs agent.edit"),
            ("agent", key(SeededRole::Agent), "needs agent.edit"),
        ];
        for (name, registrar, expected) in cases {
            assert_eq!(outcome(world.services.register_agent(&registrar, input(name)).await), expected, "{name}");
        }
        assert_eq!(world.services.list_agents(&world.admin, false, PageRequest::default()).await.unwrap().total, 7, "two beside the first and the four seeded ones");
        let without = certctl_service::config::ServiceConfig { agent_bootstrap_token: None, ..certctl_testkit::services::config() };
        let (without, _) = world.replica("without:1", without);
        assert_eq!(outcome(without.register_agent(&token(""), input("x")).await), "unauthenticated", "no token, nothing to know");
    }

    async fn what_is_wrong_with_a_registration_is_named(db: TestDb) {
        let world = World::new(db).await;
        let changed = |change: fn(&mut AgentInput)| {
            let mut one = input("web-1");
            change(&mut one);
            one
        };
        let cases = [
            ("invalid name", changed(|one| one.name.clear())),
            ("invalid name", changed(|one| one.name = "n".repeat(129))),
            ("invalid hostname", changed(|one| one.report.hostname.clear())),
            ("invalid ip_address", changed(|one| one.report.ip_address = "not an address".into())),
            ("invalid os", changed(|one| one.report.os = "o".repeat(51))),
            ("conflict", changed(|one| one.name = "name-ag-web".into())),
        ];
        for (expected, asked) in cases {
            assert_eq!(outcome(world.services.register_agent(&token(BOOTSTRAP_TOKEN), asked).await), expected);
        }
        assert_eq!(world.recorded("agent_registered").await, 0);
    }

    async fn the_key_is_shown_once_works_and_is_kept_as_its_hash_only(db: TestDb) {
        let world = World::new(db).await;
        let (agent, key) = world.services.register_agent(&token(BOOTSTRAP_TOKEN), input("web-1")).await.unwrap();
        let actor = world.services.authenticate(key.expose()).await.unwrap().unwrap();
        assert_eq!((actor.id(), actor.actor_type(), actor.roles()[0].as_str()), (agent.id.as_str(), ActorType::Agent, "r-agent"));
        world.services.heartbeat(&actor, &agent.id, AgentReport::default()).await.unwrap();
        assert_eq!(outcome(world.services.heartbeat(&actor, &world.ids.agent, AgentReport::default()).await), "not yours");
        let kept = world.db.text(&format!("SELECT api_key_hash AS value FROM agents WHERE id = '{}'", agent.id)).await;
        assert_eq!(kept, certctl_service::access::key_hash(key.expose()));
        for table in ["audit_events", "agents"] {
            let column = if table == "agents" { "name || api_key_hash" } else { "CAST(details AS TEXT) || actor" };
            assert!(world.db.texts(&format!("SELECT {column} AS value FROM {table}")).await.iter().all(|row| !row.contains(key.expose())));
        }
    }

    async fn heartbeats_are_gathered_and_written_together(db: TestDb) {
        let world = World::new(db).await;
        let mut actors = Vec::new();
        for number in 0..20 {
            let (agent, _) = world.services.register_agent(&token(BOOTSTRAP_TOKEN), input(&format!("web-{number}"))).await.unwrap();
            actors.push(agent_actor(agent.id.as_str()));
        }
        world.clock.advance(Duration::from_secs(600));
        assert_eq!(world.services.check_agents().await.unwrap(), 21);
        for actor in &actors {
            for _ in 0..3 {
                let report = AgentReport { version: "2.0.0".into(), ..AgentReport::default() };
                world.services.heartbeat(actor, &agent_id(actor.id()), report).await.unwrap();
            }
        }
        let before = world.services.get_agent(&world.admin, &agent_id(actors[0].id())).await.unwrap();
        assert_eq!((before.version.as_str(), before.status.as_str()), ("1.0.0", "Offline"), "not before the flush");
        assert_eq!(world.services.flush_heartbeats().await.unwrap(), 20, "the latest of each");
        assert_eq!(world.services.flush_heartbeats().await.unwrap(), 0);
        let after = world.services.get_agent(&world.admin, &agent_id(actors[0].id())).await.unwrap();
        assert_eq!((after.version.as_str(), after.status.as_str(), after.last_heartbeat_at), ("2.0.0", "Online", Some(world.now())));
        assert_eq!((after.os.as_str(), after.hostname.as_str()), ("linux", "web-1.example.test"), "what is not said stays");
    }

    async fn a_heartbeat_that_says_nonsense_is_one_all_the_same(db: TestDb) {
        let world = World::new(db).await;
        world.clock.advance(Duration::from_secs(60));
        let report = AgentReport { version: "2.0.0".into(), os: "o".repeat(51), ip_address: "nowhere".into(), hostname: "h".repeat(256), architecture: "arm64".into() };
        world.services.heartbeat(&world.agent, &world.ids.agent, report).await.unwrap();
        world.services.flush_heartbeats().await.unwrap();
        let agent = world.services.get_agent(&world.admin, &world.ids.agent).await.unwrap();
        assert_eq!(agent.last_heartbeat_at, Some(world.now()));
        assert_eq!((agent.version.as_str(), agent.architecture.as_str(), agent.os.as_str(), agent.ip_address.as_str()), ("2.0.0", "arm64", "linux", "192.0.2.1"));
        assert_eq!(outcome(world.services.heartbeat(&agent_actor("ag-gone"), &agent_id("ag-gone"), AgentReport::default()).await), "no agent");
        assert_eq!(outcome(world.services.heartbeat(&world.admin, &agent_id("ag-gone"), AgentReport::default()).await), "no agent");
        let viewer = actor_of("bob", ActorType::ApiKey, SeededRole::Viewer);
        assert_eq!(outcome(world.services.heartbeat(&viewer, &world.ids.agent, AgentReport::default()).await), "needs agent.heartbeat");
    }

    async fn an_agent_that_others_depend_on_is_retired_with_force_only(db: TestDb) {
        let world = World::new(db).await;
        world.issued().await;
        let retire = async |force, reason: Option<&str>| world.services.retire_agent(&world.admin, &world.ids.agent, force, reason).await;
        let Err(Error::AgentBlocked(counts)) = retire(false, None).await else { panic!("it is blocked") };
        let expected = AgentDependencies { active_targets: 1, active_certificates: 1, pending_jobs: 1 };
        assert_eq!(counts, expected);
        assert_eq!(outcome(retire(true, None).await), "invalid reason");
        assert_eq!(outcome(retire(true, Some("  ")).await), "invalid reason");
        let retired = retire(true, Some("scrapped")).await.unwrap();
        assert_eq!(retired, Retirement::Now { retired_at: world.now(), cascade: true, counts: expected });
        assert_eq!(world.jobs("Deployment").await, ["Cancelled"]);
        assert_eq!(world.db.text("SELECT retired_reason AS value FROM deployment_targets").await, "scrapped");
        assert_eq!((world.recorded("agent_retired").await, world.recorded("agent_retirement_cascaded").await), (1, 1));
        assert_eq!(retire(true, Some("again")).await.unwrap(), Retirement::Already);
        assert_eq!(retire(false, None).await.unwrap(), Retirement::Already);
        let list = async |retired| world.services.list_agents(&world.admin, retired, PageRequest::default()).await.unwrap().total;
        assert_eq!((list(false).await, list(true).await), (4, 1), "the seeded ones stay");
        let read = world.services.get_agent(&world.admin, &world.ids.agent).await.unwrap();
        assert_eq!((read.retired_at, read.retired_reason.as_deref()), (Some(world.now()), Some("scrapped")));
    }

    async fn sentinels_and_strangers_are_not_retired(db: TestDb) {
        let world = World::new(db).await;
        for sentinel in ["server-scanner", "cloud-aws-sm", "cloud-azure-kv", "cloud-gcp-sm"] {
            assert_eq!(outcome(world.services.retire_agent(&world.admin, &agent_id(sentinel), true, Some("x")).await), "not yours");
        }
        assert_eq!(outcome(world.services.retire_agent(&world.admin, &agent_id("ag-gone"), false, None).await), "no agent");
        assert_eq!(outcome(world.services.retire_agent(&world.agent, &world.ids.agent, false, None).await), "needs agent.retire");
    }

    async fn a_retired_agent_is_told_so_on_every_call(db: TestDb) {
        let world = World::new(db).await;
        world.issued().await;
        let (services, actor, id) = (&world.services, &world.agent, &world.ids.agent);
        let job = services.poll_work(actor, id).await.unwrap().remove(0).job.id;
        services.heartbeat(actor, id, AgentReport::default()).await.unwrap();
        services.retire_agent(&world.admin, id, true, Some("scrapped")).await.unwrap();
        assert_eq!(outcome(services.heartbeat(actor, id, AgentReport::default()).await), "gone");
        assert_eq!(outcome(services.poll_work(actor, id).await), "gone");
        for csr in [csr(), "no request".into()] {
            assert_eq!(outcome(services.submit_csr(actor, id, &csr, None, None).await), "gone");
        }
        assert_eq!(outcome(services.agent_certificate(actor, id, &world.ids.certificate).await), "gone");
        let report = JobReport { status: "Completed".into(), ..JobReport::default() };
        assert_eq!(outcome(services.report_job(actor, id, &job, &report).await), "gone");
        assert_eq!(outcome(services.verify_job(actor, &job, VerificationInput::default()).await), "gone");
        services.flush_heartbeats().await.unwrap();
        let kept = services.get_agent(&world.admin, id).await.unwrap();
        assert_eq!(kept.status.as_str(), "Online", "the state it had is kept");
    }
}
