//! The two databases behind one set of queries.
//!
//! Every query is one expression that the macro `on_conn!` type-checks for both connections. Reads take a connection of a pool;
//! writes run in a named transaction, which is the only way to the writer: SQLite has exactly one, so that its transactions
//! begin `IMMEDIATE` and never fail half way for having read first (docs/decisions/0001).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use diesel_async::{
    AsyncPgConnection, SimpleAsyncConnection as _,
    pooled_connection::{
        AsyncDieselConnectionManager, PoolableConnection,
        deadpool::{Object, Pool},
    },
    sync_connection_wrapper::SyncConnectionWrapper,
};

use crate::{Error, connect, in_place};

/// SQLite, whose statements block.
pub(crate) type SqliteConn = SyncConnectionWrapper<diesel::SqliteConnection, in_place::Threads>;

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
#[expect(
    clippy::large_enum_variant,
    reason = "a handful are alive at a time, and a box would cost an allocation for every use of a pool"
)]
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

/// A statement with `$n` parameters as the database of the connection wants it: SQLite numbers by `?n`, and would count `$n` in
/// the order of appearance.
pub(crate) fn dialect(conn: &Conn, sql: &'static str) -> std::borrow::Cow<'static, str> {
    match conn {
        Conn::Postgres(_) => sql.into(),
        Conn::Sqlite(_) => sql.replace('$', "?").into(),
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
            Pools::Postgres { pool, .. } => taken(pool).await.map(Conn::Postgres),
            Pools::Sqlite { readers, .. } => taken(readers).await.map(Conn::Sqlite),
        }
    }

    /// The connection that may write.
    pub(crate) async fn writer(&self) -> Result<Conn, Error> {
        match &*self.pools {
            Pools::Postgres { pool, .. } => taken(pool).await.map(Conn::Postgres),
            Pools::Sqlite { writer, .. } => taken(writer).await.map(Conn::Sqlite),
        }
    }

    /// Closes the connections that nobody uses, since what ended one of them may have ended all.
    pub(crate) fn forget_idle(&self) {
        match &*self.pools {
            Pools::Postgres { pool, .. } => drop(pool.retain(|_, _| false)),
            Pools::Sqlite { writer, .. } => drop(writer.retain(|_, _| false)),
        }
    }

    /// Counts a transaction that was committed.
    pub(crate) fn committed(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
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

/// Takes a connection out of a pool, and records how long that took.
async fn taken<C>(pool: &Pool<C>) -> Result<Object<C>, Error>
where
    C: PoolableConnection + Send + 'static,
    AsyncDieselConnectionManager<C>:
        deadpool::managed::Manager<Type = C, Error = diesel_async::pooled_connection::PoolError>,
{
    let asked = Instant::now();
    let taken = pool.get().await;
    metrics::histogram!("certctl_db_pool_wait_seconds").record(asked.elapsed().as_secs_f64());
    taken.map_err(|error| Error::Unavailable(Box::new(error)))
}

impl Conn {
    /// Takes the connection out of its pool and closes it: its state is not known.
    pub(crate) fn discard(self) {
        match self {
            Self::Postgres(object) => drop(Object::take(object)),
            Self::Sqlite(object) => drop(Object::take(object)),
        }
    }
}
