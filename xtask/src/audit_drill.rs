//! `cargo xtask audit-drill`: writers under the sealer of the audit trail, then somebody at the trail who may do everything.

use anyhow::Result;

use crate::bench::{Profile, backends, built_as, measured};
use crate::stack::database::Backend;
use crate::step::step;

/// Write audited changes under the sealer, verify, then alter copies of the trail; each must be found
#[derive(clap::Args)]
pub(crate) struct AuditDrill {
    /// How long is written, with sealing and without
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// How many write at a time
    #[arg(long, default_value_t = 8)]
    writers: u32,
    /// On this database only
    #[arg(long)]
    database: Option<Backend>,
    /// Unoptimized, which builds sooner; the figures then mean little
    #[arg(long)]
    debug: bool,
}

impl AuditDrill {
    pub(crate) fn run(self) -> Result<()> {
        let profile = if self.debug {
            Profile::Debug
        } else {
            Profile::Release
        };
        let program = step("build", || built_as("audit_drill", profile))?;
        let arguments = [self.seconds.to_string(), self.writers.to_string()];
        for backend in backends(self.database) {
            step(&format!("audit drill on {}", backend.name()), || {
                let printed = measured(&program, backend, &arguments)?;
                for line in printed.lines() {
                    eprintln!("    {line}");
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
