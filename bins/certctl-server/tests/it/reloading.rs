//! SIGHUP.

use std::fs;

use certctl_testkit::{ca::Ca, client::Client, procs::child::Signal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::program::Home;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_served_to_new_connections_and_open_ones_stay() {
    let home = Home::new();
    let ca = Ca::new("Reload Test Root");
    let (certificate, key) = (home.path("tls.crt"), home.path("tls.key"));
    let serve = |name: &str| {
        let pair = ca.issue(name);
        fs::write(&certificate, pair.cert_pem).unwrap();
        fs::write(&key, pair.key_pem.expose()).unwrap();
    };
    serve("localhost");
    let home = home
        .set("SERVER_TLS_CERT_PATH", "tls.crt")
        .set("SERVER_TLS_KEY_PATH", "tls.key");
    let (mut process, client) = home.start(Some(ca.root_pem())).await;
    let first = served(&client).await;
    let mut open = client.connect().await.unwrap();
    assert!(asked_again(&mut open).await);

    serve("localhost");
    process.signal(Signal::SIGHUP);
    process
        .until("another certificate is served", async |_| {
            served(&client).await != first
        })
        .await;
    assert!(
        asked_again(&mut open).await,
        "the open connection was not cut"
    );
    let second = served(&client).await;

    // A key that belongs to another certificate, and then no certificate at all.
    let other = ca.issue("localhost").key_pem.expose().to_owned();
    for (broken, text) in [
        (home.path("tls.key"), other),
        (home.path("tls.crt"), "nonsense".to_owned()),
    ] {
        fs::write(broken, text).unwrap();
        let refused = home.log().matches("could not be read anew").count();
        process.signal(Signal::SIGHUP);
        process
            .until("the pair is refused", async |home| {
                home.log().matches("could not be read anew").count() > refused
            })
            .await;
        assert_eq!(served(&client).await, second, "the old pair is kept");
    }
    assert!(asked_again(&mut open).await);
    drop(open);
    assert!(process.stop().await.success());
}

/// The certificate that a new connection is shown.
async fn served(client: &Client) -> Vec<u8> {
    let stream = client.connect().await.unwrap();
    let (_, session) = stream.get_ref();
    session.peer_certificates().unwrap()[0].to_vec()
}

/// Asks on a connection that stays open.
async fn asked_again<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    stream: &mut S,
) -> bool {
    stream
        .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    stream.flush().await.unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"{\"status\":\"healthy\"}") {
        match stream.read_u8().await {
            Ok(byte) => text.push(byte),
            Err(_) => return false,
        }
    }
    text.starts_with(b"HTTP/1.1 200")
}
