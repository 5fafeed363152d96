//! What the drivers of the clients have in common.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::flows::Flow;
use crate::stack::home::{Home, append_to, bare, tail};
use crate::step::spawn;

/// A client with one account at each directory that it was shown.
pub(super) trait Client {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Why it is not able to run a flow.
    fn cannot(&self, flow: Flow) -> Option<&'static str>;

    /// Makes an account, bound where the CA asks for it.
    fn register(&self, ca: &Ca) -> Result<()>;

    /// Has a certificate issued; the chain in PEM, leaf first.
    fn issue(&self, ca: &Ca, proof: Proof, names: &[String]) -> Result<PathBuf>;

    /// Has it issued again, although it is not due.
    fn renew(&self, ca: &Ca, proof: Proof, names: &[String]) -> Result<PathBuf>;

    /// Has it revoked with the key of the account.
    fn revoke(&self, ca: &Ca, names: &[String]) -> Result<()>;

    /// Changes the key of the account.
    fn roll_key(&self, _ca: &Ca) -> Result<()> {
        bail!("it cannot")
    }
}

/// Whom a client asks, and how it is to prove what it asks for.
pub(super) struct Ca {
    /// Tells accounts and certificates of different directories apart.
    pub(super) label: &'static str,
    /// Where the directory is.
    pub(super) directory: String,
    /// The root that its server is to be trusted by.
    pub(super) root: PathBuf,
    /// The key to bind accounts by: its name and the secret in base64url.
    pub(super) binding: Option<(String, String)>,
    /// Where challenges are answered.
    pub(super) places: Places,
}

/// Where challenges are answered; all on this machine.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// The management of pebble-challtestsrv, a URL.
    pub(super) management: String,
    /// The port of http-01; pebble-challtestsrv listens at 127.0.0.1.
    pub(super) http: u16,
    /// The port of tls-alpn-01.
    pub(super) tls: u16,
    /// The port of the resolver at 127.0.0.1.
    pub(super) dns: u16,
}

/// How control is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    Http01,
    Dns01,
    TlsAlpn01,
}

impl Proof {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

/// The folder of a client, with the hooks in it.
pub(super) struct Workshop {
    folder: PathBuf,
}

/// The hooks: the part that all share, and one for each client.
const HOOKS: [(&str, &str); 5] = [
    ("challenges.sh", include_str!("hooks/challenges.sh")),
    ("certbot.sh", include_str!("hooks/certbot.sh")),
    ("dehydrated.sh", include_str!("hooks/dehydrated.sh")),
    ("lego.sh", include_str!("hooks/lego.sh")),
    ("uacme.sh", include_str!("hooks/uacme.sh")),
];

impl Workshop {
    pub(super) fn new(home: &Home, client: &str) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = home.private_folder(&format!("client-{client}"))?;
        for (name, text) in HOOKS {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { folder })
    }

    /// What belongs to one directory.
    pub(super) fn of(&self, ca: &Ca) -> PathBuf {
        self.folder.join(ca.label)
    }

    pub(super) fn hook(&self, client: &str) -> String {
        self.folder
            .join(format!("{client}.sh"))
            .display()
            .to_string()
    }

    /// A command with what the hooks need to know.
    pub(super) fn command(&self, program: &Path, ca: &Ca, proof: Option<Proof>) -> Command {
        let mut command = bare(program);
        command
            .current_dir(&self.folder)
            .env("HOME", &self.folder)
            .env("CHALLENGES", &ca.places.management)
            .env("TLS_AT", format!("127.0.0.1:{}", ca.places.tls))
            .env("WORK", self.of(ca));
        if let Some(proof) = proof {
            command.env("WANTED", proof.as_str());
        }
        command
    }

    /// Runs a command to its end; when it fails, the error has the last lines of what it said.
    pub(super) fn run(&self, mut command: Command) -> Result<()> {
        let log = self.folder.join("client.log");
        append_to(&mut command, &log)?;
        let status = spawn(command)?.wait()?;
        if !status.success() {
            bail!("it ended with {status}:\n{}", tail(&log, 25).join("\n"));
        }
        Ok(())
    }
}
