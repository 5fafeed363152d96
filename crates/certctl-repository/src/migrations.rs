//! The migrations runner: plain SQL per database, embedded in the program, applied under a lock with a ledger and checksums.
//!
//! The ledger `schema_migrations` has a row for every applied file: its full name, when, by whom, how long it took, and the
//! SHA-256 of its bytes. A file that changed after it was applied, a file that comes before one already applied, and a ledger
//! from a newer program all refuse the start: each means that the schema is not what this program was written for.

use std::time::{Duration, Instant};

use certctl_domain::{secret::Secret, time::Timestamp};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Bool, Integer, Nullable, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};

use crate::{
    Backend, connect,
    db::SqliteConn,
    postgres_tls, seed,
    types::{At, UtcTimestamp},
};

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
            sql: include_str!(concat!("../../../migrations/", $folder, "/", $file)).to_owned(),
        }),+]
    };
}

/// The files this program carries for a database.
#[must_use]
pub fn embedded(backend: Backend) -> Vec<Migration> {
    match backend {
        Backend::Postgres => embedded!("postgres": "0001_initial.up.sql"),
        Backend::Sqlite => embedded!("sqlite": "0001_initial.up.sql"),
    }
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

/// Applies what is pending, then the baseline seed, all under the lock.
///
/// # Errors
/// Every variant of [`Error`]; files before the failing one stay applied.
pub async fn up(options: &Options, files: &[Migration]) -> Result<Report, Error> {
    let mut session = Session::open(&options.url).await?;
    session.lock(options.lock_timeout).await?;
    session.make_ledger().await?;
    let ledger = session.ledger().await?;
    let pending = plan(&ledger, files, options.allow_newer)?;
    let mut report = Report {
        applied: Vec::new(),
        already: ledger.len(),
    };
    for file in pending {
        if session.apply(file, &options.applied_by).await? {
            report.applied.push(file.version.clone());
        }
    }
    session.run("seed", &seed::baseline()).await?;
    session.unlock().await?;
    Ok(report)
}

/// Lists every file with what the ledger says of it.
///
/// # Errors
/// [`Error::Connect`] or [`Error::Apply`]; an absent ledger means that nothing is applied.
pub async fn status(url: &Secret, files: &[Migration]) -> Result<Vec<Status>, Error> {
    let mut session = Session::open(url).await?;
    let ledger = if session.has_ledger().await? {
        session.ledger().await?
    } else {
        Vec::new()
    };
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
    let mut session = Session::open(&options.url).await?;
    let ledger = if session.has_ledger().await? {
        session.ledger().await?
    } else {
        Vec::new()
    };
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
    match (pending.iter().next(), newest) {
        (Some(first), Some(newest)) if first.version < *newest => Err(Error::OutOfOrder {
            pending: first.version.clone(),
            applied: newest.clone(),
        }),
        _ => Ok(pending),
    }
}

#[derive(Debug, QueryableByName)]
struct LedgerRow {
    #[diesel(sql_type = Text)]
    version: String,
    #[diesel(sql_type = UtcTimestamp)]
    applied_at: At,
    #[diesel(sql_type = Text)]
    checksum: String,
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

#[derive(QueryableByName)]
struct Holder {
    #[diesel(sql_type = Nullable<Integer>)]
    pid: Option<i32>,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// One dedicated connection for the whole run. PostgreSQL keeps the lock for the session, so that it is released in every exit
/// path, a panic included, when the connection closes; SQLite takes its write lock for each file.
enum Session {
    Postgres(AsyncPgConnection),
    Sqlite(SqliteConn),
}

/// Runs a statement on either connection.
macro_rules! on_session {
    ($session:expr, $c:ident => $query:expr) => {
        match $session {
            Session::Postgres($c) => $query,
            Session::Sqlite($c) => $query,
        }
    };
}

/// The first eight bytes of SHA-256("certctl-migrations"), as PostgreSQL's advisory locks want them.
const LOCK: i64 = 0x10aa_6201_64bb_a9f7;
const LEDGER_POSTGRES: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (version TEXT COLLATE \"C\" PRIMARY KEY, \
     applied_at TIMESTAMPTZ NOT NULL DEFAULT now(), checksum TEXT NOT NULL, duration_ms BIGINT NOT NULL DEFAULT 0, \
     applied_by TEXT NOT NULL DEFAULT '')";
const LEDGER_SQLITE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (version TEXT PRIMARY KEY, \
     applied_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)), checksum TEXT NOT NULL, \
     duration_ms INTEGER NOT NULL DEFAULT 0, applied_by TEXT NOT NULL DEFAULT '') STRICT";
const POLL: Duration = Duration::from_millis(50);

impl Session {
    async fn open(url: &Secret) -> Result<Self, Error> {
        if connect::is_postgres(url.expose()) {
            return postgres_tls::connect(url.expose().to_owned())
                .await
                .map(Self::Postgres)
                .map_err(Error::Connect);
        }
        let path = connect::prepared_sqlite_path(url.expose()).map_err(Error::Connect)?;
        tokio::task::spawn_blocking(move || connect::open_sqlite(&path))
            .await
            .map_err(|error| {
                Error::Connect(diesel::ConnectionError::BadConnection(error.to_string()))
            })?
            .map(|conn| Self::Sqlite(SqliteConn::new(conn)))
            .map_err(Error::Connect)
    }

    async fn lock(&mut self, timeout: Duration) -> Result<(), Error> {
        let Self::Postgres(conn) = self else {
            return Ok(());
        };
        let asked = Instant::now();
        loop {
            let row = diesel::sql_query("SELECT pg_try_advisory_lock($1) AS locked")
                .bind::<BigInt, _>(LOCK)
                .get_result::<Locked>(conn)
                .await
                .map_err(step("lock"))?;
            if row.locked {
                return Ok(());
            }
            if asked.elapsed() >= timeout {
                let holder = diesel::sql_query(
                    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted \
                     AND ((classid::bigint << 32) | objid::bigint) = $1 LIMIT 1",
                )
                .bind::<BigInt, _>(LOCK)
                .load::<Holder>(conn)
                .await
                .map_err(step("lock"))?;
                let holder = holder
                    .into_iter()
                    .next()
                    .and_then(|row| row.pid)
                    .map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
                return Err(Error::Locked {
                    holder,
                    waited: asked.elapsed(),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn unlock(&mut self) -> Result<(), Error> {
        let Self::Postgres(conn) = self else {
            return Ok(());
        };
        conn.batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})"))
            .await
            .map_err(step("unlock"))
    }

    async fn make_ledger(&mut self) -> Result<(), Error> {
        let sql = match self {
            Self::Postgres(_) => LEDGER_POSTGRES,
            Self::Sqlite(_) => LEDGER_SQLITE,
        };
        on_session!(self, c => c.batch_execute(sql).await).map_err(step("ledger"))
    }

    async fn has_ledger(&mut self) -> Result<bool, Error> {
        let sql = match self {
            Self::Postgres(_) => {
                "SELECT count(*) AS count FROM pg_class WHERE oid = to_regclass('schema_migrations')"
            }
            Self::Sqlite(_) => {
                "SELECT count(*) AS count FROM sqlite_master WHERE type = 'table' AND name = 'schema_migrations'"
            }
        };
        let row = on_session!(self, c => diesel::sql_query(sql).get_result::<Count>(c).await)
            .map_err(step("ledger"))?;
        Ok(row.count > 0)
    }

    async fn ledger(&mut self) -> Result<Vec<LedgerRow>, Error> {
        let sql = "SELECT version, applied_at, checksum FROM schema_migrations ORDER BY version";
        on_session!(self, c => diesel::sql_query(sql).load::<LedgerRow>(c).await)
            .map_err(step("ledger"))
    }

    /// Applies one file and enters it in the ledger, in one transaction; false when another program came first.
    async fn apply(&mut self, file: &Migration, applied_by: &str) -> Result<bool, Error> {
        let started = Instant::now();
        if file.is_transactional() {
            let begin = if matches!(self, Self::Sqlite(_)) {
                "BEGIN IMMEDIATE"
            } else {
                "BEGIN"
            };
            self.run(&file.version, begin).await?;
        }
        // On SQLite the lock is taken only now, so the ledger is asked again.
        if self
            .ledger()
            .await?
            .iter()
            .any(|row| row.version == file.version)
        {
            if file.is_transactional() {
                self.run(&file.version, "COMMIT").await?;
            }
            return Ok(false);
        }
        let outcome = match self.run(&file.version, &file.sql).await {
            Ok(()) => self.enter(file, started.elapsed(), applied_by).await,
            Err(error) => Err(error),
        };
        if file.is_transactional() {
            let end = if outcome.is_ok() {
                "COMMIT"
            } else {
                "ROLLBACK"
            };
            let ended = self.run(&file.version, end).await;
            outcome.and(ended)?;
        } else {
            outcome?;
        }
        Ok(true)
    }

    async fn enter(
        &mut self,
        file: &Migration,
        took: Duration,
        applied_by: &str,
    ) -> Result<(), Error> {
        let sql = match self {
            Self::Postgres(_) => {
                "INSERT INTO schema_migrations (version, checksum, duration_ms, applied_by) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (version) DO NOTHING"
            }
            Self::Sqlite(_) => {
                "INSERT INTO schema_migrations (version, checksum, duration_ms, applied_by) VALUES (?, ?, ?, ?) \
                 ON CONFLICT (version) DO NOTHING"
            }
        };
        let took = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        on_session!(self, c => diesel::sql_query(sql)
            .bind::<Text, _>(&file.version)
            .bind::<Text, _>(file.checksum())
            .bind::<BigInt, _>(took)
            .bind::<Text, _>(applied_by)
            .execute(c)
            .await)
        .map_err(step(&file.version))?;
        Ok(())
    }

    async fn run(&mut self, version: &str, sql: &str) -> Result<(), Error> {
        on_session!(self, c => c.batch_execute(sql).await).map_err(step(version))
    }
}

fn step(version: &str) -> impl FnOnce(diesel::result::Error) -> Error {
    let version = version.to_owned();
    move |source| Error::Apply { version, source }
}
