//! The demo data: what the repository plans, with certificates that are real.

use std::time::Duration;

use certctl_domain::{
    key::KeySpec, name::SubjectAltName, profile::ExtendedKeyUsage, serial::SerialNumber,
    time::Timestamp,
};
use certctl_pki::{
    cert::{CaSigner, CertificateSpec, ParsedCertificate, RootSpec, random_serial, sign_root},
    key::PrivateKey,
};
use certctl_repository::{
    Backend,
    seed::demo::{self, PlannedVersion, SignedVersion},
};

use crate::Error;

/// The name of the CA that signs the demo's certificates (operations §10).
const CA_NAME: &str = "CertCtl Demo CA";
const DAY: Duration = Duration::from_secs(86_400);

/// The statements that fill a database with the demo data where it is absent, relative to `now`.
///
/// The certificates are signed by a CA made for this one call, whose key is forgotten, as are those of the certificates: they can be
/// parsed and looked at, and stand for nobody.
///
/// # Errors
/// [`Error::Internal`] when a key cannot be made.
pub fn demo_sql(backend: Backend, now: Timestamp) -> Result<String, Error> {
    let ca = demo_ca(now)?;
    let signed = demo::planned_versions(now)
        .into_iter()
        .map(|planned| sign(&ca, planned))
        .collect::<Result<Vec<_>, Error>>()?;
    Ok(demo::sql(backend, now, &signed))
}

fn demo_ca(now: Timestamp) -> Result<CaSigner, Error> {
    let key = PrivateKey::generate(KeySpec::EcdsaP256)?;
    let serial: SerialNumber = random_serial()?;
    let root = sign_root(
        &RootSpec {
            common_name: CA_NAME,
            serial: &serial,
            not_before: now - 400 * DAY,
            not_after: now + 3650 * DAY,
        },
        &key,
    )?;
    let certificate = ParsedCertificate::from_der(root.der())?;
    Ok(CaSigner::new(certificate, key)?)
}

fn sign(ca: &CaSigner, planned: PlannedVersion) -> Result<SignedVersion, Error> {
    let key = PrivateKey::generate(KeySpec::EcdsaP256)?;
    let sans = planned
        .sans
        .iter()
        .map(|name| SubjectAltName::parse(name))
        .collect::<Result<Vec<_>, _>>()?;
    let signed = ca.sign(&CertificateSpec {
        common_name: &planned.common_name,
        sans: &sans,
        spki_der: key.spki_der(),
        serial: &planned.serial_number,
        not_before: planned.not_before,
        not_after: planned.not_after,
        ekus: &[ExtendedKeyUsage::ServerAuth],
        must_staple: false,
        ca: None,
        crl_urls: &[],
        ocsp_urls: &[],
        ca_issuers_urls: &[],
    })?;
    Ok(SignedVersion {
        pem_chain: signed.to_pem(),
        fingerprint_sha256: signed.fingerprint(),
        planned,
    })
}
