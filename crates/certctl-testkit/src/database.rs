//! A database for each test, migrated and seeded, on SQLite and on PostgreSQL.

mod clones;

use std::{
    ops::Deref,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use certctl_domain::{
    secret::Secret,
    time::{ManualClock, Timestamp},
};
use certctl_procs::postgres::Cluster;
use certctl_repository::{Backend, Db, DbOptions, Error, migrations, testing};
use tempfile::TempDir;
use tokio::{runtime, sync::OnceCell};

/// Turns one body into two tests, one for each database; their names end in `::sqlite` and `::postgres`.
#[macro_export]
macro_rules! db_tests {
    ($($(#[$meta:meta])* async fn $name:ident($($db:tt)+) $body:block)+) => {$(
        $(#[$meta])*
        async fn $name($($db)+) $body

        mod $name {
            #[test]
            fn sqlite() {
                $crate::database::run($crate::TestDb::sqlite, super::$name);
            }

            #[test]
            fn postgres() {
                $crate::database::run($crate::TestDb::postgres, super::$name);
            }
        }
    )+};
}

/// Runs a test on a runtime of its own with the database that `make` makes.
///
/// # Panics
/// When the test does.
pub fn run<M, T>(make: impl FnOnce() -> M, test: impl FnOnce(TestDb) -> T)
where
    M: Future<Output = TestDb>,
    T: Future<Output = ()>,
{
    // Several threads, because a running SQLite query whose future is dropped panics on a runtime of one.
    runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime needs nothing but memory")
        .block_on(async { test(make().await).await });
}

/// The time at which the clock of every test stands at first: 2026-06-01T00:00:00Z.
pub const START: Timestamp = Timestamp::from_seconds(1_780_272_000);

/// A database of one test, gone with it.
#[derive(Debug)]
pub struct TestDb {
    db: Db,
    url: String,
    clock: ManualClock,
    home: Home,
}

/// What a database lives in.
#[derive(Debug)]
enum Home {
    /// A folder, removed when it is dropped.
    Sqlite(#[expect(dead_code, reason = "held for its drop")] TempDir),
    /// A database of a server, dropped below.
    Postgres { server: Secret, name: String },
}

impl TestDb {
    /// A SQLite database of its own.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let file = folder.path().join("certctl.db");
        std::fs::write(&file, sqlite_template().await).expect("a temporary file can be written");
        let url = format!("sqlite://{}", file.display());
        Self::open(url, Home::Sqlite(folder))
    }

    /// A PostgreSQL database of its own.
    ///
    /// # Panics
    /// When no server can be reached or started; the message says how to get one.
    pub async fn postgres() -> Self {
        let server = postgres_server();
        let name = clones::take(server).await;
        let url = database_url(server, &name);
        let home = Home::Postgres {
            server: server.clone(),
            name,
        };
        Self::open(url, home)
    }

    /// An empty database without any table, for tests of migrations.
    ///
    /// # Panics
    /// As [`Self::postgres`] and [`Self::sqlite`].
    pub async fn empty(backend: Backend) -> Self {
        match backend {
            Backend::Sqlite => {
                let folder = tempfile::tempdir().expect("a temporary folder can be made");
                let url = format!("sqlite://{}", folder.path().join("certctl.db").display());
                Self::open(url, Home::Sqlite(folder))
            }
            Backend::Postgres => {
                let server = postgres_server().clone();
                let name = unique_name();
                testing::administer(&server, &[format!("CREATE DATABASE {name}")])
                    .await
                    .unwrap_or_else(|error| panic!("cannot make a database: {}", chain(&error)));
                let url = database_url(&server, &name);
                Self::open(url, Home::Postgres { server, name })
            }
        }
    }

    fn open(url: String, home: Home) -> Self {
        let db = Db::open(&options(&url)).expect("the URL of a test database is in order");
        Self {
            db,
            url,
            clock: ManualClock::starting_at(START),
            home,
        }
    }

    /// Its URL, for a program or a second [`Db`] on the same database.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A second pool on the same database, as another replica has one.
    ///
    /// # Panics
    /// Never: the first one is open.
    #[must_use]
    pub fn replica(&self) -> Db {
        Db::open(&options(&self.url)).expect("the URL of a test database is in order")
    }

    /// The pool, to be given to what is tested.
    #[must_use]
    pub fn db(&self) -> Db {
        self.db.clone()
    }

    /// Inserts the demo data, as a server with `CERTCTL_DEMO_SEED` does at [`START`].
    ///
    /// # Panics
    /// When the database refuses it.
    pub async fn seed_demo(&self) {
        let sql = certctl_service::seeds::demo_sql(self.backend(), START);
        let sql = sql.expect("keys can be made");
        migrations::seed_demo(&migration_options(&self.url), &sql)
            .await
            .unwrap_or_else(|error| panic!("cannot seed: {}", chain(&error)));
    }

    /// Migrates an [empty](Self::empty) database and inserts both seeds, as the first start of a server with `CERTCTL_DEMO_SEED` does.
    ///
    /// # Panics
    /// When the database refuses it.
    pub async fn migrate_with_demo(&self) {
        let backend = self.backend();
        let sql = certctl_service::seeds::demo_sql(backend, START).expect("keys can be made");
        let (options, files) = (migration_options(&self.url), migrations::embedded(backend));
        migrations::up_with_demo(&options, &files, &sql)
            .await
            .unwrap_or_else(|error| panic!("cannot migrate: {}", chain(&error)));
    }

    /// A clock that stands at [`START`] until it is moved.
    #[must_use]
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Runs statements that the repository has no function for.
    ///
    /// # Errors
    /// What the database says.
    pub async fn execute(&self, sql: &str) -> Result<(), Error> {
        testing::execute(&self.db, sql).await
    }

    /// Bytes as they stand in a statement.
    #[must_use]
    pub fn blob(&self, bytes: &[u8]) -> String {
        use std::fmt::Write as _;
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        match self.db.backend() {
            Backend::Sqlite => format!("X'{hex}'"),
            Backend::Postgres => format!("'\\x{hex}'::bytea"),
        }
    }

    /// Runs statements on a connection that stays as they leave it, such as in a transaction with a lock, until it is dropped.
    ///
    /// # Panics
    /// When the database refuses them.
    pub async fn hold(&self, sql: &str) -> testing::Held {
        let held = testing::hold(&self.db, sql).await;
        held.unwrap_or_else(|error| panic!("{sql}: {}", chain(&error)))
    }

    /// Runs one query whose only column is text and called `value`; NULL becomes `NULL`.
    ///
    /// # Panics
    /// When the database refuses it.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let rows = testing::texts(&self.db, sql).await;
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {}", chain(&error)));
        rows.into_iter()
            .map(|value| value.unwrap_or_else(|| "NULL".to_owned()))
            .collect()
    }

    /// The only row of [`Self::texts`].
    ///
    /// # Panics
    /// When there is not exactly one.
    pub async fn text(&self, sql: &str) -> String {
        let mut rows = self.texts(sql).await;
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        rows.remove(0)
    }
}

impl Deref for TestDb {
    type Target = Db;

    fn deref(&self) -> &Db {
        &self.db
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        self.db.close();
        if let Home::Postgres { server, name } = &self.home {
            clones::put(server, name);
        }
    }
}

/// Far more than a test needs and far less than a server gives to all tests together.
fn options(url: &str) -> DbOptions {
    DbOptions {
        url: Secret::new(url),
        max_connections: 10,
        acquire_timeout: Duration::from_secs(30),
    }
}

/// The bytes of a migrated database, made once for each process.
async fn sqlite_template() -> &'static [u8] {
    static TEMPLATE: OnceCell<Vec<u8>> = OnceCell::const_new();
    TEMPLATE
        .get_or_init(|| async {
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            let url = format!("sqlite://{}", folder.path().join("migrated.db").display());
            migrate(&url)
                .await
                .unwrap_or_else(|error| panic!("cannot migrate: {}", chain(&error)));
            // One file without a journal: what is still in the write-ahead log of the first would be lost by copying it.
            let whole = folder.path().join("whole.db");
            testing::copy_sqlite(&url, &whole.display().to_string())
                .await
                .unwrap_or_else(|error| panic!("cannot copy: {}", chain(&error)));
            std::fs::read(whole).expect("the copy was just made")
        })
        .await
}

async fn migrate(url: &str) -> Result<migrations::Report, migrations::Error> {
    let backend = if url.starts_with("postgres") {
        Backend::Postgres
    } else {
        Backend::Sqlite
    };
    migrations::up(&migration_options(url), &migrations::embedded(backend)).await
}

fn migration_options(url: &str) -> migrations::Options {
    migrations::Options {
        url: Secret::new(url),
        lock_timeout: Duration::from_secs(60),
        allow_newer: false,
        applied_by: "test".to_owned(),
    }
}

/// What the names of all databases of tests begin with; the process comes next.
const PREFIX: &str = "certctl_test_";

/// A name that no other test has, in this process or another.
fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}_{number}", std::process::id())
}

/// The URL of another database of the same server.
fn database_url(server: &Secret, name: &str) -> String {
    let url = server.expose();
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let base = base.rsplit_once('/').map_or(base, |(base, _)| base);
    let separator = if query.is_empty() { "" } else { "?" };
    format!("{base}/{name}{separator}{query}")
}

/// The URL of the server's database `postgres`.
fn postgres_server() -> &'static Secret {
    static SERVER: OnceLock<Secret> = OnceLock::new();
    SERVER.get_or_init(|| match variable("CERTCTL_TEST_POSTGRES_URL") {
        Some(url) => Secret::new(url),
        None => own_server(),
    })
}

/// A server of this process. It is never dropped; the guard of the child stops it when the process ends.
fn own_server() -> Secret {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    if let Some(databases) = variable("CERTCTL_TEST_DATABASES") {
        assert!(
            databases.split(',').any(|name| name.trim() == "postgres"),
            "CERTCTL_TEST_DATABASES={databases} leaves postgres out: run with `-- --skip ::postgres`, as `cargo xtask test --quick` does"
        );
    }
    let cluster = CLUSTER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("certctl-testkit-{}", std::process::id()));
        Cluster::start(folder).unwrap_or_else(|error| {
            panic!(
                "tests on PostgreSQL need a server: {}; `cargo xtask test` installs and starts one, CERTCTL_TEST_POSTGRES_URL names a running one",
                chain(&error)
            )
        })
    });
    Secret::new(cluster.url("postgres"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "these two variables are for tests only, and no setting of any program"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// An error with all its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use certctl_domain::secret::Secret;

    use super::database_url;

    #[test]
    fn another_database_of_the_same_server_keeps_host_and_user() {
        let socket = Secret::new("postgres:///postgres?host=/run/a&user=postgres");
        assert_eq!(
            database_url(&socket, "one"),
            "postgres:///one?host=/run/a&user=postgres"
        );
        let network = Secret::new("postgres://ann:pw@db.example:5432/postgres");
        assert_eq!(
            database_url(&network, "one"),
            "postgres://ann:pw@db.example:5432/one"
        );
    }
}
