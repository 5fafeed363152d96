use certctl_domain::revocation::RevocationReason;
use certctl_testkit::{TestDb, db_tests};

use crate::support::{World, certificate_id, csr, outcome};

db_tests! {
    async fn each_reason_is_recorded_with_serial_actor_and_audit_row(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let reasons = RevocationReason::ALL.map(RevocationReason::as_str);
        for (number, reason) in reasons.into_iter().enumerate() {
            let one = world.ids.certificate(&format!("mc-{number}"));
            world.enter(&one).await;
            world.renew(&one.id).await;
            assert_eq!(world.work().await.completed, 1);
            world.services.revoke_certificate(&world.admin, &one.id, Some(reason)).await.unwrap();
            let now = world.certificate(&one.id).await;
            assert_eq!((now.status.as_str(), now.revoked_at, now.revocation_reason.map(RevocationReason::as_str)), ("Revoked", Some(world.now()), Some(reason)));
            let sql = format!("SELECT r.serial_number || ' ' || r.reason || ' ' || r.revoked_by || ' ' || r.issuer_id AS value FROM certificate_revocations r WHERE r.certificate_id = '{}'", one.id);
            let serial = world.versions().await.pop().unwrap();
            assert!(world.ca.told().contains(&serial), "the CA is told");
            let of_one = world.db.text(&sql).await;
            assert_eq!(of_one, format!("{} {reason} ann iss-local", of_one.split(' ').next().unwrap()));
        }
        assert_eq!(world.recorded("certificate_revoked").await, reasons.len());
    }

    async fn who_signed_a_version_of_others_is_taken_to_be_the_certificates_issuer(db: TestDb) {
        let world = World::new(db).await;
        world.issued().await;
        world.db.execute("UPDATE certificate_versions SET issuer_id = NULL").await.unwrap();
        world.services.revoke_certificate(&world.admin, &world.ids.certificate, None).await.unwrap();
        assert_eq!(world.db.text("SELECT issuer_id AS value FROM certificate_revocations").await, "iss-local");
        assert_eq!(world.ca.told(), world.versions().await, "that one is told, too");
    }

    async fn what_cannot_be_revoked_is_told_so_and_nothing_changes(db: TestDb) {
        let world = World::new(db).await;
        let id = &world.ids.certificate;
        let revoke = async |id: &certctl_domain::id::CertificateId, reason: Option<&str>| outcome(world.services.revoke_certificate(&world.admin, id, reason).await);
        assert_eq!(revoke(&certificate_id("mc-gone"), None).await, "no certificate");
        assert_eq!(revoke(id, None).await, "no issued version of certificate");
        world.issued().await;
        assert_eq!(revoke(id, Some("bored")).await, "invalid reason");
        assert_eq!(revoke(id, Some("removeFromCRL")).await, "invalid reason");
        assert_eq!(world.status().await, "Active");
        assert_eq!(revoke(id, None).await, "ok");
        assert_eq!(revoke(id, None).await, "bad request", "twice");
        let serial = world.versions().await.pop().unwrap();
        assert_eq!(world.revoked().await, [format!("{serial} unspecified")]);
        world.enter(&certctl_domain::certificate::Certificate { status: certctl_domain::certificate::CertificateStatus::Archived, ..world.ids.certificate("mc-old") }).await;
        assert_eq!(revoke(&certificate_id("mc-old"), None).await, "bad request");
        assert_eq!(world.recorded("certificate_revoked").await, 1);
    }

    async fn state_revocation_and_audit_row_are_written_together_or_not_at_all(db: TestDb) {
        let world = World::new(db).await;
        world.issued().await;
        // The last write of the transaction fails: what came before it must be gone too.
        world.db.execute("ALTER TABLE audit_events RENAME TO audit_events_away").await.unwrap();
        world.services.revoke_certificate(&world.admin, &world.ids.certificate, None).await.unwrap_err();
        world.db.execute("ALTER TABLE audit_events_away RENAME TO audit_events").await.unwrap();
        assert_eq!(world.status().await, "Active");
        assert_eq!((world.revoked().await, world.ca.told()), (Vec::new(), Vec::new()));
        world.services.revoke_certificate(&world.admin, &world.ids.certificate, None).await.unwrap();
    }

    async fn a_renewal_that_waits_ends_with_the_certificate(db: TestDb) {
        let world = World::new(db).await;
        world.issued().await;
        let waiting = world.renew(&world.ids.certificate).await;
        world.services.revoke_certificate(&world.admin, &world.ids.certificate, None).await.unwrap();
        assert_eq!(world.ended(&waiting).await, ("Cancelled", "the certificate was revoked".into()));
        assert_eq!(world.jobs("Deployment").await, ["Cancelled"], "nobody deploys what is revoked");
        assert_eq!(outcome(world.hand_in(&csr()).await), "conflict");
    }

    async fn what_is_signed_while_the_certificate_is_revoked_is_revoked_with_it_and_not_deployed(db: TestDb) {
        let world = World::new(db).await;
        world.issued().await;
        let job = world.renew(&world.ids.certificate).await;
        world.hand_in(&csr()).await.unwrap();
        let shut = world.ca.shut(true);
        let services = world.services.clone();
        let working = tokio::spawn(async move { crate::support::process(&services).await });
        shut.arrived().await;
        world.services.revoke_certificate(&world.admin, &world.ids.certificate, Some("keyCompromise")).await.unwrap();
        shut.open();
        assert_eq!(working.await.unwrap().completed, 1);
        assert_eq!((world.status().await, world.ended(&job).await.0), ("Revoked", "Completed"));
        let serials = world.versions().await;
        let mut expected = vec![format!("{} keyCompromise", serials[0]), format!("{} cessationOfOperation", serials[1])];
        expected.sort();
        assert_eq!(world.revoked().await, expected);
        assert_eq!(world.jobs("Deployment").await, ["Cancelled"], "that of the first version; none of the second");
    }
}
