//! `cargo xtask bench`: what something costs on this machine, as a figure beside what the machine can do.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::stack::database::{Backend, Database};
use crate::stack::home::Home;
use crate::step::{cargo, step};

/// Measure something
#[derive(clap::Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Pending renewals on the local CA with keys made by the server: jobs per second, commits per job
    Drain {
        /// How many certificates are renewed
        #[arg(long, default_value_t = 10_000)]
        certificates: usize,
        /// On this database only
        #[arg(long)]
        database: Option<Backend>,
        /// How often; the database is new each time
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
}

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        let What::Drain {
            certificates,
            database,
            runs,
        } = self.what;
        let program = step("build", || built("drain"))?;
        let backends = match database {
            Some(one) => vec![one],
            None => vec![Backend::Sqlite, Backend::Postgres],
        };
        for backend in backends {
            step(&format!("drain on {}", backend.name()), || {
                (0..runs).try_for_each(|run| drain(&program, backend, certificates, run))
            })?;
        }
        Ok(())
    }
}

/// One run on a database of its own.
fn drain(
    program: &std::path::Path,
    backend: Backend,
    certificates: usize,
    run: usize,
) -> Result<()> {
    let home = Home::create("bench")?;
    let folder = home.private_folder("ca")?;
    let database = Database::start(backend, &home)?;
    let url = database
        .environment()
        .into_iter()
        .find_map(|(name, value)| (name == "CERTCTL_DATABASE_URL").then_some(value))
        .unwrap_or_else(|| format!("sqlite://{}", folder.join("bench.db").display()));
    let output = std::process::Command::new(program)
        .args([
            url.as_str(),
            &folder.display().to_string(),
            &certificates.to_string(),
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("the drain ended with {}", output.status);
    }
    eprint!(
        "    run {}: {}",
        run + 1,
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(())
}

/// Builds an example of the testkit, optimised, and says where it is.
fn built(example: &str) -> Result<std::path::PathBuf> {
    let output = cargo()
        .args([
            "build",
            "--locked",
            "--release",
            "-p",
            "certctl-testkit",
            "--example",
            example,
        ])
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
