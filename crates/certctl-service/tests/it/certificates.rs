use std::{collections::BTreeMap, time::Duration};

use certctl_domain::{
    certificate::CertificateStatus, page::PageRequest, renewal_policy::RenewalPolicy,
    secret::Secret,
};
use certctl_service::{CertificateFilter, CertificateOrder, certificates::CertificateInput};
use certctl_testkit::{TestDb, db_tests, entities};

use crate::support::{World, certificate_id, enter, outcome, refusal};

fn input(id: &str) -> CertificateInput {
    let text = |text: &str| Some(text.to_owned());
    CertificateInput {
        id: text(id),
        name: text(&format!("name {id}")),
        common_name: text("api.example.test"),
        owner_id: text("o-alice"),
        team_id: text("t-platform"),
        issuer_id: text("iss-local"),
        renewal_policy_id: text("rp-standard"),
        ..CertificateInput::default()
    }
}

fn over(base: CertificateInput, change: impl FnOnce(&mut CertificateInput)) -> CertificateInput {
    let mut changed = base;
    change(&mut changed);
    changed
}

type Change = Box<dyn FnOnce(&mut CertificateInput) + Send>;

fn case(change: impl FnOnce(&mut CertificateInput) + Send + 'static) -> Change {
    Box::new(change)
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

db_tests! {
    async fn a_certificate_is_entered_with_all_it_has_and_read_back(db: TestDb) {
        let world = World::new(db).await;
        let whole = over(input("mc-new"), |one| {
            one.sans = Some(vec!["API.example.test".into(), "192.0.2.7".into(), "api.example.test".into()]);
            one.environment = some("staging");
            one.certificate_profile_id = some("prof-standard-tls");
            one.tags = Some(BTreeMap::from([("app".into(), "api".into())]));
            one.target_ids = Some(vec!["tgt-web".into(), "tgt-web".into()]);
        });
        let made = world.services.create_certificate(&world.admin, whole).await.unwrap();
        let read = world.certificate(&made.id).await;
        assert_eq!(read, made);
        assert_eq!(read.sans, ["api.example.test", "192.0.2.7"], "each name once, in one spelling");
        assert_eq!((read.status, read.expires_at, read.target_ids.len()), (CertificateStatus::Pending, None, 1));
        assert_eq!(world.recorded("certificate_created").await, 1);
        assert!(world.jobs("Issuance").await.is_empty(), "entering issues nothing");
        let unnamed = over(input(""), |one| one.name = some("another"));
        assert!(world.services.create_certificate(&world.admin, unnamed).await.unwrap().id.as_str().starts_with("cert-"));
    }

    async fn what_is_wrong_with_a_new_certificate_is_named(db: TestDb) {
        let world = World::new(db).await;
        let cases: Vec<(&str, Change)> = vec![
            ("invalid id", case(|one| one.id = some("no spaces"))),
            ("invalid name", case(|one| one.name = None)),
            ("invalid name", case(|one| one.name = Some("n".repeat(256)))),
            ("invalid common_name", case(|one| one.common_name = None)),
            ("invalid common_name", case(|one| one.common_name = some("two words"))),
            ("invalid common_name", case(|one| one.common_name = Some("n".repeat(254)))),
            ("invalid sans", case(|one| one.sans = Some(vec!["not a name".into()]))),
            ("invalid sans", case(|one| one.sans = Some((0..101).map(|n| format!("n{n}.example.test")).collect()))),
            ("invalid environment", case(|one| one.environment = Some("e".repeat(51)))),
            ("invalid owner_id", case(|one| one.owner_id = None)),
            ("invalid owner_id", case(|one| one.owner_id = some("o-gone"))),
            ("invalid team_id", case(|one| one.team_id = some("t-gone"))),
            ("invalid issuer_id", case(|one| one.issuer_id = some("iss-gone"))),
            ("invalid renewal_policy_id", case(|one| one.renewal_policy_id = some("rp-gone"))),
            ("invalid certificate_profile_id", case(|one| one.certificate_profile_id = some("prof-gone"))),
            ("invalid target_ids", case(|one| one.target_ids = Some(vec!["tgt-web".into(), "tgt-gone".into()]))),
            ("invalid status", case(|one| one.status = some("Sleeping"))),
            ("invalid status", case(|one| one.status = some("Revoked"))),
            ("invalid tags", case(|one| one.tags = Some(BTreeMap::from([(String::new(), "x".into())])))),
            ("conflict", case(|one| one.id = some("mc-web"))),
            ("conflict", case(|one| one.name = some("name-mc-web"))),
        ];
        for (number, (expected, change)) in cases.into_iter().enumerate() {
            let asked = over(input("mc-new"), change);
            assert_eq!(outcome(world.services.create_certificate(&world.admin, asked).await), expected, "case {number}");
        }
        assert_eq!(world.db.text("SELECT CAST(count(*) AS TEXT) AS value FROM managed_certificates").await, "1", "nothing half done");
        assert_eq!(world.recorded("certificate_created").await, 0);
    }

    // Owners cannot be archived; one that was deleted is the nearest there is.
    async fn a_certificate_for_an_owner_that_was_deleted_is_refused(db: TestDb) {
        let world = World::new(db).await;
        enter!(world, owners::insert(&entities::owner("o-bob", &world.ids.team)));
        let bob = certctl_domain::id::OwnerId::from_stored("o-bob".into());
        world.services.delete_owner(&world.admin, &bob).await.unwrap();
        let asked = over(input("mc-new"), |one| one.owner_id = some("o-bob"));
        assert_eq!(refusal(world.services.create_certificate(&world.admin, asked).await), "owner_id: does not exist");
    }

    async fn an_update_changes_what_is_given_and_nothing_else(db: TestDb) {
        let world = World::new(db).await;
        let id = world.ids.certificate.clone();
        let before = world.certificate(&id).await;
        world.clock.advance(Duration::from_secs(60));
        let none = CertificateInput { name: some(""), owner_id: some(""), ..CertificateInput::default() };
        let same = world.services.update_certificate(&world.admin, &id, none).await.unwrap();
        assert_eq!((same.updated_at, &same.name, &same.owner_id, &same.target_ids), (world.now(), &before.name, &before.owner_id, &before.target_ids));
        let change = CertificateInput {
            id: some("mc-other"),
            name: some("renamed"),
            sans: Some(Vec::new()),
            tags: Some(BTreeMap::new()),
            target_ids: Some(Vec::new()),
            status: some("active"),
            ..CertificateInput::default()
        };
        let changed = world.services.update_certificate(&world.admin, &id, change).await.unwrap();
        assert_eq!(world.certificate(&id).await, changed, "the id is not read");
        assert_eq!((changed.name.as_str(), changed.sans.len(), changed.target_ids.len(), changed.status), ("renamed", 0, 0, CertificateStatus::Active));
        let cases: Vec<(&str, Change)> = vec![
            ("invalid owner_id", case(|one| one.owner_id = some("o-gone"))),
            ("invalid status", case(|one| one.status = some("RenewalInProgress"))),
            ("invalid status", case(|one| one.status = some("Revoked"))),
            ("invalid status", case(|one| one.status = some("Archived"))),
            ("invalid sans", case(|one| one.sans = Some(vec!["a b".into()]))),
        ];
        for (expected, wrong) in cases {
            let wrong = over(CertificateInput::default(), wrong);
            assert_eq!(outcome(world.services.update_certificate(&world.admin, &id, wrong).await), expected);
        }
        world.services.create_certificate(&world.admin, input("mc-two")).await.unwrap();
        let taken = CertificateInput { name: some("name mc-two"), ..CertificateInput::default() };
        assert_eq!(outcome(world.services.update_certificate(&world.admin, &id, taken).await), "conflict");
        assert_eq!(outcome(world.services.update_certificate(&world.admin, &certificate_id("mc-gone"), input("x")).await), "no certificate");
    }

    async fn another_policy_plans_the_renewal_anew(db: TestDb) {
        let world = World::new(db).await;
        world.issued().await;
        let planned = world.certificate(&world.ids.certificate).await.renew_at;
        let late = RenewalPolicy { renewal_window_days: 5, ..entities::policy("rp-late") };
        enter!(world, renewal_policies::insert(&late));
        let late = CertificateInput { renewal_policy_id: some("rp-late"), ..CertificateInput::default() };
        world.services.update_certificate(&world.admin, &world.ids.certificate, late).await.unwrap();
        world.services.scan_renewals().await.unwrap();
        let again = world.certificate(&world.ids.certificate).await.renew_at;
        assert!(again > planned, "{again:?} {planned:?}");
    }

    async fn an_archived_certificate_stays_so_and_takes_what_waited_with_it(db: TestDb) {
        let world = World::new(db).await;
        let id = &world.ids.certificate;
        let job = world.renew(id).await;
        for _ in 0..2 {
            world.services.archive_certificate(&world.admin, id).await.unwrap();
        }
        assert_eq!(world.status().await, "Archived");
        assert_eq!(world.ended(&job).await, ("Cancelled", "the certificate was archived".into()));
        assert_eq!(world.recorded("certificate_archived").await, 1, "the second time changes nothing");
        assert_eq!(outcome(world.services.archive_certificate(&world.admin, &certificate_id("mc-gone")).await), "no certificate");
        let back = CertificateInput { status: some("Active"), ..CertificateInput::default() };
        assert_eq!(outcome(world.services.update_certificate(&world.admin, id, back).await), "invalid status");
    }

    async fn lists_filter_order_and_walk_over_ties(db: TestDb) {
        let world = World::new(db).await;
        for number in 0..7 {
            // The same moment for all: only the id tells them apart.
            let mut one = world.ids.certificate(&format!("mc-{number}"));
            one.status = if number < 3 { CertificateStatus::Active } else { CertificateStatus::Failed };
            world.enter(&one).await;
        }
        let active = CertificateFilter { status: Some(CertificateStatus::Active), ..CertificateFilter::default() };
        let of_agent = CertificateFilter { agent_id: Some(world.ids.agent.clone()), ..CertificateFilter::default() };
        let of_nobody = CertificateFilter { team_id: some("t-gone"), ..CertificateFilter::default() };
        for (filter, total) in [(CertificateFilter::default(), 8), (active, 3), (of_agent, 1), (of_nobody, 0)] {
            let page = world.services.list_certificates(&world.admin, &filter, CertificateOrder::Name, false, PageRequest::default()).await.unwrap();
            assert_eq!(page.total, total, "{filter:?}");
            let mut walked = Vec::new();
            let mut after = None;
            loop {
                let position = after.as_ref().map(|(at, id): &(_, String)| (*at, id.as_str()));
                let (mut rows, counted) = world.services.list_certificates_after(&world.admin, &filter, position, 2).await.unwrap();
                assert_eq!(counted, total, "the total does not shrink on the way");
                let more = rows.len() > 2;
                rows.truncate(2);
                walked.extend(rows.iter().map(|row| row.id.clone()));
                after = rows.last().map(|row| (row.created_at, row.id.to_string()));
                if !more {
                    break;
                }
            }
            walked.sort();
            walked.dedup();
            assert_eq!(walked.len() as i64, total, "each row once");
        }
        let by_name = world.services.list_certificates(&world.admin, &CertificateFilter::default(), CertificateOrder::Name, true, PageRequest::lenient(None, Some("2"))).await.unwrap();
        let names: Vec<_> = by_name.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["name-mc-web", "name-mc-6"]);
    }

    async fn what_hangs_on_a_certificate_is_listed(db: TestDb) {
        let world = World::new(db).await;
        let id = &world.ids.certificate;
        assert_eq!(world.services.list_versions(&world.admin, id, PageRequest::default()).await.unwrap().total, 0);
        world.issued().await;
        let versions = world.services.list_versions(&world.admin, id, PageRequest::default()).await.unwrap();
        assert_eq!((versions.total, &versions.rows[0].certificate_id), (1, id));
        let targets = world.services.list_deployments(&world.admin, id).await.unwrap();
        assert_eq!(targets.iter().map(|target| target.id.as_str()).collect::<Vec<_>>(), ["tgt-web"]);
        let gone = certificate_id("mc-gone");
        assert_eq!(outcome(world.services.get_certificate(&world.admin, &gone).await), "no certificate");
        assert_eq!(outcome(world.services.list_versions(&world.admin, &gone, PageRequest::default()).await), "no certificate");
        assert_eq!(outcome(world.services.list_deployments(&world.admin, &gone).await), "no certificate");
    }

    async fn an_export_has_all_parts_and_a_limit_for_each_actor(db: TestDb) {
        let config = certctl_service::config::ServiceConfig { exports_per_hour: 2, ..certctl_testkit::services::config() };
        let world = World::with(db, config).await;
        let id = &world.ids.certificate;
        assert_eq!(outcome(world.services.export_pem(&world.admin, &certificate_id("mc-gone")).await), "no certificate");
        assert_eq!(outcome(world.services.export_pem(&world.admin, id).await), "no issued version of certificate");
        let key = world.issued().await;
        let export = world.services.export_pem(&world.admin, id).await.unwrap();
        assert_eq!(export.full_pem, format!("{}{}", export.cert_pem, export.chain_pem));
        let leaf = certctl_pki::cert::ParsedCertificate::from_pem(&export.cert_pem).unwrap();
        assert!(leaf.matches_key(&key), "the key that the agent kept");
        let store = world.services.export_pkcs12(&world.admin, id, &Secret::new("pässword")).await.unwrap();
        assert_eq!(store[0], 0x30, "a DER sequence");
        assert_eq!(world.recorded("export_pkcs12").await, 1);
        assert_eq!(outcome(world.services.export_pem(&world.admin, id).await), "too many", "both ways count together");
        assert_eq!(outcome(world.services.export_pkcs12(&world.admin, id, &Secret::new("")).await), "too many");
        assert_eq!(outcome(world.services.export_pkcs12(&world.admin, id, &Secret::new("🔑")).await), "invalid password");
        let other = crate::support::actor_of("bob", certctl_domain::access::ActorType::User, certctl_domain::access::SeededRole::Viewer);
        world.services.export_pem(&other, id).await.unwrap();
        world.clock.advance(Duration::from_secs(3600));
        world.services.export_pem(&world.admin, id).await.unwrap();
        assert_eq!(world.recorded("export_pem").await, 3, "refused ones were no exports");
        world.db.execute("UPDATE certificate_versions SET pem_chain = 'nonsense'").await.unwrap();
        assert_eq!(outcome(world.services.export_pem(&other, id).await), "unprocessable");
        world.clock.advance(Duration::from_secs(3600));
        assert_eq!(outcome(world.services.export_pkcs12(&other, id, &Secret::new("")).await), "unprocessable");
    }
}
