use std::time::Duration;

use certctl_domain::{
    access::Actor,
    certificate::CertificateStatus,
    id::{CertificateId, RenewalPolicyId},
    page::PageRequest,
    renewal_policy::RenewalPolicy,
    time::Timestamp,
};
use certctl_repository::{Error as RepositoryError, certificates, transaction};
use certctl_service::renewal_policies::RenewalPolicyInput;
use certctl_testkit::{TestDb, database::START, db_tests};

use crate::kit::{Kit, outcome};

const DAY: Duration = Duration::from_secs(86_400);

fn named(name: &str) -> RenewalPolicyInput {
    RenewalPolicyInput {
        name: Some(name.to_owned()),
        ..RenewalPolicyInput::default()
    }
}

fn id(text: &str) -> RenewalPolicyId {
    RenewalPolicyId::from_stored(text.to_owned())
}

/// Enters an issued certificate of `rp-standard` with a life, planned for its end.
async fn issued(kit: &Kit, name: &str, life: Duration) {
    let mut certificate = certctl_testkit::Basics::default().certificate(name);
    certificate.status = CertificateStatus::Active;
    certificate.expires_at = Some(START + life);
    certificate.renew_at = certificate.expires_at;
    let entered: Result<(), RepositoryError> = transaction!(kit.db, "enter", conn => {
        certificates::insert(conn, &certificate).await
    });
    entered.unwrap();
    let at = |time: Timestamp| {
        if kit.db.url().starts_with("postgres") {
            format!("'{time}'::timestamptz")
        } else {
            time.as_micros().to_string()
        }
    };
    let (from, to) = (at(START), at(START + life));
    kit.db
        .execute(&format!(
            "INSERT INTO certificate_versions (id, certificate_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain) \
             VALUES ('v-{name}', '{name}', '{name}', {from}, {to}, '{name}', '')"
        ))
        .await
        .unwrap();
}

db_tests! {
    async fn what_is_not_said_of_a_new_policy_has_its_default(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        let made = services.create_renewal_policy(admin, named("Standard 30-day")).await.unwrap();
        let RenewalPolicy { renewal_window_days, auto_renew, max_retries, retry_interval_seconds, .. } = made;
        assert_eq!((renewal_window_days, auto_renew, max_retries, retry_interval_seconds), (30, true, 3, 3600));
        assert_eq!(made.alert_thresholds_days, [30, 14, 7, 0]);
        assert!(made.alert_channels.is_empty() && made.alert_severity_map.is_empty());
        assert_eq!(services.get_renewal_policy(admin, &id("rp-standard-30-day")).await.unwrap(), made);
    }

    async fn names_that_make_the_same_slug_are_numbered(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        let long = "x".repeat(255);
        for (name, expected) in [
            ("Weekly", "rp-weekly".to_owned()),
            ("weekly", "rp-weekly-2".to_owned()),
            ("Weekly!", "rp-weekly-3".to_owned()),
            (&long, format!("rp-{}", "x".repeat(61))),
            (&long.to_uppercase(), format!("rp-{}-2", "x".repeat(59))),
        ] {
            let made = services.create_renewal_policy(admin, named(name)).await.unwrap();
            assert_eq!(made.id.as_str(), expected);
        }
        assert_eq!(outcome(services.create_renewal_policy(admin, named("Weekly")).await), "conflict");
    }

    async fn an_update_keeps_what_it_does_not_say(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        let made = services.create_renewal_policy(admin, RenewalPolicyInput { max_retries: Some(0), ..named("Weekly") }).await.unwrap();
        let said = RenewalPolicyInput {
            auto_renew: Some(false),
            alert_channels: Some([("critical".to_owned(), vec!["Email".to_owned(), "Slack".to_owned()])].into()),
            alert_severity_map: Some([("7".to_owned(), "critical".to_owned())].into()),
            ..RenewalPolicyInput::default()
        };
        let changed = services.update_renewal_policy(admin, &made.id, said.clone()).await.unwrap();
        assert_eq!(changed, RenewalPolicy {
            auto_renew: false,
            alert_channels: said.alert_channels.clone().unwrap(),
            alert_severity_map: said.alert_severity_map.clone().unwrap(),
            ..made.clone()
        });
        // The id stays with the policy whatever it is called.
        let renamed = services.update_renewal_policy(admin, &made.id, named("Monthly")).await.unwrap();
        assert_eq!((renamed.id, renamed.name.as_str(), renamed.max_retries), (made.id.clone(), "Monthly", 0));
        services.delete_renewal_policy(admin, &made.id).await.unwrap();
        assert_eq!(kit.audit().await, [
            "ann create_renewal_policy renewal_policy rp-weekly config",
            "ann delete_renewal_policy renewal_policy rp-weekly config",
            "ann update_renewal_policy renewal_policy rp-weekly config",
            "ann update_renewal_policy renewal_policy rp-weekly config",
        ]);
    }

    async fn another_window_plans_the_renewals_of_its_certificates_anew(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        kit.db.seed_basics().await;
        issued(&kit, "mc-long", 90 * DAY).await;
        issued(&kit, "mc-short", 6 * DAY).await;
        let window = |days| RenewalPolicyInput { renewal_window_days: Some(days), ..RenewalPolicyInput::default() };
        services.update_renewal_policy(admin, &id("rp-standard"), window(10)).await.unwrap();
        // Ten days before the end and within the next tenth of them; a short life is renewed in its last third.
        for (name, earliest, latest) in [
            ("mc-long", START + 80 * DAY, START + 81 * DAY),
            ("mc-short", START + 4 * DAY, START + 4 * DAY + DAY / 5),
        ] {
            let planned = services.get_certificate(admin, &CertificateId::from_stored(name.to_owned())).await.unwrap().renew_at.unwrap();
            assert!((earliest..=latest).contains(&planned), "{name}: {planned}");
        }
        let waiting = services.get_certificate(admin, &CertificateId::from_stored("mc-web".to_owned())).await.unwrap();
        assert_eq!(waiting.renew_at, None, "nothing is issued of it");
    }

    async fn what_is_wrong_with_a_policy_is_named(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        kit.db.seed_basics().await;
        let with = |change: fn(&mut RenewalPolicyInput)| {
            let mut input = named("New");
            change(&mut input);
            input
        };
        for (refused, expected) in [
            (with(|p| p.name = None), "invalid name"),
            (with(|p| p.name = Some(String::new())), "invalid name"),
            (with(|p| p.name = Some("x".repeat(256))), "invalid name"),
            (with(|p| p.name = Some("name-rp-standard".to_owned())), "conflict"),
            (with(|p| p.renewal_window_days = Some(0)), "invalid renewal_window_days"),
            (with(|p| p.renewal_window_days = Some(366)), "invalid renewal_window_days"),
            (with(|p| p.max_retries = Some(11)), "invalid max_retries"),
            (with(|p| p.retry_interval_seconds = Some(59)), "invalid retry_interval_seconds"),
            (with(|p| p.retry_interval_seconds = Some(86_401)), "invalid retry_interval_seconds"),
            (with(|p| p.alert_thresholds_days = Some(vec![30, 366])), "invalid alert_thresholds_days"),
            (with(|p| p.alert_channels = Some([("urgent".to_owned(), vec![])].into())), "invalid alert_channels"),
            (with(|p| p.alert_channels = Some([("critical".to_owned(), vec!["Pigeon".to_owned()])].into())), "invalid alert_channels"),
            (with(|p| p.alert_severity_map = Some([("soon".to_owned(), "critical".to_owned())].into())), "invalid alert_severity_map"),
        ] {
            assert_eq!(outcome(services.create_renewal_policy(admin, refused.clone()).await), expected, "{refused:?}");
            if refused.name.is_some() {
                assert_eq!(outcome(services.update_renewal_policy(admin, &id("rp-default"), refused.clone()).await), expected, "{refused:?}");
            }
        }
        for (outcome, expected) in [
            (outcome(services.update_renewal_policy(admin, &id("rp-none"), named("New")).await), "no renewal policy"),
            (outcome(services.get_renewal_policy(admin, &id("rp-none")).await), "no renewal policy"),
            (outcome(services.delete_renewal_policy(admin, &id("rp-none")).await), "no renewal policy"),
            (outcome(services.delete_renewal_policy(admin, &id("rp-standard")).await), "conflict"),
        ] {
            assert_eq!(outcome, expected);
        }
        assert_eq!(kit.audit().await.len(), 0, "what was refused is not on record");
    }

    async fn who_holds_nothing_does_nothing_with_policies(db: TestDb) {
        let kit = Kit::new(db);
        let (services, nobody) = (&kit.services, &Actor::anonymous());
        assert_eq!([
            outcome(services.list_renewal_policies(nobody, PageRequest::default()).await),
            outcome(services.get_renewal_policy(nobody, &id("rp-default")).await),
            outcome(services.create_renewal_policy(nobody, named("x")).await),
            outcome(services.update_renewal_policy(nobody, &id("rp-default"), named("x")).await),
            outcome(services.delete_renewal_policy(nobody, &id("rp-default")).await),
        ], ["needs policy.read", "needs policy.read", "needs policy.edit", "needs policy.edit", "needs policy.delete"]);
    }
}
