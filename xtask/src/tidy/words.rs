//! No text that is true on one machine only: paths of a developer's disk, hosts that a mirror replaces.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::files;

/// Hosts of package registries. Which one is used is the configuration of a machine, not of this project.
const HOSTS: [&str; 10] = [
    "crates.io",
    "deb.debian.org",
    "docker.io",
    "ghcr.io",
    "npmjs.com",
    "npmjs.org",
    "proxy.golang.org",
    "pypi.org",
    "pythonhosted.org",
    "quay.io",
];

/// Folders of a machine or a person.
const PLACES: [&str; 3] = ["/work/", "/root/", "/home/"];

/// A reader of a page has no such file, and another use for the folder.
const PLACES_IN_PAGES: [&str; 1] = ["/tmp/"];

/// Not ours to word, or this list itself.
const LEFT_OUT: [&str; 4] = [
    "Cargo.lock",
    "LICENSE",
    "fuzz/Cargo.lock",
    "xtask/src/tidy/words.rs",
];

pub(crate) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for file in files
        .iter()
        .filter(|file| !LEFT_OUT.iter().any(|name| *file == Path::new(name)))
    {
        let Some(text) = files::text(root, file) else {
            continue;
        };
        let is_page = file.extension().is_some_and(|extension| extension == "md");
        for (index, line) in text.lines().enumerate() {
            let found = forbidden(line, is_page);
            problems.extend(
                found.map(|word| format!("{}:{}: says {word:?}", file.display(), index + 1)),
            );
        }
    }
    Ok(problems)
}

fn forbidden(line: &str, is_page: bool) -> impl Iterator<Item = &'static str> {
    let pages: &[&str] = if is_page { &PLACES_IN_PAGES } else { &[] };
    HOSTS
        .iter()
        .chain(&PLACES)
        .chain(pages)
        .copied()
        .filter(|word| {
            // What continues a longer name, as in `crates/work/`, is something else.
            let starts = |at: usize| {
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || "-_.~}/".contains(c))
            };
            let is_place = word.starts_with('/');
            line.match_indices(word)
                .any(|(at, _)| !is_place || starts(at))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str, is_page: bool) -> Vec<&'static str> {
        forbidden(line, is_page).collect()
    }

    #[test]
    fn hosts_and_places_are_found() {
        assert_eq!(
            found("get it from https://index.crates.io/x", false),
            ["crates.io"]
        );
        assert_eq!(found("image: ghcr.io/a/b", false), ["ghcr.io"]);
        assert_eq!(found("see `/home/ann/certctl`", true), ["/home/"]);
        assert_eq!(found("cd /tmp/x", true), ["/tmp/"]);
    }

    #[test]
    fn what_only_looks_alike_is_not() {
        let none: [&str; 0] = [];
        assert_eq!(found("cd /tmp/x", false), none);
        assert_eq!(
            found("https://example.com/home/ and ~/work/ and a/root/b", true),
            none
        );
        assert_eq!(found("the crates-io project", true), none);
    }

    #[test]
    fn the_place_is_named() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("a.md"), "fine\nin /root/ it lies\n").unwrap();
        let problems = check(
            root.path(),
            &[PathBuf::from("a.md"), PathBuf::from("gone.md")],
        )
        .unwrap();
        assert_eq!(problems, ["a.md:2: says \"/root/\""]);
    }
}
