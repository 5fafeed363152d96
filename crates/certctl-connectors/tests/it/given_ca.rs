//! The local CA with a certificate and a key given as files.

use std::{fs, path::PathBuf};

use certctl_domain::{
    issuer::IssuerType,
    key::KeySpec,
    ports::issuer::{IssuanceRequest, IssuerError, IssuerFactory as _},
    time::Timestamp,
};
use certctl_pki::{
    cert::{
        CaSigner, CertificateSpec, ParsedCertificate, PathLength, RootSpec, random_serial,
        sign_root,
    },
    key::PrivateKey,
};
use serde_json::{Value, json};

use super::local_ca::{DAY, NOW, connect, factory, issue_one, openssl_verifies, refused, request};

/// A root and an issuing CA of a kind of key, as files of a folder.
struct Given {
    folder: tempfile::TempDir,
    root_pem: String,
    issuing_pem: String,
    config: Value,
}

impl Given {
    fn new(spec: KeySpec) -> Self {
        Self::with(spec, NOW - DAY, NOW + 365 * DAY)
    }

    fn with(spec: KeySpec, not_before: Timestamp, not_after: Timestamp) -> Self {
        let root_key = PrivateKey::generate(KeySpec::EcdsaP384).unwrap();
        let root = sign_root(
            &RootSpec {
                common_name: "Given Root",
                serial: &random_serial().unwrap(),
                not_before: NOW - 400 * DAY,
                not_after: NOW + 3650 * DAY,
            },
            &root_key,
        )
        .unwrap();
        let root_pem = root.to_pem();
        let root =
            CaSigner::new(ParsedCertificate::from_der(root.der()).unwrap(), root_key).unwrap();
        let key = PrivateKey::generate(spec).unwrap();
        let issuing = root
            .sign(&CertificateSpec {
                common_name: "Given Issuing CA",
                sans: &[],
                spki_der: key.spki_der(),
                serial: &random_serial().unwrap(),
                not_before,
                not_after,
                ekus: &[],
                must_staple: false,
                ca: Some(PathLength::AtMost(0)),
                crl_urls: &[],
                ocsp_urls: &[],
                ca_issuers_urls: &[],
            })
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let issuing_pem = issuing.to_pem();
        let (certificate, key_file) = (folder.path().join("ca.pem"), folder.path().join("ca.key"));
        fs::write(&certificate, format!("{issuing_pem}{root_pem}")).unwrap();
        fs::write(&key_file, key.to_pem().expose()).unwrap();
        let config = json!({"ca_cert_path": certificate, "ca_key_path": key_file});
        Self {
            folder,
            root_pem,
            issuing_pem,
            config,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What validating and connecting say, which must be the same.
    async fn refusal(&self) -> String {
        let factory = factory(self.folder.path(), None);
        let validated = factory
            .validate(IssuerType::GenericCa, &self.config)
            .unwrap_err();
        assert_eq!(refused(&factory, &self.config).await, validated);
        assert!(
            matches!(validated, IssuerError::Validation(_)),
            "{validated:?}"
        );
        validated.to_string()
    }
}

#[tokio::test]
async fn a_leaf_of_a_given_ca_verifies_under_its_root() {
    for spec in [
        KeySpec::EcdsaP256,
        KeySpec::EcdsaP384,
        KeySpec::Rsa2048,
        KeySpec::Rsa3072,
    ] {
        let given = Given::new(spec);
        let factory = factory(given.folder.path(), None);
        factory
            .validate(IssuerType::GenericCa, &given.config)
            .unwrap();
        let ca = connect(&factory, &given.config).await.unwrap();
        let issued = ca
            .issue(vec![request("web.example.com", &[])])
            .await
            .remove(0)
            .unwrap();
        assert_eq!(issued.chain_pem, given.issuing_pem, "the root is not sent");
        assert_eq!(
            ca.ca_pem().await.unwrap(),
            format!("{}{}", given.issuing_pem, given.root_pem)
        );
        openssl_verifies(&issued.leaf_pem, &given.root_pem, &issued.chain_pem).unwrap();
        openssl_verifies(&issued.leaf_pem, &given.root_pem, "").unwrap_err();
        // No root of its own was made on the side.
        assert!(!given.file("ca").exists());
    }
}

#[tokio::test]
async fn a_given_ca_that_cannot_sign_is_refused_by_field() {
    let given = Given::new(KeySpec::EcdsaP256);
    fs::write(
        given.file("ca.key"),
        PrivateKey::generate(KeySpec::EcdsaP256)
            .unwrap()
            .to_pem()
            .expose(),
    )
    .unwrap();
    assert!(
        given
            .refusal()
            .await
            .contains("ca_key_path: is not the key")
    );

    fs::write(given.file("ca.key"), "no key").unwrap();
    assert!(given.refusal().await.contains("ca_key_path: "));
    fs::remove_file(given.file("ca.key")).unwrap();
    assert!(given.refusal().await.contains("ca_key_path: "));

    let given = Given::with(KeySpec::EcdsaP256, NOW - 2 * DAY, NOW - DAY);
    assert!(
        given
            .refusal()
            .await
            .contains("ca_cert_path: the certificate has expired")
    );
    let given = Given::with(KeySpec::EcdsaP256, NOW + DAY, NOW + 2 * DAY);
    assert!(
        given
            .refusal()
            .await
            .contains("ca_cert_path: the certificate is not valid yet")
    );

    let given = Given::new(KeySpec::Ed25519);
    assert!(given.refusal().await.contains("ca_key_path: "));

    let given = Given::new(KeySpec::EcdsaP256);
    let stranger = Given::new(KeySpec::EcdsaP256);
    fs::write(
        given.file("ca.pem"),
        format!("{}{}", given.issuing_pem, stranger.root_pem),
    )
    .unwrap();
    assert!(
        given
            .refusal()
            .await
            .contains("ca_cert_path: certificate 1 is not signed by certificate 2")
    );
    fs::write(given.file("ca.pem"), "no certificate").unwrap();
    assert!(given.refusal().await.contains("ca_cert_path: "));
}

#[tokio::test]
async fn a_leaf_given_as_ca_is_refused() {
    let given = Given::new(KeySpec::EcdsaP256);
    let ca = connect(&factory(given.folder.path(), None), &given.config)
        .await
        .unwrap();
    let key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
    let leaf = issue_one(
        &*ca,
        IssuanceRequest {
            spki_der: key.spki_der().to_vec(),
            ..request("a.example", &[])
        },
    )
    .await;
    fs::write(given.file("ca.pem"), leaf.to_pem()).unwrap();
    fs::write(given.file("ca.key"), key.to_pem().expose()).unwrap();
    assert!(
        given
            .refusal()
            .await
            .contains("ca_cert_path: the certificate cannot sign others")
    );
}
