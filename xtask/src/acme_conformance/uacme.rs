//! uacme, whose hook may decline a type of challenge and is then offered the next.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use certctl_procs::child;
use certctl_procs::install::Program;

use super::client::{Ca, Client, Proof, Workshop};
use super::flows::Flow;
use crate::stack::home::{Home, bare};

pub(super) struct Uacme {
    program: PathBuf,
    workshop: Workshop,
    /// How to give a command a view of the file system of its own.
    apart: Vec<&'static str>,
}

/// Where the library that uacme is built with looks for roots, and nowhere else.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

impl Uacme {
    pub(super) fn new(home: &Home) -> Result<Self> {
        // As root of the machine, or as root of a user namespace.
        let plain = vec!["--mount"];
        let is_allowed = child::output(Command::new("unshare").args(&plain).arg("true")).is_ok();
        let apart = if is_allowed {
            plain
        } else {
            vec!["--map-root-user", "--mount"]
        };
        Ok(Self {
            program: Program::Uacme.require()?,
            workshop: Workshop::new(home, "uacme")?,
            apart,
        })
    }

    fn command(&self, ca: &Ca, proof: Option<Proof>) -> Command {
        let mut command = self.workshop.command(Path::new("unshare"), ca, proof);
        command
            .args(&self.apart)
            .args(["sh", "-ec"])
            .arg(format!("mount --bind \"$1\" {ROOTS}; shift; exec \"$@\""))
            .arg("sh")
            .arg(&ca.root)
            .arg(&self.program)
            .args(["--yes", "--acme-url", &ca.directory, "--type", "EC"])
            .args(["--hook", &self.workshop.hook("uacme"), "--confdir"])
            .arg(self.confdir(ca));
        command
    }

    fn confdir(&self, ca: &Ca) -> PathBuf {
        self.workshop.of(ca).join("conf")
    }

    /// uacme names a folder after the first name, without the star.
    fn chain(&self, ca: &Ca, names: &[String]) -> PathBuf {
        let name = names.first().map_or("", String::as_str);
        let folder = name.strip_prefix("*.").unwrap_or(name);
        self.confdir(ca).join(folder).join("cert.pem")
    }

    fn order(&self, ca: &Ca, proof: Proof, names: &[String], more: &[&str]) -> Result<PathBuf> {
        let mut command = self.command(ca, Some(proof));
        command.args(more).arg("issue").args(names);
        self.workshop.run(command)?;
        Ok(self.chain(ca, names))
    }
}

impl Client for Uacme {
    fn name(&self) -> &'static str {
        "uacme"
    }

    fn cannot(&self, _flow: Flow) -> Option<&'static str> {
        None
    }

    fn register(&self, ca: &Ca) -> Result<()> {
        // Fails early where namespaces are forbidden, which would look like a fault of the server otherwise.
        child::output(bare(Path::new("unshare")).args(&self.apart).arg("true"))?;
        std::fs::create_dir_all(self.workshop.of(ca))?;
        let mut command = self.command(ca, None);
        if let Some((kid, secret)) = &ca.binding {
            command.args(["--eab", &format!("{kid}:{secret}")]);
        }
        command.args(["new", "uacme@uacme.test"]);
        self.workshop.run(command)
    }

    fn issue(&self, ca: &Ca, proof: Proof, names: &[String]) -> Result<PathBuf> {
        self.order(ca, proof, names, &[])
    }

    fn renew(&self, ca: &Ca, proof: Proof, names: &[String]) -> Result<PathBuf> {
        self.order(ca, proof, names, &["--force"])
    }

    fn revoke(&self, ca: &Ca, names: &[String]) -> Result<()> {
        let mut command = self.command(ca, None);
        command
            .args(["--reason", "4", "revoke"])
            .arg(self.chain(ca, names));
        self.workshop.run(command)
    }

    fn roll_key(&self, ca: &Ca) -> Result<()> {
        let mut command = self.command(ca, None);
        command.arg("newkey");
        self.workshop.run(command)
    }
}
