//! Everything that fuzzing starts from, and everything it ever stumbled over, once more with the compiler of the workspace
//! (`cargo xtask fuzz` looks for more).

#[path = "../../../fuzz/src/lib.rs"]
#[expect(
    unreachable_pub,
    reason = "it is the library of the fuzz targets, compiled here as well"
)]
mod targets;

use std::{collections::BTreeMap, fs, path::PathBuf};

type Target = fn(&[u8]) -> bool;

const TARGETS: [(&str, Target); 6] = [
    ("ari_id", targets::ari_id),
    ("csr", targets::csr),
    ("csr_fields", targets::csr_fields),
    ("jwk", targets::jwk),
    ("jws", targets::jws),
    ("payload", targets::payload),
];

/// The files of each target by name.
fn corpus() -> BTreeMap<String, BTreeMap<String, Vec<u8>>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let list = |folder: PathBuf| {
        let entries = fs::read_dir(folder).expect("the corpus is part of the sources");
        entries.map(|entry| {
            let entry = entry.expect("a folder of the sources can be listed");
            let name = entry.file_name().into_string().expect("names are ASCII");
            (name, entry.path())
        })
    };
    list(root)
        .map(|(target, folder)| {
            let read = |path| fs::read(path).expect("a file of the sources can be read");
            let files = list(folder).map(|(name, path)| (name, read(path)));
            (target, files.collect())
        })
        .collect()
}

#[test]
fn every_target_has_something_good_and_something_bad_to_start_from() {
    let corpus = corpus();
    let folders: Vec<&str> = corpus.keys().map(String::as_str).collect();
    assert_eq!(folders, TARGETS.map(|(name, _)| name));
    for (target, files) in corpus {
        for start in ["good-", "bad-"] {
            let some = files.keys().any(|name| name.starts_with(start));
            assert!(some, "{target} has no {start}*");
        }
    }
}

#[test]
fn every_file_is_read_as_its_name_says() {
    let corpus = corpus();
    for (target, read) in TARGETS {
        for (name, content) in &corpus[target] {
            let taken = read(content);
            // Files that fuzzing left have other names; that they are read without a panic is all that is asked of them.
            if name.starts_with("good-") {
                assert!(taken, "{target}/{name} is not taken");
            } else if name.starts_with("bad-") {
                assert!(!taken, "{target}/{name} is taken");
            }
        }
    }
}
