//! `cargo xtask openapi` and `cargo xtask settings-doc`: files that the code makes.
//!
//! What makes them are examples of the crates they describe, run by cargo: named as dependencies, those crates would have
//! to be built before any other subcommand could start.

use std::fs;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::step::{cargo, root, spawn};

/// Write the description of the API to openapi/openapi.json, and the page made from it to docs/reference/api.md.
#[derive(clap::Args)]
pub(crate) struct OpenApi {
    /// Write nothing; fail when the file is not what the code makes.
    #[arg(long)]
    check: bool,
}

/// Write the page of all settings to docs/reference/settings.md.
#[derive(clap::Args)]
pub(crate) struct SettingsDoc {
    /// Write nothing; fail when the file is not what the code makes.
    #[arg(long)]
    check: bool,
}

impl OpenApi {
    pub(crate) fn check() -> Self {
        Self { check: true }
    }

    pub(crate) fn run(&self) -> Result<()> {
        OPENAPI.run(self.check)?;
        REFERENCE.run(self.check)
    }
}

impl SettingsDoc {
    pub(crate) fn check() -> Self {
        Self { check: true }
    }

    pub(crate) fn run(&self) -> Result<()> {
        SETTINGS.run(self.check)
    }
}

/// A file, and what makes it.
struct Generated {
    package: &'static str,
    example: &'static str,
    path: &'static str,
    subcommand: &'static str,
}

const OPENAPI: Generated = Generated {
    package: "certctl-http",
    example: "openapi",
    path: "openapi/openapi.json",
    subcommand: "openapi",
};

const REFERENCE: Generated = Generated {
    package: "certctl-http",
    example: "reference",
    path: "docs/reference/api.md",
    subcommand: "openapi",
};

const SETTINGS: Generated = Generated {
    package: "certctl-settings",
    example: "reference",
    path: "docs/reference/settings.md",
    subcommand: "settings-doc",
};

impl Generated {
    fn run(&self, check: bool) -> Result<()> {
        let made = self.make()?;
        let file = root().join(self.path);
        let kept = fs::read(&file).unwrap_or_default();
        if kept == made {
            println!("{} is what the code makes", self.path);
            return Ok(());
        }
        if check {
            bail!(
                "{} is not what the code makes; run `cargo xtask {}`",
                self.path,
                self.subcommand
            );
        }
        let folder = file.parent().context("a file lies in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::write(&file, made).with_context(|| format!("cannot write {}", file.display()))?;
        println!("{} is written", self.path);
        Ok(())
    }

    /// What the example prints.
    fn make(&self) -> Result<Vec<u8>> {
        let mut command = cargo();
        command
            .args([
                "run",
                "--quiet",
                "--locked",
                "-p",
                self.package,
                "--example",
                self.example,
            ])
            .stdout(Stdio::piped());
        let mut running = spawn(command)?;
        let mut output = running
            .child()
            .stdout
            .take()
            .context("cargo has no output")?;
        let mut made = Vec::new();
        std::io::Read::read_to_end(&mut output, &mut made)?;
        let status = running.wait()?;
        if !status.success() {
            bail!(
                "the example {} of {} ended with {status}",
                self.example,
                self.package
            );
        }
        Ok(made)
    }
}
