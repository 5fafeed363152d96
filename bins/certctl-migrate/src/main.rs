//! The migrations runner of certctl as a program, for init containers and for a look at a database.

mod audit;
mod command;

use std::{path::PathBuf, process::ExitCode};

use certctl_repository::{Clock as _, SystemClock};
use certctl_settings::{MigrateSettings, ProcessEnv, Sources};
use clap::Parser;

use crate::command::Command;

/// Brings the database of certctl to the schema that this version was written for.
///
/// Every setting is a variable too, such as CERTCTL_DATABASE_URL.
#[derive(Debug, Parser)]
#[command(name = "certctl-migrate", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// The database. Better given by CERTCTL_DATABASE_URL when it holds a password: others on this host see arguments.
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// Settings in TOML.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// 0 when all is well, 1 when something is not, 2 for a command line that cannot be read.
fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("certctl-migrate: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    if let Some(done) = args.command.run_offline() {
        return done;
    }
    let url = args.database_url.map(|url| ("database-url".into(), url));
    let sources = Sources {
        config: args.config,
        flags: url.into_iter().collect(),
        ..Sources::from_env(&ProcessEnv, SystemClock.now())
    };
    let loaded = MigrateSettings::load(&sources)?;
    for warning in &loaded.warnings {
        eprintln!("certctl-migrate: warning: {warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(args.command.run(&loaded.settings.database))
}
