//! Leases of loops.

use std::time::Duration;

use certctl_repository::{Db, leases};
use certctl_testkit::{TestDb, database::START, db_tests};

const TTL: Duration = Duration::from_secs(30);

async fn acquire(db: &Db, holder: &str, after: Duration) -> Option<i64> {
    tx!(db, conn => leases::acquire(conn, "digest", holder, TTL, START + after).await).unwrap()
}

db_tests! {
    async fn the_epoch_changes_with_the_holder_only(db: TestDb) {
        let second = Duration::from_secs(1);
        let steps = [
            ("a", 0, Some(1)),
            ("b", 1, None),
            ("a", 20, Some(1)),
            // Renewed until 50; at that very moment it still holds.
            ("b", 50, None),
            ("b", 51, Some(2)),
            ("a", 52, None),
            ("b", 200, Some(2)),
            ("a", 231, Some(3)),
        ];
        for (holder, after, expected) in steps {
            assert_eq!(acquire(&db, holder, after * second).await, expected, "{holder} after {after} s");
        }
        let other = tx!(db, conn => leases::acquire(conn, "crl", "b", TTL, START).await).unwrap();
        assert_eq!(other, Some(1));
    }

    async fn a_lease_that_is_given_up_is_free_at_once(db: TestDb) {
        assert_eq!(acquire(&db, "a", TTL).await, Some(1));
        tx!(db, conn => leases::release(conn, "digest", "b", START + TTL).await).unwrap();
        assert_eq!(acquire(&db, "b", TTL).await, None);
        tx!(db, conn => leases::release(conn, "digest", "a", START + TTL).await).unwrap();
        assert_eq!(acquire(&db, "b", TTL).await, Some(2));
    }

    async fn one_of_eight_wins_a_free_lease_and_one_an_expired_one(db: TestDb) {
        for (round, after) in [(1, Duration::ZERO), (2, 2 * TTL)] {
            let replicas: Vec<_> = (0..8)
                .map(|number| {
                    let db = db.db();
                    tokio::spawn(async move { acquire(&db, &format!("round {round} replica {number}"), after).await })
                })
                .collect();
            let mut won = Vec::new();
            for replica in replicas {
                won.extend(replica.await.unwrap());
            }
            assert_eq!(won, [round]);
        }
    }
}
