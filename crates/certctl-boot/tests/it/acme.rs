//! The ACME server of a whole server: what a process left behind is taken up by the next, and what is late is swept.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    time::Duration,
};

use certctl_repository::Backend;
use certctl_testkit::{TestDb, db_tests};

use crate::installation::Installation;

/// What an earlier process left: a challenge that it was looking at, whose lease is long over, and an order that nobody finalised.
async fn left_behind(db: &TestDb) {
    let (past, future) = match db.backend() {
        Backend::Sqlite => ("1577836800000000", "4070908800000000"),
        Backend::Postgres => ("TIMESTAMPTZ '2020-01-01Z'", "TIMESTAMPTZ '2099-01-01Z'"),
    };
    let no = match db.backend() {
        Backend::Sqlite => "0",
        Backend::Postgres => "false",
    };
    let account = format!(
        "INSERT INTO acme_accounts (id, jwk_thumbprint, jwk_pem, profile_id, created_at, updated_at) \
         VALUES ('acme-acc-1', 'thumbprint', '', 'prof-standard-tls', {past}, {past})"
    );
    let order = |id: &str, expires: &str| {
        format!(
            "INSERT INTO acme_orders (id, account_id, profile_id, issuer_id, auth_mode, identifiers, status, expires_at, created_at, updated_at) \
             VALUES ('{id}', 'acme-acc-1', 'prof-standard-tls', 'iss-local', 'challenge', '[{{\"type\":\"ip\",\"value\":\"127.0.0.1\"}}]', \
             'pending', {expires}, {past}, {past})"
        )
    };
    let authorization = format!(
        "INSERT INTO acme_authorizations (id, order_id, account_id, identifier_type, identifier_value, wildcard, status, expires_at, \
            created_at, updated_at) \
         VALUES ('acme-authz-0000000000000000', 'acme-ord-0000000000000000', 'acme-acc-1', 'ip', '127.0.0.1', {no}, 'pending', {future}, \
            {past}, {past})"
    );
    let challenge = format!(
        "INSERT INTO acme_challenges (id, authz_id, type, status, token, lease_expires_at, created_at) \
         VALUES ('acme-chall-0000000000000000', 'acme-authz-0000000000000000', 'http-01', 'processing', 'token', {past}, {past})"
    );
    let statements = [
        account,
        order("acme-ord-0000000000000000", future),
        order("acme-ord-1111111111111111", past),
        authorization,
        challenge,
    ];
    for statement in statements {
        db.execute(&statement)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

/// Has the file of the challenge above for one client; the port.
fn host() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut head = [0; 1024];
        let length = client.read(&mut head).unwrap();
        assert!(head[..length].starts_with(b"GET /.well-known/acme-challenge/token "));
        client
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\nConnection: close\r\n\r\ntoken.thumbprint")
            .unwrap();
    });
    port
}

/// Waits until a row is in a state.
async fn becomes(db: &TestDb, row: &str, status: &str) {
    let sql = format!("SELECT status AS value FROM {row}");
    let is_so = async {
        while db.text(&sql).await != status {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_so)
        .await
        .unwrap_or_else(|_| panic!("{row} does not become {status}"));
}

db_tests! {
    async fn what_was_left_behind_is_taken_up_at_the_start_and_what_is_late_is_swept(db: TestDb) {
        db.seed_basics().await;
        left_behind(&db).await;
        let installation = Installation::on(db.url())
            .with_admin()
            .set("ACME_SERVER_ENABLED", "true")
            .set("ACME_SERVER_GC_INTERVAL", "1s")
            .set("ACME_SERVER_HTTP01_PORT", &host().to_string())
            .set("ACME_SERVER_VALIDATION_ALLOWED_CIDRS", "127.0.0.0/8");
        let (running, _, _) = installation.start().await;
        becomes(&db, "acme_challenges", "valid").await;
        becomes(&db, "acme_authorizations", "valid").await;
        becomes(&db, "acme_orders WHERE id = 'acme-ord-0000000000000000'", "ready").await;
        becomes(&db, "acme_orders WHERE id = 'acme-ord-1111111111111111'", "invalid").await;
        assert!(running.drain().await);
    }
}
