//! Totals of lists: exact at once for the whole fleet and for few matches, exact within a second for many.

use std::time::Duration;

use certctl_domain::page::PageRequest;
use certctl_service::{CertificateFilter, CertificateOrder};
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
}
