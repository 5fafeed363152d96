//! The crate as its callers see it, against vectors, other people's programs and arbitrary input.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod ca;
mod crl;
mod keys;
mod names;
mod ocsp;
mod openssl;
mod pkcs12;
mod properties;
mod vectors;

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use certctl_domain::{
    key::KeySpec, name::SubjectAltName, profile::ExtendedKeyUsage, serial::SerialNumber,
    time::Timestamp,
};
use certctl_pki::{
    cert::{CaSigner, CertificateSpec, ParsedCertificate, RootSpec, sign_root},
    key::PrivateKey,
};

/// A point in time at which every certificate of these tests begins.
const START: Timestamp = Timestamp::from_seconds(1_790_000_000);
const DAY: Duration = Duration::from_secs(86_400);

/// One key of each kind; RSA keys are too slow to make anew for every test.
static KEYS: LazyLock<HashMap<KeySpec, PrivateKey>> = LazyLock::new(|| {
    KeySpec::ALL
        .iter()
        .map(|spec| (*spec, PrivateKey::generate(*spec).expect("a key")))
        .collect()
});

fn key(spec: KeySpec) -> &'static PrivateKey {
    &KEYS[&spec]
}

/// A second handle to a key of [`KEYS`].
fn copy_of(spec: KeySpec) -> PrivateKey {
    PrivateKey::from_pem(key(spec).to_pem().expose()).expect("the key as it was written")
}

/// A root with a key of this kind that lives ten years.
fn root(spec: KeySpec) -> CaSigner {
    let certificate = sign_root(
        &RootSpec {
            common_name: "Test Root",
            serial: &serial(1),
            not_before: START,
            not_after: START + 3650 * DAY,
        },
        key(spec),
    )
    .expect("a root");
    let certificate = ParsedCertificate::from_der(certificate.der()).expect("what was made");
    CaSigner::new(certificate, copy_of(spec)).expect("a CA")
}

/// A serial of the length that is issued, told apart by `n`.
fn serial(n: u8) -> SerialNumber {
    let mut octets = [0x55; 20];
    octets[19] = n;
    SerialNumber::from_be_bytes(&octets).expect("20 octets")
}

fn dns(name: &str) -> SubjectAltName {
    SubjectAltName::Dns(name.to_owned())
}

/// Ninety days for a host name.
fn leaf_spec<'a>(
    common_name: &'a str,
    sans: &'a [SubjectAltName],
    key: &'a PrivateKey,
    serial: &'a SerialNumber,
) -> CertificateSpec<'a> {
    CertificateSpec {
        common_name,
        sans,
        spki_der: key.spki_der(),
        serial,
        not_before: START,
        not_after: START + 90 * DAY,
        ekus: &[ExtendedKeyUsage::ServerAuth, ExtendedKeyUsage::ClientAuth],
        must_staple: false,
        ca: None,
        crl_urls: &[],
        ocsp_urls: &[],
        ca_issuers_urls: &[],
    }
}
