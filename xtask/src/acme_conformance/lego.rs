//! lego, which answers http-01 and tls-alpn-01 by itself.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use certctl_procs::install::Program;

use super::client::{Ca, Client, Proof, Workshop};
use super::flows::Flow;
use crate::stack::home::Home;

pub(super) struct Lego {
    program: PathBuf,
    workshop: Workshop,
}

impl Lego {
    pub(super) fn new(home: &Home) -> Result<Self> {
        Ok(Self {
            program: Program::Lego.require()?,
            workshop: Workshop::new(home, "lego")?,
        })
    }

    fn command(&self, ca: &Ca, proof: Proof, names: &[String]) -> Command {
        let mut command = self.workshop.command(&self.program, ca, Some(proof));
        let places = &ca.places;
        command
            .env("LEGO_CA_CERTIFICATES", &ca.root)
            .env("EXEC_PATH", self.workshop.hook("lego"))
            // It waits a minute between two records of an order otherwise.
            .env("EXEC_SEQUENCE_INTERVAL", "1")
            .env("EXEC_POLLING_INTERVAL", "1")
            .args(["--server", &ca.directory, "--accept-tos"])
            .args(["--email", "lego@lego.test", "--key-type", "ec256", "--path"])
            .arg(self.workshop.of(ca));
        if let Some((kid, secret)) = &ca.binding {
            command.arg("--eab").arg(format!("--kid={kid}"));
            command.arg(format!("--hmac={secret}"));
        }
        match proof {
            // Not at 127.0.0.1, where pebble-challtestsrv has the port; names of lego lead to 127.0.0.2.
            Proof::Http01 => command
                .args(["--http", "--http.port"])
                .arg(format!("127.0.0.2:{}", places.http)),
            Proof::TlsAlpn01 => command
                .args(["--tls", "--tls.port"])
                .arg(format!("127.0.0.2:{}", places.tls)),
            Proof::Dns01 => command
                .args(["--dns", "exec", "--dns.disable-cp", "--dns.resolvers"])
                .arg(format!("127.0.0.1:{}", places.dns)),
        };
        for name in names {
            command.args(["--domains", name]);
        }
        command
    }

    fn chain(&self, ca: &Ca, names: &[String]) -> PathBuf {
        let name = names.first().map(|name| name.replacen('*', "_", 1));
        self.workshop
            .of(ca)
            .join("certificates")
            .join(format!("{}.crt", name.unwrap_or_default()))
    }
}

impl Client for Lego {
    fn name(&self) -> &'static str {
        "lego"
    }

    fn cannot(&self, flow: Flow) -> Option<&'static str> {
        match flow {
            Flow::KeyRollover => Some("it has no command to change the account's key"),
            Flow::Address => Some("this version orders names only"),
            _ => None,
        }
    }

    /// It registers with its first order, and has no other command for it.
    fn register(&self, ca: &Ca) -> Result<()> {
        if ca.label != "unbound" {
            return Ok(());
        }
        self.issue(ca, Proof::Http01, &["unbound.lego.test".to_owned()])
            .map(drop)
    }

    fn issue(&self, ca: &Ca, proof: Proof, names: &[String]) -> Result<PathBuf> {
        let mut command = self.command(ca, proof, names);
        command.arg("run");
        self.workshop.run(command)?;
        Ok(self.chain(ca, names))
    }

    fn renew(&self, ca: &Ca, proof: Proof, names: &[String]) -> Result<PathBuf> {
        let mut command = self.command(ca, proof, names);
        // Due in any case: longer before its end than any certificate lives.
        command.args(["renew", "--days", "3660", "--no-random-sleep"]);
        self.workshop.run(command)?;
        Ok(self.chain(ca, names))
    }

    fn revoke(&self, ca: &Ca, names: &[String]) -> Result<()> {
        let mut command = self.command(ca, Proof::Http01, &names[..1]);
        command.args(["revoke", "--reason", "4"]);
        self.workshop.run(command)
    }
}
