//! Claims: what is taken, by whom, once.

use std::{collections::HashSet, time::Duration};

use certctl_domain::job::JobStatus;
use certctl_repository::{
    Db, Error,
    jobs::{NewJob, claim},
    transaction,
};
use certctl_testkit::{TestDb, database::START, db_tests, entities};

use crate::jobs::{insert, job, set, validation};

const LEASE: Duration = Duration::from_secs(300);
const SECOND: Duration = Duration::from_secs(1);

/// Claims once and tells the ids with their tokens.
async fn claim(db: &Db, owner: &str, limit: i64, after: Duration) -> Vec<(String, i64)> {
    let claimed =
        tx!(db, conn => claim::claim(conn, owner, LEASE, limit, START + after).await).unwrap();
    claimed
        .into_iter()
        .map(|one| (one.job.id.to_string(), one.token))
        .collect()
}

fn ids(claimed: &[(String, i64)]) -> Vec<&str> {
    claimed.iter().map(|one| one.0.as_str()).collect()
}

db_tests! {
    async fn what_is_due_is_taken_oldest_first_up_to_the_limit(db: TestDb) {
        let basics = db.seed_basics().await;
        let at = |id, seconds| NewJob { created_at: START + Duration::from_secs(seconds), ..validation(id, &basics.certificate) };
        insert(&db, &[at("job-d", 2), at("job-b", 1), at("job-c", 1), at("job-a", 3), at("job-later", 11)]).await;
        assert_eq!(ids(&claim(&db, "w1", 3, 10 * SECOND).await), ["job-b", "job-c", "job-d"]);
        assert_eq!(ids(&claim(&db, "w1", 3, 10 * SECOND).await), ["job-a"]);
        assert!(claim(&db, "w1", 3, 10 * SECOND).await.is_empty());
        assert_eq!(ids(&claim(&db, "w1", 3, 11 * SECOND).await), ["job-later"]);
        let found = job(&db, "job-b").await;
        assert_eq!((found.status, found.attempts, found.started_at), (JobStatus::Running, 1, Some(START + 10 * SECOND)));
        assert!(claim(&db, "w1", 0, 60 * SECOND).await.is_empty());
    }

    async fn an_agents_deployments_are_never_taken_by_the_server(db: TestDb) {
        let basics = db.seed_basics().await;
        let with = |id, agent| entities::deployment(id, &basics.certificate, &basics.target, agent);
        let lost = NewJob { target_id: None, ..with("job-server", Some(&basics.agent)) };
        insert(&db, &[with("job-agent", Some(&basics.agent)), with("job-target", None), lost]).await;
        for status in ["AwaitingCSR", "AwaitingApproval", "Running", "Completed", "Failed", "Cancelled"] {
            let id = format!("job-{}", status.to_lowercase());
            insert(&db, &[validation(&id, &basics.certificate)]).await;
            set(&db, &id, &format!("status = '{status}'")).await;
        }
        assert_eq!(ids(&claim(&db, "w1", 100, SECOND).await), ["job-server"]);
        for id in ["job-agent", "job-target"] {
            assert_eq!(job(&db, id).await.status, JobStatus::Pending, "{id}");
        }
    }

    async fn a_row_that_cannot_be_read_fails_and_the_others_are_taken(db: TestDb) {
        let basics = db.seed_basics().await;
        insert(&db, &["job-1", "job-2", "job-3"].map(|id| validation(id, &basics.certificate))).await;
        set(&db, "job-1", "type = 'Discovery'").await;
        set(&db, "job-2", "verification_status = 'perhaps'").await;
        assert_eq!(ids(&claim(&db, "w1", 10, SECOND).await), ["job-3"]);
        let rows = db.texts("SELECT id || ' ' || status || ' ' || COALESCE(last_error, '-') AS value FROM jobs \
            WHERE next_attempt_at IS NULL AND lease_expires_at IS NULL ORDER BY id").await;
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert!(rows[0].starts_with("job-1 Failed type: "), "{rows:?}");
        assert!(rows[1].starts_with("job-2 Failed verification_status: "), "{rows:?}");
    }

    async fn who_still_holds_a_job_is_told_by_its_token(db: TestDb) {
        let basics = db.seed_basics().await;
        insert(&db, &["job-1", "job-2"].map(|id| validation(id, &basics.certificate))).await;
        let claimed: Vec<_> = claim(&db, "w1", 10, SECOND).await.into_iter().map(|(id, token)| (certctl_domain::id::JobId::from_stored(id), token)).collect();
        assert_eq!(tx!(db, conn => claim::still_held(conn, &claimed).await).unwrap().len(), 2);
        set(&db, "job-1", "lease_token = lease_token + 1").await;
        set(&db, "job-2", "status = 'Cancelled'").await;
        assert!(tx!(db, conn => claim::still_held(conn, &claimed).await).unwrap().is_empty());
    }

    async fn eight_claimers_take_each_of_two_hundred_jobs_once(db: TestDb) {
        let basics = db.seed_basics().await;
        let new: Vec<NewJob> = (0..200).map(|number| validation(&format!("job-{number:03}"), &basics.certificate)).collect();
        insert(&db, &new).await;
        let claimers: Vec<_> = (0..8)
            .map(|number| {
                let db = db.db();
                tokio::spawn(async move {
                    let mut all = Vec::new();
                    loop {
                        let claimed = claim(&db, &format!("w{number}"), 7, SECOND).await;
                        assert!(claimed.len() <= 7, "{}", claimed.len());
                        if claimed.is_empty() {
                            return all;
                        }
                        all.extend(claimed);
                    }
                })
            })
            .collect();
        let mut taken = Vec::new();
        for claimer in claimers {
            taken.extend(claimer.await.unwrap());
        }
        assert_eq!(taken.len(), 200);
        assert!(taken.iter().all(|one| one.1 == 1));
        assert_eq!(taken.iter().map(|one| &one.0).collect::<HashSet<_>>().len(), 200);
        assert_eq!(db.text("SELECT CAST(max(attempts) AS text) AS value FROM jobs").await, "1");
    }

    async fn the_token_grows_with_every_claim(db: TestDb) {
        let basics = db.seed_basics().await;
        insert(&db, &[validation("job-1", &basics.certificate)]).await;
        for expected in 1..=3 {
            assert_eq!(claim(&db, "w1", 1, SECOND).await, [("job-1".to_owned(), expected)]);
            assert_eq!(tx!(db, conn => claim::release(conn, "w1", START).await).unwrap().len(), 1);
        }
        // A shutdown is no attempt.
        let found = job(&db, "job-1").await;
        assert_eq!((found.status, found.attempts), (JobStatus::Pending, 0));
        assert_eq!(db.text("SELECT lease_owner AS value FROM jobs").await, "NULL");
    }

    async fn leases_are_extended_and_given_back_for_their_holder_only(db: TestDb) {
        let basics = db.seed_basics().await;
        insert(&db, &[validation("job-1", &basics.certificate), validation("job-2", &basics.certificate)]).await;
        assert_eq!(claim(&db, "w1", 1, SECOND).await.len(), 1);
        assert_eq!(claim(&db, "w2", 1, SECOND).await.len(), 1);
        let late = START + SECOND + LEASE;
        let both = ["job-1", "job-2"].map(|id| certctl_domain::id::JobId::from_stored(id.to_owned()));
        assert_eq!(tx!(db, conn => claim::extend_leases(conn, "w1", &both[1..], LEASE, late).await).unwrap(), 0, "not its own");
        assert_eq!(tx!(db, conn => claim::extend_leases(conn, "w1", &both, LEASE, late).await).unwrap(), 1);
        let lost = tx!(db, conn => claim::recover(conn, late + SECOND).await).unwrap();
        assert_eq!(lost.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["job-2"]);
        assert_eq!(tx!(db, conn => claim::release(conn, "w2", late).await).unwrap().len(), 0);
        assert_eq!(tx!(db, conn => claim::extend_leases(conn, "w2", &both, LEASE, late).await).unwrap(), 0);
        assert_eq!(tx!(db, conn => claim::release(conn, "w1", late).await).unwrap().len(), 1);
    }

    async fn a_claim_that_is_rolled_back_took_nothing(db: TestDb) {
        let basics = db.seed_basics().await;
        insert(&db, &[validation("job-1", &basics.certificate)]).await;
        let failed: Result<(), Error> = transaction!(db, "test", conn => {
            assert_eq!(claim::claim(conn, "w1", LEASE, 1, START).await?.len(), 1);
            Err(Error::NotFound)
        });
        assert!(failed.is_err());
        assert_eq!(claim(&db, "w2", 1, SECOND).await, [("job-1".to_owned(), 1)]);
    }
}
