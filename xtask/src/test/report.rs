//! What cargo's output says about a run.

use std::fmt;

/// The databases the tests are run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        })
    }
}

/// Counts over all test programs of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    passed: u64,
    failed: u64,
    ignored: u64,
    on_sqlite: u64,
    on_postgres: u64,
}

impl Report {
    /// Takes one line of cargo's output.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(summary) = line.strip_prefix("test result: ") {
            self.passed += count(summary, "passed");
            self.failed += count(summary, "failed");
            self.ignored += count(summary, "ignored");
        } else if let Some(name) = ran(line) {
            match database_of(name) {
                Some(Database::Sqlite) => self.on_sqlite += 1,
                Some(Database::Postgres) => self.on_postgres += 1,
                None => {}
            }
        }
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    pub(crate) fn ran_on(&self, database: Database) -> u64 {
        match database {
            Database::Sqlite => self.on_sqlite,
            Database::Postgres => self.on_postgres,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for database in [Database::Sqlite, Database::Postgres] {
            writeln!(f, "{} tests ran on {database}", self.ran_on(database))?;
        }
        if self.ignored > 0 {
            writeln!(f, "{} tests were ignored and did NOT run", self.ignored)?;
        }
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// The number before a word: "ok. 3 passed; 0 failed; …".
fn count(summary: &str, word: &str) -> u64 {
    let before = summary
        .split([';', '.'])
        .find_map(|part| part.trim().strip_suffix(word));
    before
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

/// The name of a test that ran: "test a::b ... ok", "test a::b - should panic ... ok".
fn ran(line: &str) -> Option<&str> {
    let (name, outcome) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    ["ok", "FAILED"]
        .contains(&outcome.trim_end())
        .then_some(name)
}

/// A test says by its name which database it ran on: its own name is the database's or ends in it after an underscore,
/// or it lies directly in a module called so. A module `postgres` further up is a file about PostgreSQL.
fn database_of(name: &str) -> Option<Database> {
    [Database::Sqlite, Database::Postgres]
        .into_iter()
        .find(|database| {
            let word = database.to_string();
            let ending = format!("_{word}");
            name.rsplit("::").take(2).any(|part| part == word) || name.ends_with(&ending)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 7 tests
test certificates::insert::sqlite ... ok
test certificates::insert::postgres ... ok
test sqlite::pragmas ... FAILED
test jobs::claim_postgres ... ok
test url::postgres_is_parsed ... ok
test postgres::tests::paths_are_encoded ... ok
test later ... ignored

test result: FAILED. 5 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
test panics_sqlite - should panic ... ok
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.00s
";

    #[test]
    fn totals_are_summed_over_programs() {
        let mut report = Report::default();
        OUTPUT.lines().for_each(|line| report.read(line));
        assert_eq!(
            report.to_string(),
            "3 tests ran on sqlite\n2 tests ran on postgres\n1 tests were ignored and did NOT run\n6 passed, 1 failed",
        );
    }
}
