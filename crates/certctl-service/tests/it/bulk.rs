//! Many certificates at once: exact counts, one commit, and nothing more when it is asked for again.

use std::collections::BTreeSet;

use certctl_domain::{
    certificate::{Certificate, CertificateSource, CertificateStatus as S},
    id::{OwnerId, ProfileId, TeamId},
};
use certctl_repository::Backend;
use certctl_service::bulk::{BulkCriteria, BulkOutcome, MAX_LISTED, ReassignInput};
use certctl_testkit::{TestDb, db_tests, entities};

use crate::support::{World, enter, outcome, refusal};

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn of_owner(owner: &str) -> BulkCriteria {
    BulkCriteria {
        owner_id: some(owner),
        ..BulkCriteria::default()
    }
}

fn ids(ids: &[&str]) -> BulkCriteria {
    BulkCriteria {
        certificate_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        ..BulkCriteria::default()
    }
}

/// Matched, changed, skipped, failed.
fn counts(outcome: &BulkOutcome) -> (i64, i64, i64, i64) {
    (
        outcome.matched,
        outcome.changed,
        outcome.skipped,
        outcome.failed,
    )
}

impl World {
    /// A certificate of an owner of its own in each state, with an issued version.
    async fn in_every_state(&self) -> Vec<Certificate> {
        enter!(
            self,
            owners::insert(&entities::owner("o-bulk", &self.ids.team))
        );
        let mut all = Vec::new();
        for (number, status) in S::ALL.iter().enumerate() {
            let mut one = self.ids.certificate(&format!("mc-{status}"));
            one.owner_id = OwnerId::from_stored("o-bulk".into());
            one.status = *status;
            one.expires_at = (*status != S::Pending).then(|| self.now());
            self.enter(&one).await;
            self.version(&one, &format!("a{number}")).await;
            all.push(one);
        }
        all
    }

    async fn version(&self, of: &Certificate, serial: &str) {
        let (id, issuer) = (&of.id, &self.ids.issuer);
        let at = match self.db.backend() {
            Backend::Postgres => format!("to_timestamp({})", self.now().as_seconds()),
            Backend::Sqlite => self.now().as_micros().to_string(),
        };
        let sql = format!(
            "INSERT INTO certificate_versions (id, certificate_id, issuer_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain, created_at) \
             VALUES ('v-{serial}', '{id}', '{issuer}', '{serial}', {at}, {at}, 'f-{serial}', '', {at})"
        );
        self.db.execute(&sql).await.unwrap();
    }

    /// State of every certificate of the owner, by id.
    async fn states(&self) -> Vec<String> {
        self.db
            .texts("SELECT id || ' ' || status AS value FROM managed_certificates WHERE owner_id = 'o-bulk' ORDER BY id")
            .await
    }

    /// Many active certificates of an owner, put in straight.
    pub(crate) async fn many(&self, owner: &str, count: usize) {
        enter!(
            self,
            owners::insert(&entities::owner(owner, &self.ids.team))
        );
        let expires = match self.db.backend() {
            Backend::Postgres => "now()",
            Backend::Sqlite => "1",
        };
        let select = format!(
            "SELECT '{owner}-' || i, '{owner}-' || i, 'cn', '{owner}', 't-platform', 'iss-local', 'rp-standard', 'Active', {expires} FROM n"
        );
        let numbers = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
        );
        let into = "INSERT INTO managed_certificates (id, name, common_name, owner_id, team_id, issuer_id, renewal_policy_id, status, expires_at)";
        let sql = match self.db.backend() {
            Backend::Postgres => format!("{into} {numbers} {select}"),
            Backend::Sqlite => format!("{numbers} {into} {select}"),
        };
        self.db.execute(&sql).await.unwrap();
    }

    async fn audited(&self, action: &str) -> Vec<serde_json::Value> {
        let sql = format!(
            "SELECT CAST(details AS TEXT) AS value FROM audit_events WHERE action = '{action}' AND resource_id = 'bulk' ORDER BY id"
        );
        let rows = self.db.texts(&sql).await;
        rows.iter()
            .map(|row| serde_json::from_str(row).unwrap())
            .collect()
    }
}

db_tests! {
    async fn a_renewal_of_all_takes_the_states_that_admit_one_and_skips_the_rest(db: TestDb) {
        let world = World::new(db).await;
        world.in_every_state().await;
        let commits = world.db.commits();
        let done = world.services.bulk_renew(&world.admin, &of_owner("o-bulk")).await.unwrap();
        assert_eq!(world.db.commits() - commits, 1, "jobs, certificates and audit row in one commit");
        assert_eq!(counts(&done), (8, 4, 4, 0));
        let named: Vec<_> = done.jobs.iter().map(|(certificate, _)| certificate.as_str()).collect();
        assert_eq!(named, ["mc-Active", "mc-Expiring", "mc-Failed", "mc-Pending"]);
        assert_eq!(done.jobs.iter().map(|(_, job)| job).collect::<BTreeSet<_>>().len(), 4, "each its own");
        assert_eq!(world.states().await, ["mc-Active RenewalInProgress", "mc-Archived Archived", "mc-Expired Expired",
            "mc-Expiring RenewalInProgress", "mc-Failed RenewalInProgress", "mc-Pending RenewalInProgress",
            "mc-RenewalInProgress RenewalInProgress", "mc-Revoked Revoked"]);
        // Nothing was issued for the one without an end; keys are made by agents here.
        assert_eq!((world.jobs("Issuance").await, world.jobs("Renewal").await), (vec!["AwaitingCSR".to_owned()], vec!["AwaitingCSR".to_owned(); 3]));
        let job = world.job(&done.jobs[0].1).await;
        assert_eq!((job.max_attempts, job.certificate_id.as_ref().unwrap().as_str(), job.created_at), (3, "mc-Active", world.now()));

        let again = world.services.bulk_renew(&world.admin, &of_owner("o-bulk")).await.unwrap();
        assert_eq!(counts(&again), (8, 0, 8, 0));
        assert!(again.jobs.is_empty());
        assert_eq!(world.jobs("Renewal").await.len(), 3);
        let audited = world.audited("bulk_renewal_initiated").await;
        assert_eq!(audited.iter().map(|row| row["total_enqueued"].as_i64().unwrap()).collect::<Vec<_>>(), [4, 0]);
        assert_eq!(audited[0]["criteria"], serde_json::json!({"owner_id": "o-bulk"}));
    }

    async fn who_must_be_asked_is_asked_in_a_renewal_of_all(db: TestDb) {
        let world = World::with_server_keys(db).await;
        world.in_every_state().await;
        let mut gated = entities::profile("prof-gated");
        gated.requires_approval = true;
        enter!(world, profiles::insert(&gated));
        let mut one = world.ids.certificate("mc-gated");
        one.owner_id = OwnerId::from_stored("o-bulk".into());
        one.profile_id = Some(ProfileId::from_stored("prof-gated".into()));
        one.sans = vec!["b.example.test".into(), "a.example.test".into()];
        world.enter(&one).await;
        let done = world.services.bulk_renew(&world.admin, &of_owner("o-bulk")).await.unwrap();
        assert_eq!(counts(&done), (9, 5, 4, 0));
        let job = &done.jobs.iter().find(|(certificate, _)| certificate.as_str() == "mc-gated").unwrap().1;
        assert_eq!(world.job(job).await.status.as_str(), "AwaitingApproval");
        assert_eq!(world.jobs("Renewal").await, ["Pending"; 3], "the server makes the keys of the others");
        let asked = world.db.texts("SELECT certificate_id || ' ' || job_id || ' ' || profile_id || ' ' || requested_by || ' ' || state AS value FROM issuance_approval_requests").await;
        assert_eq!(asked, [format!("mc-gated {job} prof-gated ann pending")]);
        // What the second person is shown is what a single renewal shows.
        let single = Certificate { id: certctl_domain::id::CertificateId::from_stored("mc-single".into()), name: "single".into(), ..one };
        world.enter(&single).await;
        world.renew(&single.id).await;
        let shown = world.db.texts("SELECT CAST(metadata AS TEXT) AS value FROM issuance_approval_requests ORDER BY certificate_id").await;
        let shown: Vec<serde_json::Value> = shown.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        assert_eq!(shown[0]["severity_tier"], "informational");
        assert_eq!(shown[0], shown[1]);
        assert_eq!(shown[0]["sans"], "b.example.test,a.example.test");
    }

    async fn each_request_of_many_says_how_grave_it_is_and_has_its_audit_row(db: TestDb) {
        let world = World::with_server_keys(db).await;
        world.profile(|one| one.requires_approval = true).await;
        let mut strict = entities::policy("rp-strict");
        strict.alert_thresholds_days = vec![60, 30];
        strict.alert_severity_map = [("60".to_owned(), "critical".to_owned())].into();
        enter!(world, renewal_policies::insert(&strict));
        // Days to the end by policy: as a single renewal would say it of each.
        let cases = [("mc-0", 0, false, "critical"), ("mc-7", 7, false, "warning"), ("mc-14", 14, false, "warning"), ("mc-15", 15, false, "informational"),
            ("mc-90", 90, false, "informational"), ("mc-s30", 30, true, "informational"), ("mc-s60", 60, true, "critical"), ("mc-s61", 61, true, "informational")];
        for (id, days, is_strict, _) in cases {
            let mut one = world.ids.certificate(id);
            one.status = S::Active;
            one.expires_at = Some(world.now() + std::time::Duration::from_secs(days * 86_400));
            if is_strict {
                one.renewal_policy_id = strict.id.clone();
            }
            world.enter(&one).await;
        }
        let commits = world.db.commits();
        let done = world.services.bulk_renew(&world.admin, &ids(&cases.map(|(id, ..)| id))).await.unwrap();
        assert_eq!((counts(&done), world.db.commits() - commits), ((8, 8, 0, 0), 1));
        let page = certctl_domain::page::PageRequest::default();
        let asked = world.services.list_approvals(&world.admin, &certctl_service::ApprovalFilter::default(), page).await.unwrap();
        assert_eq!(asked.total, 8);
        let mut rows = Vec::new();
        for one in &asked.rows {
            let id = one.certificate_id.as_ref().unwrap().as_str();
            let expected = cases.iter().find(|(case, ..)| *case == id).unwrap().3;
            assert_eq!(one.metadata["severity_tier"], expected, "{id}");
            assert_eq!(one.metadata["common_name"], format!("{id}.example.test"), "the rest is still there");
            rows.push(format!("{} {} {}", one.id, one.profile_id, one.job_id.as_ref().unwrap()));
        }
        let sql = match world.db.backend() {
            Backend::Postgres => "SELECT resource_id || ' ' || (details ->> 'profile_id') || ' ' || (details ->> 'job_id') AS value \
                FROM audit_events WHERE action = 'approval_requested' AND actor = 'ann' AND actor_type = 'User' AND resource_type = 'approval'",
            Backend::Sqlite => "SELECT resource_id || ' ' || json_extract(details, '$.profile_id') || ' ' || json_extract(details, '$.job_id') AS value \
                FROM audit_events WHERE action = 'approval_requested' AND actor = 'ann' AND actor_type = 'User' AND resource_type = 'approval'",
        };
        let mut audited = world.db.texts(sql).await;
        audited.sort();
        rows.sort();
        assert_eq!(audited, rows);
        assert!(world.services.seal_audit_log().await.unwrap().rows > 8, "and they are sealed like others");
        let found = world.services.verify_audit_log(&world.admin, certctl_service::audit::VerifyFrom::Start, None).await;
        assert!(found.unwrap().first_break.is_none());
        // Asked again, nothing is asked for anew.
        assert_eq!(world.services.bulk_renew(&world.admin, &ids(&["mc-0", "mc-7"])).await.unwrap().changed, 0);
        assert_eq!(world.recorded("approval_requested").await, 8);
    }

    async fn criteria_are_combined_and_ids_narrow_them(db: TestDb) {
        let world = World::new(db).await;
        world.in_every_state().await;
        enter!(world, teams::insert(&entities::team("t-other")));
        world.db.execute("UPDATE managed_certificates SET team_id = 't-other', certificate_profile_id = NULL WHERE id = 'mc-Failed'").await.unwrap();
        world.db.execute("INSERT INTO certificate_target_mappings (certificate_id, target_id) VALUES ('mc-Active', 'tgt-web')").await.unwrap();
        let base = of_owner("o-bulk");
        // A dry look: reassigning to the same owner changes nothing and counts what matches.
        let matched = async |criteria: BulkCriteria| {
            let to = ReassignInput { criteria, owner_id: "o-bulk".into(), team_id: None };
            world.services.bulk_reassign(&world.admin, &to).await.unwrap().matched
        };
        assert_eq!(matched(base.clone()).await, 8);
        assert_eq!(matched(BulkCriteria { team_id: some("t-other"), ..base.clone() }).await, 1);
        assert_eq!(matched(BulkCriteria { team_id: some("t-other"), ..BulkCriteria::default() }).await, 1);
        assert_eq!(matched(BulkCriteria { profile_id: some("prof-standard-tls"), ..base.clone() }).await, 7);
        assert_eq!(matched(BulkCriteria { agent_id: some("ag-web"), ..base.clone() }).await, 1);
        assert_eq!(matched(BulkCriteria { agent_id: some("ag-web"), team_id: some("t-other"), ..base.clone() }).await, 0);
        assert_eq!(matched(BulkCriteria { issuer_id: some("iss-local"), ..base.clone() }).await, 8);
        assert_eq!(matched(BulkCriteria { issuer_id: some("iss-gone"), ..base.clone() }).await, 0);
        let named = ids(&["mc-Active", "mc-Active", "mc-gone", "mc-web", "no id"]);
        assert_eq!(matched(BulkCriteria { certificate_ids: named.certificate_ids.clone(), ..base.clone() }).await, 1);
        let renewed = world.services.bulk_renew(&world.admin, &named).await.unwrap();
        assert_eq!(counts(&renewed), (2, 2, 0, 0), "ids of nothing are dropped");
    }

    async fn a_call_that_says_nothing_or_too_much_is_refused(db: TestDb) {
        let world = World::new(db).await;
        world.many("o-bulk", 3).await;
        let empty = BulkCriteria { owner_id: some(""), ..BulkCriteria::default() };
        let many = |count: usize| BulkCriteria { certificate_ids: (0..count).map(|n| format!("o-bulk-{n}")).collect(), ..BulkCriteria::default() };
        for criteria in [BulkCriteria::default(), empty] {
            assert_eq!(outcome(world.services.bulk_renew(&world.admin, &criteria).await), "bad request");
            assert_eq!(outcome(world.services.bulk_revoke(&world.admin, &criteria, "superseded", None).await), "bad request");
            let to = ReassignInput { criteria, owner_id: "o-bulk".into(), team_id: None };
            assert_eq!(outcome(world.services.bulk_reassign(&world.admin, &to).await), "bad request");
        }
        assert_eq!(refusal(world.services.bulk_renew(&world.admin, &many(10_001)).await), "certificate_ids: has more than 10000 entries");
        assert_eq!(outcome(world.services.bulk_revoke(&world.admin, &many(1), "", None).await), "invalid reason");
        assert_eq!(outcome(world.services.bulk_revoke(&world.admin, &many(1), "bored", None).await), "invalid reason");
        for (owner, team, expected) in [("", None, "invalid owner_id"), ("o-gone", None, "invalid owner_id"), ("o-bulk", Some("t-gone"), "invalid team_id")] {
            let to = ReassignInput { criteria: many(1), owner_id: owner.into(), team_id: team.map(str::to_owned) };
            assert_eq!(outcome(world.services.bulk_reassign(&world.admin, &to).await), expected);
        }
        assert_eq!(world.db.text("SELECT CAST(count(*) AS TEXT) AS value FROM audit_events WHERE resource_id = 'bulk'").await, "0");
        let done = world.services.bulk_renew(&world.admin, &many(10_000)).await.unwrap();
        assert_eq!(counts(&done), (3, 3, 0, 0), "ten thousand are accepted");
        let nobody = crate::support::actor_of("bob", certctl_domain::access::ActorType::User, certctl_domain::access::SeededRole::Viewer);
        assert_eq!(outcome(world.services.bulk_renew(&nobody, &many(1)).await), "needs cert.issue");
        assert_eq!(outcome(world.services.bulk_revoke(&nobody, &many(1), "superseded", None).await), "needs cert.bulk_revoke");
        let to = ReassignInput { criteria: many(1), owner_id: "o-bulk".into(), team_id: None };
        assert_eq!(outcome(world.services.bulk_reassign(&nobody, &to).await), "needs cert.edit");
    }

    async fn all_matches_are_changed_however_many_and_the_list_has_an_end(db: TestDb) {
        let world = World::new(db).await;
        let count = 10_003;
        world.many("o-bulk", count).await;
        let done = world.services.bulk_renew(&world.admin, &of_owner("o-bulk")).await.unwrap();
        assert_eq!(counts(&done), (10_003, 10_003, 0, 0));
        assert_eq!(done.jobs.len() as i64, MAX_LISTED);
        assert_eq!(world.db.text("SELECT CAST(count(DISTINCT certificate_id) AS TEXT) AS value FROM jobs WHERE status = 'AwaitingCSR'").await, "10003");
        let revoked = world.services.bulk_revoke(&world.admin, &of_owner("o-bulk"), "superseded", None).await.unwrap();
        assert_eq!(counts(&revoked), (10_003, 0, 0, 10_003), "nothing is issued for any of them");
        assert_eq!(revoked.failures.len() as i64, MAX_LISTED);
    }

    async fn a_revocation_of_all_enters_serials_and_calls_off_what_waits(db: TestDb) {
        let world = World::new(db).await;
        let all = world.in_every_state().await;
        // The issued one waits with a request handed in, so that a CA may have signed for it.
        let key = certctl_pki::key::PrivateKey::generate(certctl_domain::key::KeySpec::EcdsaP256).unwrap();
        let waiting = world.renew(&world.ids.certificate).await;
        world.hand_in(&crate::support::csr_with(&key, "mc-web.example.test")).await.unwrap();
        let also = all.iter().find(|one| one.status == S::Active).unwrap();
        let renewal = world.renew(&also.id).await;
        world.version(&Certificate { id: world.ids.certificate.clone(), ..also.clone() }, "b1").await;
        let unissued = Certificate { owner_id: OwnerId::from_stored("o-bulk".into()), ..world.ids.certificate("mc-none") };
        world.enter(&unissued).await;

        let everything = BulkCriteria { team_id: some("t-platform"), ..BulkCriteria::default() };
        let commits = world.db.commits();
        let done = world.services.bulk_revoke(&world.admin, &everything, "key_compromise", None).await.unwrap();
        assert!(world.db.commits() - commits >= 1);
        assert_eq!(counts(&done), (10, 7, 2, 1));
        assert_eq!(done.failures.iter().map(|one| one.certificate_id.as_str()).collect::<Vec<_>>(), ["mc-none"]);
        let revoked = world.db.texts("SELECT certificate_id || ' ' || reason AS value FROM certificate_revocations WHERE reason = 'keyCompromise' ORDER BY 1").await;
        let told = world.db.texts("SELECT certificate_id || ' keyCompromise' AS value FROM notification_events WHERE type = 'Revocation' AND message LIKE '%(keyCompromise)' ORDER BY 1").await;
        assert_eq!(told, revoked, "each owner is told with it");
        assert_eq!(revoked, ["mc-Active keyCompromise", "mc-Expired keyCompromise", "mc-Expiring keyCompromise", "mc-Failed keyCompromise",
            "mc-Pending keyCompromise", "mc-RenewalInProgress keyCompromise", "mc-web keyCompromise"]);
        assert_eq!(world.db.texts("SELECT certificate_id AS value FROM certificate_revocations WHERE reason = 'cessationOfOperation'").await, ["mc-web"]);
        assert_eq!(world.db.text("SELECT CAST(count(*) AS TEXT) AS value FROM issuance_intents").await, "0");
        for job in [&waiting, &renewal] {
            assert_eq!(world.ended(job).await, ("Cancelled", "the certificate was revoked".into()));
        }
        let one = world.certificate(&also.id).await;
        assert_eq!((one.status, one.revoked_at, one.revocation_reason.unwrap().as_str()), (S::Revoked, Some(world.now()), "keyCompromise"));
        assert_eq!(world.db.text("SELECT CAST(version AS TEXT) AS value FROM revocation_status WHERE issuer_id = 'iss-local'").await, "1", "status services hear of it once");

        let again = world.services.bulk_revoke(&world.admin, &everything, "superseded", None).await.unwrap();
        assert_eq!(counts(&again), (10, 0, 9, 1));
        assert_eq!(world.certificate(&also.id).await, one, "the reason stays the first one");
        assert_eq!(world.recorded("bulk_revocation_initiated").await, 2);
        // Told in the background, after the commit.
        while world.db.text("SELECT CAST(count(*) AS TEXT) AS value FROM certificate_revocations WHERE NOT issuer_notified").await != "0" {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.ca.told().len(), 8);
    }

    async fn older_versions_that_are_still_valid_are_revoked_too_and_requests_for_approval_end(db: TestDb) {
        let world = World::new(db).await;
        world.profile(|profile| profile.requires_approval = true).await;
        let id = world.ids.certificate.clone();
        let one = world.certificate(&id).await;
        for serial in ["c1", "c2", "c3"] {
            world.version(&one, serial).await;
        }
        let past = match world.db.backend() { Backend::Postgres => "not_after - interval '1 day'", Backend::Sqlite => "not_after - 1" };
        // The latest whenever it ends, and of the older ones those that are valid.
        world.db.execute(&format!("UPDATE certificate_versions SET not_after = {past} WHERE serial_number IN ('c1', 'c3')")).await.unwrap();
        world.db.execute("UPDATE certificate_versions SET serial_number = '00:C3' WHERE serial_number = 'c3'").await.unwrap();
        let later = match world.db.backend() { Backend::Postgres => "not_after + interval '1 day'", Backend::Sqlite => "not_after + 86400000000" };
        world.db.execute(&format!("UPDATE certificate_versions SET not_after = {later} WHERE serial_number = 'c2'")).await.unwrap();
        let job = world.renew(&id).await;
        let done = world.services.bulk_revoke(&world.admin, &ids(&["mc-web"]), "superseded", None).await.unwrap();
        assert_eq!(counts(&done), (1, 1, 0, 0));
        assert_eq!(world.revoked().await, ["c2 superseded", "c3 superseded"]);
        let described = "SELECT r.serial_number || CASE WHEN r.short_lived THEN ' short' ELSE ' long' END \
                || CASE WHEN r.listed_until = v.not_after THEN ', listed to its end' WHEN r.listed_until IS NULL THEN ', not listed' ELSE '?' END AS value \
            FROM certificate_revocations r JOIN certificate_versions v ON v.certificate_id = r.certificate_id \
                AND lower(replace(v.serial_number, '00:', '')) = r.serial_number ORDER BY 1";
        let expected = ["c2 long, listed to its end", "c3 short, not listed"];
        assert_eq!(world.db.texts(described).await, expected, "status services know when they end");
        assert_eq!(world.db.text("SELECT CAST(count(*) AS TEXT) AS value FROM notification_events").await, "1", "told once, however many versions");
        assert_eq!(world.ended(&job).await.0, "Cancelled");
        assert_eq!(world.db.text("SELECT state || ' ' || decided_by AS value FROM issuance_approval_requests").await, "rejected ann");
    }

    async fn the_door_of_est_revokes_what_came_in_by_it_only(db: TestDb) {
        let world = World::new(db).await;
        let all = world.in_every_state().await;
        world.db.execute("UPDATE managed_certificates SET source = 'EST' WHERE id IN ('mc-Active', 'mc-Revoked')").await.unwrap();
        let named = ids(&all.iter().map(|one| one.id.as_str()).collect::<Vec<_>>());
        let est = Some(CertificateSource::Est);
        let done = world.services.bulk_revoke(&world.admin, &named, "superseded", est).await.unwrap();
        assert_eq!(counts(&done), (2, 1, 1, 0), "also when only ids are given");
        assert_eq!(outcome(world.services.bulk_revoke(&world.admin, &BulkCriteria::default(), "superseded", est).await), "bad request", "the door alone is no criterion");
    }

    async fn a_reassignment_changes_what_differs_and_names_what_is_unknown(db: TestDb) {
        let world = World::new(db).await;
        world.in_every_state().await;
        enter!(world, teams::insert(&entities::team("t-new")));
        enter!(world, owners::insert(&entities::owner("o-new", &TeamId::from_stored("t-new".into()))));
        let to = |named: &[&str], team: Option<&str>| ReassignInput { criteria: ids(named), owner_id: "o-new".into(), team_id: team.map(str::to_owned) };
        let before = world.certificate(&certctl_domain::id::CertificateId::from_stored("mc-Active".into())).await;
        world.clock.advance(std::time::Duration::from_secs(5));
        let done = world.services.bulk_reassign(&world.admin, &to(&["mc-Active", "mc-Revoked", "mc-gone", "no id", "mc-gone"], None)).await.unwrap();
        assert_eq!(counts(&done), (2, 2, 0, 2));
        assert_eq!(done.failures.iter().map(|one| one.certificate_id.as_str()).collect::<Vec<_>>(), ["no id", "mc-gone"]);
        let after = world.certificate(&before.id).await;
        assert_eq!(after, Certificate { owner_id: OwnerId::from_stored("o-new".into()), updated_at: world.now(), ..before });
        let again = world.services.bulk_reassign(&world.admin, &to(&["mc-Active", "mc-Revoked"], None)).await.unwrap();
        assert_eq!(counts(&again), (2, 0, 2, 0));
        let team = world.services.bulk_reassign(&world.admin, &to(&["mc-Active", "mc-Failed"], Some("t-new"))).await.unwrap();
        assert_eq!(counts(&team), (2, 2, 0, 0));
        assert_eq!(world.certificate(&after.id).await.team_id.as_str(), "t-new");
        let by_owner = ReassignInput { criteria: of_owner("o-new"), owner_id: "o-bulk".into(), team_id: None };
        let back = world.services.bulk_reassign(&world.admin, &by_owner).await.unwrap();
        assert_eq!(counts(&back), (3, 3, 0, 0), "all of an owner who leaves");
        assert_eq!(world.recorded("bulk_reassignment_initiated").await, 4);
    }

    async fn state_jobs_and_audit_row_are_written_together_or_not_at_all(db: TestDb) {
        let world = World::new(db).await;
        world.in_every_state().await;
        let states = world.states().await;
        world.db.execute("ALTER TABLE audit_events RENAME TO audit_events_away").await.unwrap();
        world.services.bulk_renew(&world.admin, &of_owner("o-bulk")).await.unwrap_err();
        world.services.bulk_revoke(&world.admin, &of_owner("o-bulk"), "superseded", None).await.unwrap_err();
        world.db.execute("ALTER TABLE audit_events_away RENAME TO audit_events").await.unwrap();
        assert_eq!(world.states().await, states);
        assert!(world.jobs("Renewal").await.is_empty() && world.revoked().await.is_empty());
    }

    async fn two_at_once_make_one_renewal_of_each(db: TestDb) {
        let world = World::new(db).await;
        world.many("o-bulk", 300).await;
        let owner = of_owner("o-bulk");
        let (a, b) = tokio::join!(world.services.bulk_renew(&world.admin, &owner), world.services.bulk_renew(&world.admin, &owner));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!((a.matched, b.matched, a.changed + b.changed, a.skipped + b.skipped), (300, 300, 300, 300));
        assert_eq!(world.jobs("Renewal").await.len(), 300);
    }
}
