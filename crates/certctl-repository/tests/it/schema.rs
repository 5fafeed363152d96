//! Three schemas that must agree: that of each database, and the one the queries are checked against.

use std::collections::BTreeMap;

use certctl_domain::time::Timestamp;
use certctl_repository::{Backend, migrations};
use certctl_testkit::{TestDb, database, db_tests};

/// The source of the schema: what diesel makes of it cannot be asked for its columns at run time.
const SCHEMA: [&str; 9] = [
    include_str!("../../src/schema/acme.rs"),
    include_str!("../../src/schema/authority.rs"),
    include_str!("../../src/schema/certificates.rs"),
    include_str!("../../src/schema/fleet.rs"),
    include_str!("../../src/schema/limits.rs"),
    include_str!("../../src/schema/status.rs"),
    include_str!("../../src/schema/store.rs"),
    include_str!("../../src/schema/trail.rs"),
    include_str!("../../src/schema/work.rs"),
];

/// A column as all three can name it: kind and whether it may be NULL.
type Column = (&'static str, bool);
type Tables = BTreeMap<String, BTreeMap<String, Column>>;

/// Reads the tables out of the source of the schema.
fn declared() -> Tables {
    let mut tables = Tables::new();
    let (mut table, mut renamed) = (String::new(), None);
    for line in SCHEMA.iter().flat_map(|part| part.lines()).map(str::trim) {
        if let Some((name, rest)) = line.split_once(" (").filter(|_| line.ends_with(") {")) {
            assert!(!rest.is_empty());
            name.clone_into(&mut table);
        } else if let Some(name) = line.strip_prefix("#[sql_name = \"") {
            renamed = Some(name.trim_end_matches("\"]").to_owned());
        } else if let Some((name, kind)) = line.split_once(" -> ").filter(|_| line.ends_with(',')) {
            let kind = kind.trim_end_matches(',');
            let inner = kind
                .strip_prefix("Nullable<")
                .map(|kind| kind.trim_end_matches('>'));
            let column = (known(inner.unwrap_or(kind)), inner.is_some());
            let name = renamed.take().unwrap_or_else(|| name.to_owned());
            tables
                .entry(table.clone())
                .or_default()
                .insert(name, column);
        }
    }
    tables
}

fn known(kind: &str) -> &'static str {
    let kinds = [
        "Text",
        "Integer",
        "BigInt",
        "Bool",
        "Binary",
        "UtcTimestamp",
        "JsonDoc",
        "TextList",
    ];
    kinds
        .into_iter()
        .find(|known| *known == kind)
        .unwrap_or_else(|| panic!("{kind} is no type of the schema"))
}

/// The columns of a live database, as `table.column type nullable` each.
async fn live(db: &TestDb) -> BTreeMap<String, BTreeMap<String, (String, bool)>> {
    let sql = match db.backend() {
        Backend::Postgres => {
            "SELECT table_name || '|' || column_name || '|' || udt_name || '|' || is_nullable AS value \
             FROM information_schema.columns WHERE table_schema = 'public'"
        }
        Backend::Sqlite => {
            "SELECT m.name || '|' || c.name || '|' || c.type || '|' || CASE WHEN c.\"notnull\" OR c.pk THEN 'NO' ELSE 'YES' END AS value \
             FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'"
        }
    };
    let mut tables: BTreeMap<String, BTreeMap<String, (String, bool)>> = BTreeMap::new();
    for row in db.texts(sql).await {
        let parts: Vec<&str> = row.split('|').collect();
        let [table, column, kind, nullable] = parts[..] else {
            panic!("{row}")
        };
        tables
            .entry(table.to_owned())
            .or_default()
            .insert(column.to_owned(), (kind.to_owned(), nullable == "YES"));
    }
    tables
}

/// What a type of the schema is in a database.
fn stored_as(backend: Backend, kind: &str) -> &'static str {
    let (postgres, sqlite) = match kind {
        "Text" => ("text", "TEXT"),
        "Integer" => ("int4", "INTEGER"),
        "BigInt" => ("int8", "INTEGER"),
        "Bool" => ("bool", "INTEGER"),
        "Binary" => ("bytea", "BLOB"),
        "UtcTimestamp" => ("timestamptz", "INTEGER"),
        "JsonDoc" => ("jsonb", "TEXT"),
        "TextList" => ("_text", "TEXT"),
        other => panic!("{other}"),
    };
    if backend == Backend::Postgres {
        postgres
    } else {
        sqlite
    }
}

db_tests! {
    async fn the_queries_are_checked_against_the_schema_there_is(db: TestDb) {
        let declared = declared();
        assert!(declared.len() > 25, "{}", declared.len());
        let expected: BTreeMap<_, _> = declared
            .into_iter()
            .map(|(table, columns)| {
                let columns: BTreeMap<_, _> = columns
                    .into_iter()
                    .map(|(name, (kind, nullable))| (name, (stored_as(db.backend(), kind).to_owned(), nullable)))
                    .collect();
                (table, columns)
            })
            .collect();
        let live = live(&db).await;
        assert_eq!(live.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (table, columns) in expected {
            assert_eq!(live[&table], columns, "{table}");
        }
    }
}

/// Names, tables, columns and uniqueness of the indexes; those that a database makes for a UNIQUE by itself go without name.
async fn indexes(db: &TestDb) -> Vec<String> {
    let sql = match db.backend() {
        Backend::Postgres => {
            "SELECT CASE WHEN con.oid IS NULL THEN i.relname ELSE '' END || '|' || t.relname || '|' || \
                (SELECT string_agg(COALESCE(a.attname, '()'), ',' ORDER BY k.n) FROM unnest(x.indkey) WITH ORDINALITY AS k(attnum, n) \
                    LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum) \
                || '|' || CASE WHEN x.indisunique THEN 1 ELSE 0 END || '|' || CASE WHEN x.indpred IS NULL THEN 0 ELSE 1 END AS value \
             FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid \
                JOIN pg_namespace n ON n.oid = t.relnamespace LEFT JOIN pg_constraint con ON con.conindid = i.oid AND con.contype IN ('p', 'u') \
             WHERE n.nspname = 'public'"
        }
        Backend::Sqlite => {
            "SELECT CASE WHEN l.origin = 'c' THEN l.name ELSE '' END || '|' || m.name || '|' || \
                (SELECT group_concat(COALESCE(x.name, '()'), ',') FROM (SELECT name FROM pragma_index_info(l.name) ORDER BY seqno) x) \
                || '|' || l.\"unique\" || '|' || l.partial AS value \
             FROM sqlite_master m JOIN pragma_index_list(m.name) l WHERE m.type = 'table'"
        }
    };
    let mut rows = db.texts(sql).await;
    rows.sort();
    rows
}

mod postgres {
    use super::{TestDb, database, indexes, live, migrations};

    #[test]
    fn both_databases_have_the_same_migrations_columns_and_indexes() {
        database::run(TestDb::postgres, |postgres| async move {
            let sqlite = TestDb::sqlite().await;
            let ledger = "SELECT version AS value FROM schema_migrations ORDER BY version";
            assert_eq!(postgres.texts(ledger).await, sqlite.texts(ledger).await);
            let versions = |backend| {
                migrations::embedded(backend)
                    .into_iter()
                    .map(|file| file.version)
                    .collect::<Vec<_>>()
            };
            assert_eq!(versions(postgres.backend()), versions(sqlite.backend()));

            let (left, right) = (live(&postgres).await, live(&sqlite).await);
            assert_eq!(
                left.keys().collect::<Vec<_>>(),
                right.keys().collect::<Vec<_>>()
            );
            for (table, columns) in left {
                let nullable = |columns: &std::collections::BTreeMap<String, (String, bool)>| {
                    columns
                        .iter()
                        .map(|(name, (_, nullable))| (name.clone(), *nullable))
                        .collect::<Vec<_>>()
                };
                assert_eq!(nullable(&columns), nullable(&right[&table]), "{table}");
            }
            assert_eq!(indexes(&postgres).await, indexes(&sqlite).await);
        });
    }
}

db_tests! {
    async fn no_time_is_rounded(db: TestDb) {
        // A number of microseconds that neither side rounds, before and after both epochs.
        let epochs = [0, 946_684_800_000_000];
        let mut times: Vec<Timestamp> =
            epochs.iter().flat_map(|epoch| [epoch - 1, epoch + 1]).map(Timestamp::from_micros).collect();
        times.push(Timestamp::MAX);
        for (number, time) in times.into_iter().enumerate() {
            let mut team = certctl_testkit::entities::team(&format!("t-{number}"));
            team.created_at = time;
            tx!(db, conn => certctl_repository::teams::insert(conn, &team).await).unwrap();
            assert_eq!(certctl_repository::teams::find(reader!(db), &team.id).await.unwrap(), team);
        }
    }
}
