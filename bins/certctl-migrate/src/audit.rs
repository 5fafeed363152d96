//! Checking an export of the audit trail.

use std::{
    fs::{File, read_to_string},
    io::BufReader,
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use certctl_pki::trail::{Keys, OfflineOptions, hash_from_hex, verify_export};

/// What is checked, and what is known beside it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct VerifyAudit {
    /// The export, as GET /api/v1/audit/export?format=sealed gives it.
    file: PathBuf,
    /// Public keys in PEM, as GET /api/v1/audit/keys gives them, kept from before. Without, those in the export are taken, which
    /// shows only that it fits itself.
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// The hash of a head that is known to have been signed, such as the server's log has it; it must be in the export.
    #[arg(long, value_name = "HASH")]
    expect_head: Option<String>,
}

impl VerifyAudit {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut keys = Keys::default();
        if let Some(path) = &self.public_key {
            let text = read_to_string(path).with_context(|| path.display().to_string())?;
            keys.add_pem(&text)
                .with_context(|| path.display().to_string())?;
        }
        let expect_head = self
            .expect_head
            .as_deref()
            .map(|text| hash_from_hex(text).context("--expect-head is not 64 hex digits"))
            .transpose()?;
        let file = File::open(&self.file).with_context(|| self.file.display().to_string())?;
        let report = verify_export(BufReader::new(file), OfflineOptions { keys, expect_head })
            .with_context(|| self.file.display().to_string())?;
        if let Some(broken) = report.broken {
            bail!(
                "altered: first bad row {} at position {}: {}",
                broken.id,
                broken.position,
                broken.problem
            );
        }
        println!(
            "intact: {} rows ({} by their hashes only) in batches {} to {}",
            report.rows, report.withheld, report.first_batch, report.last.batch
        );
        println!("last head: {}", hex::encode(report.last.hash));
        if report.first_batch > 1 {
            println!(
                "the export begins in the middle of the trail: nothing is said of what comes before"
            );
        }
        if !report.keys_trusted {
            println!(
                "the keys are those of the export itself: give --public-key to know who signed it"
            );
        }
        Ok(())
    }
}
