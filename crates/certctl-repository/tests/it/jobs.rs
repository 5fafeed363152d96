//! Single jobs: rows, lists, and changes of state that compare the state they start from.

use std::time::Duration;

use certctl_domain::{
    id::{CertificateId, JobId},
    job::{JobStatus, JobType},
    page::PageRequest,
};
use certctl_repository::{
    Error,
    jobs::{self, JobChange, JobFilter, NewJob},
};
use certctl_testkit::{TestDb, database::START, db_tests, entities};

/// Inserts jobs.
pub(crate) async fn insert(db: &TestDb, new: &[NewJob]) {
    tx!(db, conn => jobs::insert_all(conn, new).await).unwrap();
}

/// Reads a job by its bare id.
pub(crate) async fn job(db: &TestDb, id: &str) -> certctl_domain::job::Job {
    jobs::find(reader!(db), &JobId::from_stored(id.to_owned()))
        .await
        .unwrap()
}

/// A job that any number of may be open for one certificate.
pub(crate) fn validation(id: &str, certificate: &CertificateId) -> NewJob {
    NewJob {
        job_type: JobType::Validation,
        ..entities::renewal(id, certificate)
    }
}

/// Sets columns of a job, which no function of the repository may do.
pub(crate) async fn set(db: &TestDb, id: &str, columns: &str) {
    db.execute(&format!("UPDATE jobs SET {columns} WHERE id = '{id}'"))
        .await
        .unwrap();
}

db_tests! {
    async fn a_job_is_found_as_it_was_made(db: TestDb) {
        let basics = db.seed_basics().await;
        let renewal = entities::renewal("job-1", &basics.certificate);
        let deployment = entities::deployment("job-2", &basics.certificate, &basics.target, Some(&basics.agent));
        insert(&db, &[renewal, deployment]).await;
        let found = job(&db, "job-1").await;
        assert_eq!((found.job_type, found.status, found.attempts, found.max_attempts), (JobType::Renewal, JobStatus::Pending, 0, 3));
        assert_eq!((found.created_at, found.scheduled_at, found.status_changed_at), (START, START, START));
        assert_eq!((found.started_at, found.completed_at, found.next_attempt_at, found.target_id), (None, None, None, None));
        let found = job(&db, "job-2").await;
        assert_eq!((found.target_id, found.agent_id), (Some(basics.target), Some(basics.agent)));
        let absent = jobs::find(reader!(db), &JobId::from_stored("job-3".into())).await;
        assert!(matches!(absent, Err(Error::NotFound)), "{absent:?}");
        tx!(db, conn => jobs::insert_all(conn, &[]).await).unwrap();
    }

    async fn a_certificate_has_one_open_renewal(db: TestDb) {
        let basics = db.seed_basics().await;
        let certificate = &basics.certificate;
        assert_eq!(jobs::open_renewal(reader!(db), certificate).await.unwrap(), None);
        insert(&db, &[entities::renewal("job-1", certificate), validation("job-v", certificate)]).await;
        let issuance = NewJob { job_type: JobType::Issuance, ..entities::renewal("job-2", certificate) };
        for (at, status) in JobStatus::OPEN.into_iter().enumerate() {
            set(&db, "job-1", &format!("status = '{status}'")).await;
            let second = tx!(db, conn => jobs::insert_all(conn, std::slice::from_ref(&issuance)).await);
            assert!(matches!(second, Err(Error::AlreadyExists)), "{at} {status}: {second:?}");
            let open = jobs::open_renewal(reader!(db), certificate).await.unwrap();
            assert_eq!(open.map(|job| job.id.to_string()).as_deref(), Some("job-1"));
        }
        set(&db, "job-1", "status = 'Completed'").await;
        assert_eq!(jobs::open_renewal(reader!(db), certificate).await.unwrap(), None);
        insert(&db, &[issuance]).await;
    }

    async fn lists_are_filtered_and_newest_first(db: TestDb) {
        let basics = db.seed_basics().await;
        let new: Vec<NewJob> = (0..5_u64)
            .map(|number| {
                let created_at = START + Duration::from_secs(number / 2);
                NewJob { created_at, ..validation(&format!("job-{number}"), &basics.certificate) }
            })
            .collect();
        insert(&db, &new).await;
        insert(&db, &[entities::renewal("job-r", &basics.certificate)]).await;
        set(&db, "job-3", "status = 'Failed'").await;
        let all = JobFilter::default();
        let cases = [
            (all, "job-4 job-2 job-3 job-0 job-1 job-r"),
            (JobFilter { status: Some(JobStatus::Failed), ..all }, "job-3"),
            (JobFilter { job_type: Some(JobType::Renewal), ..all }, "job-r"),
            (JobFilter { status: Some(JobStatus::Failed), job_type: Some(JobType::Renewal) }, ""),
        ];
        for (filter, expected) in cases {
            let page = jobs::list(reader!(db), filter, PageRequest::default()).await.unwrap();
            let ids: Vec<&str> = page.rows.iter().map(|job| job.id.as_str()).collect();
            assert_eq!(ids.join(" "), expected, "{filter:?}");
            assert_eq!(usize::try_from(page.total).unwrap(), ids.len());
        }
        let page = jobs::list(reader!(db), all, PageRequest::lenient(Some("2"), Some("4"))).await.unwrap();
        assert_eq!((page.rows.len(), page.total), (2, 6));
    }

    async fn a_change_is_refused_when_the_state_has_moved_on(db: TestDb) {
        let basics = db.seed_basics().await;
        insert(&db, &[validation("job-1", &basics.certificate)]).await;
        set(&db, "job-1", "lease_owner = 'me', status = 'Running'").await;
        let id = JobId::from_stored("job-1".into());
        let now = START + Duration::from_secs(9);
        let change = JobChange {
            id: &id, from: JobStatus::Running, to: JobStatus::Failed, error: Some("why"), next_attempt_at: Some(now), now,
        };
        assert!(tx!(db, conn => jobs::change(conn, &change).await).unwrap());
        assert!(!tx!(db, conn => jobs::change(conn, &change).await).unwrap());
        let found = job(&db, "job-1").await;
        assert_eq!((found.status, found.last_error.as_deref()), (JobStatus::Failed, Some("why")));
        assert_eq!((found.completed_at, found.status_changed_at, found.next_attempt_at), (Some(now), now, Some(now)));
        assert_eq!(db.text("SELECT lease_owner AS value FROM jobs").await, "NULL");
        let back = JobChange { from: JobStatus::Failed, to: JobStatus::Pending, error: None, next_attempt_at: None, ..change };
        assert!(tx!(db, conn => jobs::change(conn, &back).await).unwrap());
        let found = job(&db, "job-1").await;
        assert_eq!((found.status, found.completed_at, found.last_error), (JobStatus::Pending, None, None));
    }

    async fn cancelling_leaves_running_jobs_alone_and_ends_further_tries(db: TestDb) {
        let basics = db.seed_basics().await;
        let certificate = &basics.certificate;
        let ids = ["job-p", "job-c", "job-a", "job-r", "job-f", "job-d"];
        let new: Vec<NewJob> = ids.iter().map(|id| validation(id, certificate)).collect();
        insert(&db, &new).await;
        for (id, columns) in [
            ("job-c", "status = 'AwaitingCSR'"), ("job-a", "status = 'AwaitingApproval'"), ("job-r", "status = 'Running'"),
            ("job-f", "status = 'Failed', next_attempt_at = created_at"), ("job-d", "status = 'Completed'"),
        ] {
            set(&db, id, columns).await;
        }
        let cancelled = tx!(db, conn => jobs::cancel_waiting(conn, certificate, "revoked", START).await).unwrap();
        assert_eq!(cancelled, 3);
        let states = db.texts("SELECT id || ' ' || status AS value FROM jobs ORDER BY id").await;
        assert_eq!(states, [
            "job-a Cancelled", "job-c Cancelled", "job-d Completed", "job-f Failed", "job-p Cancelled", "job-r Running",
        ]);
        assert_eq!(job(&db, "job-f").await.next_attempt_at, None);
        let found = job(&db, "job-p").await;
        assert_eq!((found.completed_at, found.last_error.as_deref()), (Some(START), Some("revoked")));
    }

    async fn the_open_jobs_of_an_agent_are_cancelled(db: TestDb) {
        let basics = db.seed_basics().await;
        let with = |id, agent| entities::deployment(id, &basics.certificate, &basics.target, agent);
        insert(&db, &[with("job-1", Some(&basics.agent)), with("job-2", Some(&basics.agent)), with("job-3", None)]).await;
        set(&db, "job-2", "status = 'Running'").await;
        let cancelled = tx!(db, conn => jobs::cancel_of_agent(conn, &basics.agent, "retired", START).await).unwrap();
        assert_eq!(cancelled, 2);
        assert_eq!(job(&db, "job-3").await.status, JobStatus::Pending);
    }
}
