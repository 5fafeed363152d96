//! SIGHUP.

use std::{fs, time::Duration};

use certctl_testkit::{
    client::Client,
    domain::{
        key::KeySpec,
        name::SubjectAltName,
        profile::ExtendedKeyUsage,
        time::{Clock as _, SystemClock},
    },
    pki::{
        cert::{CaSigner, CertificateSpec, ParsedCertificate, RootSpec, random_serial, sign_root},
        key::PrivateKey,
    },
    procs::child::Signal,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::program::Home;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_served_to_new_connections_and_open_ones_stay() {
    let home = Home::new();
    let ca = Ca::new();
    let (certificate, key) = (home.path("tls.crt"), home.path("tls.key"));
    let serve = |name: &str| {
        let (pem, key_pem) = ca.pair(name);
        fs::write(&certificate, pem).unwrap();
        fs::write(&key, key_pem).unwrap();
    };
    serve("localhost");
    let home = home
        .set("SERVER_TLS_CERT_PATH", "tls.crt")
        .set("SERVER_TLS_KEY_PATH", "tls.key");
    let (mut process, client) = home.start(Some(&ca.root)).await;
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
    let (_, other) = ca.pair("localhost");
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

struct Ca {
    signer: CaSigner,
    root: String,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Ca {
    fn new() -> Self {
        let key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
        let now = SystemClock.now();
        let root = sign_root(
            &RootSpec {
                common_name: "Reload Test Root",
                serial: &random_serial().unwrap(),
                not_before: now - DAY,
                not_after: now + 30 * DAY,
            },
            &key,
        )
        .unwrap();
        let certificate = ParsedCertificate::from_der(root.der()).unwrap();
        Self {
            root: root.to_pem(),
            signer: CaSigner::new(certificate, key).unwrap(),
        }
    }

    /// A certificate and its key, PEM.
    fn pair(&self, name: &str) -> (String, String) {
        let key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
        let now = SystemClock.now();
        let signed = self.signer.sign(&CertificateSpec {
            common_name: name,
            sans: &[SubjectAltName::parse(name).unwrap()],
            spki_der: key.spki_der(),
            serial: &random_serial().unwrap(),
            not_before: now - DAY,
            not_after: now + 10 * DAY,
            ekus: &[ExtendedKeyUsage::ServerAuth],
            must_staple: false,
            ca: None,
            crl_urls: &[],
            ocsp_urls: &[],
            ca_issuers_urls: &[],
        });
        (signed.unwrap().to_pem(), key.to_pem().expose().to_owned())
    }
}
