use anyhow::Result;

use super::{backends, built, measured};
use crate::stack::database::Backend;
use crate::step::step;

/// Pending renewals on the local CA with keys made by the server: jobs per second, commits per job
#[derive(clap::Args)]
pub(super) struct Drain {
    /// How many certificates are renewed
    #[arg(long, default_value_t = 10_000)]
    certificates: usize,
    /// On this database only
    #[arg(long)]
    database: Option<Backend>,
    /// How often; the database is new each time
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

impl Drain {
    pub(super) fn run(self) -> Result<()> {
        let program = step("build", || built("drain"))?;
        for backend in backends(self.database) {
            step(&format!("drain on {}", backend.name()), || {
                (0..self.runs).try_for_each(|run| {
                    let printed = measured(&program, backend, &[self.certificates.to_string()])?;
                    eprint!("    run {}: {printed}", run + 1);
                    Ok(())
                })
            })?;
        }
        Ok(())
    }
}
