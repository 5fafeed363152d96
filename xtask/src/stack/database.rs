//! The database of a run.

use std::path::Path;

use anyhow::Result;
use certctl_procs::install::{self, Program};
use certctl_procs::postgres::Cluster;

use super::home::Home;
use super::random;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Backend {
    /// Embedded, in the server's data folder.
    Sqlite,
    /// A server of its own, started for the run.
    Postgres,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// The database of a run; a PostgreSQL ends with it.
pub(crate) enum Database {
    Sqlite,
    Postgres {
        cluster: Box<Cluster>,
        /// What a server on PostgreSQL is not left to make for itself, the same for every replica.
        encryption_key: String,
        bootstrap_token: String,
    },
}

/// The name of the database on PostgreSQL.
pub(crate) const NAME: &str = "certctl";

impl Database {
    /// Starts what is needed; installs PostgreSQL when it is missing and this user may.
    pub(crate) fn start(backend: Backend, home: &Home) -> Result<Self> {
        Self::start_with(backend, home, &[])
    }

    /// The same with settings of PostgreSQL (`name=value`), stronger than those it has otherwise.
    pub(crate) fn start_with(backend: Backend, home: &Home, settings: &[&str]) -> Result<Self> {
        if backend == Backend::Sqlite {
            return Ok(Self::Sqlite);
        }
        install::ensure(&[Program::Postgres])?;
        let cluster = Cluster::start_with(home.path().join("postgres"), settings)?;
        cluster.create_database(NAME)?;
        Ok(Self::Postgres {
            cluster: Box::new(cluster),
            encryption_key: random::secret()?,
            bootstrap_token: random::secret()?,
        })
    }

    /// The settings by which a server uses it.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let Self::Postgres {
            cluster,
            encryption_key,
            bootstrap_token,
        } = self
        else {
            return Vec::new();
        };
        [
            ("CERTCTL_DATABASE_URL", cluster.url(NAME)),
            ("CERTCTL_CONFIG_ENCRYPTION_KEY", encryption_key.clone()),
            ("CERTCTL_AGENT_BOOTSTRAP_TOKEN", bootstrap_token.clone()),
            ("CERTCTL_SERVER_TLS_BOOTSTRAP", "true".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// The PostgreSQL, to be asked what it counts.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        match self {
            Self::Sqlite => None,
            Self::Postgres { cluster, .. } => Some(cluster),
        }
    }

    /// With what agents register, unless the server makes it.
    pub(crate) fn bootstrap_token(&self) -> Option<&str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres {
                bootstrap_token, ..
            } => Some(bootstrap_token),
        }
    }

    /// Everything that is stored: the bytes of the files of SQLite, every row as text on PostgreSQL.
    pub(crate) fn contents(&self, data_folder: &Path) -> Result<Vec<u8>> {
        match self {
            Self::Sqlite => sqlite_files(data_folder),
            Self::Postgres { cluster, .. } => every_row(cluster),
        }
    }
}

/// The database with what is still in its write-ahead log.
fn sqlite_files(data_folder: &Path) -> Result<Vec<u8>> {
    let mut bytes = std::fs::read(data_folder.join("certctl.db"))?;
    bytes.extend(std::fs::read(data_folder.join("certctl.db-wal")).unwrap_or_default());
    Ok(bytes)
}

fn every_row(cluster: &Cluster) -> Result<Vec<u8>> {
    let tables = cluster.query(
        NAME,
        "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables \
         WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    )?;
    let mut text = String::new();
    for table in tables.lines() {
        text += &cluster.query(NAME, &format!("SELECT t::text FROM {table} AS t"))?;
        text.push('\n');
    }
    Ok(text.into_bytes())
}
