use std::time::Duration;

use certctl_domain::{
    certificate::CertificateStatus as S, issuer::Issuer, renewal_policy::RenewalPolicy,
};
use certctl_pki::cert::ParsedCertificate;
use certctl_service::renewals::{RenewalTriggered, ScanSummary};
use certctl_testkit::{TestDb, db_tests, entities};

use crate::support::{World, certificate_id, csr, enter, outcome, refusal};

const DAY: Duration = Duration::from_secs(86_400);

/// A CA of its own, and its key, as PEM.
fn root(name: &str, now: certctl_domain::time::Timestamp) -> (String, String) {
    use certctl_pki::cert::{RootSpec, random_serial, sign_root};
    let key =
        certctl_pki::key::PrivateKey::generate(certctl_domain::key::KeySpec::EcdsaP256).unwrap();
    let spec = RootSpec {
        common_name: name,
        serial: &random_serial().unwrap(),
        not_before: now,
        not_after: now + 3650 * DAY,
    };
    let root = sign_root(&spec, &key).unwrap();
    (root.to_pem(), key.to_pem().expose().to_owned())
}

/// Has the world's profile ask for a second person.
async fn gate(world: &World) {
    world.profile(|one| one.requires_approval = true).await;
}

/// A certificate that ends in so many days and was due long ago.
async fn due(world: &World, id: &str, status: S, ends_in: Duration) {
    let mut one = world.ids.certificate(id);
    one.status = status;
    one.expires_at = Some(world.now() + ends_in);
    one.renew_at = Some(world.now());
    world.enter(&one).await;
}

db_tests! {
    // Every row of api §11.3: what a state answers without force and with it.
    async fn a_renewal_is_admitted_by_state_and_force(db: TestDb) {
        let world = World::new(db).await;
        let cases = [
            (S::Pending, "ok", "ok"),
            (S::Active, "ok", "ok"),
            (S::Expiring, "ok", "ok"),
            (S::Failed, "ok", "ok"),
            (S::RenewalInProgress, "conflict", "ok"),
            (S::Expired, "bad request", "ok"),
            (S::Revoked, "bad request", "bad request"),
            (S::Archived, "bad request", "bad request"),
        ];
        for (number, (status, plain, forced)) in cases.into_iter().enumerate() {
            for (force, expected) in [(false, plain), (true, forced)] {
                let mut one = world.ids.certificate(&format!("mc-{number}-{force}"));
                one.status = status;
                world.enter(&one).await;
                let asked = world.services.renew_certificate(&world.admin, &one.id, force).await;
                assert_eq!(outcome(asked), expected, "{status} force {force}");
                let now = world.certificate(&one.id).await.status;
                assert_eq!(now, if expected == "ok" { S::RenewalInProgress } else { status });
            }
        }
        let admitted = cases.iter().map(|(_, plain, forced)| usize::from(*plain == "ok") + usize::from(*forced == "ok")).sum::<usize>();
        assert_eq!(world.recorded("renewal_triggered").await, admitted, "a refusal leaves no trace of a renewal");
        assert_eq!(outcome(world.services.renew_certificate(&world.admin, &certificate_id("mc-gone"), true).await), "no certificate");
    }

    async fn asking_twice_is_answered_with_the_same_job(db: TestDb) {
        let world = World::new(db).await;
        let id = &world.ids.certificate;
        let job = world.renew(id).await;
        assert_eq!(outcome(world.services.renew_certificate(&world.admin, id, false).await), "conflict");
        let again = world.services.renew_certificate(&world.admin, id, true).await.unwrap();
        assert_eq!(again, RenewalTriggered { job_id: job, approval_id: None });
        assert_eq!(world.jobs("Issuance").await.len(), 1);
    }

    async fn of_many_who_ask_at_once_one_makes_the_job(db: TestDb) {
        let world = World::new(db).await;
        let asks = (0..8).map(|_| {
            let (services, admin, id) = (world.services.clone(), world.admin.clone(), world.ids.certificate.clone());
            tokio::spawn(async move { outcome(services.renew_certificate(&admin, &id, false).await) })
        });
        let mut answers = Vec::new();
        for ask in asks.collect::<Vec<_>>() {
            answers.push(ask.await.unwrap());
        }
        answers.sort();
        assert_eq!(answers, [vec!["conflict"; 7], vec!["ok"]].concat());
        assert_eq!(world.jobs("Issuance").await.len(), 1);
    }

    async fn the_first_is_an_issuance_and_the_next_a_renewal_in_the_state_of_the_key_mode(db: TestDb) {
        let world = World::new(db).await;
        world.issued().await;
        let next = world.renew(&world.ids.certificate).await;
        let job = world.job(&next).await;
        assert_eq!((job.job_type.as_str(), job.status.as_str(), job.max_attempts), ("Renewal", "AwaitingCSR", 3));
        assert_eq!(world.jobs("Issuance").await, ["Completed"]);
        let (server, _) = world.replica("server-keys:1", crate::support::server_keys());
        world.enter(&world.ids.certificate("mc-two")).await;
        let made = server.renew_certificate(&world.admin, &certificate_id("mc-two"), false).await.unwrap();
        assert_eq!(world.ended(&made.job_id).await.0, "Pending");
    }

    async fn a_gated_renewal_waits_for_a_second_person_whatever_the_force(db: TestDb) {
        let world = World::with_server_keys(db).await;
        gate(&world).await;
        for force in [false, true] {
            let one = world.ids.certificate(&format!("mc-{force}"));
            world.enter(&one).await;
            let made = world.services.renew_certificate(&world.admin, &one.id, force).await.unwrap();
            assert_eq!(world.ended(&made.job_id).await.0, "AwaitingApproval");
            let sql = format!("SELECT state || ' ' || requested_by AS value FROM issuance_approval_requests WHERE id = '{}'", made.approval_id.unwrap());
            assert_eq!(world.db.text(&sql).await, "pending ann");
        }
        assert_eq!(world.work().await.claimed, 0, "nobody runs it past the gate");
        // Whoever calls the job off ends the question too, and so does the end of the certificate.
        let job = world.renewal_of("mc-false").await;
        world.services.cancel_job(&world.admin, &job).await.unwrap();
        world.services.archive_certificate(&world.admin, &certificate_id("mc-true")).await.unwrap();
        assert_eq!(world.db.texts("SELECT state AS value FROM issuance_approval_requests").await, ["rejected", "rejected"]);
        assert_eq!(world.certificate(&certificate_id("mc-false")).await.status, S::Pending, "back to what its expiry says");
    }

    async fn a_deployment_goes_to_the_targets_a_certificate_has(db: TestDb) {
        let world = World::new(db).await;
        let (admin, id) = (&world.admin, &world.ids.certificate);
        let deploy = async |target: Option<&str>| outcome(world.services.deploy_certificate(admin, id, target).await);
        assert_eq!(deploy(None).await, "conflict", "nothing is issued");
        world.issued().await;
        world.db.execute("DELETE FROM jobs WHERE type = 'Deployment'").await.unwrap();
        assert_eq!(deploy(Some("tgt-other")).await, "invalid target_id");
        assert_eq!((deploy(None).await, deploy(Some("tgt-web")).await), ("ok".into(), "ok".into()));
        let jobs = world.db.texts("SELECT target_id || ' ' || agent_id || ' ' || status AS value FROM jobs WHERE type = 'Deployment'").await;
        assert_eq!(jobs, ["tgt-web ag-web Pending", "tgt-web ag-web Pending"]);
        world.enter(&world.ids.certificate("mc-two")).await;
        let unmapped = world.services.deploy_certificate(admin, &certificate_id("mc-two"), None).await;
        assert_eq!(refusal(unmapped), "target_id: the certificate is mapped to no target");
        assert_eq!(outcome(world.services.deploy_certificate(admin, &certificate_id("mc-gone"), None).await), "no certificate");
        assert_eq!(world.recorded("deployment_triggered").await, 2);
    }

    async fn a_deployment_that_nobody_can_carry_out_is_refused(db: TestDb) {
        let world = World::new(db).await;
        world.issued().await;
        world.db.execute("DELETE FROM jobs WHERE type = 'Deployment'").await.unwrap();
        let id = &world.ids.certificate;
        let asked = async || world.services.deploy_certificate(&world.admin, id, None).await;
        world.clock.advance(Duration::from_secs(301));
        assert_eq!(refusal(asked().await), "agent is offline: ag-web");
        let other = entities::agent("ag-two");
        enter!(world, agents::insert(&other, "h"));
        let two = entities::target("tgt-two", &other.id);
        enter!(world, targets::insert(&two));
        world.db.execute("INSERT INTO certificate_target_mappings (certificate_id, target_id) VALUES ('mc-web', 'tgt-two')").await.unwrap();
        assert_eq!(refusal(asked().await), "agent is offline: ag-two, ag-web");
        let beat = world.services.heartbeat(&crate::support::agent_actor("ag-two"), &other.id, certctl_domain::agent::AgentReport::default()).await;
        beat.unwrap();
        world.services.flush_heartbeats().await.unwrap();
        assert_eq!(asked().await.unwrap().len(), 2, "one can be done, the other waits");
        world.db.execute("UPDATE deployment_targets SET enabled = false").await.unwrap();
        assert_eq!(refusal(asked().await), "no target of this certificate is enabled");
        world.services.revoke_certificate(&world.admin, id, None).await.unwrap();
        assert_eq!(outcome(asked().await), "bad request");
    }

    async fn what_failed_for_good_is_renewed_after_a_while(db: TestDb) {
        let world = World::with_server_keys(db).await;
        due(&world, "mc-due", S::Active, 20 * DAY).await;
        world.ca.refuse(Some(certctl_domain::ports::issuer::IssuerError::Validation("no".into())));
        assert_eq!(world.services.scan_renewals().await.unwrap().enqueued, 1);
        world.work().await;
        assert_eq!(world.certificate(&certificate_id("mc-due")).await.status, S::Failed);
        world.ca.refuse(None);
        assert_eq!(world.services.scan_renewals().await.unwrap().enqueued, 0, "not at once");
        world.clock.advance(DAY);
        assert_eq!(world.services.scan_renewals().await.unwrap().enqueued, 1);
        world.work().await;
        assert_eq!(world.certificate(&certificate_id("mc-due")).await.status, S::Active);
    }

    async fn the_files_of_a_ca_are_read_again_and_the_old_ones_serve_while_the_new_cannot(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("ca.pem"), folder.path().join("ca.key"));
        let put = |name: &str| {
            let (root, root_key) = root(name, world.now());
            std::fs::write(&certificate, &root).unwrap();
            std::fs::write(&key, root_key).unwrap();
            root
        };
        let first = put("First CA");
        let config = serde_json::json!({"ca_cert_path": certificate, "ca_key_path": key, "validity_days": 30});
        world.db.execute(&format!("UPDATE issuers SET config = '{config}' WHERE id = 'iss-local'")).await.unwrap();
        let signed_by = async |root: &str| {
            let job = world.renew(&world.ids.certificate).await;
            world.work().await;
            assert_eq!(world.ended(&job).await.0, "Completed", "{:?}", world.ended(&job).await);
            let id = &world.ids.certificate;
            let export = world.services.export_pem(&world.admin, id).await.unwrap();
            let (leaf, root) = (ParsedCertificate::from_pem(&export.full_pem).unwrap(), ParsedCertificate::from_pem(root).unwrap());
            leaf.verify_signed_by(&root).is_ok()
        };
        assert!(signed_by(&first).await);
        let second = put("Second CA");
        world.clock.advance(Duration::from_secs(59));
        assert!(signed_by(&first).await, "not yet");
        world.clock.advance(Duration::from_secs(1));
        assert!(signed_by(&second).await);
        std::fs::write(&certificate, "half a file").unwrap();
        world.clock.advance(Duration::from_secs(61));
        assert!(signed_by(&second).await, "the one at hand still serves");
    }

    async fn the_scan_takes_what_is_due_and_leaves_the_rest(db: TestDb) {
        let world = World::new(db).await;
        due(&world, "mc-due", S::Active, 20 * DAY).await;
        due(&world, "mc-expiring", S::Expiring, 20 * DAY).await;
        due(&world, "mc-open", S::Active, 20 * DAY).await;
        let held = certificate_id("mc-open");
        world.services.renew_certificate(&world.admin, &held, false).await.unwrap();
        for (id, status) in [("mc-failed", S::Failed), ("mc-revoked", S::Revoked), ("mc-archived", S::Archived)] {
            due(&world, id, status, 20 * DAY).await;
        }
        due(&world, "mc-by-hand", S::Active, 20 * DAY).await;
        due(&world, "mc-disabled", S::Active, 20 * DAY).await;
        due(&world, "mc-ended", S::Active, Duration::ZERO).await;
        let by_hand = RenewalPolicy { auto_renew: false, ..entities::policy("rp-hand") };
        let off = Issuer { enabled: false, ..entities::issuer("iss-off") };
        enter!(world, renewal_policies::insert(&by_hand); issuers::insert(&off));
        world.db.execute("UPDATE managed_certificates SET renewal_policy_id = 'rp-hand' WHERE id = 'mc-by-hand'").await.unwrap();
        world.db.execute("UPDATE managed_certificates SET issuer_id = 'iss-off' WHERE id = 'mc-disabled'").await.unwrap();
        let summary = world.services.scan_renewals().await.unwrap();
        assert_eq!(summary, ScanSummary { enqueued: 2, expired: 1, expiring: 2, planned: 0, alerts: 7 });
        let states = world.db.texts("SELECT id || ' ' || status AS value FROM managed_certificates ORDER BY id").await;
        assert_eq!(states, [
            "mc-archived Archived", "mc-by-hand Expiring", "mc-disabled Expiring", "mc-due RenewalInProgress", "mc-ended Expired",
            "mc-expiring RenewalInProgress", "mc-failed Failed", "mc-open RenewalInProgress", "mc-revoked Revoked", "mc-web Pending",
        ]);
        assert_eq!(world.jobs("Renewal").await, ["AwaitingCSR"; 3]);
        assert_eq!(world.recorded("renewal_job_created").await, 2);
        assert_eq!(world.services.scan_renewals().await.unwrap(), ScanSummary::default(), "a second scan finds nothing");
    }

    async fn the_scan_does_not_go_past_the_gate(db: TestDb) {
        let world = World::with_server_keys(db).await;
        gate(&world).await;
        due(&world, "mc-due", S::Active, 20 * DAY).await;
        assert_eq!(world.services.scan_renewals().await.unwrap().enqueued, 1);
        assert_eq!(world.jobs("Renewal").await, ["AwaitingApproval"]);
        assert_eq!(world.db.texts("SELECT state || ' ' || requested_by AS value FROM issuance_approval_requests").await, ["pending system"]);
    }

    async fn rows_of_others_are_planned_and_moved_by_their_expiry(db: TestDb) {
        let world = World::new(db).await;
        let mut foreign = world.ids.certificate("mc-foreign");
        foreign.status = S::Active;
        foreign.expires_at = Some(world.now() + 40 * DAY);
        world.enter(&foreign).await;
        let first = world.services.scan_renewals().await.unwrap();
        assert_eq!((first.planned, first.enqueued), (1, 0), "forty days are more than the window of thirty");
        world.clock.advance(11 * DAY + DAY);
        assert_eq!(world.services.scan_renewals().await.unwrap().enqueued, 1);
    }

    async fn a_fleet_is_enqueued_in_three_steps(db: TestDb) {
        let world = World::new(db).await;
        let rows = "INSERT INTO managed_certificates (id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id, certificate_profile_id, status, expires_at, renew_at, tags, source, created_at, updated_at) \
            SELECT 'mc-' || n, 'fleet ' || n, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id, certificate_profile_id, 'Active', {ends}, created_at, tags, source, created_at, updated_at FROM managed_certificates, {numbers} WHERE id = 'mc-web'";
        let (ends, numbers) = match world.db.backend() {
            certctl_repository::Backend::Postgres => ("created_at + interval '20 days'", "generate_series(1, 2500) AS s(n)"),
            certctl_repository::Backend::Sqlite => ("created_at + 20 * 86400000000", "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 2500) SELECT n FROM s)"),
        };
        world.db.execute(&rows.replace("{ends}", ends).replace("{numbers}", numbers)).await.unwrap();
        assert_eq!(world.services.scan_renewals().await.unwrap().enqueued, 2500);
        assert_eq!(world.db.text("SELECT CAST(count(*) AS TEXT) AS value FROM jobs WHERE status = 'AwaitingCSR'").await, "2500");
        assert_eq!(world.db.text("SELECT CAST(count(*) AS TEXT) AS value FROM managed_certificates WHERE status = 'RenewalInProgress'").await, "2500");
        assert_eq!(world.recorded("renewal_job_created").await, 2500);
        assert_eq!(world.services.scan_renewals().await.unwrap().enqueued, 0);
    }

    async fn a_renewal_that_was_called_off_leaves_the_certificate_as_its_expiry_says(db: TestDb) {
        let world = World::new(db).await;
        world.issued().await;
        for (passed, expected) in [(Duration::ZERO, "Active"), (65 * DAY, "Expiring"), (30 * DAY, "Expired")] {
            world.clock.advance(passed);
            let made = world.services.renew_certificate(&world.admin, &world.ids.certificate, true).await.unwrap();
            world.services.cancel_job(&world.admin, &made.job_id).await.unwrap();
            assert_eq!(world.status().await, expected);
            assert_eq!(outcome(world.hand_in(&csr()).await), "conflict", "nothing waits for a request");
            assert_eq!(outcome(world.services.cancel_job(&world.admin, &made.job_id).await), "conflict", "it has ended");
        }
    }
}

impl World {
    /// The renewal of a certificate, whatever its state.
    async fn renewal_of(&self, certificate: &str) -> certctl_domain::id::JobId {
        let sql = format!(
            "SELECT id AS value FROM jobs WHERE certificate_id = '{certificate}' AND type <> 'Deployment'"
        );
        certctl_domain::id::JobId::from_stored(self.db.text(&sql).await)
    }
}
