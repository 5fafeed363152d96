use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use certctl_repository::Backend;
use certctl_testkit::{TestDb, pki::cert::ParsedCertificate};

use crate::{
    client::trusting,
    installation::{ADMIN_KEY, Installation, chain},
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_environment_is_enough() {
    let installation = Installation::new();
    let (running, client, welcome) = installation.start().await;
    let data = installation.data_dir();
    assert_eq!(mode(&data), 0o700);
    for private in [
        "tls/server.key",
        "ca/iss-local.key",
        "agent-bootstrap-token",
        "certctl.db",
    ] {
        assert_eq!(
            mode(&data.join(private)) & 0o077,
            0,
            "{private} is nobody else's"
        );
    }
    let first = welcome
        .first_key
        .clone()
        .expect("the first start shows a key");
    let ready = client.get("/ready", "").await;
    assert_eq!(
        (ready.status, &ready.json()["status"]),
        (200, &serde_json::json!("ready"))
    );
    assert_eq!(
        client
            .get("/api/v1/certificates", first.expose())
            .await
            .status,
        200
    );
    assert_eq!(
        client
            .get("/api/v1/certificates", "another-key")
            .await
            .status,
        401
    );
    let text = welcome.to_string();
    for word in [
        welcome.url.as_str(),
        "root to trust",
        first.expose(),
        &format!("ACME directory: {}/acme/directory", welcome.url),
        "agent-bootstrap-token",
    ] {
        assert!(text.contains(word), "{text}");
    }
    assert!(running.drain().await);
    // The second start shows no key, serves the same certificate, and knows the first key still.
    let certificate = fs::read(data.join("tls/server.crt")).unwrap();
    let (running, client, welcome) = installation.start().await;
    assert!(welcome.first_key.is_none() && !welcome.to_string().contains("shown this once"));
    assert_eq!(fs::read(data.join("tls/server.crt")).unwrap(), certificate);
    assert_eq!(
        client
            .get("/api/v1/certificates", first.expose())
            .await
            .status,
        200
    );
    assert!(running.drain().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_registers_with_the_token_that_the_first_run_made() {
    let installation = Installation::new();
    let (running, client, welcome) = installation.start().await;
    let token = fs::read_to_string(welcome.bootstrap_token.unwrap()).unwrap();
    let made = client
        .call(
            "POST",
            "/api/v1/agents",
            &token,
            r#"{"name":"web-1","hostname":"web-1.test"}"#,
        )
        .await;
    let key = made.json()["api_key"].as_str().unwrap().to_owned();
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let beat = client
        .call("POST", &format!("/api/v1/agents/{id}/heartbeat"), &key, "")
        .await;
    assert_eq!((made.status, beat.status), (201, 200));
    assert!(running.drain().await);
}

/// Two servers on one empty database, at the same moment: both come up, with one CA and one first key.
async fn two_at_once(one: Installation, two: Installation) {
    let (a, b) = tokio::join!(one.build(), two.build());
    let servers = [a, b].map(|built| built.unwrap_or_else(|error| panic!("{}", chain(&error))));
    let welcomes = servers.each_ref().map(|server| server.welcome().clone());
    let keys: Vec<_> = welcomes
        .iter()
        .filter_map(|welcome| welcome.first_key.clone())
        .collect();
    assert_eq!(keys.len(), 1, "one first key");
    let roots = welcomes
        .each_ref()
        .map(|welcome| fs::read_to_string(welcome.root.as_ref().unwrap()).unwrap());
    assert_eq!(roots[0], roots[1], "one CA");
    let running = servers.map(certctl_boot::Server::spawn);
    for welcome in &welcomes {
        let client = trusting(welcome, &roots[0]);
        assert_eq!(client.get("/ready", "").await.status, 200);
        assert_eq!(
            client.get("/api/v1/teams", keys[0].expose()).await.status,
            200
        );
    }
    let tokens = welcomes.each_ref().map(|welcome| {
        welcome
            .bootstrap_token
            .as_ref()
            .map(|path| fs::read_to_string(path).unwrap())
    });
    for (welcome, token) in welcomes
        .iter()
        .zip(tokens)
        .filter_map(|(welcome, token)| Some((welcome, token?)))
    {
        let body = format!(r#"{{"name":"{}","hostname":"web.test"}}"#, welcome.url);
        let made = trusting(welcome, &roots[0])
            .call("POST", "/api/v1/agents", &token, &body)
            .await;
        assert_eq!(made.status, 201, "both take the token of the file");
    }
    for one in running {
        assert!(one.drain().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_start_at_once_on_one_folder_sqlite() {
    let one = Installation::new();
    let two = Installation::new().set("DATA_DIR", &one.data_dir().display().to_string());
    Box::pin(two_at_once(one, two)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_start_at_once_on_one_empty_database_postgres() {
    let db = TestDb::empty(Backend::Postgres).await;
    let (one, two) = (Installation::on(db.url()), Installation::on(db.url()));
    Box::pin(two_at_once(one, two)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_certificates_are_served_and_read_anew() {
    let issued = tempfile::tempdir().unwrap();
    let path = |name: &str| issued.path().join(name).display().to_string();
    // Another installation's certificate, as an operator's own CA would give one.
    let other = Installation::new();
    drop(other.build().await.unwrap());
    for (from, to) in [
        ("server.crt", "tls.crt"),
        ("server.key", "tls.key"),
        ("root.crt", "root.crt"),
    ] {
        fs::copy(other.data_dir().join("tls").join(from), path(to)).unwrap();
    }
    let given = Installation::new()
        .with_admin()
        .set("SERVER_TLS_CERT_PATH", &path("tls.crt"))
        .set("SERVER_TLS_KEY_PATH", &path("tls.key"));
    let server = given.build().await.unwrap();
    let welcome = server.welcome().clone();
    assert!(welcome.root.is_none() && welcome.first_key.is_none());
    let running = server.spawn();
    let client = trusting(&welcome, &fs::read_to_string(path("root.crt")).unwrap());
    assert_eq!(client.get("/api/v1/teams", ADMIN_KEY).await.status, 200);
    // What cannot be used changes nothing.
    let good = fs::read(path("tls.crt")).unwrap();
    fs::write(path("tls.crt"), "nonsense").unwrap();
    running.reload_certificate().await;
    assert_eq!(client.get("/ready", "").await.status, 200);
    fs::write(path("tls.crt"), good).unwrap();
    running.reload_certificate().await;
    assert_eq!(client.get("/ready", "").await.status, 200);
    assert!(running.drain().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_of_a_start_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let nonsense = file("nonsense.pem", "nonsense");
    let tls = Installation::new()
        .set("SERVER_TLS_CERT_PATH", &nonsense)
        .set("SERVER_TLS_KEY_PATH", &nonsense);
    assert!(
        tls.refusal()
            .await
            .starts_with("the server's TLS certificate cannot be used"),
        "{}",
        tls.refusal().await
    );
    let (one, two) = (Installation::new(), Installation::new());
    drop((one.build().await.unwrap(), two.build().await.unwrap()));
    let of = |one: &Installation, name: &str| {
        one.data_dir().join("tls").join(name).display().to_string()
    };
    let crossed = Installation::new()
        .set("SERVER_TLS_CERT_PATH", &of(&one, "server.crt"))
        .set("SERVER_TLS_KEY_PATH", &of(&two, "server.key"));
    assert!(
        crossed
            .refusal()
            .await
            .starts_with("the server's TLS certificate cannot be used"),
        "a key of another certificate"
    );
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    let taken = Installation::new()
        .set("SERVER_PORT", &port)
        .refusal()
        .await;
    assert!(
        taken.starts_with(&format!("127.0.0.1:{port} cannot be listened on: ")),
        "{taken}"
    );
    let blocked = Installation::new().set("DATA_DIR", &format!("{nonsense}/data"));
    assert!(
        blocked
            .refusal()
            .await
            .starts_with(&format!("{nonsense}/data cannot be used: ")),
        "{}",
        blocked.refusal().await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_does_not_use_the_first_key_up() {
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    let installation = Installation::new().set("SERVER_PORT", &port);
    assert!(
        installation
            .refusal()
            .await
            .contains("cannot be listened on")
    );
    drop(busy);
    let (running, client, welcome) = installation.start().await;
    let key = welcome.first_key.expect("it was not shown before");
    assert_eq!(client.get("/api/v1/teams", key.expose()).await.status, 200);
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_ca_or_for_other_names_is_made_anew() {
    let installation = Installation::new();
    drop(installation.build().await.unwrap());
    let (path, key) = (
        installation.data_dir().join("tls/server.crt"),
        installation.data_dir().join("tls/server.key"),
    );
    let first = ParsedCertificate::chain_from_pem(&fs::read_to_string(&path).unwrap())
        .unwrap()
        .remove(0);
    // Half a pair: a crash between the two files, or a hand that copied one of them.
    let other = Installation::new();
    drop(other.build().await.unwrap());
    fs::copy(other.data_dir().join("tls/server.key"), &key).unwrap();
    let (running, client, _) = installation.start().await;
    assert_eq!(client.get("/ready", "").await.status, 200);
    assert!(running.drain().await);
    let second = ParsedCertificate::chain_from_pem(&fs::read_to_string(&path).unwrap())
        .unwrap()
        .remove(0);
    assert_ne!(first.fingerprint_sha256(), second.fingerprint_sha256());
}

async fn what_a_demo_leaves_stops_a_strict_start(installation: Installation) {
    let strict = |one: Installation| one.set("DEMO_MODE_RESIDUAL_STRICT", "true");
    // Nobody ever came in unasked: the grant that every database begins with is no remainder.
    let installation = strict(installation.with_admin());
    assert!(installation.start().await.0.drain().await);
    let open = installation
        .set("AUTH_TYPE", "none")
        .set("SERVER_HOST", "127.0.0.1");
    let (running, client, _) = open.start().await;
    assert_eq!(client.get("/api/v1/auth/keys", "").await.status, 200);
    assert!(running.drain().await);
    let closed = open.without("AUTH_TYPE");
    let refusal = closed.refusal().await;
    assert!(
        refusal.starts_with("CERTCTL_DEMO_MODE_RESIDUAL_STRICT: 1 grants of the demo actor"),
        "{refusal}"
    );
    let lenient = closed.without("DEMO_MODE_RESIDUAL_STRICT");
    let (running, client, _) = lenient.start().await;
    let found = client
        .get(
            "/api/v1/audit?action=auth.demo_residual_grants_detected",
            ADMIN_KEY,
        )
        .await;
    assert_eq!(found.status, 200);
    let cleaned = client
        .call("POST", "/api/v1/auth/demo-residual/cleanup", ADMIN_KEY, "")
        .await;
    assert_eq!(
        (cleaned.status, &cleaned.json()["removed"]),
        (200, &serde_json::json!(1))
    );
    assert!(running.drain().await);
    assert!(strict(lenient).start().await.0.drain().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_demo_leaves_on_sqlite_stops_a_strict_start() {
    what_a_demo_leaves_stops_a_strict_start(Installation::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_demo_leaves_on_postgres_stops_a_strict_start() {
    let db = TestDb::empty(Backend::Postgres).await;
    what_a_demo_leaves_stops_a_strict_start(Installation::on(db.url())).await;
}
