//! Opening a CA: from a store, where it is made when it is not there, or from files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use certctl_domain::{
    id::IssuerId, key::KeySpec, ports::issuer::IssuerError, secret::Secret, time::Timestamp,
};
use certctl_pki::{
    Error,
    cert::{CaSigner, ParsedCertificate, RootSpec, random_serial, sign_root},
    key::PrivateKey,
    pem,
    seal::Sealer,
};
use zeroize::Zeroizing;

use crate::issuer::{
    ca_store::{CaStore, StoredCa},
    invalid,
};

const DAY: Duration = Duration::from_secs(86_400);
/// The life of a root that certctl makes (issuers §4).
const ROOT_LIFE: Duration = Duration::from_secs(3650 * 86_400);
/// Leaves may start a little in the past for the sake of clocks that are behind, and must not start before their root.
const ROOT_BACKDATED: Duration = DAY;

pub(super) struct Opened {
    pub(super) signer: CaSigner,
    /// The issuing CA and what is above it.
    chain: Vec<ParsedCertificate>,
}

impl Opened {
    pub(super) fn ca_pem(&self) -> String {
        self.chain.iter().map(ParsedCertificate::to_pem).collect()
    }

    /// Without what is signed by itself: a root, which is trusted because it is known and not because it was sent.
    pub(super) fn chain_pem(&self) -> String {
        self.chain
            .iter()
            .filter(|ca| !is_root(ca))
            .map(ParsedCertificate::to_pem)
            .collect()
    }
}

/// Signed by itself. A certificate that a CA made for its own next key has the same names too, and another signature; a signature
/// of a kind that cannot be checked here leaves the names to go by.
fn is_root(ca: &ParsedCertificate) -> bool {
    ca.subject_der() == ca.issuer_der()
        && !matches!(ca.verify_signed_by(ca), Err(Error::BadSignature))
}

/// The root of an issuer; made and kept when it has none.
pub(super) async fn root(
    id: &IssuerId,
    common_name: String,
    store: &Arc<dyn CaStore>,
    sealer: Option<Arc<Sealer>>,
    now: Timestamp,
) -> Result<Opened, IssuerError> {
    if sealer.is_none() && !store.admits_plain_keys() {
        return Err(IssuerError::Other(
            "a CA of this server's own needs an encryption key to be configured".to_owned(),
        ));
    }
    let place = store.place(id);
    let stored = match store.load(id).await? {
        Some(stored) => stored,
        None => {
            let (sealer, place) = (sealer.clone(), place.clone());
            let made = blocking(move || make(&common_name, sealer.as_deref(), &place, now)).await?;
            let fingerprint = made.fingerprint();
            let stored = store.insert_if_absent(id, made).await?;
            if stored.fingerprint() == fingerprint {
                tracing::info!(issuer.id = %id, fingerprint_sha256 = fingerprint, "made a local CA");
            }
            stored
        }
    };
    let signer = blocking(move || open_stored(&stored, sealer.as_deref(), &place)).await?;
    if !signer.certificate().is_valid_at(now) {
        return Err(IssuerError::Other("the local CA is not in date".to_owned()));
    }
    let chain = vec![signer.certificate().clone()];
    Ok(Opened { signer, chain })
}

impl StoredCa {
    fn fingerprint(&self) -> String {
        pem::decode_certificates(&self.cert_pem)
            .ok()
            .and_then(|certificates| certificates.first().map(|der| pem::fingerprint(der)))
            .unwrap_or_default()
    }
}

fn make(
    common_name: &str,
    sealer: Option<&Sealer>,
    place: &str,
    now: Timestamp,
) -> Result<StoredCa, IssuerError> {
    let make = || -> Result<StoredCa, Error> {
        let key = PrivateKey::generate(KeySpec::EcdsaP256)?;
        let root = sign_root(
            &RootSpec {
                common_name,
                serial: &random_serial()?,
                not_before: now - ROOT_BACKDATED,
                not_after: now + ROOT_LIFE,
            },
            &key,
        )?;
        let key_pem = key.to_pem();
        let plain = key_pem.expose().as_bytes();
        let key_blob = match sealer {
            Some(sealer) => sealer.seal(place, plain)?,
            None => plain.to_vec(),
        };
        Ok(StoredCa {
            cert_pem: root.to_pem(),
            key_blob: Zeroizing::new(key_blob),
        })
    };
    make().map_err(|error| IssuerError::Other(format!("making a local CA: {error}")))
}

fn open_stored(
    stored: &StoredCa,
    sealer: Option<&Sealer>,
    place: &str,
) -> Result<CaSigner, IssuerError> {
    let damaged = |error: Error| IssuerError::Other(format!("the local CA as stored: {error}"));
    let opened;
    let plain: &[u8] = if stored.is_plain() {
        if sealer.is_some() {
            tracing::warn!("the key of the local CA is not sealed; the next start seals it");
        }
        &stored.key_blob
    } else {
        let sealer = sealer.ok_or(Error::NoEncryptionKey).map_err(damaged)?;
        opened = sealer.open(place, &stored.key_blob).map_err(damaged)?;
        &opened
    };
    let key = std::str::from_utf8(plain)
        .map_err(|_| IssuerError::Other("the local CA as stored: its key is not PEM".to_owned()))
        .and_then(|text| PrivateKey::from_pem(text).map_err(damaged))?;
    let certificate = ParsedCertificate::from_pem(&stored.cert_pem).map_err(damaged)?;
    CaSigner::new(certificate, key).map_err(damaged)
}

/// The CA of two files.
pub(super) async fn files(
    certificate_path: PathBuf,
    key_path: PathBuf,
    now: Timestamp,
) -> Result<Opened, IssuerError> {
    blocking(move || read_files(&certificate_path, &key_path, now)).await
}

pub(super) fn read_files(
    certificate_path: &Path,
    key_path: &Path,
    now: Timestamp,
) -> Result<Opened, IssuerError> {
    const CERTIFICATE: &str = "ca_cert_path";
    const KEY: &str = "ca_key_path";
    let text = read(CERTIFICATE, certificate_path)?;
    let chain = ParsedCertificate::chain_from_pem(text.expose())
        .map_err(|error| invalid(CERTIFICATE, error))?;
    check_links(&chain)?;
    let ca = chain
        .first()
        .cloned()
        .ok_or_else(|| invalid(CERTIFICATE, "holds no certificate"))?;
    if now < ca.not_before() {
        return Err(invalid(CERTIFICATE, "the certificate is not valid yet"));
    }
    if !ca.is_valid_at(now) {
        return Err(invalid(CERTIFICATE, "the certificate has expired"));
    }
    let key =
        PrivateKey::from_pem(read(KEY, key_path)?.expose()).map_err(|error| invalid(KEY, error))?;
    if key.spec() == KeySpec::Ed25519 {
        return Err(invalid(KEY, "a CA signs with RSA or ECDSA (issuers §4)"));
    }
    let signer = CaSigner::new(ca, key).map_err(|error| match error {
        Error::KeyMismatch => invalid(KEY, "is not the key of the certificate in ca_cert_path"),
        other => invalid(CERTIFICATE, other),
    })?;
    Ok(Opened { signer, chain })
}

/// Each certificate is signed by the one after it, or clients could not build the chain that every leaf is handed out with.
fn check_links(chain: &[ParsedCertificate]) -> Result<(), IssuerError> {
    for (index, pair) in chain.windows(2).enumerate() {
        match pair[0].verify_signed_by(&pair[1]) {
            // A link of a kind that cannot be checked here may be right.
            Ok(()) | Err(Error::UnsupportedKey { .. } | Error::UnsupportedSignature { .. }) => {}
            Err(_) => {
                return Err(invalid(
                    "ca_cert_path",
                    format!(
                        "certificate {} is not signed by certificate {}",
                        index + 1,
                        index + 2
                    ),
                ));
            }
        }
    }
    Ok(())
}

fn read(field: &str, path: &Path) -> Result<Secret, IssuerError> {
    let refuse =
        |problem: &dyn std::fmt::Display| invalid(field, format!("{} {problem}", path.display()));
    let metadata = std::fs::metadata(path)
        .map_err(|error| refuse(&format_args!("cannot be read: {error}")))?;
    if !metadata.is_file() || metadata.len() > pem::MAX_TEXT as u64 {
        return Err(refuse(&"is no file of at most 1 MiB"));
    }
    std::fs::read_to_string(path)
        .map(Secret::new)
        .map_err(|error| refuse(&format_args!("cannot be read: {error}")))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IssuerError> + Send + 'static,
) -> Result<T, IssuerError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(super::sign::interrupted()))
}
