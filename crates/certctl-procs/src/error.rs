//! What can go wrong with a program of somebody else's.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// A program that could not be found, installed, started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Programs are missing and this user cannot install them; `command` is what to run.
    #[error("{programs} not found; run `{command}`")]
    Missing {
        /// The programs, comma separated.
        programs: String,
        /// The command that installs them.
        command: String,
    },
    /// The package manager ran and failed.
    #[error("`{command}` ended with {status}:\n{output}")]
    Install {
        /// The command that was run.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it printed.
        output: String,
    },
    /// The program could not be executed at all.
    #[error("cannot run {program}")]
    Spawn {
        /// The program as it was called.
        program: String,
        /// The reason of the system.
        source: io::Error,
    },
    /// The program ended although it should have kept running, or ended with a failure.
    #[error("{program} ended with {status}:\n{output}")]
    Ended {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        output: String,
    },
    /// The program runs but did not become ready in time.
    #[error("{program} was not ready after {seconds} s:\n{output}")]
    NotReady {
        /// The program.
        program: String,
        /// How long it was waited for, in seconds.
        seconds: u64,
        /// The last lines of its log.
        output: String,
    },
    /// A folder that is to be removed afterwards already holds something.
    #[error("{} is not empty; a folder that is removed afterwards must be new or empty", .0.display())]
    FolderInUse(PathBuf),
    /// The path leaves no room for a socket: the system allows 107 bytes in all.
    #[error("{} is too long for a socket: at most 107 bytes", .0.display())]
    SocketPathTooLong(PathBuf),
    /// A database name that would need quoting.
    #[error("database name {0:?} must be 1 to 63 of a-z, 0-9 and _, and start with a letter")]
    DatabaseName(String),
    /// Running as root, and the account that PostgreSQL needs does not exist.
    #[error("PostgreSQL refuses to run as root and there is no user `{0}`")]
    NoSuchUser(&'static str),
    /// A file, folder, socket or signal operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The verb, as in "create".
        action: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The reason of the system.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: the operation and the path it failed on.
    pub(crate) fn io(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// The last lines of a log, enough to see why a program gave up.
pub(crate) fn tail(log: &Path) -> String {
    const LINES: usize = 15;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
