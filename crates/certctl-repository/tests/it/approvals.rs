//! Requests that wait for a second person.

use std::{collections::BTreeMap, time::Duration};

use certctl_domain::{
    approval::{Approval, ApprovalKind, ApprovalState},
    id::{ApprovalId, JobId, ProfileId},
    page::PageRequest,
    time::Timestamp,
};
use certctl_repository::{
    Error,
    approvals::{self, ApprovalFilter, Decision},
};
use certctl_testkit::{Basics, TestDb, database::START, db_tests};

use crate::jobs::{insert, validation};

fn at(seconds: u64) -> Timestamp {
    START + Duration::from_secs(seconds)
}

fn edit(basics: &Basics, id: &str, by: &str, seconds: u64) -> Approval {
    Approval {
        id: ApprovalId::from_stored(id.to_owned()),
        kind: ApprovalKind::ProfileEdit,
        certificate_id: None,
        job_id: None,
        profile_id: basics.profile.clone(),
        requested_by: by.to_owned(),
        state: ApprovalState::Pending,
        decided_by: None,
        decided_at: None,
        decision_note: None,
        metadata: BTreeMap::new(),
        payload: Some(serde_json::json!({"max_ttl_seconds": seconds})),
        created_at: at(seconds),
        updated_at: at(seconds),
    }
}

fn issuance(basics: &Basics, id: &str, job: &str, seconds: u64) -> Approval {
    Approval {
        kind: ApprovalKind::CertIssuance,
        certificate_id: Some(basics.certificate.clone()),
        job_id: Some(JobId::from_stored(job.to_owned())),
        metadata: BTreeMap::from([("common_name".to_owned(), "a.example.test".to_owned())]),
        payload: None,
        ..edit(basics, id, "ann", seconds)
    }
}

fn decision(state: ApprovalState, by: &'static str) -> Decision<'static> {
    Decision {
        state,
        by,
        note: Some("said"),
        now: at(99),
    }
}

async fn enter(db: &TestDb, new: &[Approval]) -> Result<(), Error> {
    tx!(db, conn => approvals::insert_all(conn, new).await)
}

fn ids(found: &[Approval]) -> Vec<&str> {
    found.iter().map(|one| one.id.as_str()).collect()
}

db_tests! {
    async fn a_request_is_read_as_it_was_entered_and_decided_once(db: TestDb) {
        let basics = db.seed_basics().await;
        insert(&db, &[validation("job-1", &basics.certificate)]).await;
        for new in [issuance(&basics, "ar-1", "job-1", 1), edit(&basics, "ar-2", "bob", 2)] {
            enter(&db, std::slice::from_ref(&new)).await.unwrap();
            assert_eq!(approvals::find(reader!(db), &new.id).await.unwrap(), new);
        }
        let second = enter(&db, &[issuance(&basics, "ar-3", "job-1", 3)]).await;
        assert!(matches!(second, Err(Error::AlreadyExists)), "a job has one undecided request: {second:?}");
        let job = JobId::from_stored("job-1".into());
        assert_eq!(approvals::pending_of_job(reader!(db), &job).await.unwrap().unwrap().id.as_str(), "ar-1");
        let id = ApprovalId::from_stored("ar-1".into());
        let (first, late) = (decision(ApprovalState::Approved, "bob"), decision(ApprovalState::Rejected, "carol"));
        assert!(tx!(db, conn => approvals::decide(conn, &id, &first).await).unwrap());
        assert!(!tx!(db, conn => approvals::decide(conn, &id, &late).await).unwrap());
        let found = approvals::find(reader!(db), &id).await.unwrap();
        assert_eq!((found.state, found.decided_by.as_deref(), found.decided_at), (ApprovalState::Approved, Some("bob"), Some(at(99))));
        assert_eq!(approvals::pending_of_job(reader!(db), &job).await.unwrap(), None);
        enter(&db, &[issuance(&basics, "ar-3", "job-1", 3)]).await.unwrap();
        let closed = tx!(db, conn => approvals::close_for_jobs(conn, std::slice::from_ref(&job), &late).await).unwrap();
        assert_eq!((ids(&closed), closed[0].state), (vec!["ar-3"], ApprovalState::Rejected));
        let lost = Approval { profile_id: ProfileId::from_stored("prof-unknown".into()), ..edit(&basics, "ar-5", "ann", 5) };
        let lost = enter(&db, &[lost]).await;
        assert!(matches!(lost, Err(Error::Reference)), "{lost:?}");
    }

    async fn lists_are_filtered_and_newest_first(db: TestDb) {
        let basics = db.seed_basics().await;
        insert(&db, &[validation("job-1", &basics.certificate)]).await;
        enter(&db, &[issuance(&basics, "ar-1", "job-1", 1), edit(&basics, "ar-2", "bob", 2), edit(&basics, "ar-3", "ann", 3)]).await.unwrap();
        let approved = decision(ApprovalState::Approved, "carol");
        tx!(db, conn => approvals::decide(conn, &ApprovalId::from_stored("ar-3".into()), &approved).await).unwrap();
        let list = async |filter: ApprovalFilter| {
            let page = approvals::list(reader!(db), &filter, PageRequest::default()).await.unwrap();
            assert_eq!(page.total, i64::try_from(page.rows.len()).unwrap());
            page.rows.into_iter().map(|one| one.id.into_string()).collect::<Vec<_>>()
        };
        let all = ApprovalFilter::default;
        assert_eq!(list(all()).await, ["ar-3", "ar-2", "ar-1"]);
        assert_eq!(list(ApprovalFilter { state: Some(ApprovalState::Pending), ..all() }).await, ["ar-2", "ar-1"]);
        assert_eq!(list(ApprovalFilter { certificate_id: Some("mc-web".into()), ..all() }).await, ["ar-1"]);
        assert_eq!(list(ApprovalFilter { requested_by: Some("ann".into()), ..all() }).await, ["ar-3", "ar-1"]);
        assert_eq!(list(ApprovalFilter { requested_by: Some("carol".into()), ..all() }).await, Vec::<String>::new());
        let second = approvals::list(reader!(db), &all(), PageRequest::lenient(Some("2"), Some("2"))).await.unwrap();
        assert_eq!((ids(&second.rows), second.total), (vec!["ar-1"], 3));
    }

    async fn what_is_overdue_is_found_oldest_first_and_ended_once(db: TestDb) {
        let basics = db.seed_basics().await;
        insert(&db, &[validation("job-1", &basics.certificate)]).await;
        enter(&db, &[edit(&basics, "ar-2", "ann", 2), issuance(&basics, "ar-1", "job-1", 1), edit(&basics, "ar-3", "bob", 3)]).await.unwrap();
        let overdue = async |before, limit| approvals::overdue(reader!(db), before, limit).await.unwrap();
        let found = overdue(at(3), 10).await;
        assert_eq!(found.iter().map(|(id, job)| (id.as_str(), job.is_some())).collect::<Vec<_>>(), [("ar-1", true), ("ar-2", false)]);
        assert_eq!(overdue(at(3), 1).await.len(), 1);
        let all: Vec<ApprovalId> = found.into_iter().map(|(id, _)| id).collect();
        let expired = decision(ApprovalState::Expired, "system-reaper");
        let ended = tx!(db, conn => approvals::close_all(conn, &all, &expired).await).unwrap();
        assert_eq!(ended.len(), 2);
        assert!(tx!(db, conn => approvals::close_all(conn, &all, &expired).await).unwrap().is_empty());
        assert_eq!(overdue(at(3), 10).await, []);
    }

    async fn edits_wait_for_each_who_asked(db: TestDb) {
        let basics = db.seed_basics().await;
        enter(&db, &[edit(&basics, "ar-2", "ann", 2), edit(&basics, "ar-1", "ann", 1), edit(&basics, "ar-3", "bob", 3), edit(&basics, "ar-4", "ann", 4)]).await.unwrap();
        let approved = decision(ApprovalState::Approved, "bob");
        tx!(db, conn => approvals::decide(conn, &ApprovalId::from_stored("ar-4".into()), &approved).await).unwrap();
        let pending = approvals::pending_edits(reader!(db), &basics.profile, "ann").await.unwrap();
        assert_eq!(ids(&pending), ["ar-1", "ar-2"]);
        assert_eq!(pending[0].payload, Some(serde_json::json!({"max_ttl_seconds": 1})));
        let unknown = ProfileId::from_stored("prof-unknown".into());
        assert!(approvals::pending_edits(reader!(db), &unknown, "ann").await.unwrap().is_empty());
    }
}
