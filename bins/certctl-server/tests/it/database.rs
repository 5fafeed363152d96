//! A database that is not there.

use certctl_testkit::{Backend, TestDb, nginx::free_port, proxy::Proxy};

use crate::program::{ADMIN_KEY, Home};

#[test]
fn a_database_that_is_gone_at_the_start_ends_it_with_a_word() {
    let url = format!(
        "postgres://certctl:canary-7342@127.0.0.1:{}/certctl?sslmode=disable",
        free_port().unwrap()
    );
    let (status, _, error) = Home::on(&url).run(&[]);
    assert_eq!(status.code(), Some(1));
    assert!(
        error.starts_with("certctl-server: the database is not ready: "),
        "{error}"
    );
    assert!(!error.contains("canary-7342"), "{error}");
    let home = Home::new();
    std::fs::write(home.path("text.db"), "this is no database ".repeat(500)).unwrap();
    let url = format!("sqlite://{}", home.path("text.db").display());
    let (status, _, error) = home.set("DATABASE_URL", &url).run(&[]);
    assert_eq!(status.code(), Some(1));
    assert!(
        error.starts_with("certctl-server: the database is not ready: "),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_in_the_middle_is_told_and_comes_back_by_itself() {
    let db = TestDb::empty(Backend::Postgres).await;
    let proxy = Proxy::to(db.url()).await;
    let home = Home::on(&proxy.url);
    let (process, client) = home.start(None).await;
    proxy.cut();
    let down = client.until("/ready", "", 503).await;
    assert_eq!(down.json()["status"], "db_unavailable");
    assert_eq!(client.get("/health", "").await.status, 200, "it lives");
    let refused = client.until("/api/v1/teams", ADMIN_KEY, 503).await;
    assert!(!refused.body.contains("postgres"), "{refused:?}");
    proxy.mend();
    client.until("/ready", "", 200).await;
    client.until("/api/v1/teams", ADMIN_KEY, 200).await;
    assert!(process.stop().await.success());
}
