//! The outbox: what is written once, and what is read of it.

use std::time::Duration;

use certctl_domain::{
    certificate::CertificateStatus as Status,
    id::{CertificateId, NotificationId, RenewalPolicyId},
    notification::{NotificationChannel as Channel, NotificationStatus, NotificationType as Type},
    page::PageRequest,
};
use certctl_repository::{
    Error, certificates,
    notifications::{self, ExpiryWindow, Notice, NotificationFilter},
};
use certctl_testkit::{Basics, TestDb, database::START, db_tests};

const DAY: Duration = Duration::from_secs(86_400);

fn notice(certificate: &CertificateId, key: &str) -> Notice {
    Notice {
        kind: Type::Revocation,
        certificate_id: certificate.clone(),
        message: "was revoked".into(),
        key: key.into(),
    }
}

/// All ids, with what is in the filter, in the order of the list.
async fn ids(db: &TestDb, filter: NotificationFilter) -> Vec<String> {
    let page = notifications::list(reader!(db), filter, PageRequest::default())
        .await
        .unwrap();
    assert_eq!(usize::try_from(page.total).unwrap(), page.rows.len());
    page.rows
        .into_iter()
        .map(|one| one.id.into_string())
        .collect()
}

/// A row as others write it: without a key.
async fn put(db: &TestDb, id: &str, status: &str, sent: Option<u32>) {
    let at = |days: u32| {
        let time = START + days * DAY;
        match db.backend() {
            certctl_repository::Backend::Postgres => format!("to_timestamp({})", time.as_seconds()),
            certctl_repository::Backend::Sqlite => time.as_micros().to_string(),
        }
    };
    let sent = sent.map_or("NULL".to_owned(), at);
    let sql = format!(
        "INSERT INTO notification_events (id, type, channel, recipient, message, status, sent_at, retry_count, error, last_error, \
            next_retry_at, created_at) \
         VALUES ('{id}', 'revocation', 'slack', 'x', 'y', '{status}', {sent}, 3, 'e', 'l', {}, {})",
        at(9),
        at(0)
    );
    db.execute(&sql).await.unwrap();
}

/// Certificates of the basic policy that end so many days from the start.
async fn ending(db: &TestDb, basics: &Basics, ends: &[(&str, i32, Status)]) {
    for (id, days, status) in ends {
        let mut one = basics.certificate(id);
        one.status = *status;
        let days_off = days.unsigned_abs() * DAY;
        one.expires_at = Some(if *days < 0 {
            START - days_off
        } else {
            START + days_off
        });
        tx!(db, conn => certificates::insert(conn, &one).await).unwrap();
    }
}

/// The thresholds 7 and 30 days by e-mail.
fn windows(policy: &RenewalPolicyId) -> Vec<ExpiryWindow> {
    [(7, START - 30 * DAY), (30, START + 7 * DAY)]
        .into_iter()
        .map(|(threshold, after)| ExpiryWindow {
            policy_id: policy.clone(),
            threshold,
            channel: Channel::Email,
            after,
            until: START + threshold * DAY,
        })
        .collect()
}

async fn alerted(db: &TestDb, policy: &RenewalPolicyId, limit: i64) -> Vec<String> {
    let alerts = tx!(db, conn => notifications::enqueue_expiry_alerts(conn, &windows(policy), limit, START).await);
    let mut told: Vec<String> = alerts
        .unwrap()
        .iter()
        .map(|one| format!("{} {} {}", one.certificate_id, one.threshold, one.channel))
        .collect();
    told.sort();
    told
}

db_tests! {
    async fn the_owner_is_told_once_for_each_key(db: TestDb) {
        let basics = db.seed_basics().await;
        let mute = certctl_domain::owner::Owner { email: String::new(), ..certctl_testkit::entities::owner("o-mute", &basics.team) };
        tx!(db, conn => certctl_repository::owners::insert(conn, &mute).await).unwrap();
        let mut other = basics.certificate("mc-mute");
        other.owner_id = mute.id;
        tx!(db, conn => certificates::insert(conn, &other).await).unwrap();
        let gone = CertificateId::from_stored("mc-gone".into());
        let all = [notice(&basics.certificate, "a"), notice(&other.id, "b"), notice(&gone, "c"), notice(&basics.certificate, "a")];
        assert_eq!(tx!(db, conn => notifications::enqueue_all(conn, &all, START).await).unwrap(), 2);
        assert_eq!(tx!(db, conn => notifications::enqueue_all(conn, &all, START).await).unwrap(), 0);
        assert_eq!(tx!(db, conn => notifications::enqueue_all(conn, &[], START).await).unwrap(), 0);
        let said = db.texts("SELECT dedupe_key || ' ' || recipient || ' ' || message AS value FROM notification_events ORDER BY 1").await;
        assert_eq!(said, ["a o-alice@example.test Certificate name-mc-web was revoked", "b o-mute Certificate name-mc-mute was revoked"]);
        let one = notifications::list(reader!(db), NotificationFilter::default(), PageRequest::default()).await.unwrap().rows.pop().unwrap();
        assert_eq!((one.status, one.kind, one.channel, one.retry_count, one.sent_at, one.created_at),
            (NotificationStatus::Pending, Type::Revocation, Channel::Email, 0, None, START));
    }

    async fn what_was_sent_last_comes_first_and_what_was_not_at_the_end(db: TestDb) {
        for (id, status, sent) in [("ne-1", "sent", Some(1)), ("ne-2", "PENDING", None), ("ne-3", "sent", Some(3)), ("ne-4", "dead", None)] {
            put(&db, id, &status.to_lowercase(), sent).await;
        }
        assert_eq!(ids(&db, NotificationFilter::default()).await, ["ne-3", "ne-1", "ne-4", "ne-2"]);
        let sent = NotificationFilter { status: Some(NotificationStatus::Sent), ..Default::default() };
        assert_eq!(ids(&db, sent).await, ["ne-3", "ne-1"]);
        let of_none = NotificationFilter { channel: Some(Channel::Email), ..Default::default() };
        assert!(ids(&db, of_none).await.is_empty());
        let page = notifications::list(reader!(db), NotificationFilter::default(), PageRequest::lenient(Some("2"), Some("3"))).await.unwrap();
        assert_eq!((page.total, page.rows.len(), page.rows[0].id.as_str()), (4, 1, "ne-2"));
        // Others spell as they like.
        assert_eq!((page.rows[0].channel, page.rows[0].kind), (Channel::Slack, Type::Revocation));
    }

    async fn what_failed_is_sent_again_from_the_first_attempt_on(db: TestDb) {
        for status in NotificationStatus::ALL {
            put(&db, &format!("ne-{status}"), status.as_str(), None).await;
        }
        for status in NotificationStatus::ALL {
            let id = NotificationId::from_stored(format!("ne-{status}"));
            let again = tx!(db, conn => notifications::requeue(conn, &id).await).unwrap();
            assert_eq!(again, status.may_requeue(), "{status}");
            let now = notifications::find(reader!(db), &id).await.unwrap();
            if again {
                assert_eq!((now.status, now.retry_count, now.error, now.last_error, now.next_retry_at), (NotificationStatus::Pending, 0, None, None, None));
            } else {
                assert_eq!((now.status, now.retry_count), (*status, 3));
            }
            assert_eq!(tx!(db, conn => notifications::mark_read(conn, &id).await).unwrap(), *status != NotificationStatus::Read);
            assert_eq!(notifications::find(reader!(db), &id).await.unwrap().status, NotificationStatus::Read);
        }
        let none = NotificationId::from_stored("ne-none".into());
        for outcome in [tx!(db, conn => notifications::requeue(conn, &none).await), tx!(db, conn => notifications::mark_read(conn, &none).await)] {
            assert!(matches!(outcome, Err(Error::NotFound)), "{outcome:?}");
        }
    }

    async fn an_end_that_is_near_is_told_at_its_tightest_threshold_once_for_each_version(db: TestDb) {
        let basics = db.seed_basics().await;
        ending(&db, &basics, &[("mc-5", 5, Status::Active), ("mc-7", 7, Status::Failed), ("mc-8", 8, Status::Expiring), ("mc-30", 30, Status::RenewalInProgress),
            ("mc-31", 31, Status::Active), ("mc-past", -2, Status::Expired), ("mc-long-past", -31, Status::Expired), ("mc-revoked", 3, Status::Revoked),
            ("mc-archived", 3, Status::Archived)]).await;
        let expected = ["mc-30 30 Email", "mc-5 7 Email", "mc-7 7 Email", "mc-8 30 Email", "mc-past 7 Email"];
        assert_eq!(alerted(&db, &basics.policy, 100).await, expected);
        assert!(alerted(&db, &basics.policy, 100).await.is_empty(), "each is told once");
        let said = db.texts("SELECT message AS value FROM notification_events WHERE certificate_id IN ('mc-30', 'mc-past') ORDER BY certificate_id").await;
        assert_eq!(said, ["Certificate name-mc-30 expires within 30 days [threshold:30]", "Certificate name-mc-past expires within 7 days [threshold:7]"]);

        db.execute("INSERT INTO certificate_versions (id, certificate_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain) \
            SELECT 'cv-1', id, '1f', created_at, created_at, 'f1', '' FROM managed_certificates WHERE id = 'mc-5'").await.unwrap();
        assert_eq!(alerted(&db, &basics.policy, 100).await, ["mc-5 7 Email"], "a new version is told anew");
    }

    async fn alerts_are_written_no_more_than_asked_for_at_a_time(db: TestDb) {
        let basics = db.seed_basics().await;
        ending(&db, &basics, &[("mc-1", 5, Status::Active), ("mc-2", 20, Status::Active), ("mc-3", 20, Status::Active)]).await;
        let first = alerted(&db, &basics.policy, 2).await;
        let second = alerted(&db, &basics.policy, 2).await;
        assert_eq!((first.len(), second.len(), alerted(&db, &basics.policy, 2).await.len()), (2, 1, 0));
        let others = RenewalPolicyId::from_stored("rp-default".into());
        assert!(alerted(&db, &others, 100).await.is_empty());
    }
}
