//! `verify-audit` with nothing but a file.

use std::path::{Path, PathBuf};

use certctl_testkit::{TestDb, database, services::SealedTrail, services::sealed_trail};

use crate::text;

struct Files {
    folder: tempfile::TempDir,
    trail: SealedTrail,
}

impl Files {
    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Status, and what was said.
    fn verify(&self, file: &Path, more: &[&str]) -> (Option<i32>, String) {
        let mut arguments = vec!["verify-audit", file.to_str().unwrap()];
        arguments.extend(more);
        // No database has this URL: none is asked.
        let output = crate::run("mysql://nowhere", &arguments);
        (
            output.status.code(),
            text(&output.stdout) + &text(&output.stderr),
        )
    }
}

#[test]
fn an_export_is_intact_or_the_first_bad_row_is_named() {
    database::run(TestDb::sqlite, |db| async move {
        let trail = sealed_trail(&db, 25).await;
        let files = Files {
            folder: tempfile::tempdir().unwrap(),
            trail,
        };
        let export = &files.trail.export;
        let key = files.write("key.pem", &files.trail.public_key);
        let key = key.to_str().unwrap();
        let whole = files.write("whole.ndjson", export);

        let (status, said) = files.verify(
            &whole,
            &["--public-key", key, "--expect-head", &files.trail.head],
        );
        assert_eq!(status, Some(0), "{said}");
        let expected = format!(
            "intact: 25 rows (0 by their hashes only) in batches 1 to 3\nlast head: {}\n",
            files.trail.head
        );
        assert_eq!(said, expected);
        let (status, said) = files.verify(&whole, &[]);
        assert!(status == Some(0) && said.contains("--public-key"), "{said}");

        let altered = files.write("altered.ndjson", &export.replacen("\"ann\"", "\"eve\"", 1));
        let (status, said) = files.verify(&altered, &["--public-key", key]);
        assert_eq!(
            (status, said.as_str()),
            (
                Some(1),
                "certctl-migrate: altered: first bad row audit-0000 at position 0: the row is not what was sealed\n"
            )
        );
        let without: Vec<&str> = export
            .lines()
            .filter(|line| !line.contains("\"audit-0013\""))
            .collect();
        let without = files.write("without.ndjson", &(without.join("\n") + "\n"));
        let (status, said) = files.verify(&without, &["--public-key", key]);
        assert!(
            status == Some(1) && said.contains("position-13 at position 13"),
            "{said}"
        );

        let cut: Vec<&str> = export
            .lines()
            .take(23)
            .chain(export.lines().last())
            .collect();
        let cut = files.write("cut.ndjson", &(cut.join("\n") + "\n"));
        let (status, said) = files.verify(&cut, &["--public-key", key]);
        assert_eq!(
            status,
            Some(0),
            "a trail that ends earlier is whole in itself: {said}"
        );
        let (status, said) = files.verify(
            &cut,
            &["--public-key", key, "--expect-head", &files.trail.head],
        );
        assert!(
            status == Some(1) && said.contains("the expected head is not in the export"),
            "{said}"
        );
        let half = files.write("half.ndjson", &export[..export.len() / 2]);
        assert_eq!(files.verify(&half, &[]).0, Some(1));

        let other = sealed_trail(&TestDb::sqlite().await, 1).await;
        let stranger = files.write("other.pem", &other.public_key);
        let (status, said) = files.verify(&whole, &["--public-key", stranger.to_str().unwrap()]);
        assert!(
            status == Some(1) && said.contains("not signed by a known key"),
            "{said}"
        );
        assert_eq!(files.verify(&whole, &["--expect-head", "12"]).0, Some(1));
        assert_eq!(files.verify(Path::new("/nowhere.ndjson"), &[]).0, Some(1));
    });
}
