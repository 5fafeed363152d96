//! A server with the demo data.

use certctl_testkit::TestDb;
use serde_json::json;

use crate::installation::Installation;

/// The key of the load tests (api §37), shorter than any that we make.
const KEY: &str = "load-test-token";

async fn starts_with_the_demo(installation: Installation) {
    let installation = installation
        .set("AUTH_SECRET", KEY)
        .set("DEMO_SEED", "true");
    for start in 1..=2 {
        let (running, client, _) = installation.start().await;
        let list = client.get("/api/v1/certificates?per_page=50", KEY).await;
        assert_eq!(
            (list.status, &list.json()["total"]),
            (200, &json!(32)),
            "start {start}"
        );
        let local = client.get("/api/v1/issuers/iss-local", KEY).await.json();
        assert_eq!(local["config"]["ca_common_name"], "CertCtl Demo CA");
        // A key without a name is an administrator's.
        let who = client.get("/api/v1/auth/check", KEY).await;
        assert_eq!(
            (who.status, &who.json()["admin"]),
            (200, &json!(true)),
            "{:?}",
            who.json()
        );
        running.drain().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_is_there_from_the_first_start_on_sqlite() {
    starts_with_the_demo(Installation::new()).await;
}

mod postgres {
    use super::{Installation, TestDb, starts_with_the_demo};

    #[tokio::test(flavor = "multi_thread")]
    async fn the_demo_is_there_from_the_first_start() {
        let db = TestDb::empty(certctl_repository::Backend::Postgres).await;
        starts_with_the_demo(Installation::on(db.url())).await;
    }
}
