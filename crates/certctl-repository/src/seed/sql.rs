//! Rows as SQL text, for the one connection of the migrations, which runs statements and binds nothing.

use std::fmt::Write as _;

use certctl_domain::time::Timestamp;
use serde_json::Value;

use crate::Backend;

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Text(String),
    Number(i64),
    Bool(bool),
    Time(Timestamp),
    Json(Value),
    List(Vec<String>),
    Null,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Cell {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<Timestamp> for Cell {
    fn from(time: Timestamp) -> Self {
        Self::Time(time)
    }
}

impl From<Value> for Cell {
    fn from(json: Value) -> Self {
        Self::Json(json)
    }
}

impl From<Vec<String>> for Cell {
    fn from(list: Vec<String>) -> Self {
        Self::List(list)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row from values of any kind.
macro_rules! row {
    ($($value:expr),+ $(,)?) => { vec![$($crate::seed::sql::Cell::from($value)),+] };
}

/// Statements under way for one database.
#[derive(Debug)]
pub(crate) struct Sql {
    backend: Backend,
    text: String,
}

impl Sql {
    pub(crate) fn new(backend: Backend) -> Self {
        Self {
            backend,
            text: String::new(),
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// Inserts the rows that are absent, in one statement. `into` is the table with its columns, of which the first is the key.
    pub(crate) fn insert(&mut self, into: &str, rows: &[Vec<Cell>]) {
        let rows: Vec<String> = rows
            .iter()
            .map(|row| format!("({})", self.cells(row)))
            .collect();
        self.line(format_args!(
            "INSERT INTO {into} VALUES {} ON CONFLICT DO NOTHING;",
            rows.join(",\n")
        ));
    }

    /// [`Self::insert`] for a table that refuses an attempt on a row that is there, as the audit log does on SQLite.
    pub(crate) fn insert_unseen(&mut self, table: &str, columns: &str, rows: &[Vec<Cell>]) {
        for row in rows {
            let id = row.first().map(|id| self.cell(id)).unwrap_or_default();
            let cells = self.cells(row);
            self.line(format_args!(
                "INSERT INTO {table} ({columns}) SELECT {cells} WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE id = {id});"
            ));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn cells(&self, row: &[Cell]) -> String {
        let cells: Vec<String> = row.iter().map(|cell| self.cell(cell)).collect();
        cells.join(", ")
    }

    fn cell(&self, cell: &Cell) -> String {
        let is_postgres = self.backend == Backend::Postgres;
        match cell {
            Cell::Text(text) => quoted(text),
            Cell::Number(number) => number.to_string(),
            Cell::Bool(truth) => if *truth { "TRUE" } else { "FALSE" }.to_owned(),
            Cell::Time(time) if is_postgres => format!("'{}'::timestamptz", time.to_rfc3339()),
            Cell::Time(time) => time.as_micros().to_string(),
            Cell::Json(json) if is_postgres => format!("{}::jsonb", quoted(&json.to_string())),
            Cell::Json(json) => quoted(&json.to_string()),
            Cell::List(list) if is_postgres => {
                let items: Vec<String> = list.iter().map(|item| quoted(item)).collect();
                format!("ARRAY[{}]::text[]", items.join(", "))
            }
            Cell::List(list) => quoted(&Value::from(list.clone()).to_string()),
            Cell::Null => "NULL".to_owned(),
        }
    }
}

/// A literal. Both databases take a backslash for what it is (`standard_conforming_strings` is the default of PostgreSQL).
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use certctl_domain::time::Timestamp;
    use serde_json::json;

    use super::{Cell, Sql};
    use crate::Backend;

    fn written(backend: Backend) -> String {
        let mut sql = Sql::new(backend);
        let time = Timestamp::from_seconds(1_700_000_000);
        let list = vec!["it's".to_owned(), r"a\.b".to_owned()];
        sql.insert(
            "t (id, a, b, c, d, e)",
            &[
                row!["x", 7, true, time, json!({"k": "v'"}), list],
                vec![Cell::Null],
            ],
        );
        sql.insert_unseen("u", "id", &[row!["y"]]);
        sql.into_text()
    }

    #[test]
    fn each_database_is_written_to_in_its_own_way() {
        assert_eq!(
            written(Backend::Postgres),
            "INSERT INTO t (id, a, b, c, d, e) VALUES ('x', 7, TRUE, '2023-11-14T22:13:20Z'::timestamptz, '{\"k\":\"v'''}'::jsonb, \
             ARRAY['it''s', 'a\\.b']::text[]),\n(NULL) ON CONFLICT DO NOTHING;\n\
             INSERT INTO u (id) SELECT 'y' WHERE NOT EXISTS (SELECT 1 FROM u WHERE id = 'y');\n"
                .replace("v'''}", "v''\"}")
        );
        assert_eq!(
            written(Backend::Sqlite),
            "INSERT INTO t (id, a, b, c, d, e) VALUES ('x', 7, TRUE, 1700000000000000, '{\"k\":\"v''\"}', \
             '[\"it''s\",\"a\\\\.b\"]'),\n(NULL) ON CONFLICT DO NOTHING;\n\
             INSERT INTO u (id) SELECT 'y' WHERE NOT EXISTS (SELECT 1 FROM u WHERE id = 'y');\n"
        );
    }
}
