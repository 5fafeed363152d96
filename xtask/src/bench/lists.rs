use anyhow::Result;

use super::{backends, built, measured};
use crate::stack::database::Backend;
use crate::step::step;

/// A page of the list of certificates in fleets of different sizes: p50 and p99 of both forms, their ratio, and the plans
#[derive(clap::Args)]
pub(super) struct Lists {
    /// The sizes, ascending
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 1_000_000])]
    rows: Vec<usize>,
    /// On this database only
    #[arg(long)]
    database: Option<Backend>,
}

impl Lists {
    pub(super) fn run(self) -> Result<()> {
        let program = step("build", || built("lists"))?;
        let sizes: Vec<String> = self.rows.iter().map(ToString::to_string).collect();
        for backend in backends(self.database) {
            step(&format!("lists on {}", backend.name()), || {
                let printed = measured(&program, backend, &sizes)?;
                eprint!("{printed}");
                Ok(())
            })?;
        }
        Ok(())
    }
}
