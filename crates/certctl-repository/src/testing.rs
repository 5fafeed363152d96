//! What tests of every crate need of a database and no program does: raw SQL, and databases made and dropped.

use certctl_domain::secret::Secret;
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Nullable, Text},
};
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};

use crate::{Backend, Conn, Db, Error, connect, migrations, postgres_tls, seed};

/// Runs statements as they stand, outside of any transaction that they do not begin themselves.
///
/// # Errors
/// What the database says.
pub async fn execute(db: &Db, sql: &str) -> Result<(), Error> {
    let mut conn = db.writer().await?;
    on_conn!(&mut conn, c => c.batch_execute(sql).await)?;
    Ok(())
}

/// A connection that holds what its statements took until it is dropped, and is closed then.
pub struct Held(Option<Conn>);

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(conn) = self.0.take() {
            conn.discard();
        }
    }
}

/// Runs statements on a connection that stays as they leave it, such as in a transaction with a lock.
///
/// # Errors
/// What the database says.
pub async fn hold(db: &Db, sql: &str) -> Result<Held, Error> {
    let mut conn = db.writer().await?;
    on_conn!(&mut conn, c => c.batch_execute(sql).await)?;
    Ok(Held(Some(conn)))
}

/// Runs one query whose only column is text and called `value`.
///
/// # Errors
/// What the database says.
pub async fn texts(db: &Db, sql: &str) -> Result<Vec<Option<String>>, Error> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Text>)]
        value: Option<String>,
    }
    let mut conn: Conn = db.read().await?;
    let rows: Vec<Row> = on_conn!(&mut conn, c => diesel::sql_query(sql).load(c).await)?;
    Ok(rows.into_iter().map(|row| row.value).collect())
}

/// How many statements a connection to PostgreSQL has prepared and kept.
///
/// # Errors
/// What the database says, SQLite that it does not know.
pub async fn prepared(conn: &mut Conn) -> Result<i64, Error> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    const SQL: &str = "SELECT count(*) AS count FROM pg_prepared_statements";
    let count: Count = on_conn!(conn, c => diesel::sql_query(SQL).get_result(c).await)?;
    Ok(count.count)
}

/// What a migrated and seeded database is made of: equal for equal schemas.
#[must_use]
pub fn fingerprint(backend: Backend) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for file in migrations::embedded(backend) {
        context.update(file.version.as_bytes());
        context.update(file.sql.as_bytes());
    }
    context.update(seed::all(None).as_bytes());
    hex::encode(context.finish())
}

/// Writes everything that a SQLite database holds into a new file, which needs no journal beside it.
///
/// # Errors
/// What the database says.
pub async fn copy_sqlite(url: &str, into: &str) -> Result<(), Error> {
    use diesel::connection::SimpleConnection as _;
    let path =
        connect::prepared_sqlite_path(url).map_err(|error| Error::Unavailable(Box::new(error)))?;
    let sql = format!("VACUUM INTO '{}'", into.replace('\'', "''"));
    tokio::task::spawn_blocking(move || -> Result<(), Error> {
        let mut conn =
            connect::open_sqlite(&path).map_err(|error| Error::Unavailable(Box::new(error)))?;
        Ok(conn.batch_execute(&sql)?)
    })
    .await
    .map_err(|error| Error::Unavailable(Box::new(error)))?
}

/// Runs statements one after another on a connection of its own, each outside of a transaction, as CREATE DATABASE wants it.
///
/// # Errors
/// What the database says; statements before the refused one stay done.
pub async fn administer(url: &Secret, statements: &[String]) -> Result<(), Error> {
    let mut conn = postgres_tls::connect(url.expose().to_owned())
        .await
        .map_err(|error| Error::Unavailable(Box::new(error)))?;
    for statement in statements {
        conn.batch_execute(statement).await?;
    }
    Ok(())
}

/// Ends every session of a PostgreSQL database, gives it another name, and puts it back to what it was when it was migrated and
/// seeded. False when its schema is no longer what the program carries, or `fingerprint` says it was not to begin with.
///
/// # Errors
/// What the database says.
pub async fn recycle(
    server: &Secret,
    old: &str,
    new: &str,
    url: &Secret,
    fingerprint: &str,
) -> Result<bool, Error> {
    const EMPTY: &str = "SET session_replication_role = replica; \
        DO $$ DECLARE one text; BEGIN \
            FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_migrations' LOOP \
                EXECUTE format('DELETE FROM %I', one); \
            END LOOP; \
        END $$; SET session_replication_role = origin";
    let end = format!(
        "DO $$ BEGIN FOR look IN 1..2000 LOOP \
            PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{old}'; \
            PERFORM pg_stat_clear_snapshot(); \
            EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = '{old}'); PERFORM pg_sleep(0.001); \
         END LOOP; END $$"
    );
    // Under its new name nobody finds it who still holds the old URL.
    let rename = format!("ALTER DATABASE {old} RENAME TO {new}");
    administer(server, &[end, rename]).await?;
    if schema_fingerprint(url).await? != fingerprint {
        return Ok(false);
    }
    administer(url, &[EMPTY.to_owned(), seed::all(None)]).await?;
    Ok(true)
}

/// What the catalogue of a PostgreSQL database says of its tables, indexes and triggers.
///
/// # Errors
/// What the database says.
pub async fn schema_fingerprint(url: &Secret) -> Result<String, Error> {
    #[derive(QueryableByName)]
    struct Digest {
        #[diesel(sql_type = Text)]
        digest: String,
    }
    const SQL: &str = "SELECT md5(string_agg(entry, ',' ORDER BY entry)) AS digest FROM ( \
        SELECT format('%s.%s %s %s', c.relname, a.attname, a.atttypid, a.attnotnull) AS entry \
            FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 \
        UNION ALL SELECT format('%s on %s %s', tgname, c.relname, tgenabled) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
            WHERE c.relnamespace = 'public'::regnamespace AND NOT tgisinternal \
        UNION ALL SELECT version || checksum FROM schema_migrations) AS entries";
    let mut conn = postgres_tls::connect(url.expose().to_owned())
        .await
        .map_err(|error| Error::Unavailable(Box::new(error)))?;
    let row: Digest = diesel::sql_query(SQL).get_result(&mut conn).await?;
    Ok(row.digest)
}

/// The names of a server's databases that begin with `prefix`.
///
/// # Errors
/// What the database says.
pub async fn databases(server: &Secret, prefix: &str) -> Result<Vec<String>, Error> {
    #[derive(QueryableByName)]
    struct Named {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let mut conn = postgres_tls::connect(server.expose().to_owned())
        .await
        .map_err(|error| Error::Unavailable(Box::new(error)))?;
    let sql =
        "SELECT CAST(datname AS text) AS name FROM pg_database WHERE starts_with(datname, $1)";
    let rows: Vec<Named> = diesel::sql_query(sql)
        .bind::<Text, _>(prefix)
        .load(&mut conn)
        .await?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// Makes a PostgreSQL database once, however many processes ask at the same time: `make` fills a database of another name,
/// which gets its own only when it is whole.
///
/// # Errors
/// What the database or `make` says.
pub async fn make_database_once<F>(
    server: &Secret,
    name: &str,
    make: impl FnOnce(String) -> F,
) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    #[derive(QueryableByName)]
    struct Found {
        #[diesel(sql_type = diesel::sql_types::Bool)]
        found: bool,
    }
    /// Any number that nobody else locks; the first bytes of "template".
    const LOCK: &str = "8387230210669507685";
    let mut conn = postgres_tls::connect(server.expose().to_owned())
        .await
        .map_err(|error| Error::Unavailable(Box::new(error)))?;
    // Released when the connection closes.
    conn.batch_execute(&format!("SELECT pg_advisory_lock({LOCK})"))
        .await?;
    let row: Found =
        diesel::sql_query("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1) AS found")
            .bind::<Text, _>(name)
            .get_result(&mut conn)
            .await?;
    if row.found {
        return Ok(());
    }
    let unfinished = format!("{name}_unfinished");
    conn.batch_execute(&format!(
        "DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)"
    ))
    .await?;
    conn.batch_execute(&format!("CREATE DATABASE {unfinished}"))
        .await?;
    make(unfinished.clone()).await?;
    // The last connection of the one who filled it may still be closing.
    conn.batch_execute(&format!("ALTER DATABASE {unfinished} RENAME TO {name}"))
        .await?;
    Ok(())
}

/// Statements that connections of this process have sent, once [`watch_statements`] was called.
static SENT: std::sync::Mutex<Sent> = std::sync::Mutex::new(Sent {
    count: 0,
    kept: Vec::new(),
});

struct Sent {
    count: u64,
    kept: Vec<String>,
}

/// Most statements that are kept with their text.
const MAX_KEPT: usize = 100;

fn watcher() -> Option<Box<dyn diesel::connection::Instrumentation>> {
    Some(Box::new(
        |event: diesel::connection::InstrumentationEvent<'_>| {
            if let diesel::connection::InstrumentationEvent::StartQuery { query, .. } = event {
                let mut sent = SENT
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                sent.count += 1;
                if sent.kept.len() < MAX_KEPT {
                    let text = query.to_string();
                    let sql = text.split(" -- binds:").next().unwrap_or_default();
                    sent.kept.push(sql.to_owned());
                }
            }
        },
    ))
}

/// Counts what connections that are made from now on send.
///
/// # Errors
/// What diesel says when it is called too late.
pub fn watch_statements() -> Result<(), Error> {
    diesel::connection::set_default_instrumentation(watcher).map_err(Into::into)
}

/// How many statements were sent since the last call, BEGIN and COMMIT among them, and the first of their texts.
pub fn take_statements() -> (u64, Vec<String>) {
    let mut sent = SENT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    (
        std::mem::take(&mut sent.count),
        std::mem::take(&mut sent.kept),
    )
}

/// How the database would carry a statement out whatever its parameters are, a step for each line.
///
/// # Errors
/// What the database says.
pub async fn generic_plan(db: &Db, sql: &str) -> Result<Vec<String>, Error> {
    #[derive(QueryableByName)]
    struct Step {
        #[diesel(sql_type = Text)]
        detail: String,
    }
    #[derive(QueryableByName)]
    struct Line {
        #[diesel(sql_type = Text)]
        #[diesel(column_name = "QUERY PLAN")]
        line: String,
    }
    let mut conn = db.read().await?;
    match &mut conn {
        Conn::Sqlite(object) => {
            let steps: Vec<Step> = diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}"))
                .load(&mut **object)
                .await?;
            Ok(steps.into_iter().map(|step| step.detail).collect())
        }
        Conn::Postgres(object) => {
            let count = (1..20)
                .rev()
                .find(|number| sql.contains(&format!("${number}")));
            let values = vec!["NULL"; count.unwrap_or(0)].join(", ");
            let call = count.map_or_else(String::new, |_| format!("({values})"));
            object
                .batch_execute(&format!(
                    "SET plan_cache_mode = force_generic_plan; PREPARE look AS {sql}"
                ))
                .await?;
            let lines: Vec<Line> = diesel::sql_query(format!("EXPLAIN EXECUTE look{call}"))
                .load(&mut **object)
                .await?;
            object
                .batch_execute("DEALLOCATE look; RESET plan_cache_mode")
                .await?;
            Ok(lines.into_iter().map(|line| line.line).collect())
        }
    }
}
