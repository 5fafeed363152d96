//! A CA for the server's own certificate and for what agents ask for.

use std::time::Duration;

use certctl_domain::{
    key::KeySpec,
    name::SubjectAltName,
    profile::ExtendedKeyUsage,
    time::{Clock as _, SystemClock},
};
use certctl_pki::{
    cert::{CaSigner, CertificateSpec, ParsedCertificate, RootSpec, random_serial, sign_root},
    key::PrivateKey,
};

const DAY: Duration = Duration::from_secs(86_400);

pub(crate) struct Ca {
    signer: CaSigner,
    pub(crate) root_pem: String,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
        let now = SystemClock.now();
        let root = sign_root(
            &RootSpec {
                common_name: "Agent Test Root",
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

    /// Leaf and root, PEM.
    pub(crate) fn certify(&self, spki_der: &[u8], names: &[&str]) -> String {
        let now = SystemClock.now();
        let sans: Vec<SubjectAltName> = names
            .iter()
            .map(|name| SubjectAltName::parse(name).unwrap())
            .collect();
        let signed = self
            .signer
            .sign(&CertificateSpec {
                common_name: names[0],
                sans: &sans,
                spki_der,
                serial: &random_serial().unwrap(),
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
        signed.to_pem() + &self.root_pem
    }
}
