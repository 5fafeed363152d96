//! Prints how many certificates one thread lints and signs per second:
//! `cargo run --release -p certctl-pki --example sign_rate`.

use std::time::{Duration, Instant};

use certctl_domain::{
    key::KeySpec, name::SubjectAltName, profile::ExtendedKeyUsage, time::Timestamp,
};
use certctl_pki::{
    Error,
    cert::{CaSigner, CertificateSpec, ParsedCertificate, RootSpec, random_serial, sign_root},
    key::PrivateKey,
};

const START: Timestamp = Timestamp::from_seconds(1_790_000_000);
const DAY: Duration = Duration::from_secs(86_400);

#[expect(clippy::print_stdout, reason = "printing is what it is for")]
fn main() -> Result<(), Error> {
    let ca = ca()?;
    let keys = rate(|| PrivateKey::generate(KeySpec::EcdsaP256).map(drop))?;
    println!("{keys:>8.0} P-256 keys per second");
    let leaf = PrivateKey::generate(KeySpec::EcdsaP256)?;
    let certificates = rate(|| sign(&ca, &leaf))?;
    println!("{certificates:>8.0} P-256 certificates per second, linted and signed");
    Ok(())
}

fn ca() -> Result<CaSigner, Error> {
    let key = PrivateKey::generate(KeySpec::EcdsaP256)?;
    let root = sign_root(
        &RootSpec {
            common_name: "Rate Root",
            serial: &random_serial()?,
            not_before: START,
            not_after: START + 3650 * DAY,
        },
        &key,
    )?;
    CaSigner::new(ParsedCertificate::from_der(root.der())?, key)
}

fn sign(ca: &CaSigner, key: &PrivateKey) -> Result<(), Error> {
    let name = "host-1234.example.com";
    ca.sign(&CertificateSpec {
        common_name: name,
        sans: &[SubjectAltName::Dns(name.to_owned())],
        spki_der: key.spki_der(),
        serial: &random_serial()?,
        not_before: START,
        not_after: START + 90 * DAY,
        ekus: &[ExtendedKeyUsage::ServerAuth],
        must_staple: false,
        ca: None,
        crl_urls: &[],
        ocsp_urls: &[],
        ca_issuers_urls: &[],
    })
    .map(drop)
}

fn rate(mut step: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < Duration::from_secs(2) {
        step()?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}
