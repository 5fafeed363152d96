//! What the tables of a database hold and take on disk, indexes included, and what there is of orders of each profile in each state,
//! as one line of JSON. `cargo xtask bench acme-gc` runs it.
//!
//! Arguments: the URL of the database, and `vacuum` to give back first what is free. No server may run on a SQLite database then.

use std::time::Duration;

use anyhow::{Context as _, bail};
use certctl_domain::secret::Secret;
use certctl_repository::{Backend, Db, DbOptions, testing};
use serde_json::{Map, Value, json};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (url, vacuum) = match words[..] {
        [url] => (url, false),
        [url, "vacuum"] => (url, true),
        _ => bail!("usage: acme_tables DATABASE_URL [vacuum]"),
    };
    let db = Db::open(&DbOptions {
        url: Secret::new(url),
        max_connections: 2,
        acquire_timeout: Duration::from_secs(30),
    })?;
    if vacuum {
        testing::execute(&db, statement_of(db.backend())).await?;
    }
    println!(
        "{}",
        json!({
            "bytes": whole(&db, url).await?, "tables": tables(&db).await?, "orders": orders(&db).await?,
        })
    );
    Ok(())
}

/// On SQLite the log is emptied as well, which is as large as it ever was otherwise.
fn statement_of(backend: Backend) -> &'static str {
    match backend {
        Backend::Postgres => "VACUUM FULL",
        Backend::Sqlite => "VACUUM; PRAGMA wal_checkpoint(TRUNCATE)",
    }
}

/// The database as a whole: on SQLite its file and the log beside it.
async fn whole(db: &Db, url: &str) -> anyhow::Result<u64> {
    match db.backend() {
        Backend::Postgres => {
            let sql = "SELECT pg_database_size(current_database())::text AS value";
            Ok(texts(db, sql).await?.concat().parse()?)
        }
        Backend::Sqlite => {
            let file = url.strip_prefix("sqlite://").context("no path")?;
            let size = |path: String| std::fs::metadata(path).map_or(0, |about| about.len());
            Ok(size(file.to_owned()) + size(format!("{file}-wal")))
        }
    }
}

/// Rows and bytes of each table.
async fn tables(db: &Db) -> anyhow::Result<Value> {
    let sizes = match db.backend() {
        Backend::Postgres => {
            "SELECT tablename || ' ' || pg_total_relation_size(format('%I.%I', schemaname, tablename)::regclass) AS value \
             FROM pg_tables WHERE schemaname = 'public'"
        }
        Backend::Sqlite => {
            "SELECT m.tbl_name || ' ' || sum(s.pgsize) AS value FROM dbstat s JOIN sqlite_master m ON m.name = s.name \
             WHERE s.aggregate = TRUE AND m.tbl_name NOT LIKE 'sqlite_%' GROUP BY m.tbl_name"
        }
    };
    let mut tables = Map::new();
    for line in texts(db, sizes).await? {
        let (name, bytes) = line.split_once(' ').context("a table without a size")?;
        let rows = format!("SELECT CAST(count(*) AS TEXT) AS value FROM {name}");
        let rows: u64 = texts(db, &rows).await?.concat().parse()?;
        let about = json!({"rows": rows, "bytes": bytes.parse::<u64>()?});
        tables.insert(name.to_owned(), about);
    }
    Ok(Value::Object(tables))
}

/// Orders with their authorisations and challenges.
async fn orders(db: &Db) -> anyhow::Result<Vec<Value>> {
    let sql = "SELECT o.profile_id || ' ' || o.status || ' ' || count(DISTINCT o.id) || ' ' || count(DISTINCT a.id) || ' ' \
        || count(c.id) AS value FROM acme_orders o LEFT JOIN acme_authorizations a ON a.order_id = o.id \
        LEFT JOIN acme_challenges c ON c.authz_id = a.id GROUP BY o.profile_id, o.status";
    let mut groups = Vec::new();
    for line in texts(db, sql).await? {
        let [profile, status, orders, authorizations, challenges] =
            line.split(' ').collect::<Vec<_>>()[..]
        else {
            bail!("{line} is not what was asked");
        };
        let number = str::parse::<u64>;
        groups.push(json!({
            "profile": profile, "status": status, "orders": number(orders)?,
            "authorizations": number(authorizations)?, "challenges": number(challenges)?,
        }));
    }
    Ok(groups)
}

async fn texts(db: &Db, sql: &str) -> anyhow::Result<Vec<String>> {
    let rows = testing::texts(db, sql).await?;
    Ok(rows.into_iter().flatten().collect())
}
