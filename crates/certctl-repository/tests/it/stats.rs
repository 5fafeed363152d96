//! Counts by state and by day.

use std::time::Duration;

use certctl_domain::{certificate::CertificateStatus as Status, time::Timestamp};
use certctl_repository::{certificates, stats};
use certctl_testkit::{TestDb, database::START, db_tests};

const DAY: Duration = Duration::from_secs(86_400);

/// The day that the tests start on.
fn first() -> i64 {
    START.as_seconds() / 86_400
}

fn at(db: &TestDb, time: Timestamp) -> String {
    match db.backend() {
        certctl_repository::Backend::Postgres => {
            format!("to_timestamp({}::numeric / 1000000)", time.as_micros())
        }
        certctl_repository::Backend::Sqlite => time.as_micros().to_string(),
    }
}

db_tests! {
    async fn days_are_those_of_utc_and_their_last_microsecond_is_theirs(db: TestDb) {
        let basics = db.seed_basics().await;
        let last = Timestamp::from_micros(START.as_micros() + 86_399_999_999);
        for (id, ends, status) in [("mc-1", START, Status::Active), ("mc-2", last, Status::Expiring), ("mc-3", START + DAY, Status::Active),
            ("mc-4", START, Status::Revoked), ("mc-5", START, Status::Archived), ("mc-6", START + 5 * DAY, Status::Active)] {
            let mut one = basics.certificate(id);
            one.status = status;
            one.expires_at = Some(ends);
            tx!(db, conn => certificates::insert(conn, &one).await).unwrap();
        }
        let found = stats::expiries_by_day(reader!(db), START, START + 5 * DAY).await.unwrap();
        let found: Vec<_> = found.iter().map(|one| (one.day - first(), one.count)).collect();
        assert_eq!(found, [(0, 2), (1, 1)]);
        let states = stats::certificates_by_status(reader!(db)).await.unwrap();
        let states: Vec<_> = states.iter().map(|one| (one.status.as_str(), one.count)).collect();
        assert_eq!(states, [("Active", 3), ("Archived", 1), ("Expiring", 1), ("Pending", 1), ("Revoked", 1)]);
    }

    async fn versions_and_jobs_fall_on_the_day_they_came_to_an_end(db: TestDb) {
        let basics = db.seed_basics().await;
        for (serial, days) in [("1a", 0), ("1b", 2), ("1c", 2), ("1d", 9)] {
            let time = at(&db, START + days * DAY);
            let sql = format!("INSERT INTO certificate_versions (id, certificate_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain, created_at) \
                VALUES ('cv-{serial}', '{}', '{serial}', {time}, {time}, '{serial}', '', {time})", basics.certificate);
            db.execute(&sql).await.unwrap();
        }
        let found = stats::issuances_by_day(reader!(db), START, START + 9 * DAY).await.unwrap();
        let found: Vec<_> = found.iter().map(|one| (one.day - first(), one.count)).collect();
        assert_eq!(found, [(0, 1), (2, 2)]);

        for (id, status, days) in [("j1", "Completed", 0), ("j2", "Completed", 1), ("j3", "Failed", 1), ("j4", "Cancelled", 1), ("j5", "Failed", 4)] {
            let sql = format!("INSERT INTO jobs (id, type, status, completed_at) VALUES ('{id}', 'Renewal', '{status}', {})", at(&db, START + days * DAY));
            db.execute(&sql).await.unwrap();
        }
        let found = stats::jobs_by_day(reader!(db), START, START + 4 * DAY).await.unwrap();
        let found: Vec<_> = found.iter().map(|one| (one.day - first(), one.completed, one.failed)).collect();
        assert_eq!(found, [(0, 1, 0), (1, 1, 1)]);
    }
}
