//! A CA that makes pairs for tests.

use std::time::Duration;

use certctl_connectors::target::DeploymentRequest;
use certctl_domain::{
    key::KeySpec,
    name::SubjectAltName,
    profile::ExtendedKeyUsage,
    secret::Secret,
    time::{Clock as _, SystemClock},
};
use certctl_pki::{
    cert::{CaSigner, CertificateSpec, ParsedCertificate, RootSpec, random_serial, sign_root},
    key::PrivateKey,
};
use serde_json::Value;

const DAY: Duration = Duration::from_secs(86_400);

pub(crate) struct Ca {
    signer: CaSigner,
    root_pem: String,
}

/// A certificate, its key and its chain.
pub(crate) struct Pair {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: Secret,
    pub(crate) chain_pem: String,
    pub(crate) fingerprint: String,
    pub(crate) serial: String,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
        let now = SystemClock.now();
        let root = sign_root(
            &RootSpec {
                common_name: "Connector Test Root",
                serial: &random_serial().unwrap(),
                not_before: now - DAY,
                not_after: now + 30 * DAY,
            },
            &key,
        )
        .unwrap();
        let certificate = ParsedCertificate::from_der(root.der()).unwrap();
        Self {
            root_pem: root.to_pem(),
            signer: CaSigner::new(certificate, key).unwrap(),
        }
    }

    pub(crate) fn issue(&self, name: &str) -> Pair {
        let key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
        let serial = random_serial().unwrap();
        let now = SystemClock.now();
        let signed = self
            .signer
            .sign(&CertificateSpec {
                common_name: name,
                sans: &[SubjectAltName::parse(name).unwrap()],
                spki_der: key.spki_der(),
                serial: &serial,
                not_before: now - DAY,
                not_after: now + 10 * DAY,
                ekus: &[ExtendedKeyUsage::ServerAuth],
                must_staple: false,
                ca: None,
                crl_urls: &[],
                ocsp_urls: &[],
                ca_issuers_urls: &[],
            })
            .unwrap();
        Pair {
            cert_pem: signed.to_pem(),
            key_pem: key.to_pem(),
            chain_pem: self.root_pem.clone(),
            fingerprint: signed.fingerprint(),
            serial: serial.to_string(),
        }
    }
}

impl Pair {
    pub(crate) fn request(&self, target_config: Value) -> DeploymentRequest {
        DeploymentRequest {
            cert_pem: self.cert_pem.clone(),
            key_pem: Some(self.key_pem.clone()),
            chain_pem: self.chain_pem.clone(),
            target_config,
            metadata: [("certificate_id".to_owned(), "cert-1".to_owned())].into(),
        }
    }
}
