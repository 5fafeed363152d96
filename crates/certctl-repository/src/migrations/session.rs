//! One dedicated connection for a run of migrations: the lock, the ledger, and a file at a time.

use std::time::{Duration, Instant};

use certctl_domain::secret::Secret;
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Bool, Integer, Nullable, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};

use super::{Error, Migration, Progress};
use crate::{
    connect,
    db::SqliteConn,
    postgres_tls, seed,
    types::{At, UtcTimestamp},
};

/// A file that was applied.
#[derive(Debug, QueryableByName)]
pub(super) struct LedgerRow {
    #[diesel(sql_type = Text)]
    pub(super) version: String,
    #[diesel(sql_type = UtcTimestamp)]
    pub(super) applied_at: At,
    #[diesel(sql_type = Text)]
    pub(super) checksum: String,
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
#[expect(clippy::large_enum_variant, reason = "there is one of it in a run")]
pub(super) enum Session {
    Postgres(AsyncPgConnection),
    Sqlite {
        conn: SqliteConn,
        lock_timeout: Duration,
    },
}

/// Runs a statement on either connection.
macro_rules! on_session {
    ($session:expr, $c:ident => $query:expr) => {
        match $session {
            Session::Postgres($c) => $query,
            Session::Sqlite { conn: $c, .. } => $query,
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
    pub(super) async fn open(url: &Secret) -> Result<Self, Error> {
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
            .map(|conn| Self::Sqlite {
                conn: SqliteConn::new(conn),
                lock_timeout: Duration::ZERO,
            })
            .map_err(Error::Connect)
    }

    /// Keeps other runners out until [`Self::unlock`].
    ///
    /// SQLite has no lock that outlives a transaction. There each file takes the write lock and asks the ledger again under
    /// it, and all that is done here is to say how long to wait for that.
    pub(super) async fn lock(
        &mut self,
        timeout: Duration,
        progress: &mut (impl FnMut(Progress<'_>) + Send),
    ) -> Result<(), Error> {
        let conn = match self {
            Self::Postgres(conn) => conn,
            Self::Sqlite { conn, lock_timeout } => {
                *lock_timeout = timeout;
                let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
                return conn
                    .batch_execute(&format!("PRAGMA busy_timeout = {millis}"))
                    .await
                    .map_err(step("lock"));
            }
        };
        let asked = Instant::now();
        let mut told = false;
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
            if !told {
                progress(Progress::Waiting);
                told = true;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(super) async fn unlock(&mut self) -> Result<(), Error> {
        let Self::Postgres(conn) = self else {
            return Ok(());
        };
        conn.batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})"))
            .await
            .map_err(step("unlock"))
    }

    pub(super) async fn make_ledger(&mut self) -> Result<(), Error> {
        let sql = match self {
            Self::Postgres(_) => LEDGER_POSTGRES,
            Self::Sqlite { .. } => LEDGER_SQLITE,
        };
        on_session!(self, c => c.batch_execute(sql).await).map_err(step("ledger"))
    }

    async fn has_ledger(&mut self) -> Result<bool, Error> {
        let sql = match self {
            Self::Postgres(_) => {
                "SELECT count(*) AS count FROM pg_class WHERE oid = to_regclass('schema_migrations')"
            }
            Self::Sqlite { .. } => {
                "SELECT count(*) AS count FROM sqlite_master WHERE type = 'table' AND name = 'schema_migrations'"
            }
        };
        let row = on_session!(self, c => diesel::sql_query(sql).get_result::<Count>(c).await)
            .map_err(step("ledger"))?;
        Ok(row.count > 0)
    }

    pub(super) async fn ledger(&mut self) -> Result<Vec<LedgerRow>, Error> {
        let sql = "SELECT version, applied_at, checksum FROM schema_migrations ORDER BY version";
        on_session!(self, c => diesel::sql_query(sql).load::<LedgerRow>(c).await)
            .map_err(step("ledger"))
    }

    /// Applies one file and enters it in the ledger, in one transaction; nothing when another program came first.
    pub(super) async fn apply(
        &mut self,
        file: &Migration,
        applied_by: &str,
    ) -> Result<Option<Duration>, Error> {
        let started = Instant::now();
        if !file.is_transactional() {
            return self.apply_unless_entered(file, started, applied_by).await;
        }
        self.begin(&file.version).await?;
        let outcome = self.apply_unless_entered(file, started, applied_by).await;
        self.end(&file.version, outcome).await
    }

    /// On SQLite the lock is held only now, so the ledger is asked again.
    async fn apply_unless_entered(
        &mut self,
        file: &Migration,
        started: Instant,
        applied_by: &str,
    ) -> Result<Option<Duration>, Error> {
        let ledger = self.ledger().await?;
        if ledger.iter().any(|row| row.version == file.version) {
            return Ok(None);
        }
        self.run(&file.version, &file.sql).await?;
        let took = started.elapsed();
        self.enter(file, took, applied_by).await?;
        Ok(Some(took))
    }

    /// Inserts the rows that every installation starts with, and the demo data where it is asked for.
    pub(super) async fn seed(&mut self, demo: Option<&str>) -> Result<(), Error> {
        self.insert("seed", &seed::all(demo)).await
    }

    /// Inserts the demo data, where it is absent.
    pub(super) async fn seed_demo(&mut self, demo: &str) -> Result<(), Error> {
        self.insert("demo seed", demo).await
    }

    async fn insert(&mut self, step: &str, sql: &str) -> Result<(), Error> {
        self.begin(step).await?;
        let outcome = self.run(step, sql).await;
        self.end(step, outcome).await
    }

    async fn begin(&mut self, version: &str) -> Result<(), Error> {
        let lock_timeout = match self {
            Self::Postgres(_) => return self.run(version, "BEGIN").await,
            Self::Sqlite { lock_timeout, .. } => *lock_timeout,
        };
        self.run(version, "BEGIN IMMEDIATE")
            .await
            .map_err(|error| match error {
                Error::Apply { source, .. } if source.to_string().contains("locked") => {
                    Error::Locked {
                        holder: "unknown".to_owned(),
                        waited: lock_timeout,
                    }
                }
                other => other,
            })
    }

    async fn end<T>(&mut self, version: &str, outcome: Result<T, Error>) -> Result<T, Error> {
        match outcome {
            Ok(value) => self.run(version, "COMMIT").await.map(|()| value),
            Err(error) => {
                // What went wrong first is what is told; a session that cannot roll back is closed after this.
                let _ = self.run(version, "ROLLBACK").await;
                Err(error)
            }
        }
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
            Self::Sqlite { .. } => {
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

/// Reads the ledger and changes nothing: where there is no SQLite file, none is made.
pub(super) async fn read_ledger(url: &Secret) -> Result<Vec<LedgerRow>, Error> {
    if connect::is_absent_sqlite(url.expose()) {
        return Ok(Vec::new());
    }
    let mut session = Session::open(url).await?;
    if session.has_ledger().await? {
        session.ledger().await
    } else {
        Ok(Vec::new())
    }
}

fn step(version: &str) -> impl FnOnce(diesel::result::Error) -> Error {
    let version = version.to_owned();
    move |source| Error::Apply { version, source }
}
