//! The table of the ACME server's edges names tests that are there.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::files;

/// One row for each rule.
const TABLE: &str = "docs/reference/acme-edge-table.md";

/// A row without a test, and every name that no test has.
pub(crate) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let table = files::text(root, Path::new(TABLE)).with_context(|| format!("no {TABLE}"))?;
    let tests: BTreeSet<String> = files
        .iter()
        .filter_map(|file| Some((file, module(file)?)))
        .flat_map(|(file, module)| {
            let text = files::text(root, file).unwrap_or_default();
            let names = tests(&text).map(|name| format!("{module}::{name}"));
            names.collect::<Vec<_>>()
        })
        .collect();
    Ok(in_table(&table, &tests))
}

/// Crate and module of a file, as the table names them: tests stand in a file of the module's name, or in its folder.
fn module(file: &Path) -> Option<String> {
    let name = file.to_str()?;
    let (package, _) = name.strip_prefix("crates/certctl-")?.split_once('/')?;
    let stem = name.strip_suffix(".rs")?;
    let mut parts = stem.rsplit('/');
    let module = match parts.next()? {
        "tests" | "mod" => parts.next()?,
        module => module,
    };
    Some(format!("{package}::{module}"))
}

/// The names of a file's tests: functions below an attribute that makes them one, and those of the macros for both databases.
fn tests(text: &str) -> impl Iterator<Item = &str> {
    let mut is_marked = false;
    text.lines().filter_map(move |line| {
        let line = line.trim();
        let Some(rest) = line
            .strip_prefix("async fn ")
            .or_else(|| line.strip_prefix("fn "))
        else {
            // Other attributes and comments may stand between.
            is_marked = line == "#[test]"
                || line.starts_with("#[tokio::test")
                || is_marked && (line.starts_with("#[") || line.starts_with("//"));
            return None;
        };
        let is_test = std::mem::take(&mut is_marked) || rest.contains("(db: TestDb)");
        let (name, _) = rest.split_once('(')?;
        is_test.then_some(name)
    })
}

fn in_table(table: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    for (index, line) in table.lines().enumerate() {
        let Some(named) = row(line) else { continue };
        let place = format!("{TABLE}:{}", index + 1);
        if named.is_empty() {
            problems.push(format!("{place}: names no test"));
        }
        let missing = named.into_iter().filter(|name| !tests.contains(*name));
        problems.extend(missing.map(|name| format!("{place}: there is no test {name}")));
    }
    problems
}

/// The tests that a row names; none for a line that is no row.
fn row(line: &str) -> Option<Vec<&str>> {
    let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
    let is_rule = cells
        .next()?
        .starts_with(|first: char| first.is_ascii_digit());
    let named = cells.last()?;
    is_rule.then(|| {
        named
            .split(", ")
            .filter_map(|name| name.strip_prefix('`')?.strip_suffix('`'))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_told_from_other_functions() {
        let text = "#[test]\nfn one() {}\nfn helper() {}\n#[tokio::test(flavor = \"multi_thread\")]\n// Why.\n#[cfg(unix)]\n\
            async fn two() {}\n    async fn three(db: TestDb) {\nasync fn helped(db: &TestDb) {}\n";
        assert_eq!(tests(text).collect::<Vec<_>>(), ["one", "two", "three"]);
    }

    #[test]
    fn modules_are_named_as_in_the_table() {
        for (file, expected) in [
            ("crates/certctl-acme/src/jws/tests.rs", Some("acme::jws")),
            (
                "crates/certctl-service/tests/it/acme/ends.rs",
                Some("service::ends"),
            ),
            (
                "crates/certctl-connectors/tests/it/acme/mod.rs",
                Some("connectors::acme"),
            ),
            ("crates/certctl-acme/src/nonce.rs", Some("acme::nonce")),
            ("xtask/src/main.rs", None),
            ("crates/certctl-acme/README.md", None),
        ] {
            assert_eq!(module(Path::new(file)).as_deref(), expected, "{file}");
        }
    }

    #[test]
    fn rows_name_tests_that_are_there() {
        let tests = BTreeSet::from(["a::b::c".to_owned()]);
        let table = "| Row | Rule | Tests |\n|---|---|---|\n| 1.1 | x | `a::b::c` |\n| 1.2 | y | `a::b::c`, `a::b::d` |\n| 1.3 | z | none |\n";
        assert_eq!(
            in_table(table, &tests),
            [
                format!("{TABLE}:4: there is no test a::b::d"),
                format!("{TABLE}:5: names no test"),
            ]
        );
    }
}
