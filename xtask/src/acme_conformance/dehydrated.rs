//! dehydrated, a shell script that reads its settings from a file.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use certctl_procs::install::Program;

use super::client::{Ca, Client, Proof, Workshop};
use super::flows::Flow;
use crate::stack::home::Home;

pub(super) struct Dehydrated {
    program: PathBuf,
    workshop: Workshop,
}

impl Dehydrated {
    pub(super) fn new(home: &Home) -> Result<Self> {
        Ok(Self {
            program: Program::Dehydrated.require()?,
            workshop: Workshop::new(home, "dehydrated")?,
        })
    }

    fn command(&self, ca: &Ca, proof: Option<Proof>) -> Command {
        let mut command = self.workshop.command(&self.program, ca, proof);
        command
            .env("CURL_CA_BUNDLE", &ca.root)
            .arg("--config")
            .arg(self.workshop.of(ca).join("config"));
        command
    }

    fn configure(&self, ca: &Ca) -> Result<()> {
        let folder = self.workshop.of(ca);
        fs::create_dir_all(folder.join("files"))?;
        let mut text = format!(
            "CA=\"{}\"\nBASEDIR=\"{1}\"\nWELLKNOWN=\"{1}/files\"\nHOOK=\"{2}\"\nKEY_ALGO=prime256v1\n",
            ca.directory,
            folder.display(),
            self.workshop.hook("dehydrated"),
        );
        if let Some((kid, secret)) = &ca.binding {
            text += &format!("EAB_KID=\"{kid}\"\nEAB_HMAC_KEY=\"{secret}\"\n");
        }
        let path = folder.join("config");
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    fn folder(&self, ca: &Ca, names: &[String]) -> PathBuf {
        self.workshop.of(ca).join("certs").join(alias(names))
    }

    fn order(&self, ca: &Ca, proof: Proof, names: &[String], more: &[&str]) -> Result<PathBuf> {
        let mut command = self.command(ca, Some(proof));
        command
            .args(["--cron", "--challenge", proof.as_str()])
            .args(["--domain", &names.join(" "), "--alias", &alias(names)])
            .args(more);
        self.workshop.run(command)?;
        Ok(self.folder(ca, names).join("fullchain.pem"))
    }
}

fn alias(names: &[String]) -> String {
    names
        .first()
        .map(|name| name.replacen('*', "star", 1))
        .unwrap_or_default()
}

impl Client for Dehydrated {
    fn name(&self) -> &'static str {
        "dehydrated"
    }

    fn cannot(&self, flow: Flow) -> Option<&'static str> {
        match flow {
            Flow::KeyRollover => Some("it has no command to change the account's key"),
            Flow::Address => Some("this version orders names only"),
            _ => None,
        }
    }

    fn register(&self, ca: &Ca) -> Result<()> {
        self.configure(ca)?;
        let mut command = self.command(ca, None);
        command.args(["--register", "--accept-terms"]);
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
            .arg("--revoke")
            .arg(self.folder(ca, names).join("cert.pem"));
        self.workshop.run(command)
    }
}
