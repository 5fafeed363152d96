//! What every package has: the workspace's lints, a README that is its rustdoc, and a program no longer than a page.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::packages::Package;

/// A program only ties settings to a library, which takes fewer lines than this.
const PROGRAM_LINES: usize = 60;

/// The first line of a library whose rustdoc is its README.
const README_IS_RUSTDOC: &str = "#![doc = include_str!(\"../README.md\")]";

pub(crate) fn check(root: &Path, packages: &[Package]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for package in packages {
        let folder = package
            .manifest
            .parent()
            .context("a manifest lies in a folder")?;
        let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
        let mut report = |what: &str| problems.push(format!("{}: {what}", package.name));
        if !opts_into_lints(&read("Cargo.toml")) {
            report("its Cargo.toml has no `[lints]` table with `workspace = true`");
        }
        if folder.starts_with(root.join("crates")) {
            if read("README.md").trim().is_empty() {
                report("has no README.md");
            }
            if read("src/lib.rs").lines().next() != Some(README_IS_RUSTDOC) {
                report("its lib.rs does not begin with the README as its rustdoc");
            }
        }
        if folder.starts_with(root.join("bins"))
            && read("src/main.rs").lines().count() >= PROGRAM_LINES
        {
            report("its main.rs is not under 60 lines");
        }
    }
    Ok(problems)
}

fn opts_into_lints(manifest: &str) -> bool {
    let mut lines = manifest
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    lines.any(|line| line == "[lints]") && lines.next() == Some("workspace = true")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn lints_are_opted_into() {
        assert!(opts_into_lints(
            "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n\n[dependencies]\n"
        ));
        assert!(!opts_into_lints(
            "[package]\nname = \"a\"\n\n[dependencies]\n"
        ));
        assert!(!opts_into_lints("[lints]\nrust.unsafe_code = \"warn\"\n"));
    }

    fn package(root: &Path, folder: &str, files: &[(&str, &str)]) -> Package {
        let manifest = root.join(folder).join("Cargo.toml");
        for (file, text) in files {
            let file = root.join(folder).join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        Package {
            name: PathBuf::from(folder).display().to_string(),
            manifest,
            dependencies: Vec::new(),
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let root = tempfile::tempdir().unwrap();
        let lints = ("Cargo.toml", "[lints]\nworkspace = true\n");
        let good = package(
            root.path(),
            "crates/good",
            &[
                lints,
                ("README.md", "# good\n"),
                ("src/lib.rs", "#![doc = include_str!(\"../README.md\")]\n"),
            ],
        );
        let bare = package(
            root.path(),
            "crates/bare",
            &[("Cargo.toml", ""), ("src/lib.rs", "//! Bare.\n")],
        );
        let long = package(
            root.path(),
            "bins/long",
            &[lints, ("src/main.rs", &"//\n".repeat(60))],
        );
        let short = package(
            root.path(),
            "bins/short",
            &[lints, ("src/main.rs", &"//\n".repeat(59))],
        );
        assert_eq!(
            check(root.path(), &[good, bare, long, short]).unwrap(),
            [
                "crates/bare: its Cargo.toml has no `[lints]` table with `workspace = true`",
                "crates/bare: has no README.md",
                "crates/bare: its lib.rs does not begin with the README as its rustdoc",
                "bins/long: its main.rs is not under 60 lines",
            ],
        );
    }
}
