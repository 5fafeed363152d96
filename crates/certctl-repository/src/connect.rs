//! Opens the pools of each database.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use diesel::{
    Connection as _, ConnectionError, SqliteConnection, connection::SimpleConnection as _,
};
use diesel_async::{
    AsyncPgConnection,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, deadpool::Pool,
    },
};
use futures_util::FutureExt as _;

use crate::{DbOptions, Error, db::SqliteConn, postgres_tls};

/// Whether a URL names PostgreSQL.
pub(crate) fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// The file that a SQLite URL names.
fn sqlite_path(url: &str) -> PathBuf {
    let path = url
        .strip_prefix("sqlite://")
        .or_else(|| url.strip_prefix("sqlite:"))
        .unwrap_or(url);
    PathBuf::from(path)
}

/// The file that a SQLite URL names, in a folder that exists and is nobody else's to read.
pub(crate) fn prepared_sqlite_path(url: &str) -> Result<String, ConnectionError> {
    let path = sqlite_path(url);
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        make_private_folder(folder).map_err(|error| {
            ConnectionError::BadConnection(format!(
                "cannot make the folder {}: {error}",
                folder.display()
            ))
        })?;
    }
    path.into_os_string().into_string().map_err(|path| {
        ConnectionError::InvalidConnectionUrl(format!("{} is no UTF-8", path.display()))
    })
}

/// Whether a URL names a SQLite file that does not exist.
pub(crate) fn is_absent_sqlite(url: &str) -> bool {
    !is_postgres(url) && !sqlite_path(url).exists()
}

pub(crate) fn postgres_pool(options: &DbOptions) -> Result<Pool<AsyncPgConnection>, Error> {
    let mut config = ManagerConfig::default();
    // A broken connection shows at its first statement; asking before each use would double the round trips.
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(|url| postgres_tls::connect(url.to_owned()).boxed());
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new_with_config(
        options.url.expose(),
        config,
    );
    Pool::builder(manager)
        .max_size(options.max_connections.max(1))
        .wait_timeout(Some(options.acquire_timeout))
        .create_timeout(Some(options.acquire_timeout))
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .map_err(|error| Error::Unavailable(Box::new(error)))
}

/// The readers and the one writer.
pub(crate) fn sqlite_pools(
    options: &DbOptions,
) -> Result<(Pool<SqliteConn>, Pool<SqliteConn>), Error> {
    let path = prepared_sqlite_path(options.url.expose())
        .map_err(|error| Error::Unavailable(Box::new(error)))?;
    // Two cores serve no more than a few readers; each costs a page cache of up to 8 MB.
    let readers = sqlite_pool(&path, options, options.max_connections.clamp(1, 8))?;
    Ok((readers, sqlite_pool(&path, options, 1)?))
}

fn sqlite_pool(path: &str, options: &DbOptions, size: usize) -> Result<Pool<SqliteConn>, Error> {
    let mut config = ManagerConfig::default();
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(|url| {
        let url = url.to_owned();
        async move {
            let opened = tokio::task::spawn_blocking(move || open_sqlite(&url)).await;
            opened
                .map_err(|error| ConnectionError::BadConnection(error.to_string()))?
                .map(SqliteConn::new)
        }
        .boxed()
    });
    let manager = AsyncDieselConnectionManager::<SqliteConn>::new_with_config(path, config);
    Pool::builder(manager)
        .max_size(size)
        .wait_timeout(Some(options.acquire_timeout))
        .create_timeout(Some(options.acquire_timeout))
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .map_err(|error| Error::Unavailable(Box::new(error)))
}

/// Opens the file with the settings every connection has: what is acknowledged survives a power cut (`synchronous = FULL` in
/// WAL mode), references hold, and whoever meets a lock waits.
pub(crate) fn open_sqlite(url: &str) -> Result<SqliteConnection, ConnectionError> {
    let mut conn = SqliteConnection::establish(url)?;
    let setup = ConnectionError::CouldntSetupConfiguration;
    let millis = BUSY_TIMEOUT.as_millis();
    conn.batch_execute(&format!("PRAGMA busy_timeout = {millis}"))
        .map_err(setup)?;
    enter_wal(&mut conn).map_err(setup)?;
    conn.batch_execute(&format!(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -{CACHE_KIB};"
    ))
    .map_err(setup)?;
    Ok(conn)
}

/// Memory for pages of each connection to SQLite, in KiB.
pub(crate) const CACHE_KIB: u32 = 8192;

/// How long whoever meets a lock of SQLite waits.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Switches a new file to the write-ahead log. Where two do that at once, SQLite refuses one of them without the busy timeout,
/// since each holds what the other waits for; the one that is refused finds the switch made a moment later.
fn enter_wal(conn: &mut SqliteConnection) -> diesel::QueryResult<()> {
    let asked = Instant::now();
    loop {
        match conn.batch_execute("PRAGMA journal_mode = WAL") {
            Err(error)
                if error.to_string().contains("locked") && asked.elapsed() < BUSY_TIMEOUT =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            outcome => return outcome,
        }
    }
}

/// The database holds sealed keys and the names of every host: nobody but its owner reads the folder.
fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}
