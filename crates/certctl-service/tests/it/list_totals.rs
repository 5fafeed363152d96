//! Totals of lists: exact at once for the whole fleet and for few matches, exact within a second for many.

use std::time::Duration;

use certctl_domain::{
    audit::EventCategory,
    job::{JobStatus, JobType},
    page::PageRequest,
};
use certctl_repository::{
    approvals::ApprovalFilter, audit_events::AuditFilter, jobs::JobFilter,
    notifications::NotificationFilter,
};
use certctl_service::{CertificateFilter, CertificateOrder, bulk::BulkCriteria};
use certctl_testkit::{TestDb, db_tests};

use crate::support::World;

impl World {
    async fn total(&self, filter: &CertificateFilter) -> i64 {
        let (rows, total) = self
            .services
            .list_certificates_after(&self.admin, filter, None, 1)
            .await
            .unwrap();
        assert!(rows.len() as i64 <= total);
        let page = PageRequest::lenient(None, Some("1"));
        let paged = self
            .services
            .list_certificates(&self.admin, filter, CertificateOrder::Name, false, page)
            .await
            .unwrap();
        assert_eq!(paged.total, total, "both forms say the same");
        total
    }
}

impl World {
    async fn jobs_of(&self, filter: JobFilter) -> i64 {
        let page = PageRequest::lenient(None, Some("1"));
        let listed = self.services.list_jobs(&self.admin, filter, page).await;
        listed.unwrap().total
    }
}

fn of_owner(owner: &str) -> CertificateFilter {
    CertificateFilter {
        owner_id: Some(owner.to_owned()),
        ..CertificateFilter::default()
    }
}

db_tests! {
    async fn few_are_counted_every_time_and_many_once_a_second(db: TestDb) {
        let world = World::new(db).await;
        let everything = CertificateFilter::default();
        world.many("o-few", 99).await;
        world.many("o-many", 10_000).await;
        assert_eq!((world.total(&everything).await, world.total(&of_owner("o-few")).await, world.total(&of_owner("o-many")).await), (10_100, 99, 10_000));
        world.db.execute("DELETE FROM managed_certificates WHERE id IN ('o-few-1', 'o-many-1', 'o-many-2')").await.unwrap();
        assert_eq!((world.total(&everything).await, world.total(&of_owner("o-few")).await), (10_097, 98), "at once");
        world.clock.advance(Duration::from_millis(999));
        assert_eq!(world.total(&of_owner("o-many")).await, 10_000);
        world.clock.advance(Duration::from_millis(1));
        // Now there are few, which are counted every time again.
        assert_eq!(world.total(&of_owner("o-many")).await, 9_998);
        world.db.execute("DELETE FROM managed_certificates WHERE id = 'o-many-3'").await.unwrap();
        assert_eq!(world.total(&of_owner("o-many")).await, 9_997);
    }

    async fn jobs_events_notices_and_requests_are_counted_the_same_way(db: TestDb) {
        let world = World::new(db).await;
        world.many("o-many", 10_000).await;
        let renewed = world.services.bulk_renew(&world.admin, &BulkCriteria { owner_id: Some("o-many".into()), ..BulkCriteria::default() }).await.unwrap();
        assert_eq!(renewed.changed, 10_000);
        let waiting = JobFilter { status: Some(JobStatus::AwaitingCsr), job_type: None };
        let before = world.jobs_of(waiting).await;
        let delete = "DELETE FROM jobs WHERE certificate_id = 'o-many-1'";
        world.db.execute(delete).await.unwrap();
        assert_eq!((before, world.jobs_of(waiting).await, world.jobs_of(JobFilter::default()).await), (10_000, 10_000, 9_999), "kept for a second");
        let issuances = JobFilter { job_type: Some(JobType::Issuance), ..waiting };
        assert_eq!(world.jobs_of(issuances).await, 0, "few are counted");
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(world.jobs_of(waiting).await, 9_999);

        let page = PageRequest::default();
        let events = async |category| {
            let filter = AuditFilter { category, ..AuditFilter::default() };
            world.services.list_audit_events(&world.admin, &filter, page).await.unwrap()
        };
        let all = events(None).await;
        assert_eq!(all.total, all.rows.len() as i64, "one for the bulk renewal, and what else there is");
        let (lifecycle, config) = (events(Some(EventCategory::CertLifecycle)).await.total, events(Some(EventCategory::Config)).await.total);
        assert!(lifecycle >= 1 && lifecycle + config <= all.total, "{lifecycle} {config} {}", all.total);
        // Nothing beyond the end, and the same total.
        let beyond = PageRequest::lenient(Some("1000000"), None);
        let end = world.services.list_jobs(&world.admin, JobFilter::default(), beyond).await.unwrap();
        assert_eq!((end.rows.len(), end.total), (0, 9_999));
        let notices = world.services.list_notifications(&world.admin, NotificationFilter::default(), beyond).await.unwrap();
        assert_eq!((notices.rows.len(), notices.total), (0, 0));
        let requests = world.services.list_approvals(&world.admin, &ApprovalFilter::default(), beyond).await.unwrap();
        assert_eq!((requests.rows.len(), requests.total), (0, 0));
    }
}
