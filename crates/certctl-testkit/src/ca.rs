//! A CA that certifies whatever a test asks for, by the clock of the machine: its certificates are shown in real handshakes.

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
    cert::{
        CaSigner, CertificateSpec, ParsedCertificate, RootSpec, SignedCertificate, random_serial,
        sign_root,
    },
    key::PrivateKey,
};
use serde_json::Value;

const DAY: Duration = Duration::from_secs(86_400);

/// A root that nobody trusts who was not told to.
pub struct Ca {
    signer: CaSigner,
    root_pem: String,
}

/// A certificate, its key and its chain.
pub struct Pair {
    /// The leaf.
    pub cert_pem: String,
    /// Its key.
    pub key_pem: Secret,
    /// The root, as the chain.
    pub chain_pem: String,
    /// SHA-256 of the leaf, lowercase hex.
    pub fingerprint: String,
    /// The leaf's serial number.
    pub serial: String,
}

impl Ca {
    /// A new root, valid since yesterday and for 30 days.
    ///
    /// # Panics
    /// When the machine gives no random bytes.
    #[must_use]
    pub fn new(common_name: &str) -> Self {
        let key = PrivateKey::generate(KeySpec::EcdsaP256).expect("a key can be made");
        let now = SystemClock.now();
        let spec = RootSpec {
            common_name,
            serial: &random_serial().expect("there are random bytes"),
            not_before: now - DAY,
            not_after: now + 30 * DAY,
        };
        let root = sign_root(&spec, &key).expect("a root of this kind breaks no rule");
        let certificate = ParsedCertificate::from_der(root.der()).expect("it was just made");
        Self {
            root_pem: root.to_pem(),
            signer: CaSigner::new(certificate, key).expect("they belong together"),
        }
    }

    /// The root's certificate.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Certifies a key for names, valid since yesterday and for 10 days: leaf and root, PEM.
    ///
    /// # Panics
    /// When the key or a name breaks a rule.
    #[must_use]
    pub fn certify(&self, spki_der: &[u8], names: &[&str]) -> String {
        self.sign(spki_der, names).0.to_pem() + &self.root_pem
    }

    /// A new key and its certificate for a name.
    ///
    /// # Panics
    /// When the name breaks a rule.
    #[must_use]
    pub fn issue(&self, name: &str) -> Pair {
        let key = PrivateKey::generate(KeySpec::EcdsaP256).expect("a key can be made");
        let (signed, serial) = self.sign(key.spki_der(), &[name]);
        Pair {
            cert_pem: signed.to_pem(),
            key_pem: key.to_pem(),
            chain_pem: self.root_pem.clone(),
            fingerprint: signed.fingerprint(),
            serial,
        }
    }

    fn sign(&self, spki_der: &[u8], names: &[&str]) -> (SignedCertificate, String) {
        let (now, serial) = (
            SystemClock.now(),
            random_serial().expect("there are random bytes"),
        );
        let sans: Vec<SubjectAltName> = names
            .iter()
            .map(|name| SubjectAltName::parse(name).expect("a test names what may be named"))
            .collect();
        let signed = self.signer.sign(&CertificateSpec {
            common_name: names[0],
            sans: &sans,
            spki_der,
            serial: &serial,
            not_before: now - DAY,
            not_after: now + 10 * DAY,
            ekus: &[ExtendedKeyUsage::ServerAuth],
            must_staple: false,
            ca: None,
            crl_urls: &[],
            ocsp_urls: &[],
            ca_issuers_urls: &[],
        });
        let signed = signed.expect("a test asks for what breaks no rule");
        (signed, serial.to_string())
    }
}

impl Pair {
    /// The request to deploy it to a target.
    #[must_use]
    pub fn request(&self, target_config: Value) -> DeploymentRequest {
        DeploymentRequest {
            cert_pem: self.cert_pem.clone(),
            key_pem: Some(self.key_pem.clone()),
            chain_pem: self.chain_pem.clone(),
            target_config,
            metadata: [("certificate_id".to_owned(), "cert-1".to_owned())].into(),
        }
    }
}
