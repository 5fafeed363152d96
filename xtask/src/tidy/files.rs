//! No file too long to be read at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A file this long holds more than one thing.
const LINES: usize = 600;

/// What people write; the rest is made by programs.
const WRITTEN: [&str; 8] = ["rs", "md", "sql", "toml", "yml", "yaml", "js", "sh"];

/// Files that are too long for a stated reason, one path per line; `#` starts a comment.
const EXCEPTIONS: &str = "xtask/src/tidy/long-files.txt";

/// Every file of the workspace, as paths below its root, sorted; what is built, cloned or run is left out.
pub(crate) fn all(root: &Path) -> Result<Vec<PathBuf>> {
    const SKIPPED: [&str; 4] = ["target", ".git", "certctl-data", "node_modules"];
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
        {
            let entry = entry?;
            let kind = entry.file_type()?;
            // In a linked work tree `.git` is a file.
            if SKIPPED.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path().strip_prefix(root)?.to_path_buf());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The text of a file; nothing when it is no text, or was removed since it was listed.
pub(crate) fn text(root: &Path, file: &Path) -> Option<String> {
    fs::read_to_string(root.join(file)).ok()
}

pub(crate) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let list = text(root, Path::new(EXCEPTIONS)).unwrap_or_default();
    let is_path = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let excepted: BTreeSet<&Path> = list
        .lines()
        .map(str::trim)
        .filter(is_path)
        .map(Path::new)
        .collect();
    let long: BTreeSet<&Path> = files
        .iter()
        .map(PathBuf::as_path)
        .filter(|file| is_long(root, file))
        .collect();
    let too_long = long
        .difference(&excepted)
        .map(|file| format!("{}: is not under {LINES} lines", file.display()));
    // The list only ever gets shorter.
    let done = excepted
        .difference(&long)
        .map(|file| format!("{}: need not stand in {EXCEPTIONS}", file.display()));
    Ok(too_long.chain(done).collect())
}

fn is_long(root: &Path, file: &Path) -> bool {
    let extension = file
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    WRITTEN.contains(&extension)
        && text(root, file).is_some_and(|text| text.lines().count() >= LINES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_and_needless_exceptions_are_named() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, lines: usize| {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "a\n".repeat(lines)).unwrap();
        };
        write("src/long.rs", 600);
        write("src/known.rs", 700);
        write("src/short.rs", 599);
        write("data.json", 9000);
        write("target/made.rs", 9000);
        fs::create_dir_all(root.path().join("xtask/src/tidy")).unwrap();
        fs::write(
            root.path().join(EXCEPTIONS),
            "# why\nsrc/known.rs\nsrc/short.rs\n",
        )
        .unwrap();

        let files = all(root.path()).unwrap();
        assert!(!files.contains(&PathBuf::from("target/made.rs")));
        assert_eq!(
            check(root.path(), &files).unwrap(),
            [
                "src/long.rs: is not under 600 lines",
                "src/short.rs: need not stand in xtask/src/tidy/long-files.txt",
            ],
        );
    }
}
