//! The two databases behind one set of queries.
//!
//! Every query is one expression that the macro `on_conn!` type-checks for both connections. Reads take a connection of a pool;
//! writes run in a named transaction, which is the only way to the writer: SQLite has exactly one, so that its transactions
//! begin `IMMEDIATE` and never fail half way for having read first (docs/decisions/0001).

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use diesel_async::{
    AsyncPgConnection, SimpleAsyncConnection as _,
    pooled_connection::deadpool::{Object, Pool, PoolError},
    sync_connection_wrapper::SyncConnectionWrapper,
};

use crate::{Error, connect};

/// SQLite behind a thread hop.
pub(crate) type SqliteConn = SyncConnectionWrapper<diesel::SqliteConnection>;

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        })
    }
}

/// How to open a database.
#[derive(Debug, Clone)]
pub struct DbOptions {
    /// `postgres://…` or `sqlite://path`; a path without a scheme is SQLite's.
    pub url: certctl_domain::secret::Secret,
    /// Most connections at a time.
    pub max_connections: usize,
    /// How long to wait for a free connection, and for a new one to be made.
    pub acquire_timeout: Duration,
}

enum Pools {
    Postgres {
        pool: Pool<AsyncPgConnection>,
        url: certctl_domain::secret::Secret,
    },
    Sqlite {
        readers: Pool<SqliteConn>,
        writer: Pool<SqliteConn>,
    },
}

/// A database; cheap to clone.
#[derive(Clone)]
pub struct Db {
    pools: Arc<Pools>,
    commits: Arc<AtomicU64>,
}

/// A connection to one of the two databases.
pub enum Conn {
    /// To PostgreSQL.
    Postgres(Object<AsyncPgConnection>),
    /// To SQLite.
    Sqlite(Object<SqliteConn>),
}

/// Runs one query expression on whichever connection it is, or one arm for each database.
macro_rules! on_conn {
    ($conn:expr, pg $p:ident => $pg:expr, sqlite $s:ident => $lite:expr $(,)?) => {
        match $conn {
            $crate::Conn::Postgres(object) => {
                let $p = &mut **object;
                $pg
            }
            $crate::Conn::Sqlite(object) => {
                let $s = &mut **object;
                $lite
            }
        }
    };
    ($conn:expr, $c:ident => $query:expr) => {
        on_conn!($conn, pg $c => $query, sqlite $c => $query)
    };
}

/// Runs a body in a named transaction: all of it or nothing, again from the start when another transaction came first.
///
/// The body may run twice, so it only reads and writes rows. It is a block of an async function that may use `?`; its value is
/// `Result<T, E>` where `E: From<certctl_repository::Error> + RetryHint`.
#[macro_export]
macro_rules! transaction {
    ($db:expr, $name:literal, $conn:ident => $body:block) => {{
        let mut attempt: u32 = 0;
        loop {
            attempt += 1;
            let mut owned = match $db.begin($name).await {
                Ok(transaction) => transaction,
                Err(error) => break Err(error.into()),
            };
            let outcome = {
                let $conn: &mut $crate::Conn = &mut owned;
                async { $body }.await
            };
            if let Some(done) = owned.finish(attempt, outcome).await {
                break done;
            }
        }
    }};
}

/// A statement with `$n` parameters as the database of the connection wants it: SQLite numbers by `?n`, and would count `$n` in
/// the order of appearance.
pub(crate) fn dialect(conn: &Conn, sql: &'static str) -> std::borrow::Cow<'static, str> {
    match conn {
        Conn::Postgres(_) => sql.into(),
        Conn::Sqlite(_) => sql.replace('$', "?").into(),
    }
}

/// Tells whether an error means that another transaction came first.
pub trait RetryHint {
    /// Whether running the transaction again may succeed.
    fn is_contention(&self) -> bool;
}

impl RetryHint for Error {
    fn is_contention(&self) -> bool {
        Error::is_contention(self)
    }
}

impl Db {
    /// Opens the database; makes the file of SQLite when there is none. Connections are made when they are needed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the URL cannot be read or the file cannot be made.
    pub fn open(options: &DbOptions) -> Result<Self, Error> {
        let pools = if connect::is_postgres(options.url.expose()) {
            Pools::Postgres {
                pool: connect::postgres_pool(options)?,
                url: options.url.clone(),
            }
        } else {
            let (readers, writer) = connect::sqlite_pools(options)?;
            Pools::Sqlite { readers, writer }
        };
        Ok(Self {
            pools: Arc::new(pools),
            commits: Arc::default(),
        })
    }

    /// Which database it is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        match &*self.pools {
            Pools::Postgres { .. } => Backend::Postgres,
            Pools::Sqlite { .. } => Backend::Sqlite,
        }
    }

    /// Transactions committed by this process so far; the currency of design §4.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// A connection to read with.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when none becomes free in time.
    pub async fn read(&self) -> Result<Conn, Error> {
        match &*self.pools {
            Pools::Postgres { pool, .. } => pool.get().await.map(Conn::Postgres),
            Pools::Sqlite { readers, .. } => readers.get().await.map(Conn::Sqlite),
        }
        .map_err(unavailable)
    }

    /// Begins a transaction; use the macro `transaction!`, which finishes it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no connection becomes free in time.
    pub async fn begin(&self, name: &'static str) -> Result<Transaction, Error> {
        let (mut conn, begin) = match &*self.pools {
            Pools::Postgres { pool, .. } => (
                Conn::Postgres(pool.get().await.map_err(unavailable)?),
                "BEGIN",
            ),
            Pools::Sqlite { writer, .. } => (
                Conn::Sqlite(writer.get().await.map_err(unavailable)?),
                "BEGIN IMMEDIATE",
            ),
        };
        let began = on_conn!(&mut conn, c => c.batch_execute(begin).await);
        let transaction = Transaction {
            conn: Some(conn),
            name,
            commits: Arc::clone(&self.commits),
        };
        // On an error the guard throws the connection away: its state is not known.
        began?;
        Ok(transaction)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        let mut conn = self.read().await?;
        on_conn!(&mut conn, c => c.batch_execute("SELECT 1").await)?;
        Ok(())
    }

    /// Connections of the pools: open, idle, waited for.
    #[must_use]
    pub fn pool_status(&self) -> (usize, usize, usize) {
        let add = |a: (usize, usize, usize), s: deadpool::Status| {
            (a.0 + s.size, a.1 + s.available, a.2 + s.waiting)
        };
        match &*self.pools {
            Pools::Postgres { pool, .. } => add((0, 0, 0), pool.status()),
            Pools::Sqlite { readers, writer } => {
                add(add((0, 0, 0), readers.status()), writer.status())
            }
        }
    }

    /// The URL of PostgreSQL, for the connection that listens.
    pub(crate) fn postgres_url(&self) -> Option<&certctl_domain::secret::Secret> {
        match &*self.pools {
            Pools::Postgres { url, .. } => Some(url),
            Pools::Sqlite { .. } => None,
        }
    }

    /// Closes the pools: waiting callers are refused, connections in use end with their user.
    pub fn close(&self) {
        match &*self.pools {
            Pools::Postgres { pool, .. } => pool.close(),
            Pools::Sqlite { readers, writer } => {
                readers.close();
                writer.close();
            }
        }
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Db({})", self.backend())
    }
}

pub(crate) fn unavailable(error: PoolError) -> Error {
    Error::Unavailable(Box::new(error))
}

/// A transaction under way. Dropped unfinished, it takes its connection out of the pool, and so rolls back.
pub struct Transaction {
    conn: Option<Conn>,
    name: &'static str,
    commits: Arc<AtomicU64>,
}

/// Attempts after which contention is reported instead of tried again.
const MAX_ATTEMPTS: u32 = 10;

impl Transaction {
    /// Commits on success and rolls back on failure; nothing when the body should run again.
    pub async fn finish<T, E: From<Error> + RetryHint>(
        mut self,
        attempt: u32,
        outcome: Result<T, E>,
    ) -> Option<Result<T, E>> {
        let Some(conn) = self.conn.as_mut() else {
            return Some(outcome);
        };
        let end = if outcome.is_ok() {
            "COMMIT"
        } else {
            "ROLLBACK"
        };
        let ended = on_conn!(conn, c => c.batch_execute(end).await);
        let outcome = match (outcome, ended) {
            (Ok(value), Ok(())) => {
                self.commits.fetch_add(1, Ordering::Relaxed);
                Ok(value)
            }
            (Ok(_), Err(error)) => {
                // Whether it was committed is not known; the connection is thrown away by the guard.
                self.count("lost", attempt);
                let error = Error::from(error);
                if error.is_contention() && attempt < MAX_ATTEMPTS {
                    return None;
                }
                return Some(Err(error.into()));
            }
            (Err(error), Ok(())) => Err(error),
            (Err(error), Err(_)) => return Some(Err(error)),
        };
        match outcome {
            Ok(value) => {
                self.count("committed", attempt);
                self.release();
                Some(Ok(value))
            }
            Err(error) if error.is_contention() && attempt < MAX_ATTEMPTS => {
                self.count("retried", attempt);
                self.release();
                // Full jitter, so that two transactions that met do not meet again.
                let ceiling = 2_u64.pow(attempt.min(7));
                let wait =
                    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), attempt)
                        % (ceiling * 1000);
                tokio::time::sleep(Duration::from_micros(wait)).await;
                None
            }
            Err(error) => {
                self.count("rolled_back", attempt);
                self.release();
                Some(Err(error))
            }
        }
    }

    /// Gives the connection back to its pool.
    fn release(&mut self) {
        self.conn = None;
    }

    fn count(&self, outcome: &'static str, attempt: u32) {
        metrics::counter!("certctl_db_transactions_total", "name" => self.name, "outcome" => outcome).increment(1);
        if attempt > 1 {
            metrics::counter!("certctl_db_transaction_retries_total", "name" => self.name)
                .increment(1);
        }
    }
}

impl Deref for Transaction {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        self.conn
            .as_ref()
            .expect("the connection leaves only in finish, which takes the transaction")
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Conn {
        self.conn
            .as_mut()
            .expect("the connection leaves only in finish, which takes the transaction")
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        match self.conn.take() {
            Some(Conn::Postgres(object)) => drop(Object::take(object)),
            Some(Conn::Sqlite(object)) => drop(Object::take(object)),
            None => {}
        }
    }
}
