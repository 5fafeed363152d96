//! Against Debian's `pebble-challtestsrv`, which is what ACME servers are tested with.

use certctl_connectors::acme::{Caa, Config};
use certctl_domain::{
    acme::{ChallengeType, Identifier, ProblemType},
    ports::challenge::{CaaChecker as _, CaaRequest},
};
use certctl_testkit::procs::{
    challenges::ChallengeServer,
    install::{Program, ensure},
};
use serde_json::json;

use super::{AMPLE, KEY_AUTHORIZATION, NAME, TOKEN, assert_refused, prove, prove_for};

struct Real {
    server: ChallengeServer,
    config: Config,
    _folder: tempfile::TempDir,
}

impl Real {
    fn start() -> Self {
        ensure(&[Program::ChallengeServer])
            .expect("these tests need pebble-challtestsrv: install the package pebble");
        let folder = tempfile::tempdir().unwrap();
        let server = ChallengeServer::start(folder.path()).unwrap();
        let mut config = Config {
            resolver: server.resolver(),
            block_private: true,
            allowed_networks: vec!["127.0.0.1".parse().unwrap()],
            http_port: server.http_port(),
            tls_port: server.tls_alpn_port(),
            ..Config::default()
        };
        config.limits.query = AMPLE;
        Self {
            server,
            config,
            _folder: folder,
        }
    }

    fn tell(&self, command: &str, json: &serde_json::Value) {
        self.server.tell(command, &json.to_string()).unwrap();
    }
}

#[tokio::test]
async fn http01_with_its_file_and_by_redirect() {
    let real = Real::start();
    let result = prove(&real.config, ChallengeType::Http01).await;
    assert_refused(
        &result,
        ProblemType::IncorrectResponse,
        "content of the file",
    );

    real.tell(
        "add-http01",
        &json!({"token": TOKEN, "content": KEY_AUTHORIZATION}),
    );
    prove(&real.config, ChallengeType::Http01).await.unwrap();
    let ip = Identifier::ip("127.0.0.1").unwrap();
    prove_for(&real.config, ChallengeType::Http01, ip)
        .await
        .unwrap();

    let path = format!("/.well-known/acme-challenge/{TOKEN}");
    let elsewhere = "/.well-known/acme-challenge/elsewhere";
    real.tell("del-http01", &json!({"token": TOKEN}));
    real.tell(
        "add-http01",
        &json!({"token": "elsewhere", "content": KEY_AUTHORIZATION}),
    );
    let port = real.server.https_port();
    let target = format!("https://other.example.com:{port}{elsewhere}");
    real.tell("add-redirect", &json!({"path": path, "targetURL": target}));
    let config = Config {
        tls_port: port,
        ..real.config.clone()
    };
    prove(&config, ChallengeType::Http01).await.unwrap();
}

#[tokio::test]
async fn dns01_with_its_record_its_alias_and_its_failure() {
    let real = Real::start();
    let result = prove(&real.config, ChallengeType::Dns01).await;
    assert_refused(&result, ProblemType::Dns, "no TXT record at");

    // It does the sum itself: SHA-256 and base64url of another program.
    let owner = format!("_acme-challenge.{NAME}.");
    let digest = openssl_digest(KEY_AUTHORIZATION);
    real.tell(
        "set-txt",
        &json!({"host": owner, "value": "something else"}),
    );
    let result = prove(&real.config, ChallengeType::Dns01).await;
    assert_refused(
        &result,
        ProblemType::IncorrectResponse,
        "none of the TXT records",
    );
    real.tell("set-txt", &json!({"host": owner, "value": digest}));
    prove(&real.config, ChallengeType::Dns01).await.unwrap();

    real.tell("clear-txt", &json!({"host": owner}));
    real.tell(
        "set-cname",
        &json!({"host": owner, "target": "elsewhere.example."}),
    );
    real.tell(
        "set-txt",
        &json!({"host": "elsewhere.example.", "value": digest}),
    );
    prove(&real.config, ChallengeType::Dns01).await.unwrap();

    real.tell("set-servfail", &json!({"host": owner}));
    let result = prove(&real.config, ChallengeType::Dns01).await;
    assert_refused(&result, ProblemType::Dns, "Server Failure");
}

/// The digest by another program than the one that is tested.
fn openssl_digest(text: &str) -> String {
    ensure(&[Program::OpenSsl]).unwrap();
    let script = format!(
        "printf %s {text} | openssl dgst -sha256 -binary | openssl base64 | tr -d = | tr +/ -_"
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn tls_alpn01_with_its_certificate() {
    let real = Real::start();
    let result = prove(&real.config, ChallengeType::TlsAlpn01).await;
    assert_refused(&result, ProblemType::Tls, "");
    real.tell(
        "add-tlsalpn01",
        &json!({"host": NAME, "content": KEY_AUTHORIZATION}),
    );
    prove(&real.config, ChallengeType::TlsAlpn01).await.unwrap();
    real.tell("del-tlsalpn01", &json!({"host": NAME}));
    real.tell(
        "add-tlsalpn01",
        &json!({"host": NAME, "content": "another.authorization"}),
    );
    let result = prove(&real.config, ChallengeType::TlsAlpn01).await;
    assert_refused(
        &result,
        ProblemType::IncorrectResponse,
        "the digest in the certificate",
    );
}

#[tokio::test]
async fn caa_with_its_records() {
    let real = Real::start();
    let request = CaaRequest {
        name: NAME.to_owned(),
        wildcard: false,
        account_uri: "https://ca.example/acme/account/1".to_owned(),
        method: ChallengeType::Http01,
    };
    let caa = Caa::new(&real.config, &["ca.example".to_owned()]);
    caa.check(&request).await.unwrap();
    let policy = |value: &str| json!({"host": "example.com.", "policies": [{"tag": "issue", "value": value}]});
    real.tell("add-caa", &policy("stranger.example"));
    assert_refused(&caa.check(&request).await, ProblemType::Caa, "example.com");
    real.tell("clear-caa", &json!({"host": "example.com."}));
    real.tell("add-caa", &policy("ca.example"));
    caa.check(&request).await.unwrap();
}
