//! The example, over a real socket.

#[path = "../../examples/mount_api.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod mount_api;

use certctl_testkit::{
    TestDb,
    services::{self, ADMIN_KEY},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Status and body of an answer.
async fn get(port: u16, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN_KEY}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_served_below_the_routes_of_another_service() {
    let db = TestDb::sqlite().await;
    db.seed_basics().await;
    let folder = tempfile::tempdir().unwrap();
    let services = services::services(db.db(), db.clock(), folder.path(), services::config());
    let router = mount_api::mounted(services).await.unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(mount_api::serve(listener, router, std::future::pending()));
    assert_eq!(get(port, "/hello").await, (200, "hello".to_owned()));
    assert_eq!(get(port, "/ready").await.0, 200);
    let (status, teams) = get(port, "/api/v1/teams").await;
    assert!(
        status == 200 && teams.contains("t-platform"),
        "{status} {teams}"
    );
    assert_eq!(get(port, "/api/v1/nothing").await.0, 404);
    // The peer of the socket is whom the limits count.
    let mut limited = 0;
    for _ in 0..120 {
        limited += usize::from(get(port, "/api/v1/version").await.0 == 429);
    }
    assert!(
        limited > 0,
        "the clock stands still, so a bucket of 100 ends"
    );
    serving.abort();
}
