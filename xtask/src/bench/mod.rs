//! `cargo xtask bench`: what something costs on this machine, as a figure beside what the machine can do.
//!
//! One file per figure. Each is an example of the testkit, built optimised and run on a database of its own.

mod acme;
mod acme_gc;
mod bulk;
mod drain;
mod lists;
mod revocation;

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, Result, bail};

use crate::stack::database::{Backend, Database};
use crate::stack::home::Home;
use crate::step::cargo;

/// Measure something
#[derive(clap::Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Acme(acme::Acme),
    AcmeGc(acme_gc::AcmeGc),
    Bulk(bulk::Bulk),
    Drain(drain::Drain),
    Lists(lists::Lists),
    Revocation(revocation::Revocation),
}

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        match self.what {
            What::Acme(acme) => acme.run(),
            What::AcmeGc(gc) => gc.run(),
            What::Bulk(bulk) => bulk.run(),
            What::Drain(drain) => drain.run(),
            What::Lists(lists) => lists.run(),
            What::Revocation(revocation) => revocation.run(),
        }
    }
}

/// The one database asked for, or both.
pub(crate) fn backends(only: Option<Backend>) -> Vec<Backend> {
    only.map_or_else(|| vec![Backend::Sqlite, Backend::Postgres], |one| vec![one])
}

/// One run of a program on a database of its own, with a folder for what it keeps; gives what it printed.
///
/// The program is given the URL of the database and the folder before `arguments`.
pub(crate) fn measured(program: &Path, backend: Backend, arguments: &[String]) -> Result<String> {
    let home = Home::create("bench")?;
    let folder = home.private_folder("data")?;
    let database = Database::start(backend, &home)?;
    let url = database
        .environment()
        .into_iter()
        .find_map(|(name, value)| (name == "CERTCTL_DATABASE_URL").then_some(value))
        .unwrap_or_else(|| format!("sqlite://{}", folder.join("bench.db").display()));
    let output = std::process::Command::new(program)
        .args([url, folder.display().to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("{} ended with {}", program.display(), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// How an example is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As tests are.
    Debug,
    /// Optimised.
    Release,
}

/// Builds an example of the testkit, optimised, and says where it is.
fn built(example: &str) -> Result<std::path::PathBuf> {
    built_as(example, Profile::Release)
}

/// Builds an example of the testkit and says where it is.
pub(crate) fn built_as(example: &str, profile: Profile) -> Result<std::path::PathBuf> {
    let output = cargo()
        .args(["build", "--locked"])
        .args((profile == Profile::Release).then_some("--release"))
        .args(["-p", "certctl-testkit", "--example", example])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("{example} could not be built");
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == example)
        .find_map(|message| message["executable"].as_str().map(std::path::PathBuf::from))
        .with_context(|| format!("cargo built no {example}"))
}
