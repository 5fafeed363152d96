//! The server's own certificate: given as files, or issued by the local CA and kept in the data directory.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use certctl_connectors::issuer::Factory;
use certctl_domain::{
    id::IssuerId,
    issuer::IssuerType,
    key::KeySpec,
    name::SubjectAltName,
    ports::issuer::{IssuanceRequest, Issuer, IssuerFactory as _},
    profile::ExtendedKeyUsage,
    time::{Clock, Timestamp},
};
use certctl_http::tls::CertResolver;
use certctl_pki::{
    cert::{ParsedCertificate, random_serial},
    key::PrivateKey,
};
use certctl_settings::TlsFiles;

use crate::Error;

/// Life of a certificate that the server makes for itself.
const LIFE: Duration = Duration::from_secs(47 * 86_400);
/// What is left of a life when a new one is made.
const RENEW_WITHIN: Duration = Duration::from_secs(16 * 86_400);
/// The issuer that every installation starts with.
pub(crate) const LOCAL_ISSUER: &str = "iss-local";

/// Where the server's certificate comes from.
#[derive(Clone)]
pub(crate) enum Identity {
    /// From files that somebody else keeps in date.
    Files(TlsFiles),
    /// From the local CA.
    Own(OwnIdentity),
}

/// A certificate that the server keeps in date itself.
#[derive(Clone)]
pub(crate) struct OwnIdentity {
    /// The folder of certificate, key and root.
    pub(crate) folder: PathBuf,
    /// The names it is reached by.
    pub(crate) host: String,
    /// Connects to the local CA.
    pub(crate) factory: Arc<Factory>,
    /// The local CA's configuration.
    pub(crate) ca_config: serde_json::Value,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
}

impl Identity {
    /// Reads the pair, and makes it where that is this server's task.
    pub(crate) async fn load(&self) -> Result<(Vec<u8>, Vec<u8>), Error> {
        match self {
            Self::Files(files) => Ok((read(&files.certificate)?, read(&files.key)?)),
            Self::Own(own) => own.load().await,
        }
    }

    /// Reads the pair anew; the old one stays in use when the new one cannot be used.
    pub(crate) async fn reload(&self, resolver: &CertResolver) -> Result<(), Error> {
        let (chain, key) = self.load().await?;
        Ok(resolver.reload(&chain, &key)?)
    }

    /// Where the root is that clients must trust, when the server made it.
    pub(crate) fn root(&self) -> Option<PathBuf> {
        match self {
            Self::Files(_) => None,
            Self::Own(own) => Some(own.root_path()),
        }
    }
}

impl OwnIdentity {
    fn root_path(&self) -> PathBuf {
        self.folder.join("root.crt")
    }

    async fn load(&self) -> Result<(Vec<u8>, Vec<u8>), Error> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(at(&self.folder))?;
        // Two servers that start at once on one folder make one pair, not halves of two.
        let _lock = lock(&self.folder).await?;
        let ca = self.connect().await?;
        let ca_pem = ca.ca_pem().await?;
        let (chain_path, key_path) = (
            self.folder.join("server.crt"),
            self.folder.join("server.key"),
        );
        if let (Ok(chain), Ok(key)) = (fs::read(&chain_path), fs::read(&key_path))
            && self.is_usable(&chain, &key, &ca_pem)
        {
            return Ok((chain, key));
        }
        let (chain, key) = self.issue(&*ca).await?;
        // The key goes first: a certificate without its key would be taken for a pair that was replaced half way.
        write_private(&key_path, key.as_bytes())?;
        write_private(&chain_path, chain.as_bytes())?;
        write_private(&self.root_path(), ca_pem.as_bytes())?;
        Ok((chain.into_bytes(), key.into_bytes()))
    }

    /// In date for a while, a pair, for the names the server has now, and signed by the CA it has now, whose certificate is what
    /// clients are told to trust.
    fn is_usable(&self, chain: &[u8], key: &[u8], ca_pem: &str) -> bool {
        let usable = || {
            let chain = ParsedCertificate::chain_from_pem(std::str::from_utf8(chain).ok()?).ok()?;
            let key = PrivateKey::from_pem(std::str::from_utf8(key).ok()?).ok()?;
            let leaf = chain.first()?;
            let told = fs::read_to_string(self.root_path()).ok()? == ca_pem;
            let ca = ParsedCertificate::chain_from_pem(ca_pem).ok()?;
            let long_enough = leaf.not_after() > self.clock.now() + RENEW_WITHIN;
            let named = self.names().iter().all(|name| leaf.sans().contains(name));
            let signed = leaf.verify_signed_by(ca.first()?).is_ok();
            Some(told && long_enough && named && signed && leaf.matches_key(&key))
        };
        usable().unwrap_or(false)
    }

    fn names(&self) -> Vec<SubjectAltName> {
        let machine = nix_hostname();
        let mut names = Vec::new();
        for text in [
            "localhost",
            "127.0.0.1",
            "::1",
            self.host.as_str(),
            machine.as_str(),
        ] {
            let unspecified = text
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_unspecified());
            if let Ok(name) = SubjectAltName::parse(text)
                && !unspecified
                && !names.contains(&name)
            {
                names.push(name);
            }
        }
        names
    }

    async fn connect(&self) -> Result<Arc<dyn Issuer>, Error> {
        let id = IssuerId::parse(LOCAL_ISSUER).map_err(|_| Error::Random)?;
        Ok(self
            .factory
            .connect(&id, IssuerType::GenericCa, &self.ca_config)
            .await?)
    }

    async fn issue(&self, ca: &dyn Issuer) -> Result<(String, String), Error> {
        let key = PrivateKey::generate(KeySpec::EcdsaP256)?;
        let request = IssuanceRequest {
            common_name: "localhost".to_owned(),
            sans: self.names(),
            spki_der: key.spki_der().to_vec(),
            csr_pem: String::new(),
            ekus: vec![ExtendedKeyUsage::ServerAuth],
            max_ttl_seconds: u32::try_from(LIFE.as_secs()).unwrap_or(u32::MAX),
            must_staple: false,
            serial: random_serial()?,
            not_before: backdated(self.clock.now()),
        };
        let issued = ca.issue(vec![request]).await.pop().ok_or(Error::Random)??;
        tracing::info!(serial = %issued.serial, not_after = %issued.not_after, "the local CA issued the server's own certificate");
        Ok((
            format!("{}{}", issued.leaf_pem, issued.chain_pem),
            key.to_pem().expose().to_owned(),
        ))
    }
}

/// A minute of grace for clients whose clock is behind.
fn backdated(now: Timestamp) -> Timestamp {
    (now - Duration::from_secs(60)).truncated_to_seconds()
}

/// The name of the machine; empty when it has none.
fn nix_hostname() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| fs::read_to_string("/etc/hostname"))
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(at(path))
}

/// Keeps other processes out of a folder until the returned file is dropped; waits for whoever is in it, away from the threads
/// that others need to come out again.
pub(crate) async fn lock(folder: &Path) -> Result<fs::File, Error> {
    let path = folder.join(".lock");
    let locked = path.clone();
    let wait = move || {
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&locked)?;
        file.lock()?;
        Ok(file)
    };
    tokio::task::spawn_blocking(wait)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(at(&path))
}

/// Writes a file that only its owner reads, whole or not at all; nobody else may write it at the same time.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(at(path))
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}
