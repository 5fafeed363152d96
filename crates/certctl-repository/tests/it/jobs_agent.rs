//! What agents do with jobs.

use std::{collections::HashSet, time::Duration};

use certctl_domain::{
    id::{AgentId, CertificateId, JobId},
    job::{JobStatus, VerificationStatus},
};
use certctl_repository::{
    Db, Error, agents, certificates,
    jobs::{
        NewJob,
        agent::{self, Verification},
    },
    targets,
};
use certctl_testkit::{TestDb, database::START, db_tests, entities};

use crate::jobs::{insert, job, set, validation};

const SECOND: Duration = Duration::from_secs(1);

async fn take(db: &Db, agent: &AgentId, limit: i64) -> Vec<String> {
    let taken = tx!(db, conn => agent::claim_deployments(conn, agent, limit, START + SECOND).await)
        .unwrap();
    taken.into_iter().map(|job| job.id.to_string()).collect()
}

db_tests! {
    async fn an_agent_takes_its_own_deployments_and_those_of_its_targets(db: TestDb) {
        let basics = db.seed_basics().await;
        let other = entities::agent("ag-other");
        let its = entities::target("tgt-other", &other.id);
        tx!(db, conn => { agents::insert(conn, &other, "h").await?; targets::insert(conn, &its).await }).unwrap();
        let with = |id, agent| entities::deployment(id, &basics.certificate, &basics.target, agent);
        let later = NewJob { created_at: START + 9 * SECOND, ..with("job-later", Some(&basics.agent)) };
        let early = NewJob { created_at: START - SECOND, ..with("job-target", None) };
        insert(&db, &[with("job-own", Some(&basics.agent)), early, later]).await;
        insert(&db, &[entities::deployment("job-other", &basics.certificate, &its.id, Some(&other.id))]).await;
        insert(&db, &[validation("job-v", &basics.certificate)]).await;
        let has = |agent: AgentId| {
            let db = db.db();
            async move { agent::has_deployments(reader!(db), &agent, START + SECOND).await.unwrap() }
        };
        assert!(has(basics.agent.clone()).await && has(other.id.clone()).await);
        assert_eq!(take(&db, &basics.agent, 100).await, ["job-target", "job-own"]);
        assert!(!has(basics.agent.clone()).await);
        assert!(take(&db, &basics.agent, 100).await.is_empty());
        let found = job(&db, "job-target").await;
        assert_eq!((found.status, found.agent_id, found.attempts), (JobStatus::Running, Some(basics.agent.clone()), 1));
        assert_eq!(found.started_at, Some(START + SECOND));
        // The answer that gave it out may have been lost: it is given out again when its time is over, and not before.
        let taken = START + SECOND;
        let within = taken + certctl_domain::job::AGENT_LEASE;
        assert!(tx!(db, conn => certctl_repository::jobs::claim::recover(conn, within).await).unwrap().is_empty());
        let lost = tx!(db, conn => certctl_repository::jobs::claim::recover(conn, within + SECOND).await).unwrap();
        assert_eq!(lost.iter().filter(|one| one.status == "Pending").count(), 2);
        assert_eq!(take(&db, &basics.agent, 100).await, ["job-target", "job-own"]);
        assert_eq!(take(&db, &other.id, 100).await, ["job-other"]);
    }

    async fn targets_that_moved_or_are_out_of_use_get_nothing(db: TestDb) {
        let basics = db.seed_basics().await;
        let next = entities::agent("ag-next");
        tx!(db, conn => agents::insert(conn, &next, "hash-next").await).unwrap();
        let now = START + SECOND;
        let own = |id| entities::deployment(id, &basics.certificate, &basics.target, Some(&basics.agent));
        let bare = |id| entities::deployment(id, &basics.certificate, &basics.target, None);
        insert(&db, &[own("job-own"), bare("job-target")]).await;
        for columns in ["agent_id = 'ag-next'", "enabled = false", "retired_at = created_at"] {
            db.execute(&format!("UPDATE deployment_targets SET {columns} WHERE id = 'tgt-web'")).await.unwrap();
            // The job without an agent goes with its target; the other one is given away when it is tried again.
            let of = if columns.starts_with("agent_id") { &basics.agent } else { &next.id };
            assert!(!agent::has_deployments(reader!(db), &basics.agent, now).await.unwrap(), "{columns}");
            assert_eq!(take(&db, of, 10).await, Vec::<String>::new(), "{columns}");
        }
        db.execute("UPDATE deployment_targets SET agent_id = 'ag-web', enabled = true, retired_at = NULL WHERE id = 'tgt-web'").await.unwrap();
        assert!(agent::has_deployments(reader!(db), &basics.agent, now).await.unwrap());
        assert_eq!(take(&db, &basics.agent, 10).await, ["job-own", "job-target"]);
        assert!(agent::is_deploying(reader!(db), &basics.certificate, &basics.agent).await.unwrap());
        assert!(!agent::is_deploying(reader!(db), &basics.certificate, &next.id).await.unwrap());
        let late = START + Duration::from_secs(3600);
        assert!(!tx!(db, conn => agent::extend_lease(conn, &JobId::from_stored("job-own".into()), &next.id, late).await).unwrap());
        assert!(tx!(db, conn => agent::extend_lease(conn, &JobId::from_stored("job-own".into()), &basics.agent, late).await).unwrap());
        let lost = tx!(db, conn => certctl_repository::jobs::claim::recover(conn, late).await).unwrap();
        assert_eq!(lost.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["job-target"]);
    }

    async fn the_limit_counts_both_ways_together(db: TestDb) {
        let basics = db.seed_basics().await;
        let new: Vec<NewJob> = (0..6)
            .map(|number| entities::deployment(
                &format!("job-{number}"), &basics.certificate, &basics.target, (number < 2).then_some(&basics.agent),
            ))
            .collect();
        insert(&db, &new).await;
        assert_eq!(take(&db, &basics.agent, 3).await, ["job-0", "job-1", "job-2"]);
        assert_eq!(take(&db, &basics.agent, 2).await, ["job-3", "job-4"]);
        assert_eq!(take(&db, &basics.agent, 2).await, ["job-5"]);
    }

    async fn polls_of_one_agent_at_the_same_time_share_the_jobs(db: TestDb) {
        let basics = db.seed_basics().await;
        let new: Vec<NewJob> = (0..60)
            .map(|number| entities::deployment(
                &format!("job-{number}"), &basics.certificate, &basics.target, (number % 2 == 0).then_some(&basics.agent),
            ))
            .collect();
        insert(&db, &new).await;
        let polls: Vec<_> = (0..6)
            .map(|_| {
                let (db, agent) = (db.db(), basics.agent.clone());
                tokio::spawn(async move {
                    let mut all = Vec::new();
                    while let taken @ [_, ..] = take(&db, &agent, 5).await.as_slice() {
                        all.extend(taken.to_vec());
                    }
                    all
                })
            })
            .collect();
        let mut taken = Vec::new();
        for poll in polls {
            taken.extend(poll.await.unwrap());
        }
        assert_eq!((taken.len(), taken.iter().collect::<HashSet<_>>().len()), (60, 60));
    }

    async fn renewals_wait_for_the_agent_whose_target_the_certificate_is_mapped_to(db: TestDb) {
        let basics = db.seed_basics().await;
        let unmapped = basics.certificate("mc-unmapped");
        tx!(db, conn => certificates::insert(conn, &unmapped).await).unwrap();
        insert(&db, &[entities::renewal("job-1", &basics.certificate), entities::renewal("job-2", &unmapped.id)]).await;
        assert_eq!(agent::awaiting_csr(reader!(db), &basics.agent, 10).await.unwrap(), []);
        assert_eq!(agent::awaiting_csr_of(reader!(db), &basics.certificate).await.unwrap(), None);
        set(&db, "job-1", "status = 'AwaitingCSR', last_error = 'hint'").await;
        set(&db, "job-2", "status = 'AwaitingCSR'").await;
        let waiting = agent::awaiting_csr(reader!(db), &basics.agent, 10).await.unwrap();
        assert_eq!(waiting.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), ["job-1"]);
        assert!(agent::awaiting_csr(reader!(db), &basics.agent, 0).await.unwrap().is_empty());
        let of = agent::awaiting_csr_of(reader!(db), &unmapped.id).await.unwrap();
        assert_eq!(of.unwrap().id.as_str(), "job-2");

        let id = JobId::from_stored("job-1".into());
        let now = START + SECOND;
        assert!(tx!(db, conn => agent::accept_csr(conn, &id, now).await).unwrap());
        assert!(!tx!(db, conn => agent::accept_csr(conn, &id, now).await).unwrap());
        let found = job(&db, "job-1").await;
        assert_eq!((found.status, found.scheduled_at, found.last_error), (JobStatus::Pending, now, None));

        set(&db, "job-1", "status = 'AwaitingCSR'").await;
        tx!(db, conn => targets::retire_of_agent(conn, &basics.agent, "gone", now).await).unwrap();
        assert!(agent::awaiting_csr(reader!(db), &basics.agent, 10).await.unwrap().is_empty());
    }

    async fn results_and_verifications_are_kept(db: TestDb) {
        let basics = db.seed_basics().await;
        insert(&db, &[entities::deployment("job-1", &basics.certificate, &basics.target, Some(&basics.agent))]).await;
        let id = JobId::from_stored("job-1".into());
        let result = serde_json::json!({"files": [{"path": "/etc/x", "changed": true}]});
        tx!(db, conn => agent::set_deployment_result(conn, &id, &result).await).unwrap();
        let stored = db.text("SELECT CAST(deployment_result AS text) AS value FROM jobs").await;
        assert_eq!(serde_json::from_str::<serde_json::Value>(&stored).unwrap(), result);
        let seen = Verification {
            status: VerificationStatus::Failed, expected: "aa", actual: "bb", error: Some("old certificate"), at: START,
        };
        tx!(db, conn => agent::set_verification(conn, &id, &seen).await).unwrap();
        let found = job(&db, "job-1").await;
        assert_eq!((found.verification_status, found.verified_at), (VerificationStatus::Failed, Some(START)));
        assert_eq!(found.expected_fingerprint.as_deref(), Some("aa"));
        assert_eq!(found.verification_fingerprint.as_deref(), Some("bb"));
        assert_eq!(found.verification_error.as_deref(), Some("old certificate"));
        let unknown = JobId::from_stored("job-x".into());
        let absent = tx!(db, conn => agent::set_verification(conn, &unknown, &seen).await);
        assert!(matches!(absent, Err(Error::NotFound)), "{absent:?}");
    }

    async fn deployments_follow_to_targets_in_use(db: TestDb) {
        let basics = db.seed_basics().await;
        for (id, enabled) in [("tgt-off", false), ("tgt-gone", true)] {
            let mut target = entities::target(id, &basics.agent);
            target.enabled = enabled;
            target.retired_at = (id == "tgt-gone").then_some(START);
            tx!(db, conn => targets::insert(conn, &target).await).unwrap();
        }
        let all = ["tgt-web", "tgt-off", "tgt-gone"].map(|id| certctl_domain::id::TargetId::from_stored(id.into()));
        tx!(db, conn => certificates::replace_mappings(conn, &basics.certificate, &all).await).unwrap();
        let wanted = [basics.certificate.clone(), CertificateId::from_stored("mc-unknown".into())];
        let found = agent::deployments_of(reader!(db), &wanted).await.unwrap();
        assert_eq!(found, [(basics.certificate, basics.target, basics.agent)]);
    }
}
