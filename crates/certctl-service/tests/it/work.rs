use std::collections::BTreeSet;

use certctl_domain::{
    access::{Actor, ActorType, SeededRole},
    key::{AllowedKey, KeyAlgorithm, KeySpec},
    target::TargetType,
};
use certctl_pki::key::PrivateKey;
use certctl_service::{targets::TargetInput, work::JobReport};
use certctl_testkit::{TestDb, db_tests, entities};
use serde_json::json;

use crate::support::{
    World, actor_of, agent_actor, agent_id, certificate_id, csr, csr_for, csr_with, enter, outcome,
};

/// RSA with 1024 bits, made by another program: none of ours makes such a key.
const WEAK: &str = "\
-----BEGIN CERTIFICATE REQUEST-----\n\
MIIBjjCB+AIBADAeMRwwGgYDVQQDDBNtYy13ZWIuZXhhbXBsZS50ZXN0MIGfMA0G\n\
CSqGSIb3DQEBAQUAA4GNADCBiQKBgQDL5jBhK0fJqA1IZG/5Jr245YZaUFwTFtfh\n\
FCL2myTqxTpSWRwsPlVerwRAbH8mtjPo/zegoDK1GRHz9NngNm8uAMJZqcofFNiO\n\
MIjQ+BwMNj9cgOCHv60haKWUbgAyDZ0kk3wui7DVI1CU+hr1fZqQ8CRceg0FTEuc\n\
fLvEC55GzQIDAQABoDEwLwYJKoZIhvcNAQkOMSIwIDAeBgNVHREEFzAVghNtYy13\n\
ZWIuZXhhbXBsZS50ZXN0MA0GCSqGSIb3DQEBCwUAA4GBAFLT6G+35OvGCqNX9tYt\n\
vkFDHMYh4CS/9DilIsUYreyepVOU3mLkMkS3s/Xjo6H7+Io7tshuOA89ohI4LGcK\n\
IueiIsgqgIyyHfEcizohZUNoAkVElHgGByrb29lpu2qef3+/6lRqmBxzN40OH+Y0\n\
Zj8Td/TwOlbKPGvXTELmqQ8M\n\
-----END CERTIFICATE REQUEST-----\n\
";

const NAME: &str = "mc-web.example.test";

/// A second certificate of the world's target.
async fn second(world: &World) {
    let mut two = world.ids.certificate("mc-two");
    two.target_ids = vec![world.ids.target.clone()];
    world.enter(&two).await;
}

/// A second agent with a target of its own.
async fn neighbour(world: &World) {
    let agent = agent_id("ag-next");
    enter!(world, agents::insert(&entities::agent("ag-next"), "hash-next"); targets::insert(&entities::target("tgt-next", &agent)));
}

db_tests! {
    async fn each_deployment_is_handed_out_once_whoever_polls(db: TestDb) {
        let world = World::new(db).await;
        world.issued().await;
        for _ in 0..19 {
            world.services.deploy_certificate(&world.admin, &world.ids.certificate, None).await.unwrap();
        }
        let polls: Vec<_> = (0..8).map(|_| {
            let (services, actor, id) = (world.services.clone(), world.agent.clone(), world.ids.agent.clone());
            tokio::spawn(async move { services.poll_work(&actor, &id).await.unwrap() })
        }).collect();
        let mut handed = Vec::new();
        for poll in polls {
            handed.extend(poll.await.unwrap().into_iter().map(|item| item.job.id));
        }
        let unlike: BTreeSet<_> = handed.iter().collect();
        assert_eq!((handed.len(), unlike.len()), (20, 20));
        assert_eq!(world.jobs("Deployment").await, ["Running"; 20]);
        assert!(world.services.poll_work(&world.agent, &world.ids.agent).await.unwrap().is_empty());
    }

    async fn a_renewal_is_offered_until_its_request_comes_and_to_its_agents_only(db: TestDb) {
        let world = World::new(db).await;
        neighbour(&world).await;
        world.enter(&world.ids.certificate("mc-lone")).await;
        world.renew(&certificate_id("mc-lone")).await;
        let poll = async |id: &str| world.services.poll_work(&agent_actor(id), &agent_id(id)).await.unwrap();
        assert!(poll("ag-web").await.is_empty(), "a certificate that is mapped to nobody is offered to nobody");
        let job = world.renew(&world.ids.certificate).await;
        for _ in 0..3 {
            let work = poll("ag-web").await;
            let item = &work[0];
            assert_eq!((work.len(), &item.job.id, item.job.status.as_str()), (1, &job, "AwaitingCSR"));
            assert_eq!((item.common_name.as_str(), item.sans.len(), item.key, item.must_staple), (NAME, 1, KeySpec::EcdsaP256, false));
            assert!(item.target.is_none() && item.verify.enabled);
        }
        assert!(poll("ag-next").await.is_empty());
        world.hand_in(&csr()).await.unwrap();
        assert!(poll("ag-web").await.is_empty(), "it has its request");
        let viewer = actor_of("bob", ActorType::ApiKey, SeededRole::Viewer);
        assert_eq!(outcome(world.services.poll_work(&viewer, &world.ids.agent).await), "needs agent.job.poll");
        assert_eq!(outcome(world.services.poll_work(&agent_actor("ag-next"), &world.ids.agent).await), "not yours");
        assert_eq!(outcome(world.services.poll_work(&world.admin, &agent_id("ag-gone")).await), "no agent");
    }

    async fn the_secrets_of_a_target_go_to_its_agent_only(db: TestDb) {
        let world = World::new(db).await;
        neighbour(&world).await;
        let secret = TargetInput {
            id: Some("tgt-f5".into()),
            name: "balancer".into(),
            target_type: "F5".into(),
            agent_id: "ag-web".into(),
            config: Some(json!({"host": "f5.example.test", "username": "admin", "password": "canary-7342", "partition": "Common", "ssl_profile": "web"})),
            enabled: None,
        };
        world.services.create_target(&world.admin, secret).await.unwrap();
        let mut one = world.ids.certificate("mc-f5");
        one.target_ids = vec![certctl_domain::id::TargetId::from_stored("tgt-f5".into())];
        world.enter(&one).await;
        world.issued().await;
        world.renew(&one.id).await;
        world.services.submit_csr(&world.agent, &world.ids.agent, &csr_with(&PrivateKey::generate(KeySpec::EcdsaP256).unwrap(), "mc-f5.example.test"), None, None).await.unwrap();
        world.work().await;
        assert!(world.services.poll_work(&agent_actor("ag-next"), &agent_id("ag-next")).await.unwrap().is_empty());
        let shown = world.services.list_deployments(&world.admin, &one.id).await.unwrap();
        assert!(!format!("{shown:?}").contains("canary-7342"));
        let work = world.services.poll_work(&world.agent, &world.ids.agent).await.unwrap();
        let (kind, config) = work.iter().find_map(|item| item.target.clone().filter(|(kind, _)| *kind == TargetType::F5)).unwrap();
        assert_eq!((kind, &config["password"]), (TargetType::F5, &json!("canary-7342")));
    }

    async fn a_target_whose_configuration_cannot_be_opened_fails_alone(db: TestDb) {
        let world = World::new(db).await;
        for id in ["tgt-broken", "tgt-whole"] {
            let input = TargetInput {
                id: Some(id.into()),
                name: id.into(),
                target_type: "F5".into(),
                agent_id: "ag-web".into(),
                config: Some(json!({"host": "f5.example.test", "username": "admin", "password": "canary-7342", "partition": "Common", "ssl_profile": "web"})),
                enabled: None,
            };
            world.services.create_target(&world.admin, input).await.unwrap();
            world.db.execute(&format!("INSERT INTO certificate_target_mappings (certificate_id, target_id) VALUES ('mc-web', '{id}')")).await.unwrap();
        }
        // What is sealed for another row opens for none.
        world.db.execute("UPDATE deployment_targets SET encrypted_config = (SELECT o.encrypted_config FROM deployment_targets o WHERE o.id = 'tgt-whole') \
            WHERE id = 'tgt-broken'").await.unwrap();
        world.issued().await;
        let work = world.services.poll_work(&world.agent, &world.ids.agent).await.unwrap();
        let targets: BTreeSet<_> = work.iter().filter_map(|item| item.job.target_id.as_ref()).map(certctl_domain::id::TargetId::as_str).collect();
        assert_eq!(targets, BTreeSet::from(["tgt-web", "tgt-whole"]));
        let failed = world.db.text("SELECT id AS value FROM jobs WHERE target_id = 'tgt-broken'").await;
        let failed = world.job(&certctl_domain::id::JobId::from_stored(failed)).await;
        assert_eq!((failed.status.as_str(), failed.attempts), ("Failed", 1));
        assert!(failed.last_error.unwrap().contains("cannot be opened") && failed.next_attempt_at > Some(world.now()), "it is tried again");
        assert_eq!(world.recorded("deployment_job_failed").await, 1);
    }

    async fn a_request_that_is_called_off_before_it_was_signed_leaves_nothing(db: TestDb) {
        let world = World::new(db).await;
        let job = world.renew(&world.ids.certificate).await;
        world.hand_in(&csr()).await.unwrap();
        let planned = world.db.text("SELECT serial_number AS value FROM issuance_intents").await;
        world.services.cancel_job(&world.admin, &job).await.unwrap();
        assert_eq!(world.db.texts("SELECT job_id AS value FROM issuance_intents").await, Vec::<String>::new());
        assert_eq!(world.revoked().await, [format!("{planned} cessationOfOperation")]);
        assert_eq!(world.recorded("unfinished_issuance_revoked").await, 1);
    }

    async fn a_request_that_does_not_fit_is_refused_and_the_renewal_waits_on(db: TestDb) {
        let world = World::new(db).await;
        let job = world.renew(&world.ids.certificate).await;
        let key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
        let good = csr_with(&key, NAME);
        // The last but one line of the body is part of the signature.
        let broken = {
            let mut lines: Vec<String> = good.lines().map(str::to_owned).collect();
            let at = lines.len() - 2;
            let first = if lines[at].starts_with('A') { "B" } else { "A" };
            lines[at].replace_range(0..1, first);
            lines.join("\n") + "\n"
        };
        let certificate = good.replace("CERTIFICATE REQUEST", "CERTIFICATE");
        let cases = [
            ("empty", String::new(), "invalid csr_pem"),
            ("no PEM", "hello".to_owned(), "invalid csr_pem"),
            ("no request", certificate, "invalid csr_pem"),
            ("broken signature", broken, "unprocessable"),
            ("RSA with 1024 bits", WEAK.to_owned(), "unprocessable"),
            ("another name", csr_with(&key, "evil.example.test"), "unprocessable"),
            ("a further name", csr_for(&key, NAME, &[NAME, "evil.example.test"]), "unprocessable"),
            ("another common name", csr_for(&key, "evil.example.test", &[NAME]), "unprocessable"),
            ("no name", csr_for(&key, "", &[]), "unprocessable"),
        ];
        for (what, csr, expected) in &cases {
            assert_eq!(outcome(world.hand_in(csr).await), *expected, "{what}");
        }
        world.profile(|one| one.allowed_key_algorithms = vec![AllowedKey { algorithm: KeyAlgorithm::Ecdsa, min_size: 384 }]).await;
        assert_eq!(outcome(world.hand_in(&good).await), "unprocessable", "a kind of key that the profile does not have");
        world.profile(|one| { one.allowed_key_algorithms = AllowedKey::DEFAULT.to_vec(); one.required_san_patterns = vec![r".*\.internal$".into()]; }).await;
        assert_eq!(outcome(world.hand_in(&good).await), "unprocessable", "a name that no pattern matches");
        world.profile(|one| { one.required_san_patterns.clear(); one.enabled = false; }).await;
        assert_eq!(outcome(world.hand_in(&good).await), "unprocessable", "a profile that is disabled");
        world.profile(|one| one.enabled = true).await;
        assert_eq!(world.ended(&job).await.0, "AwaitingCSR", "nothing half done");
        assert_eq!(world.db.texts("SELECT job_id AS value FROM issuance_intents").await, Vec::<String>::new());
        assert_eq!(world.recorded("csr_submitted").await, 0);
        assert_eq!(outcome(world.hand_in(&good).await), "ok");
    }

    async fn a_certificate_without_a_profile_takes_any_strong_key(db: TestDb) {
        let world = World::new(db).await;
        world.db.execute("UPDATE managed_certificates SET certificate_profile_id = NULL").await.unwrap();
        world.renew(&world.ids.certificate).await;
        assert_eq!(outcome(world.hand_in(WEAK).await), "unprocessable");
        assert_eq!(outcome(world.hand_in(&csr_with(&PrivateKey::generate(KeySpec::Ed25519).unwrap(), NAME)).await), "ok");
        assert_eq!(world.work().await.completed, 1);
    }

    async fn of_two_requests_at_once_one_is_taken(db: TestDb) {
        let world = World::new(db).await;
        world.renew(&world.ids.certificate).await;
        let asks: Vec<_> = (0..6).map(|_| {
            let (services, actor, id) = (world.services.clone(), world.agent.clone(), world.ids.agent.clone());
            tokio::spawn(async move { outcome(services.submit_csr(&actor, &id, &csr(), None, None).await) })
        }).collect();
        let mut answers = Vec::new();
        for ask in asks {
            answers.push(ask.await.unwrap());
        }
        answers.sort();
        assert_eq!(answers, [vec!["conflict"; 5], vec!["ok"]].concat());
        assert_eq!(world.work().await.completed, 1);
        assert_eq!(world.versions().await.len(), 1);
        assert_eq!(world.recorded("csr_submitted").await, 1);
    }

    async fn which_renewal_a_request_is_for_is_found_or_asked(db: TestDb) {
        let world = World::new(db).await;
        neighbour(&world).await;
        second(&world).await;
        let submit = async |actor: &Actor, agent: &str, certificate: Option<&str>, job: Option<&str>| {
            outcome(world.services.submit_csr(actor, &agent_id(agent), &csr(), certificate, job).await)
        };
        let (web, next) = (&world.agent, agent_actor("ag-next"));
        assert_eq!(submit(web, "ag-web", None, None).await, "conflict", "nothing waits");
        assert_eq!(submit(web, "ag-web", Some("mc-web"), None).await, "conflict");
        assert_eq!(submit(web, "ag-web", Some("mc-gone"), None).await, "no certificate");
        assert_eq!(submit(web, "ag-web", None, Some("job-gone")).await, "no job");
        let job = world.renew(&world.ids.certificate).await;
        world.renew(&certificate_id("mc-two")).await;
        assert_eq!(submit(web, "ag-web", None, None).await, "invalid certificate_id", "several wait");
        assert_eq!(submit(&next, "ag-next", None, None).await, "conflict", "none of them for this one");
        assert_eq!(submit(&next, "ag-next", Some("mc-web"), None).await, "not yours");
        assert_eq!(submit(&next, "ag-next", None, Some(job.as_str())).await, "not yours");
        assert_eq!(submit(&next, "ag-web", None, None).await, "not yours");
        assert_eq!(submit(web, "ag-web", Some("mc-web"), None).await, "ok");
        assert_eq!(submit(web, "ag-web", None, Some(job.as_str())).await, "conflict", "it has its request");
        let two = world.services.submit_csr(web, &world.ids.agent, &csr_with(&PrivateKey::generate(KeySpec::EcdsaP256).unwrap(), "mc-two.example.test"), None, None).await;
        assert_eq!(outcome(two), "ok", "one is left, and needs no name");
    }

    async fn a_request_is_signed_as_it_was_taken(db: TestDb) {
        let world = World::new(db).await;
        let key = world.issued().await;
        let version = world.services.list_versions(&world.admin, &world.ids.certificate, certctl_domain::page::PageRequest::default()).await.unwrap().rows.remove(0);
        assert_eq!(certctl_pki::csr::Csr::parse_pem(&version.csr_pem).unwrap().spki_der(), key.spki_der());
        let leaf = certctl_pki::cert::ParsedCertificate::chain_from_pem(&version.pem_chain).unwrap().remove(0);
        assert_eq!(leaf.spki_der(), key.spki_der());
        let gone = world.services.submit_csr(&world.admin, &agent_id("ag-gone"), &csr(), None, None).await;
        assert_eq!(outcome(gone), "no agent");
    }

    async fn a_certificate_that_no_agent_is_offered_says_so_and_an_operator_may_hand_its_request_in(db: TestDb) {
        let world = World::new(db).await;
        neighbour(&world).await;
        let lone = world.ids.certificate("mc-lone");
        world.enter(&lone).await;
        let job = world.renew(&lone.id).await;
        assert_eq!(world.ended(&job).await, ("AwaitingCSR", "no agent-bound target".into()));
        let mapped = world.renew(&world.ids.certificate).await;
        assert_eq!(world.ended(&mapped).await, ("AwaitingCSR", String::new()));
        let key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
        let request = csr_with(&key, "mc-lone.example.test");
        let hand_in = async |actor: &Actor, agent: &str, csr: &str, job: &str| {
            outcome(world.services.submit_csr(actor, &agent_id(agent), csr, None, Some(job)).await)
        };
        // An agent's key, and an ordinary key with the role of agents, work for their own targets only.
        assert_eq!(hand_in(&world.agent, "ag-web", &request, job.as_str()).await, "not yours");
        let old_agent = actor_of("old-agent", ActorType::ApiKey, SeededRole::Agent);
        assert_eq!(hand_in(&old_agent, "ag-web", &request, job.as_str()).await, "not yours");
        // Nor does an operator stand in for an agent that is asked itself.
        assert_eq!(hand_in(&world.admin, "ag-next", &csr(), mapped.as_str()).await, "not yours");
        assert_eq!(hand_in(&world.admin, "ag-next", &request, job.as_str()).await, "ok");
        assert_eq!(world.ended(&job).await, ("Pending", String::new()));
        assert_eq!(world.work().await.completed, 1);
        assert_eq!(world.certificate(&lone.id).await.status.as_str(), "Active");
    }

    async fn the_scan_says_which_renewals_no_agent_is_offered(db: TestDb) {
        let world = World::new(db).await;
        for id in ["mc-lone", "mc-mapped"] {
            let mut due = world.ids.certificate(id);
            due.status = certctl_domain::certificate::CertificateStatus::Active;
            due.expires_at = Some(world.now() + std::time::Duration::from_secs(86_400));
            due.renew_at = Some(world.now());
            if id == "mc-mapped" {
                due.target_ids = vec![world.ids.target.clone()];
            }
            world.enter(&due).await;
        }
        assert_eq!(world.services.scan_renewals().await.unwrap().enqueued, 2);
        let jobs = world.db.texts("SELECT certificate_id || ' ' || COALESCE(last_error, '-') AS value FROM jobs ORDER BY 1").await;
        assert_eq!(jobs, ["mc-lone no agent-bound target", "mc-mapped -"]);
    }

    async fn a_renewal_of_several_agents_ends_when_the_last_of_them_gives_it_up(db: TestDb) {
        let world = World::new(db).await;
        neighbour(&world).await;
        world.db.execute("INSERT INTO certificate_target_mappings (certificate_id, target_id) VALUES ('mc-web', 'tgt-next')").await.unwrap();
        let job = world.renew(&world.ids.certificate).await;
        let gives_up = async |id: &str| {
            let report = JobReport { status: "Failed".into(), error: Some(format!("no entropy on {id}")), deploy: None };
            outcome(world.services.report_job(&agent_actor(id), &agent_id(id), &job, &report).await)
        };
        let offered = async |id: &str| world.services.poll_work(&agent_actor(id), &agent_id(id)).await.unwrap().len();
        assert_eq!((offered("ag-web").await, offered("ag-next").await), (1, 1));
        assert_eq!((gives_up("ag-web").await, gives_up("ag-web").await), ("ok".into(), "ok".into()), "it repeats what it got no answer to");
        assert_eq!(world.ended(&job).await.0, "AwaitingCSR");
        assert_eq!((offered("ag-web").await, offered("ag-next").await), (0, 1));
        assert_eq!(world.recorded("job_status_reported").await, 1);
        assert_eq!(gives_up("ag-next").await, "ok");
        assert_eq!((world.ended(&job).await, world.job(&job).await.attempts), (("Failed", "no entropy on ag-next".into()), 1));
        // The next try is offered to both again, and the request of either counts.
        world.clock.advance(std::time::Duration::from_secs(7200));
        assert_eq!(world.services.retry_jobs().await.unwrap(), 1);
        assert_eq!(world.work().await.awaiting_csr, 1);
        assert_eq!((offered("ag-web").await, offered("ag-next").await), (1, 1));
        world.hand_in(&csr()).await.unwrap();
        assert_eq!(world.work().await.completed, 1);
    }

    async fn of_two_agents_that_give_up_at_once_one_is_the_last(db: TestDb) {
        let world = World::new(db).await;
        neighbour(&world).await;
        world.db.execute("INSERT INTO certificate_target_mappings (certificate_id, target_id) VALUES ('mc-web', 'tgt-next')").await.unwrap();
        let job = world.renew(&world.ids.certificate).await;
        let giving_up: Vec<_> = ["ag-web", "ag-next"].into_iter().map(|id| {
            let (services, job) = (world.services.clone(), job.clone());
            tokio::spawn(async move {
                let report = JobReport { status: "Failed".into(), ..JobReport::default() };
                services.report_job(&agent_actor(id), &agent_id(id), &job, &report).await.unwrap();
            })
        }).collect();
        for one in giving_up {
            one.await.unwrap();
        }
        assert_eq!((world.ended(&job).await.0, world.job(&job).await.attempts), ("Failed", 1));
    }

    async fn nobody_waits_for_an_agent_that_fell_silent(db: TestDb) {
        let world = World::new(db).await;
        neighbour(&world).await;
        world.db.execute("INSERT INTO certificate_target_mappings (certificate_id, target_id) VALUES ('mc-web', 'tgt-next')").await.unwrap();
        world.db.execute("UPDATE agents SET last_heartbeat_at = NULL WHERE id = 'ag-next'").await.unwrap();
        let job = world.renew(&world.ids.certificate).await;
        let report = JobReport { status: "Failed".into(), error: Some("no entropy".into()), deploy: None };
        world.services.report_job(&world.agent, &world.ids.agent, &job, &report).await.unwrap();
        assert_eq!(world.ended(&job).await, ("Failed", "no entropy".into()), "it is tried again after its back-off, by both");
    }
}
