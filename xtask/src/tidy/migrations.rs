//! Every migration exists for both databases under the same name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::files;

const SIDES: [&str; 2] = ["migrations/postgres", "migrations/sqlite"];

pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let [postgres, sqlite] = [versions(root, SIDES[0])?, versions(root, SIDES[1])?];
    let missing = |side: &'static str, files: Vec<&PathBuf>| {
        files
            .into_iter()
            .map(move |file| format!("{side}/{}: is missing", file.display()))
            .collect::<Vec<_>>()
    };
    Ok([
        missing(SIDES[0], sqlite.difference(&postgres).collect()),
        missing(SIDES[1], postgres.difference(&sqlite).collect()),
    ]
    .concat())
}

fn versions(root: &Path, side: &str) -> Result<BTreeSet<PathBuf>> {
    let folder = root.join(side);
    if !folder.exists() {
        return Ok(BTreeSet::new());
    }
    Ok(files::all(&folder)?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_migration_of_one_side_only_is_named() {
        let root = tempfile::tempdir().unwrap();
        for file in [
            "postgres/0001_a.up.sql",
            "sqlite/0001_a.up.sql",
            "sqlite/0002_b.up.sql",
        ] {
            let file = root.path().join("migrations").join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        assert_eq!(
            check(root.path()).unwrap(),
            ["migrations/postgres/0002_b.up.sql: is missing"]
        );
    }

    #[test]
    fn no_migrations_are_no_problem() {
        let root = tempfile::tempdir().unwrap();
        assert!(check(root.path()).unwrap().is_empty());
    }
}
