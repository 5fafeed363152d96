//! The example, as another program would run it.

#[path = "../../examples/embed_server.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod embed_server;

use crate::{
    client::client,
    installation::{ADMIN_KEY, free_port},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_runs_beside_the_work_of_another_program() {
    let folder = tempfile::tempdir().unwrap();
    let (data, port) = (
        folder.path().join("data").display().to_string(),
        free_port(),
    );
    let (port, key) = (port.to_string(), format!("admin:{ADMIN_KEY}:admin"));
    let settings = [
        ("CERTCTL_DATA_DIR", data.as_str()),
        ("CERTCTL_SERVER_PORT", &port),
        ("CERTCTL_API_KEYS_NAMED", &key),
    ];
    let mut made = 0;
    let clean = embed_server::beside_certctl(&settings, async |welcome| {
        let client = client(welcome);
        assert_eq!(client.get("/ready", "").await.status, 200);
        let team = r#"{"id":"t-1","name":"One"}"#;
        let answer = client.call("POST", "/api/v1/teams", ADMIN_KEY, team);
        made = answer.await.status;
    })
    .await
    .unwrap();
    assert_eq!((made, clean), (201, true));
    let wrong = [("CERTCTL_SERVER_PORT", "0")];
    let refused = embed_server::beside_certctl(&wrong, async |_| unreachable!()).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("CERTCTL_SERVER_PORT")
    );
}

#[test]
fn it_stays_an_example() {
    let lines = include_str!("../../examples/embed_server.rs")
        .lines()
        .count();
    assert!(lines < 60, "{lines} lines");
}
