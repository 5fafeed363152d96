use certctl_repository::Backend;
use certctl_testkit::{TestDb, proxy::Proxy};

use crate::installation::{ADMIN_KEY, Installation, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_at_the_start_is_named_and_its_password_is_not() {
    let url = format!(
        "postgres://certctl:canary-7342@127.0.0.1:{}/certctl?sslmode=disable",
        free_port()
    );
    let refused = Installation::on(&url).refusal().await;
    assert!(
        refused.starts_with("the database is not ready: "),
        "{refused}"
    );
    assert!(!refused.contains("canary-7342"), "{refused}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let below = folder.path().join("file/below");
    let refused = Installation::on(&format!("sqlite://{}/certctl.db", below.display()))
        .refusal()
        .await;
    assert!(
        refused.starts_with(&format!("{} cannot be used: ", below.display())),
        "{refused}"
    );
    std::fs::write(
        folder.path().join("text.db"),
        "this is no database, only some lines of text".repeat(100),
    )
    .unwrap();
    let refused = Installation::on(&format!(
        "sqlite://{}",
        folder.path().join("text.db").display()
    ))
    .refusal()
    .await;
    assert!(
        refused.starts_with("the database is not ready: "),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_and_comes_back_takes_nothing_with_it_postgres() {
    let db = TestDb::empty(Backend::Postgres).await;
    let proxy = Proxy::to(db.url()).await;
    let (running, client, _) = Installation::on(&proxy.url).with_admin().start().await;
    let team = r#"{"id":"t-1","name":"One"}"#;
    assert_eq!(
        client
            .call("POST", "/api/v1/teams", ADMIN_KEY, team)
            .await
            .status,
        201
    );
    proxy.cut();
    let down = client.until("/ready", "", 503).await;
    assert_eq!(down.json()["status"], "db_unavailable");
    assert_eq!(
        client.get("/health", "").await.status,
        200,
        "the process lives"
    );
    for path in ["/api/v1/teams", "/api/v1/certificates", "/api/v1/jobs"] {
        let refused = client.until(path, ADMIN_KEY, 503).await;
        let said = refused.json()["error"].as_str().unwrap().to_owned();
        assert!(
            ["Service Unavailable", "Authentication is unavailable"].contains(&said.as_str()),
            "{refused:?}"
        );
        for leak in ["postgres", "127.0.0.1", "SQL", "socket"] {
            assert!(!refused.body.contains(leak), "{refused:?}");
        }
    }
    proxy.mend();
    client.until("/ready", "", 200).await;
    let back = client.until("/api/v1/teams/t-1", ADMIN_KEY, 200).await;
    assert_eq!(back.json()["name"], "One");
    let two = r#"{"id":"t-2","name":"Two"}"#;
    assert_eq!(
        client
            .call("POST", "/api/v1/teams", ADMIN_KEY, two)
            .await
            .status,
        201
    );
    assert!(running.drain().await);
}
