//! What is written into the outbox, in the transaction of what it tells of.

use std::time::Duration;

use certctl_domain::{
    certificate::{Certificate, CertificateStatus},
    ports::issuer::IssuerError,
};
use certctl_testkit::{TestDb, db_tests};

use crate::support::World;

const DAY: Duration = Duration::from_secs(86_400);

/// What is in the outbox, oldest first.
async fn told(world: &World) -> Vec<String> {
    let sql = "SELECT type || ' ' || certificate_id || ' ' || status AS value FROM notification_events ORDER BY created_at, id";
    world.db.texts(sql).await
}

db_tests! {
    async fn a_renewal_is_told_when_it_ends_and_not_while_it_is_tried_again(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let id = world.ids.certificate.clone();
        world.ca.refuse(Some(IssuerError::Upstream5xx("down".into())));
        world.renew(&id).await;
        assert_eq!(world.work().await.failed, 1);
        assert!(told(&world).await.is_empty(), "it is tried again");
        world.ca.refuse(None);
        world.clock.advance(DAY);
        assert_eq!(world.services.retry_jobs().await.unwrap(), 1);
        assert_eq!(world.work().await.completed, 1);
        assert_eq!(told(&world).await, ["RenewalSuccess mc-web pending"]);
        let text = world.db.text("SELECT recipient || ' ' || message AS value FROM notification_events").await;
        assert!(text.starts_with("o-alice@example.test Certificate name-mc-web was issued anew with serial number "), "{text}");
    }

    async fn a_renewal_that_is_given_up_is_told(db: TestDb) {
        let world = World::with_server_keys(db).await;
        world.ca.refuse(Some(IssuerError::Validation("no such name".into())));
        world.renew(&world.ids.certificate).await;
        assert_eq!(world.work().await.failed, 1);
        assert_eq!(told(&world).await, ["RenewalFailure mc-web pending"]);
    }

    async fn a_revocation_is_told_with_it_or_neither_is(db: TestDb) {
        let world = World::new(db).await;
        world.issued().await;
        let before = told(&world).await;
        let revoke = async || world.services.revoke_certificate(&world.admin, &world.ids.certificate, Some("superseded")).await;
        world.db.execute("ALTER TABLE notification_events RENAME TO notification_events_away").await.unwrap();
        revoke().await.unwrap_err();
        assert_eq!(world.status().await, "Active");
        world.db.execute("ALTER TABLE notification_events_away RENAME TO notification_events").await.unwrap();
        revoke().await.unwrap();
        let after = told(&world).await;
        assert_eq!(after.len(), before.len() + 1);
        assert!(after.contains(&"Revocation mc-web pending".to_owned()), "{after:?}");
    }

    async fn ends_that_are_near_are_told_once_with_their_audit_rows(db: TestDb) {
        let world = World::new(db).await;
        let ends = |days: u32| Some(world.now() + days * DAY);
        for (id, days) in [("mc-6", 6), ("mc-20", 20), ("mc-40", 40)] {
            world.enter(&Certificate { status: CertificateStatus::Active, expires_at: ends(days), ..world.ids.certificate(id) }).await;
        }
        assert_eq!(world.services.alert_expiries().await.unwrap(), 2);
        assert_eq!(world.services.alert_expiries().await.unwrap(), 0);
        assert_eq!(world.recorded("expiration_alert_sent").await, 2);
        world.clock.advance(11 * DAY);
        assert_eq!(world.services.alert_expiries().await.unwrap(), 3, "0, 14 and 30 days were crossed");
        let keys = world.db.texts("SELECT dedupe_key AS value FROM notification_events ORDER BY dedupe_key").await;
        assert_eq!(keys, ["expiry:mc-20:14:Email", "expiry:mc-20:30:Email", "expiry:mc-40:30:Email", "expiry:mc-6:0:Email", "expiry:mc-6:7:Email"]);
    }

    async fn ends_that_nobody_is_told_of_are_on_record_once(db: TestDb) {
        let world = World::new(db).await;
        // Rows of others may name what the API refuses.
        let channels = "UPDATE renewal_policies SET alert_channels = '{\"critical\": [\"Slack\", \"Fax\", \"Pigeon\"], \"warning\": []}' WHERE id = 'rp-standard'";
        world.db.execute(channels).await.unwrap();
        let ends = |days: u32| Some(world.now() + days * DAY);
        for (id, days) in [("mc-0", 0), ("mc-6", 6), ("mc-20", 20), ("mc-40", 40)] {
            world.enter(&Certificate { status: CertificateStatus::Active, expires_at: ends(days), ..world.ids.certificate(id) }).await;
        }
        world.enter(&Certificate { status: CertificateStatus::Archived, expires_at: ends(6), ..world.ids.certificate("mc-archived") }).await;
        let sql = match world.db.backend() {
            certctl_repository::Backend::Postgres => "SELECT resource_id || ' ' || action || ' ' || (details ->> 'threshold_days') || ' ' || COALESCE(details ->> 'channel', '-') AS value \
                FROM audit_events WHERE action LIKE 'expiration_alert_skipped%' AND actor_type = 'System' ORDER BY 1",
            certctl_repository::Backend::Sqlite => "SELECT resource_id || ' ' || action || ' ' || json_extract(details, '$.threshold_days') || ' ' || COALESCE(json_extract(details, '$.channel'), '-') AS value \
                FROM audit_events WHERE action LIKE 'expiration_alert_skipped%' AND actor_type = 'System' ORDER BY 1",
        };
        let expected = [
            "mc-0 expiration_alert_skipped_invalid_channel 0 Fax",
            "mc-0 expiration_alert_skipped_invalid_channel 0 Pigeon",
            "mc-20 expiration_alert_skipped_no_channels 30 -",
            "mc-6 expiration_alert_skipped_no_channels 7 -",
        ];
        for round in 0..3 {
            assert_eq!(world.services.alert_expiries().await.unwrap(), usize::from(round == 0), "by Slack, of the one that has ended");
            assert_eq!(world.db.texts(sql).await, expected, "round {round}");
        }
        // The next threshold is another matter.
        world.clock.advance(7 * DAY);
        world.services.alert_expiries().await.unwrap();
        let after = world.db.texts(sql).await;
        assert!(after.contains(&"mc-20 expiration_alert_skipped_no_channels 14 -".to_owned()) && after.contains(&"mc-6 expiration_alert_skipped_invalid_channel 0 Fax".to_owned()), "{after:?}");
        assert_eq!(world.services.seal_audit_log().await.unwrap().rows, after.len() as u64 + 2, "with the two that were sent");
    }
}
