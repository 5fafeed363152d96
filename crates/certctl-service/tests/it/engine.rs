use std::time::Duration;

use certctl_domain::{
    access::{ActorType, SeededRole},
    key::{AllowedKey, KeyAlgorithm, KeySpec},
    ports::issuer::IssuerError,
};
use certctl_pki::{cert::ParsedCertificate, key::PrivateKey};
use certctl_service::engine::Pass;
use certctl_testkit::{TestDb, db_tests};

use crate::support::{World, actor_of, agent_actor, agent_id, csr, csr_with, outcome};

const HOUR: Duration = Duration::from_secs(3600);

db_tests! {
    async fn a_certificate_is_issued_with_a_key_that_stays_with_the_agent(db: TestDb) {
        let world = World::new(db).await;
        let key = world.issued().await;
        let id = &world.ids.certificate;
        let given = world.services.agent_certificate(&world.agent, &world.ids.agent, id).await.unwrap();
        assert!(given.private_key_pem.is_none(), "nobody but the agent ever had it");
        let chain = ParsedCertificate::chain_from_pem(&given.certificate_pem).unwrap();
        assert!(chain[0].matches_key(&key));
        let certificate = world.certificate(id).await;
        assert_eq!(certificate.expires_at, Some(chain[0].not_after()));
        assert_eq!(certificate.last_renewal_at, Some(world.now()));
        let window = Duration::from_secs(30 * 86_400);
        assert!(certificate.renew_at.unwrap() >= chain[0].not_after() - window && certificate.renew_at < certificate.expires_at);
        let version = world.services.list_versions(&world.admin, id, certctl_domain::page::PageRequest::default()).await.unwrap().rows.remove(0);
        assert_eq!(version.fingerprint_sha256, chain[0].fingerprint_sha256());
        assert_eq!((version.key_algorithm.as_str(), version.key_size), ("ECDSA", 256));
        assert_eq!(world.db.texts("SELECT serial_number AS value FROM issuance_intents").await, Vec::<String>::new());
        assert_eq!(world.jobs("Deployment").await, ["Pending"]);
        assert_eq!(world.recorded("renewal_job_completed").await, 1);
    }

    async fn a_key_that_the_server_made_is_sealed_and_goes_to_the_agent_of_the_target_only(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let id = &world.ids.certificate;
        world.renew(id).await;
        assert_eq!(world.work().await, Pass { claimed: 1, completed: 1, failed: 0, awaiting_csr: 0 });
        let given = async || world.services.agent_certificate(&world.agent, &world.ids.agent, id).await.unwrap();
        assert!(given().await.private_key_pem.is_none(), "there is no deployment under way that needs it");
        let deployment = world.services.poll_work(&world.agent, &world.ids.agent).await.unwrap().remove(0).job.id;
        let given = given().await;
        let key = given.private_key_pem.unwrap();
        let leaf = ParsedCertificate::chain_from_pem(&given.certificate_pem).unwrap().remove(0);
        assert!(leaf.matches_key(&PrivateKey::from_pem(key.expose()).unwrap()));
        assert_eq!(world.recorded("private_key_delivered").await, 1);
        // It is in no row in the clear.
        let body: String = key.expose().lines().filter(|line| !line.starts_with("--")).collect();
        let hex = hex(&world.db, "SELECT {blob} AS value FROM certificate_versions").await;
        assert!(!hex.is_empty() && !hex.contains(&hex_of(&body[..24])));
        // Who may read certificates reads this one, without its key; another agent reads nothing.
        let viewer = actor_of("bob", ActorType::ApiKey, SeededRole::Viewer);
        let seen = world.services.agent_certificate(&viewer, &world.ids.agent, id).await.unwrap();
        assert!(seen.private_key_pem.is_none());
        let other = agent_actor("ag-other");
        assert_eq!(outcome(world.services.agent_certificate(&other, &world.ids.agent, id).await), "not yours");
        // An ordinary key that holds what agents hold acts for them (api §16.2).
        let shared = actor_of("compose", ActorType::ApiKey, SeededRole::Agent);
        assert!(world.services.agent_certificate(&shared, &world.ids.agent, id).await.unwrap().private_key_pem.is_some());
        let done = certctl_service::work::JobReport { status: "Completed".into(), ..Default::default() };
        world.services.report_job(&world.agent, &world.ids.agent, &deployment, &done).await.unwrap();
        for actor in [&world.agent, &shared] {
            assert!(world.services.agent_certificate(actor, &world.ids.agent, id).await.unwrap().private_key_pem.is_none(), "the deployment is over");
        }
        assert_eq!(world.recorded("private_key_delivered").await, 2);
    }

    async fn the_profile_decides_the_kind_of_key_the_server_makes(db: TestDb) {
        let world = World::with_server_keys(db).await;
        world.profile(|one| one.allowed_key_algorithms = vec![AllowedKey { algorithm: KeyAlgorithm::Ed25519, min_size: 0 }]).await;
        world.renew(&world.ids.certificate).await;
        assert_eq!(world.work().await.completed, 1);
        assert_eq!(world.db.text("SELECT key_algorithm AS value FROM certificate_versions").await, "Ed25519");
    }

    async fn a_renewal_without_an_agent_that_could_make_the_key_says_so(db: TestDb) {
        let world = World::with_server_keys(db).await;
        world.enter(&world.ids.certificate("mc-lone")).await;
        let job = world.services.renew_certificate(&world.admin, &crate::support::certificate_id("mc-lone"), false).await.unwrap().job_id;
        // The mode changed while the job waited: the server asks an agent for the key now.
        let (agents, _) = world.replica("agent-keys:1", certctl_testkit::services::config());
        assert_eq!(crate::support::process(&agents).await.awaiting_csr, 1);
        assert_eq!(world.ended(&job).await, ("AwaitingCSR", "no agent-bound target".into()));
        assert_eq!(world.job(&job).await.attempts, 0, "nothing was tried");
        assert_eq!(world.recorded("renewal_awaiting_csr").await, 1);
    }

    async fn a_disabled_issuer_is_asked_again_later_and_less_often_each_time(db: TestDb) {
        let world = World::with_server_keys(db).await;
        world.db.execute("UPDATE issuers SET enabled = false").await.unwrap();
        let job = world.renew(&world.ids.certificate).await;
        assert_eq!(world.work().await.failed, 1);
        assert_eq!(world.ended(&job).await, ("Failed", "the issuer is disabled".into()));
        assert_eq!(world.status().await, "RenewalInProgress", "it is tried again");
        assert_eq!(world.services.retry_jobs().await.unwrap(), 0, "not at once");
        // One hour, spread by a fifth.
        world.clock.advance(HOUR.mul_f64(0.79));
        assert_eq!(world.services.retry_jobs().await.unwrap(), 0);
        world.clock.advance(HOUR.mul_f64(0.42));
        world.db.execute("UPDATE issuers SET enabled = true").await.unwrap();
        assert_eq!(world.services.retry_jobs().await.unwrap(), 1);
        assert_eq!(world.recorded("job_retry").await, 1);
        assert_eq!(world.work().await.completed, 1);
        assert_eq!((world.status().await, world.job(&job).await.attempts), ("Active", 2));
        assert_eq!(world.ca.signed(), world.versions().await, "the serial that was planned at first");
    }

    async fn attempts_run_out_and_the_certificate_is_failed_once(db: TestDb) {
        let world = World::with_server_keys(db).await;
        world.ca.refuse(Some(IssuerError::Network("no route".into())));
        let job = world.renew(&world.ids.certificate).await;
        for attempt in 1..=3 {
            assert_eq!(world.work().await.failed, 1, "attempt {attempt}");
            assert_eq!(world.job(&job).await.attempts, attempt);
            let intents = world.db.texts("SELECT job_id AS value FROM issuance_intents").await.len();
            assert_eq!((intents, world.revoked().await.len()), if attempt < 3 { (1, 0) } else { (0, 1) }, "kept until the last attempt");
            world.clock.advance(2 * HOUR);
            assert_eq!(world.services.retry_jobs().await.unwrap(), usize::from(attempt < 3));
        }
        assert_eq!(world.status().await, "Failed");
        assert_eq!(world.ended(&job).await, ("Failed", "network: the issuer could not be reached".into()), "not in the words of a third party");
        world.ca.refuse(None);
        assert_eq!(world.work().await, Pass::default(), "nothing is tried for ever");
        // Somebody asks again: it is a job of its own.
        world.renew(&world.ids.certificate).await;
        assert_eq!(world.work().await.completed, 1);
        assert_eq!(world.status().await, "Active");
    }

    async fn what_the_issuer_refuses_is_not_asked_again(db: TestDb) {
        let world = World::with_server_keys(db).await;
        world.ca.refuse(Some(IssuerError::Validation("forbidden name".into())));
        let job = world.renew(&world.ids.certificate).await;
        assert_eq!(world.work().await.failed, 1);
        assert_eq!((world.status().await, world.job(&job).await.attempts), ("Failed", 1));
        world.clock.advance(24 * HOUR);
        assert_eq!(world.services.retry_jobs().await.unwrap(), 0);
        assert_eq!(world.recorded("renewal_job_failed").await, 1);
        assert_eq!((world.revoked().await.len(), world.recorded("unfinished_issuance_revoked").await), (1, 1), "it may have signed all the same");
        assert_eq!(world.db.texts("SELECT job_id AS value FROM issuance_intents").await, Vec::<String>::new());
    }

    async fn a_short_life_is_not_signed_late_server_keys(db: TestDb) {
        not_signed_late(World::with_server_keys(db).await, false).await;
    }

    async fn a_short_life_is_not_signed_late_agent_keys(db: TestDb) {
        not_signed_late(World::new(db).await, true).await;
    }

    async fn names_that_the_profile_forbids_by_now_are_not_signed(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let job = world.renew(&world.ids.certificate).await;
        world.profile(|one| one.required_san_patterns = vec![r".*\.internal$".into()]).await;
        assert_eq!(world.work().await.failed, 1);
        let (status, why) = world.ended(&job).await;
        assert!(status == "Failed" && why.contains("matches no pattern"), "{why}");
        // An address is a name like the others.
        world.profile(|one| one.required_san_patterns = vec![r".*\.example\.test$".into()]).await;
        let mut one = world.ids.certificate("mc-address");
        one.sans.push("192.0.2.1".into());
        world.enter(&one).await;
        let job = world.renew(&one.id).await;
        assert_eq!(world.work().await.failed, 1);
        let (status, why) = world.ended(&job).await;
        assert!(status == "Failed" && why.contains("192.0.2.1 matches no pattern"), "{why}");
        assert!(world.ca.signed().is_empty());
    }

    async fn a_deployment_that_nobody_runs_fails_and_one_of_an_agent_is_left_to_it(db: TestDb) {
        let world = World::new(db).await;
        world.issued().await;
        assert_eq!(world.work().await, Pass::default(), "the agent's deployment is none of the server's");
        assert_eq!(world.jobs("Deployment").await, ["Pending"]);
    }

    async fn many_are_worked_off_in_batches_and_each_gets_one_version(db: TestDb) {
        let config = certctl_service::config::ServiceConfig { batch: 7, ..crate::support::server_keys() };
        let world = World::with(db, config).await;
        for number in 0..40 {
            let one = world.ids.certificate(&format!("mc-{number}"));
            world.enter(&one).await;
            world.renew(&one.id).await;
        }
        let pass = world.work().await;
        assert_eq!((pass.claimed, pass.completed), (40, 40));
        let mut signed = world.ca.signed();
        let mut stored = world.versions().await;
        signed.sort();
        stored.sort();
        assert_eq!(signed, stored);
        stored.dedup();
        assert_eq!(stored.len(), 40, "no serial twice");
    }

    async fn two_replicas_share_the_work_and_sign_nothing_twice(db: TestDb) {
        let config = certctl_service::config::ServiceConfig { batch: 3, ..crate::support::server_keys() };
        let world = World::with(db, config.clone()).await;
        let (other, ca) = world.replica("other:2", config);
        for number in 0..30 {
            let one = world.ids.certificate(&format!("mc-{number}"));
            world.enter(&one).await;
            world.renew(&one.id).await;
        }
        let (here, there) = tokio::join!(crate::support::process(&world.services), crate::support::process(&other));
        assert_eq!(here.completed + there.completed, 30);
        let mut signed = [world.ca.signed(), ca.signed()].concat();
        signed.sort();
        let mut stored = world.versions().await;
        stored.sort();
        assert_eq!(signed, stored);
    }

    async fn a_new_job_rings_the_bell(db: TestDb) {
        let world = World::new(db).await;
        world.renew(&world.ids.certificate).await;
        world.services.woken().await;
        world.hand_in(&csr_with(&PrivateKey::generate(KeySpec::EcdsaP384).unwrap(), "mc-web.example.test")).await.unwrap();
        world.services.woken().await;
        assert_eq!(world.work().await.completed, 1);
        let again = world.renew(&world.ids.certificate).await;
        world.services.woken().await;
        let report = certctl_service::work::JobReport { status: "Failed".into(), error: Some("disk full".into()), deploy: None };
        world.services.report_job(&world.agent, &agent_id("ag-web"), &again, &report).await.unwrap();
        assert_eq!(world.ended(&again).await, ("Failed", "disk full".into()));
        assert_eq!(outcome(world.hand_in(&csr()).await), "conflict");
    }
}

/// A CA that is back only when most of the life of what was to be signed is over signs it anew, with the same key.
async fn not_signed_late(world: World, agent_keys: bool) {
    let id = &world.ids.certificate;
    world.profile(|one| one.max_ttl_seconds = 3600).await;
    world
        .ca
        .refuse(Some(IssuerError::Network("no route".into())));
    world.renew(id).await;
    let own = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
    if agent_keys {
        world
            .hand_in(&csr_with(&own, "mc-web.example.test"))
            .await
            .unwrap();
    }
    assert_eq!(world.work().await.failed, 1);
    let planned = world
        .db
        .text("SELECT serial_number AS value FROM issuance_intents")
        .await;
    world.clock.advance(2 * HOUR);
    assert_eq!(world.services.retry_jobs().await.unwrap(), 1);
    world.ca.refuse(None);
    assert_eq!(world.work().await.completed, 1);
    let versions = world.versions().await;
    assert!(
        versions.len() == 1 && versions[0] != planned,
        "{versions:?}"
    );
    assert_eq!(world.ca.signed(), versions);
    assert_eq!(
        world.revoked().await,
        [format!("{planned} cessationOfOperation")]
    );
    world
        .services
        .poll_work(&world.agent, &world.ids.agent)
        .await
        .unwrap();
    let given = world
        .services
        .agent_certificate(&world.agent, &world.ids.agent, id)
        .await
        .unwrap();
    let leaf = ParsedCertificate::chain_from_pem(&given.certificate_pem)
        .unwrap()
        .remove(0);
    assert!(leaf.not_after() > world.now() + HOUR / 2);
    assert_eq!(given.private_key_pem.is_none(), agent_keys);
    let key = given
        .private_key_pem
        .map_or(own, |key| PrivateKey::from_pem(key.expose()).unwrap());
    assert!(leaf.matches_key(&key));
}

/// Sealed keys as hex.
async fn hex(db: &TestDb, sql: &str) -> String {
    let blob = match db.backend() {
        certctl_repository::Backend::Postgres => "encode(encrypted_private_key, 'hex')",
        certctl_repository::Backend::Sqlite => "lower(hex(encrypted_private_key))",
    };
    db.text(&sql.replace("{blob}", blob)).await
}

fn hex_of(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
