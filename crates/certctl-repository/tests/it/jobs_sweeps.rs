//! Sweeps: recovery of lost leases, retries, time-outs, agents that fell silent.

use std::time::Duration;

use certctl_domain::{id::JobId, job::JobStatus, time::Timestamp};
use certctl_repository::{
    agents,
    jobs::{NewJob, claim},
};
use certctl_testkit::{TestDb, database::START, db_tests, entities};

use crate::jobs::{insert, job, set, validation};

const LEASE: Duration = Duration::from_secs(300);
const HOUR: Duration = Duration::from_secs(3600);

fn ids(swept: &[claim::Swept]) -> Vec<&str> {
    let mut ids: Vec<&str> = swept.iter().map(|one| one.id.as_str()).collect();
    ids.sort_unstable();
    ids
}

/// Makes jobs fail that may be tried again at once.
async fn fail(db: &TestDb, ids: &[&str]) {
    for id in ids {
        set(db, id, "status = 'Failed', attempts = 1, completed_at = created_at, next_attempt_at = created_at").await;
    }
}

async fn retry(db: &TestDb, now: Timestamp) -> Vec<claim::Swept> {
    tx!(db, conn => claim::retry_due(conn, now).await)
        .unwrap()
        .due
}

db_tests! {
    async fn a_lost_lease_makes_a_job_due_again_until_its_attempts_are_used_up(db: TestDb) {
        let basics = db.seed_basics().await;
        let once = NewJob { max_attempts: 1, ..validation("job-once", &basics.certificate) };
        insert(&db, &[once, validation("job-more", &basics.certificate)]).await;
        insert(&db, &[entities::deployment("job-agent", &basics.certificate, &basics.target, Some(&basics.agent))]).await;
        set(&db, "job-agent", "status = 'Running'").await;
        tx!(db, conn => claim::claim(conn, "w1", LEASE, 10, START).await).unwrap();
        let now = START + LEASE;
        assert!(tx!(db, conn => claim::recover(conn, now).await).unwrap().is_empty());
        let now = now + Duration::from_micros(1);
        let lost = tx!(db, conn => claim::recover(conn, now).await).unwrap();
        assert_eq!(ids(&lost), ["job-more", "job-once"]);
        for one in lost {
            let expected = if one.id.as_str() == "job-once" { ("Failed", 1, 1) } else { ("Pending", 1, 3) };
            assert_eq!((one.status.as_str(), one.attempts, one.max_attempts), expected);
            assert_eq!(one.certificate_id.as_ref(), Some(&basics.certificate));
        }
        let once = job(&db, "job-once").await;
        assert_eq!((once.status, once.completed_at, once.next_attempt_at), (JobStatus::Failed, Some(now), None));
        let more = job(&db, "job-more").await;
        assert_eq!((more.status, more.completed_at), (JobStatus::Pending, None));
        assert_eq!(more.last_error.as_deref(), Some("the worker that held this job died"));
        assert_eq!(job(&db, "job-agent").await.status, JobStatus::Running);
    }

    async fn what_failed_is_tried_again_when_its_time_has_come(db: TestDb) {
        let basics = db.seed_basics().await;
        let new = ["job-due", "job-later", "job-spent", "job-final"].map(|id| validation(id, &basics.certificate));
        insert(&db, &new).await;
        fail(&db, &["job-due", "job-later", "job-spent", "job-final"]).await;
        set(&db, "job-spent", "attempts = 3").await;
        set(&db, "job-final", "next_attempt_at = NULL").await;
        let later = START + HOUR;
        let change = certctl_repository::jobs::JobChange {
            id: &JobId::from_stored("job-later".into()), from: JobStatus::Failed, to: JobStatus::Failed, error: None,
            next_attempt_at: Some(later), now: START,
        };
        assert!(tx!(db, conn => certctl_repository::jobs::change(conn, &change).await).unwrap());
        let swept = retry(&db, START).await;
        assert_eq!(ids(&swept), ["job-due"]);
        assert_eq!((swept[0].status.as_str(), swept[0].attempts, swept[0].max_attempts), ("Pending", 1, 3));
        let due = job(&db, "job-due").await;
        assert_eq!((due.status, due.next_attempt_at, due.completed_at, due.scheduled_at), (JobStatus::Pending, None, None, START));
        assert!(retry(&db, START).await.is_empty());
        assert_eq!(ids(&retry(&db, later).await), ["job-later"]);
    }

    async fn a_renewal_is_not_tried_again_beside_an_open_one_or_after_a_newer_one(db: TestDb) {
        let basics = db.seed_basics().await;
        let certificate = &basics.certificate;
        insert(&db, &[entities::renewal("job-old", certificate)]).await;
        fail(&db, &["job-old"]).await;
        // An open one that is not newer: the clock of the other replica is behind.
        let behind = NewJob { created_at: START - HOUR, ..entities::renewal("job-open", certificate) };
        insert(&db, &[behind]).await;
        assert!(retry(&db, START).await.is_empty());
        assert!(job(&db, "job-old").await.next_attempt_at.is_some());
        set(&db, "job-open", "status = 'Completed'").await;
        assert_eq!(ids(&retry(&db, START).await), ["job-old"]);

        // Two failed renewals of one certificate: the newer one counts, even when it is done with.
        fail(&db, &["job-old"]).await;
        insert(&db, &[NewJob { created_at: START + HOUR, ..entities::renewal("job-new", certificate) }]).await;
        fail(&db, &["job-new"]).await;
        assert_eq!(ids(&retry(&db, START + HOUR).await), ["job-new"]);
        set(&db, "job-new", "status = 'Completed'").await;
        assert!(retry(&db, START + HOUR).await.is_empty());
        let old = job(&db, "job-old").await;
        assert_eq!((old.status, old.next_attempt_at), (JobStatus::Failed, None));
    }

    async fn a_deployment_that_is_tried_again_goes_to_the_agent_its_target_has_by_then(db: TestDb) {
        let basics = db.seed_basics().await;
        let next = entities::agent("ag-next");
        tx!(db, conn => agents::insert(conn, &next, "hash-next").await).unwrap();
        let with = |id| entities::deployment(id, &basics.certificate, &basics.target, Some(&basics.agent));
        insert(&db, &[with("job-lost"), with("job-failed")]).await;
        tx!(db, conn => certctl_repository::jobs::agent::claim_deployments(conn, &basics.agent, 10, START).await).unwrap();
        fail(&db, &["job-failed"]).await;
        db.execute("UPDATE deployment_targets SET agent_id = 'ag-next' WHERE id = 'tgt-web'").await.unwrap();
        let now = START + HOUR;
        assert_eq!(ids(&tx!(db, conn => claim::recover(conn, now).await).unwrap()), ["job-lost"]);
        assert_eq!(ids(&retry(&db, now).await), ["job-failed"]);
        for id in ["job-lost", "job-failed"] {
            assert_eq!(job(&db, id).await.agent_id.as_ref(), Some(&next.id), "{id}");
        }
    }

    async fn jobs_that_wait_too_long_fail(db: TestDb) {
        let basics = db.seed_basics().await;
        let new = ["job-csr", "job-new", "job-approval"].map(|id| validation(id, &basics.certificate));
        insert(&db, &new).await;
        set(&db, "job-csr", "status = 'AwaitingCSR'").await;
        set(&db, "job-new", "status = 'AwaitingCSR'").await;
        set(&db, "job-approval", "status = 'AwaitingApproval'").await;
        let handed = certctl_repository::jobs::JobChange {
            id: &JobId::from_stored("job-new".into()), from: JobStatus::AwaitingCsr, to: JobStatus::AwaitingCsr, error: None,
            next_attempt_at: None, now: START + HOUR,
        };
        assert!(tx!(db, conn => certctl_repository::jobs::change(conn, &handed).await).unwrap());
        let (since, now) = (START + HOUR, START + 25 * HOUR);
        for attempt in 1..=3 {
            let swept = tx!(db, conn => claim::expire_awaiting_csr(conn, since, now + HOUR, now).await).unwrap();
            assert_eq!(ids(&swept), ["job-csr"]);
            assert_eq!(swept[0].failed_for_good(), attempt == 3);
            let found = job(&db, "job-csr").await;
            assert_eq!((found.status, found.last_error.as_deref(), found.completed_at), (JobStatus::Failed, Some("csr_timeout"), Some(now)));
            assert_eq!((found.attempts, found.next_attempt_at), (attempt, (attempt < 3).then_some(now + HOUR)), "{attempt}");
            assert_eq!(retry(&db, now + HOUR).await.len(), usize::from(attempt < 3));
            if attempt < 3 {
                set(&db, "job-csr", "status = 'AwaitingCSR', status_changed_at = created_at").await;
            }
        }
        let swept = tx!(db, conn => claim::expire_awaiting_approval(conn, since, now).await).unwrap();
        assert_eq!(ids(&swept), ["job-approval"]);
        assert!(swept[0].failed_for_good());
        assert!(retry(&db, now + 1000 * HOUR).await.is_empty());
        assert_eq!(job(&db, "job-new").await.status, JobStatus::AwaitingCsr);
    }

    async fn deployments_of_silent_agents_are_taken_from_them(db: TestDb) {
        let basics = db.seed_basics().await;
        let mut silent = entities::agent("ag-silent");
        silent.last_heartbeat_at = None;
        tx!(db, conn => agents::insert(conn, &silent, "h").await).unwrap();
        let with = |id, agent| entities::deployment(id, &basics.certificate, &basics.target, Some(agent));
        insert(&db, &[with("job-silent", &silent.id), with("job-last", &silent.id), with("job-alive", &basics.agent)]).await;
        insert(&db, &[validation("job-server", &basics.certificate)]).await;
        tx!(db, conn => claim::claim(conn, "w1", LEASE, 10, START).await).unwrap();
        for id in ["job-silent", "job-last", "job-alive"] {
            set(&db, id, "status = 'Running', attempts = 1, started_at = created_at").await;
        }
        set(&db, "job-last", "attempts = 3").await;
        // The agent that lives was heard of at the start.
        let (since, again, now) = (START, START + 2 * HOUR, START + HOUR);
        let none = tx!(db, conn => claim::reap_of_silent_agents(conn, since, again, now).await).unwrap();
        assert!(none.is_empty(), "a job that was only just begun: {none:?}");
        let since = START + Duration::from_secs(1);
        tx!(db, conn => agents::record_heartbeats(conn, &[agents::Heartbeat {
            agent_id: basics.agent.clone(), at: since, report: Default::default(),
        }]).await).unwrap();
        let swept = tx!(db, conn => claim::reap_of_silent_agents(conn, since, again, now).await).unwrap();
        assert_eq!(ids(&swept), ["job-last", "job-silent"]);
        let found = job(&db, "job-silent").await;
        assert_eq!((found.status, found.last_error.as_deref(), found.next_attempt_at), (JobStatus::Failed, Some("agent_offline"), Some(again)));
        assert_eq!(job(&db, "job-last").await.next_attempt_at, None);
        assert_eq!(job(&db, "job-server").await.status, JobStatus::Running);
    }
}
