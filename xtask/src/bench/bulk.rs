use anyhow::Result;

use super::{backends, built, measured};
use crate::stack::database::Backend;
use crate::step::step;

/// Renewing, revoking and reassigning many certificates at once: rows, statements, commits, and the time beside the bare statements
#[derive(clap::Args)]
pub(super) struct Bulk {
    /// How many certificates match
    #[arg(long, default_value_t = 100_000)]
    certificates: usize,
    /// On this database only
    #[arg(long)]
    database: Option<Backend>,
}

impl Bulk {
    pub(super) fn run(self) -> Result<()> {
        let program = step("build", || built("bulk"))?;
        for backend in backends(self.database) {
            step(&format!("bulk on {}", backend.name()), || {
                let printed = measured(&program, backend, &[self.certificates.to_string()])?;
                eprint!("{printed}");
                Ok(())
            })?;
        }
        Ok(())
    }
}
