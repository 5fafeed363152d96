//! The example, as another program would run it.

#[path = "../../examples/embed_server.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod embed_server;

#[path = "../../examples/acme_server.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod acme_server;

use std::net::SocketAddr;

use certctl_acme::{base64url, client::Signer};
use certctl_domain::{key::KeySpec, name::SubjectAltName};
use certctl_testkit::pki::{csr::CsrBuilder, key::PrivateKey};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

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

/// What clients are told the server is called.
const ORIGIN: &str = "https://acme.example.test";

/// Head and body of an answer, over a socket in plain text, as a proxy sends requests on.
async fn send(address: SocketAddr, method: &str, path: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: internal\r\ncontent-type: application/jose+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn header(head: &str, name: &str) -> String {
    let line = head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    });
    line.unwrap_or_else(|| panic!("no {name}: {head}"))
        .to_owned()
}

/// A client of the example.
struct Orderer {
    address: SocketAddr,
    signer: Signer,
    kid: String,
}

impl Orderer {
    async fn ask(&self, url: &str, payload: &str) -> (String, Value) {
        let path = url.strip_prefix(ORIGIN).unwrap();
        let (head, _) = send(self.address, "HEAD", "/acme/new-nonce", "").await;
        let nonce = header(&head, "replay-nonce");
        let body = if self.kid.is_empty() {
            self.signer.sign_with_jwk(url, Some(&nonce), payload)
        } else {
            self.signer.sign(&self.kid, url, &nonce, payload)
        };
        let (head, body) = send(self.address, "POST", path, &body.unwrap()).await;
        let body = serde_json::from_str(&body).unwrap_or(Value::String(body));
        (head, body)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acme_server_within_another_program_issues() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let settings = [
        ("CERTCTL_DATA_DIR", data.as_str()),
        ("CERTCTL_ACME_SERVER_BASE_URL", ORIGIN),
    ];
    let embedded = acme_server::mounted(&settings).await.unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(acme_server::serve(listener, embedded.acme()));
    let stop = CancellationToken::new();
    let running = tokio::spawn(embedded.run(stop.clone()));
    let (_, directory) = send(address, "GET", "/acme/directory", "").await;
    let directory: Value = serde_json::from_str(&directory).unwrap();
    let url = |name: &str| directory[name].as_str().unwrap().to_owned();
    let mut client = Orderer {
        address,
        signer: Signer::new(PrivateKey::generate(KeySpec::EcdsaP256).unwrap()).unwrap(),
        kid: String::new(),
    };
    let (head, _) = client.ask(&url("newAccount"), "{}").await;
    client.kid = header(&head, "location");
    let order = json!({"identifiers": [{"type": "dns", "value": "www.example.test"}]});
    let (head, order) = client.ask(&url("newOrder"), &order.to_string()).await;
    let place = header(&head, "location");
    let csr = CsrBuilder::new("www.example.test")
        .sans(vec![SubjectAltName::Dns("www.example.test".into())])
        .sign_der(&PrivateKey::generate(KeySpec::EcdsaP256).unwrap())
        .unwrap();
    let csr = json!({"csr": base64url::encode(csr)}).to_string();
    let (_, mut order) = client.ask(order["finalize"].as_str().unwrap(), &csr).await;
    // Finalising waits for the certificate; a machine that is busy may be asked again.
    while order["status"] == "processing" {
        (_, order) = client.ask(&place, "").await;
    }
    assert_eq!(order["status"], "valid", "{order}");
    let (_, chain) = client.ask(order["certificate"].as_str().unwrap(), "").await;
    assert!(
        chain
            .as_str()
            .unwrap()
            .starts_with("-----BEGIN CERTIFICATE-----"),
        "{chain}"
    );
    // The API is not there.
    let (head, _) = send(address, "GET", "/api/v1/teams", "").await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    serving.abort();
    stop.cancel();
    assert!(running.await.unwrap(), "nothing was cut");
}

#[test]
fn it_stays_an_example() {
    let lines = include_str!("../../examples/embed_server.rs")
        .lines()
        .count();
    assert!(lines < 60, "{lines} lines");
    let lines = include_str!("../../examples/acme_server.rs")
        .lines()
        .count();
    assert!(lines < 60, "{lines} lines");
}
