//! The migrations runner: plain SQL per database, embedded in the program, applied under a lock with a ledger and checksums.
//!
//! The ledger `schema_migrations` has a row for every applied file: its full name, when, by whom, how long it took, and the
//! SHA-256 of its bytes. A file that changed after it was applied, a file that comes before one already applied, and a ledger
//! from a newer program all refuse the start: each means that the schema is not what this program was written for.

mod session;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use certctl_domain::{secret::Secret, time::Timestamp};

use crate::Backend;
use session::{LedgerRow, Session};

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// The full file name; files are applied in its order.
    pub version: String,
    /// What it says.
    pub sql: String,
}

impl Migration {
    fn checksum(&self) -> String {
        hex::encode(ring::digest::digest(
            &ring::digest::SHA256,
            self.sql.as_bytes(),
        ))
    }

    /// A file whose first line says so runs outside a transaction and must be idempotent.
    fn is_transactional(&self) -> bool {
        self.sql
            .lines()
            .next()
            .is_none_or(|line| line.trim() != "-- no-transaction")
    }
}

macro_rules! embedded {
    ($folder:literal: $($file:literal),+ $(,)?) => {
        vec![$(Migration {
            version: $file.to_owned(),
            sql: include_str!(concat!("../../../../migrations/", $folder, "/", $file)).to_owned(),
        }),+]
    };
}

/// The files of one database, one for each line.
#[rustfmt::skip]
macro_rules! embedded_in {
    ($folder:literal) => {
        embedded!($folder:
            "0001_initial.up.sql",
            "0002_audit_seals.up.sql",
            "0003_revocation_status.up.sql",
            "0004_notifications.up.sql",
            "0005_policies_and_approvals.up.sql",
            "0006_access.up.sql",
            "0007_list_indexes.up.sql",
            "0009_limits.up.sql",
            "0010_acme.up.sql",
            "0012_list_totals.up.sql",
            "0013_policy_review.up.sql",
        )
    };
}

/// The files this program carries for a database.
#[must_use]
pub fn embedded(backend: Backend) -> Vec<Migration> {
    match backend {
        Backend::Postgres => embedded_in!("postgres"),
        Backend::Sqlite => embedded_in!("sqlite"),
    }
}

/// The end of the names of the files that are applied; those that end in `.down.sql` are for people only.
const SUFFIX: &str = ".up.sql";

/// Reads the files of a folder in place of the embedded ones: from its subfolder for the database, or, where there is none,
/// from the folder itself.
///
/// # Errors
/// [`Error::Read`] when the folder or a file cannot be read, or the folder holds no migration at all.
pub fn from_folder(folder: &Path, backend: Backend) -> Result<Vec<Migration>, Error> {
    let own = folder.join(backend.to_string());
    let folder = if own.is_dir() { own } else { folder.to_owned() };
    let unread = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(unread(&folder))? {
        let path = entry.map_err(unread(&folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(version) = name.filter(|name| name.ends_with(SUFFIX)) {
            files.push(Migration {
                version: version.to_owned(),
                sql: std::fs::read_to_string(&path).map_err(unread(&path))?,
            });
        }
    }
    if files.is_empty() {
        let source = std::io::Error::other("it holds no file that ends in .up.sql");
        return Err(Error::Read {
            path: folder,
            source,
        });
    }
    files.sort_by(|a, b| a.version.cmp(&b.version));
    Ok(files)
}

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the database is, as [`crate::DbOptions::url`].
    pub url: Secret,
    /// How long to wait for another program that migrates.
    pub lock_timeout: Duration,
    /// Whether a ledger with versions this program does not know is accepted.
    pub allow_newer: bool,
    /// Who runs, for the ledger: host and process.
    pub applied_by: String,
}

/// Why migrations were not applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached.
    #[error("the database cannot be reached")]
    Connect(#[source] diesel::ConnectionError),
    /// Another program holds the lock.
    #[error("another program (database process {holder}) has held the migrations lock for {} s", .waited.as_secs())]
    Locked {
        /// The process of the database that serves it, or `unknown`.
        holder: String,
        /// How long was waited.
        waited: Duration,
    },
    /// A file that was applied is not the one this program carries.
    #[error(
        "migration drift: {version} was applied with checksum {applied}, this program carries {carried}"
    )]
    Drift {
        /// The file.
        version: String,
        /// What the ledger says.
        applied: String,
        /// What the program carries.
        carried: String,
    },
    /// The ledger has a version that this program does not know.
    #[error(
        "the ledger has {version}, which this program does not know; it was written by a newer one (CERTCTL_MIGRATIONS_ALLOW_NEWER=true accepts it)"
    )]
    Newer {
        /// The version.
        version: String,
    },
    /// A pending file sorts before an applied one.
    #[error("{pending} is pending, but {applied}, which comes after it, is applied")]
    OutOfOrder {
        /// The pending file.
        pending: String,
        /// The newest applied one.
        applied: String,
    },
    /// The ledger lacks files.
    #[error("{} migrations are not applied, the first is {}", .pending.len(), .pending.iter().next().map_or("", String::as_str))]
    Pending {
        /// Which.
        pending: Vec<String>,
    },
    /// The folder that replaces the embedded files cannot be read.
    #[error("cannot read the migrations in {}", .path.display())]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file was refused by the database.
    #[error("migration {version} failed")]
    Apply {
        /// The file, or the step.
        version: String,
        /// What the database said.
        #[source]
        source: diesel::result::Error,
    },
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Files applied now, in order.
    pub applied: Vec<String>,
    /// Files that were applied before.
    pub already: usize,
}

/// One line of `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The file.
    pub version: String,
    /// When it was applied, if it was.
    pub applied_at: Option<Timestamp>,
    /// Whether the ledger's checksum is that of the file this program carries; true for pending files.
    pub matches: bool,
}

/// What a run is about to do, for whoever watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Another program holds the lock.
    Waiting,
    /// This file is next.
    Applying(&'a str),
    /// This file is in.
    Applied(&'a str, Duration),
    /// Another program applied this file first.
    Overtaken(&'a str),
    /// The rows that every installation starts with are next.
    Seeding,
}

/// Applies what is pending, then the baseline seed, all under the lock.
///
/// # Errors
/// Every variant of [`Error`]; files before the failing one stay applied.
pub async fn up(options: &Options, files: &[Migration]) -> Result<Report, Error> {
    up_with(options, files, |_| {}).await
}

/// [`up`], telling what it does as it does it.
///
/// # Errors
/// As [`up`].
pub async fn up_with(
    options: &Options,
    files: &[Migration],
    mut progress: impl FnMut(Progress<'_>) + Send,
) -> Result<Report, Error> {
    run(options, files, None, &mut progress).await
}

/// [`up`], with the demo data of [`crate::seed::demo::sql`] under the same lock.
///
/// # Errors
/// As [`up`].
pub async fn up_with_demo(
    options: &Options,
    files: &[Migration],
    demo: &str,
) -> Result<Report, Error> {
    run(options, files, Some(demo), &mut |_| {}).await
}

/// Inserts the demo data of [`crate::seed::demo::sql`] under the lock and applies nothing, for a server whose database another
/// program brings up to date.
///
/// # Errors
/// [`Error::Connect`], [`Error::Locked`], [`Error::Apply`].
pub async fn seed_demo(options: &Options, demo: &str) -> Result<(), Error> {
    let mut session = Session::open(&options.url).await?;
    session.lock(options.lock_timeout, &mut |_| {}).await?;
    let outcome = session.seed_demo(demo).await;
    let unlocked = session.unlock().await;
    outcome?;
    unlocked
}

async fn run(
    options: &Options,
    files: &[Migration],
    demo: Option<&str>,
    progress: &mut (impl FnMut(Progress<'_>) + Send),
) -> Result<Report, Error> {
    let mut session = Session::open(&options.url).await?;
    session.lock(options.lock_timeout, progress).await?;
    let outcome = apply_all(&mut session, options, files, demo, progress).await;
    // The end of the session would release the lock too, but the server may notice that later than the next program asks.
    let unlocked = session.unlock().await;
    let report = outcome?;
    unlocked?;
    Ok(report)
}

async fn apply_all(
    session: &mut Session,
    options: &Options,
    files: &[Migration],
    demo: Option<&str>,
    progress: &mut (impl FnMut(Progress<'_>) + Send),
) -> Result<Report, Error> {
    session.make_ledger().await?;
    let ledger = session.ledger().await?;
    let pending = plan(&ledger, files, options.allow_newer)?;
    let mut report = Report {
        applied: Vec::new(),
        already: ledger.len(),
    };
    for file in pending {
        progress(Progress::Applying(&file.version));
        match session.apply(file, &options.applied_by).await? {
            Some(took) => {
                report.applied.push(file.version.clone());
                progress(Progress::Applied(&file.version, took));
            }
            None => progress(Progress::Overtaken(&file.version)),
        }
    }
    progress(Progress::Seeding);
    session.seed(demo).await?;
    Ok(report)
}

/// Lists every file with what the ledger says of it.
///
/// # Errors
/// [`Error::Connect`] or [`Error::Apply`]; an absent ledger means that nothing is applied.
pub async fn status(url: &Secret, files: &[Migration]) -> Result<Vec<Status>, Error> {
    let ledger = session::read_ledger(url).await?;
    let mut lines: Vec<Status> = files
        .iter()
        .map(|file| {
            let row = ledger.iter().find(|row| row.version == file.version);
            Status {
                version: file.version.clone(),
                applied_at: row.map(|row| row.applied_at.0),
                matches: row.is_none_or(|row| row.checksum == file.checksum()),
            }
        })
        .collect();
    let unknown = ledger
        .iter()
        .filter(|row| files.iter().all(|file| file.version != row.version));
    lines.extend(unknown.map(|row| Status {
        version: row.version.clone(),
        applied_at: Some(row.applied_at.0),
        matches: false,
    }));
    Ok(lines)
}

/// Checks that every file is applied as this program carries it, and changes nothing.
///
/// # Errors
/// [`Error::Pending`], [`Error::Drift`], [`Error::Newer`], [`Error::OutOfOrder`].
pub async fn verify(options: &Options, files: &[Migration]) -> Result<(), Error> {
    let ledger = session::read_ledger(&options.url).await?;
    let pending = plan(&ledger, files, options.allow_newer)?;
    if pending.is_empty() {
        Ok(())
    } else {
        Err(Error::Pending {
            pending: pending.iter().map(|file| file.version.clone()).collect(),
        })
    }
}

/// Decides what is to be applied from what was.
fn plan<'a>(
    ledger: &[LedgerRow],
    files: &'a [Migration],
    allow_newer: bool,
) -> Result<Vec<&'a Migration>, Error> {
    for row in ledger {
        match files.iter().find(|file| file.version == row.version) {
            Some(file) if file.checksum() != row.checksum => {
                return Err(Error::Drift {
                    version: row.version.clone(),
                    applied: row.checksum.clone(),
                    carried: file.checksum(),
                });
            }
            None if !allow_newer => {
                return Err(Error::Newer {
                    version: row.version.clone(),
                });
            }
            _ => {}
        }
    }
    let newest = ledger
        .iter()
        .filter(|row| files.iter().any(|file| file.version == row.version))
        .map(|row| &row.version)
        .max();
    let mut pending: Vec<&Migration> = files
        .iter()
        .filter(|file| ledger.iter().all(|row| row.version != file.version))
        .collect();
    pending.sort_by(|a, b| a.version.cmp(&b.version));
    match (pending.first(), newest) {
        (Some(first), Some(newest)) if first.version < *newest => Err(Error::OutOfOrder {
            pending: first.version.clone(),
            applied: newest.clone(),
        }),
        _ => Ok(pending),
    }
}
