//! The database of a run, asked and filled past the server: what a run changed is counted where it is stored.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use certctl_procs::child;
use certctl_procs::install::{self, Program};

use crate::stack::database::{Backend, Database, NAME};
use crate::stack::home::bare;
use crate::step::root;

/// Linux takes no argument of 128 KiB or more.
const ARGUMENT_MAX: usize = 100_000;

/// A database that takes SQL.
pub(super) struct Store<'a> {
    database: &'a Database,
    file: PathBuf,
}

impl<'a> Store<'a> {
    /// The database that a server with this data folder uses.
    pub(super) fn new(database: &'a Database, data_folder: &Path) -> Result<Self> {
        if database.cluster().is_none() {
            install::ensure(&[Program::Sqlite])?;
        }
        Ok(Self {
            database,
            file: data_folder.join("certctl.db"),
        })
    }

    pub(super) fn backend(&self) -> Backend {
        match self.database.cluster() {
            Some(_) => Backend::Postgres,
            None => Backend::Sqlite,
        }
    }

    /// Runs statements and gives the rows, one on a line, columns separated by `|`.
    pub(super) fn query(&self, sql: &str) -> Result<String> {
        let Some(cluster) = self.database.cluster() else {
            return sqlite(&self.file, sql);
        };
        if sql.len() < ARGUMENT_MAX {
            return Ok(cluster.query(NAME, sql)?);
        }
        let script = self.file.with_extension("script.sql");
        fs::write(&script, sql).with_context(|| format!("cannot write {}", script.display()))?;
        let said = cluster.run_file(NAME, &script);
        fs::remove_file(&script)?;
        Ok(said?)
    }

    /// One number.
    pub(super) fn number(&self, sql: &str) -> Result<i64> {
        let said = self.query(sql)?;
        said.trim()
            .parse()
            .with_context(|| format!("{sql}: {said}"))
    }

    /// Runs a file of `loadtest/seed`, by its path on PostgreSQL; its twin on SQLite.
    pub(super) fn seed(&self, file: &str) -> Result<()> {
        self.query(&seed_text(self.backend(), file)?)
            .map(drop)
            .with_context(|| file.to_owned())
    }

    /// The time by the clock of this machine, in microseconds since 1970.
    pub(super) fn now(&self) -> Result<i64> {
        self.number(match self.backend() {
            Backend::Sqlite => {
                "SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"
            }
            Backend::Postgres => "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
        })
    }

    /// The present as statements write it: defaults of columns are beyond older programs of SQLite.
    pub(super) fn present(&self) -> &'static str {
        match self.backend() {
            Backend::Sqlite => "(unixepoch() * 1000000)",
            Backend::Postgres => "now()",
        }
    }

    /// A time as both databases write it: whole microseconds since 1970.
    pub(super) fn micros(&self, column: &str) -> String {
        match self.backend() {
            Backend::Sqlite => column.to_owned(),
            Backend::Postgres => format!("(extract(epoch FROM {column}) * 1000000)::bigint"),
        }
    }
}

/// Runs statements with SQLite's own program.
pub(super) fn sqlite(file: &Path, sql: &str) -> Result<String> {
    let script = file.with_extension("script.sql");
    // A whole fixture is longer than what a command may be given as an argument.
    fs::write(&script, sql).with_context(|| format!("cannot write {}", script.display()))?;
    let mut command = bare(&Program::Sqlite.require()?);
    command
        .args(["-batch", "-bail", "-noheader", "-cmd", ".timeout 60000"])
        .arg(file)
        .arg(format!(".read {}", script.display()));
    let said = child::output(&mut command);
    fs::remove_file(&script)?;
    Ok(said?.trim_end().to_owned())
}

/// The text of a fixture.
pub(super) fn seed_text(backend: Backend, file: &str) -> Result<String> {
    let folder = root().join("loadtest/seed");
    let path = match backend {
        Backend::Postgres => folder.join(file),
        Backend::Sqlite => folder.join("sqlite").join(file),
    };
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
