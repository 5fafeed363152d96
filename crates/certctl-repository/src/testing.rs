//! What tests of every crate need of a database and no program does: raw SQL, and databases made and dropped.

use certctl_domain::secret::Secret;
use diesel::{
    QueryableByName,
    sql_types::{Nullable, Text},
};
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};

use crate::{Backend, Conn, Db, Error, connect, migrations, postgres_tls, seed};

/// Runs statements as they stand, outside of any transaction that they do not begin themselves.
///
/// # Errors
/// What the database says.
pub async fn execute(db: &Db, sql: &str) -> Result<(), Error> {
    let (mut conn, _) = db.writer().await?;
    on_conn!(&mut conn, c => c.batch_execute(sql).await)?;
    Ok(())
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

/// What a migrated and seeded database is made of: equal for equal schemas.
#[must_use]
pub fn fingerprint(backend: Backend) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for file in migrations::embedded(backend) {
        context.update(file.version.as_bytes());
        context.update(file.sql.as_bytes());
    }
    context.update(seed::baseline().as_bytes());
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
