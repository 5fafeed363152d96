//! Words between replicas.

use std::time::Duration;

use certctl_repository::{Error, notify, transaction};
use certctl_testkit::{TestDb, database, db_tests};

/// Longer than a word ever takes; only bounds a hang.
const LIMIT: Duration = Duration::from_secs(30);

mod postgres {
    use super::{Error, LIMIT, TestDb, database, notify, transaction};

    #[test]
    fn what_is_committed_is_heard_and_what_is_rolled_back_is_not() {
        database::run(TestDb::postgres, |db| async move {
            let replica = db.replica();
            let mut listener = replica.listen(&["jobs", "cache \"x\""]).await.unwrap();
            let back: Result<(), Error> = transaction!(db, "test", conn => {
                notify(conn, "cache \"x\"").await?;
                Err(Error::NotFound)
            });
            assert!(back.is_err());
            for channel in ["jobs", "unheard", "cache \"x\"", "jobs"] {
                tx!(db, conn => notify(conn, channel).await).unwrap();
            }
            for expected in ["jobs", "cache \"x\"", "jobs"] {
                let heard = tokio::time::timeout(LIMIT, listener.recv())
                    .await
                    .expect("a word");
                assert_eq!(heard.unwrap().as_deref(), Some(expected));
            }
        });
    }

    #[test]
    fn the_end_of_the_connection_is_told() {
        database::run(TestDb::postgres, |db| async move {
            let mut listener = db.listen(&["jobs"]).await.unwrap();
            // A call that is dropped while it waits loses nothing.
            let early = tokio::time::timeout(std::time::Duration::ZERO, listener.recv()).await;
            assert!(early.is_err());
            tx!(db, conn => notify(conn, "jobs").await).unwrap();
            let heard = tokio::time::timeout(LIMIT, listener.recv())
                .await
                .expect("a word");
            assert_eq!(heard.unwrap().as_deref(), Some("jobs"));
            db.texts(
                "SELECT CAST(pg_terminate_backend(pid) AS text) AS value FROM pg_stat_activity \
                WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await;
            let end = tokio::time::timeout(LIMIT, listener.recv())
                .await
                .expect("an end");
            assert!(
                matches!(end, Ok(None) | Err(Error::Unavailable(_))),
                "{end:?}"
            );
            let mut listener = db.listen(&["jobs"]).await.unwrap();
            tx!(db, conn => notify(conn, "jobs").await).unwrap();
            let heard = tokio::time::timeout(LIMIT, listener.recv())
                .await
                .expect("a word");
            assert_eq!(heard.unwrap().as_deref(), Some("jobs"));
        });
    }
}

db_tests! {
    async fn saying_and_listening_are_possible_everywhere(db: TestDb) {
        let mut listener = db.listen(&["jobs"]).await.unwrap();
        tx!(db, conn => notify(conn, "other").await).unwrap();
        let silent = tokio::time::timeout(Duration::ZERO, listener.recv()).await;
        assert!(silent.is_err(), "{silent:?}");
    }
}
