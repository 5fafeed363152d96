//! Several processes on one database.

use certctl_testkit::TestDb;

use crate::program::{ADMIN_KEY, Home};

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_start_at_once_on_an_empty_postgres_share_everything() {
    let db = TestDb::empty(certctl_testkit::Backend::Postgres).await;
    let (one, two) = (Home::on(db.url()), Home::on(db.url()));
    let (mut first, mut second) = (one.spawn(), two.spawn());
    let (left, right) = tokio::join!(first.ready(None), second.ready(None));
    assert_eq!(one.root(), two.root(), "one CA for both");
    assert_eq!(
        db.texts("SELECT issuer_id AS value FROM local_authorities")
            .await,
        ["iss-local"]
    );
    let twice =
        "SELECT version AS value FROM schema_migrations GROUP BY version HAVING count(*) > 1";
    assert!(db.texts(twice).await.is_empty());
    let team = r#"{"id":"t-1","name":"One"}"#;
    let made = left.call("POST", "/api/v1/teams", ADMIN_KEY, team).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(
        right.get("/api/v1/teams/t-1", ADMIN_KEY).await.json()["name"],
        "One"
    );
    assert!(first.stop().await.success());
    assert_eq!(
        right.get("/ready", "").await.status,
        200,
        "the other one goes on"
    );
    assert!(second.stop().await.success());
}
