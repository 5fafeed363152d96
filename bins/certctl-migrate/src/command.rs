//! What the program can do, and how it says so.

use std::io::{Write as _, stdout};

use certctl_repository::{
    Backend, Secret,
    migrations::{self, Migration, Options, Progress},
};
use certctl_settings::{DatabaseSettings, DatabaseUrl};
use clap::Subcommand;

use crate::audit::VerifyAudit;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Applies what is pending. Any number may run at once: one works, the others wait and find nothing to do.
    Up,
    /// Lists every file with what the database says of it; changes nothing.
    Status,
    /// Ends with 1 unless every file is applied as this version carries it; changes nothing.
    Verify,
    /// Checks an export of the audit trail (`format=sealed`) with nothing else at hand; ends with 1 unless it is intact.
    VerifyAudit(VerifyAudit),
}

impl Command {
    /// Does what needs no database.
    pub(crate) fn run_offline(&self) -> Option<anyhow::Result<()>> {
        match self {
            Self::VerifyAudit(audit) => Some(audit.run()),
            Self::Up | Self::Status | Self::Verify => None,
        }
    }

    pub(crate) async fn run(self, settings: &DatabaseSettings) -> anyhow::Result<()> {
        let (backend, url) = match &settings.url {
            DatabaseUrl::Postgres(url) => (Backend::Postgres, url.url.clone()),
            DatabaseUrl::Sqlite { path } => (
                Backend::Sqlite,
                Secret::new(format!("sqlite://{}", path.display())),
            ),
        };
        let files = match &settings.migrations_path {
            Some(folder) => migrations::from_folder(folder, backend)?,
            None => migrations::embedded(backend),
        };
        let options = Options {
            url,
            lock_timeout: settings.migrations_lock_timeout,
            allow_newer: settings.migrations_allow_newer,
            applied_by: format!("{}:{}", host(), std::process::id()),
        };
        println!("database: {}", settings.url.redacted());
        match self {
            Self::VerifyAudit(audit) => audit.run(),
            Self::Up => up(&options, &files).await,
            Self::Status => status(&options, &files).await,
            Self::Verify => {
                migrations::verify(&options, &files).await?;
                println!("complete: {} applied", files.len());
                Ok(())
            }
        }
    }
}

async fn up(options: &Options, files: &[Migration]) -> anyhow::Result<()> {
    let report = migrations::up_with(options, files, |step| {
        match step {
            Progress::Waiting => println!("waiting for another program that migrates"),
            Progress::Applying(version) => print!("{version} ... "),
            Progress::Applied(_, took) => println!("{} ms", took.as_millis()),
            Progress::Overtaken(_) => println!("applied by another program"),
            Progress::Seeding => println!("baseline rows"),
        }
        // A line that is not ended yet is what one looks at while a long migration runs.
        let _ = stdout().flush();
    })
    .await?;
    println!(
        "done: {} applied now, {} before",
        report.applied.len(),
        report.already
    );
    Ok(())
}

async fn status(options: &Options, files: &[Migration]) -> anyhow::Result<()> {
    for line in migrations::status(&options.url, files).await? {
        let known = files.iter().any(|file| file.version == line.version);
        let state = match (line.applied_at, known, line.matches) {
            (None, ..) => "pending".to_owned(),
            (Some(at), true, true) => format!("applied {at}"),
            (Some(at), true, false) => {
                format!("applied {at}, and changed since: migration drift")
            }
            (Some(at), false, _) => format!("applied {at} by a newer version"),
        };
        println!("{:<32} {state}", line.version);
    }
    Ok(())
}

/// The name of this host, as the kernel has it.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "unknown".to_owned(),
        name => name.to_owned(),
    }
}
