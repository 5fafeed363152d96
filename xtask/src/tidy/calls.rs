//! Calls that only some crates may make.
//!
//! clippy's own list of forbidden functions holds for the whole workspace, tests included; these depend on the place.

use std::path::{Path, PathBuf};

use super::files;

/// A call, where it may stand, and what to do instead.
struct Call {
    text: &'static str,
    /// Folders and files below the root.
    only: &'static [&'static str],
    instead: &'static str,
}

const CALLS: [Call; 3] = [
    Call {
        text: "tokio::spawn(",
        only: &[
            "crates/certctl-agent-core/src/",
            "crates/certctl-boot/src/",
            "crates/certctl-http/src/",
            "crates/certctl-scheduler/src/",
            "crates/certctl-testkit/src/",
            // A batch under way must not end with the future of the loop that began it.
            "crates/certctl-service/src/engine/mod.rs",
            // What the desk of the ACME server does, on the thread that suits the database.
            "crates/certctl-repository/src/in_place.rs",
            // Issuers are told after the answer.
            "crates/certctl-service/src/bulk/tell.rs",
            // What several requests have written together must not end with one of them.
            "crates/certctl-service/src/acme/desk.rs",
        ],
        instead: "let a loop of certctl-scheduler do it, or await it",
    },
    Call {
        text: "TcpStream::connect(",
        only: &[
            "crates/certctl-agent-core/src/",
            "crates/certctl-connectors/src/",
            // Waits until a program that it started listens.
            "crates/certctl-procs/src/",
            "crates/certctl-testkit/src/",
        ],
        instead: "third parties are reached through certctl-connectors",
    },
    Call {
        text: "#[tokio::main",
        only: &[],
        instead: "programs build their runtime where they can say why it cannot be made",
    },
];

/// Names every call that stands where it may not; tests may call what they like.
pub(crate) fn check(root: &Path, files: &[PathBuf]) -> Vec<String> {
    files
        .iter()
        .filter(|file| is_program(file))
        .flat_map(|file| {
            let text = files::text(root, file).unwrap_or_default();
            in_file(&file.to_string_lossy(), &text)
        })
        .collect()
}

fn is_program(file: &Path) -> bool {
    let name = file.to_string_lossy();
    (name.starts_with("crates/") || name.starts_with("bins/"))
        && name.contains("/src/")
        && name.ends_with(".rs")
        && !name.ends_with("/tests.rs")
        && !name.contains("/tests/")
}

fn in_file(name: &str, text: &str) -> Vec<String> {
    // Tests stand at the end of a file.
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
    lines
        .enumerate()
        .flat_map(|(index, line)| {
            let code = line.split("//").next().unwrap_or(line);
            CALLS
                .iter()
                .filter(|call| code.contains(call.text))
                .filter(|call| !call.only.iter().any(|place| name.starts_with(place)))
                .map(move |call| {
                    let (text, instead) = (call.text, call.instead);
                    format!(
                        "{name}:{}: {text:?} may not stand here; {instead}",
                        index + 1
                    )
                })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_found_outside_of_its_place_and_of_tests() {
        let text = "// tokio::spawn(\nfn a() {\n    tokio::spawn(b());\n}\n#[cfg(test)]\nmod tests { tokio::spawn(c()); }\n";
        assert!(in_file("crates/certctl-http/src/a.rs", text).is_empty());
        let found = in_file("crates/certctl-pki/src/a.rs", text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("crates/certctl-pki/src/a.rs:3: "),
            "{found:?}"
        );
        let files = |name| is_program(Path::new(name));
        assert!(files("crates/a/src/b.rs") && files("bins/a/src/main.rs"));
        assert!(
            !files("crates/a/tests/it/b.rs")
                && !files("crates/a/src/b/tests.rs")
                && !files("xtask/src/b.rs")
        );
    }
}
