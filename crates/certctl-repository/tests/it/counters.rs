//! Totals that only grow.

use certctl_domain::{id::JobId, job::JobStatus};
use certctl_repository::{
    counters,
    jobs::{self, JobChange, claim},
    metrics,
};
use certctl_testkit::{TestDb, database::START, db_tests};

use crate::jobs::{insert, set, validation};

db_tests! {
    async fn many_connections_add_to_one_total(db: TestDb) {
        assert_eq!(counters::total(reader!(db), "test").await.unwrap(), 0);
        let adding: Vec<_> = (0..16).map(|_| {
            let db = db.db();
            tokio::spawn(async move {
                for by in [0, 1, 2] {
                    tx!(db, conn => counters::add(conn, "test", by).await).unwrap();
                }
            })
        }).collect();
        for one in adding {
            one.await.unwrap();
        }
        assert_eq!(counters::total(reader!(db), "test").await.unwrap(), 48);
        assert_eq!(counters::total(reader!(db), "other").await.unwrap(), 0);
    }

    async fn a_retry_lowers_no_total_and_neither_does_a_removal(db: TestDb) {
        let basics = db.seed_basics().await;
        insert(&db, &["job-1", "job-2"].map(|id| validation(id, &basics.certificate))).await;
        let end = async |id: &str, to: JobStatus| {
            set(&db, id, "status = 'Running', attempts = 1").await;
            let change = JobChange { id: &JobId::from_stored(id.into()), from: JobStatus::Running, to, error: None, next_attempt_at: Some(START), now: START };
            assert!(tx!(db, conn => jobs::change(conn, &change).await).unwrap());
        };
        end("job-1", JobStatus::Failed).await;
        end("job-2", JobStatus::Completed).await;
        let ended = async || {
            let counts = metrics::counts(reader!(db), START).await.unwrap();
            (counts.jobs_completed, counts.jobs_failed)
        };
        assert_eq!(ended().await, (1, 1));
        assert_eq!(tx!(db, conn => claim::retry_due(conn, START).await).unwrap().due.len(), 1);
        assert_eq!(ended().await, (1, 1));
        end("job-1", JobStatus::Failed).await;
        db.execute("DELETE FROM jobs").await.unwrap();
        assert_eq!(ended().await, (1, 2));
        end_of_nothing(&db).await;
        assert_eq!(ended().await, (1, 2), "what did not change is not counted");
    }
}

async fn end_of_nothing(db: &TestDb) {
    let id = JobId::from_stored("job-gone".into());
    let (from, to) = (JobStatus::Running, JobStatus::Failed);
    let change = JobChange {
        id: &id,
        from,
        to,
        error: None,
        next_attempt_at: None,
        now: START,
    };
    assert!(!tx!(db, conn => jobs::change(conn, &change).await).unwrap());
}
