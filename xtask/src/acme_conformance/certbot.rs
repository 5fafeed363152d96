//! certbot, with its hooks for manual proofs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use certctl_procs::install::Program;

use super::client::{Ca, Client, Proof, Workshop};
use super::flows::Flow;
use crate::stack::home::Home;

pub(super) struct Certbot {
    program: PathBuf,
    workshop: Workshop,
}

impl Certbot {
    pub(super) fn new(home: &Home) -> Result<Self> {
        Ok(Self {
            program: Program::Certbot.require()?,
            workshop: Workshop::new(home, "certbot")?,
        })
    }

    fn command(&self, ca: &Ca, proof: Option<Proof>, subcommand: &str) -> Command {
        let mut command = self.workshop.command(&self.program, ca, proof);
        let folder = self.workshop.of(ca);
        command.env("REQUESTS_CA_BUNDLE", &ca.root).args([
            subcommand,
            "--non-interactive",
            "--server",
            &ca.directory,
        ]);
        for (option, name) in [
            ("--config-dir", "conf"),
            ("--work-dir", "work"),
            ("--logs-dir", "logs"),
        ] {
            command.arg(option).arg(folder.join(name));
        }
        command
    }

    fn chain(&self, ca: &Ca, names: &[String]) -> PathBuf {
        let live = self.workshop.of(ca).join("conf/live");
        live.join(lineage(names)).join("fullchain.pem")
    }
}

/// What certbot calls a certificate.
fn lineage(names: &[String]) -> String {
    names
        .first()
        .map(|name| name.replacen('*', "star", 1))
        .unwrap_or_default()
}

impl Client for Certbot {
    fn name(&self) -> &'static str {
        "certbot"
    }

    fn cannot(&self, flow: Flow) -> Option<&'static str> {
        match flow {
            Flow::TlsAlpn01 => Some("it has no tls-alpn-01"),
            Flow::KeyRollover => Some("it has no command to change the account's key"),
            Flow::Address => Some("this version orders names only"),
            _ => None,
        }
    }

    fn register(&self, ca: &Ca) -> Result<()> {
        let mut command = self.command(ca, None, "register");
        command.args(["--agree-tos", "--email", "certbot@certbot.test"]);
        if let Some((kid, secret)) = &ca.binding {
            // With the sign of equality, because base64url may begin with a hyphen.
            command.arg(format!("--eab-kid={kid}"));
            command.arg(format!("--eab-hmac-key={secret}"));
        }
        self.workshop.run(command)
    }

    fn issue(&self, ca: &Ca, proof: Proof, names: &[String]) -> Result<PathBuf> {
        let mut command = self.command(ca, Some(proof), "certonly");
        let hook = self.workshop.hook("certbot");
        command
            .args(["--manual", "--preferred-challenges", proof.as_str()])
            .args(["--manual-auth-hook", &format!("{hook} present")])
            .args(["--manual-cleanup-hook", &format!("{hook} clean")])
            .args(["--cert-name", &lineage(names)]);
        for name in names {
            command.args(["--domain", name]);
        }
        self.workshop.run(command)?;
        Ok(self.chain(ca, names))
    }

    fn renew(&self, ca: &Ca, proof: Proof, names: &[String]) -> Result<PathBuf> {
        let mut command = self.command(ca, Some(proof), "renew");
        command.args([
            "--force-renewal",
            "--no-random-sleep-on-renew",
            "--cert-name",
            &lineage(names),
        ]);
        self.workshop.run(command)?;
        Ok(self.chain(ca, names))
    }

    fn revoke(&self, ca: &Ca, names: &[String]) -> Result<()> {
        let mut command = self.command(ca, None, "revoke");
        command.args([
            "--no-delete-after-revoke",
            "--reason",
            "superseded",
            "--cert-name",
            &lineage(names),
        ]);
        self.workshop.run(command)
    }
}
