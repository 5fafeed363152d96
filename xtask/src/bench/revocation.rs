use anyhow::Result;

use super::{backends, built, measured};
use crate::stack::database::Backend;
use crate::step::step;

/// The list of many revoked certificates (time, size, memory), and how soon a revocation is seen beside them
#[derive(clap::Args)]
pub(super) struct Revocation {
    /// How many are revoked, ascending
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 1_000_000])]
    revoked: Vec<usize>,
    /// On this database only
    #[arg(long)]
    database: Option<Backend>,
}

impl Revocation {
    pub(super) fn run(self) -> Result<()> {
        let program = step("build", || built("revocation"))?;
        let sizes: Vec<String> = self.revoked.iter().map(ToString::to_string).collect();
        for backend in backends(self.database) {
            step(&format!("revocation on {}", backend.name()), || {
                let printed = measured(&program, backend, &sizes)?;
                eprint!("{printed}");
                Ok(())
            })?;
        }
        Ok(())
    }
}
