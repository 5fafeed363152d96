//! `cargo xtask seed` and `cargo xtask loadtest-reset`: the fixtures in a database that somebody else runs.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use certctl_procs::child;
use certctl_procs::install::{self, Program};

use super::store;
use crate::stack::database::Backend;
use crate::stack::home::bare;
use crate::step::step;

/// Fill a migrated database with the fixtures of the load tests
#[derive(clap::Args)]
pub(crate) struct Seed {
    #[command(flatten)]
    place: Place,
    /// With the large fleet, too
    #[arg(long)]
    large: bool,
}

/// Put the rows of the fixtures back to how they were loaded, and remove the jobs a load test has made
#[derive(clap::Args)]
pub(crate) struct Reset {
    #[command(flatten)]
    place: Place,
}

/// Which database.
#[derive(clap::Args)]
struct Place {
    /// Its URL, as a server has it: sqlite://PATH or postgres://…
    #[arg(long)]
    database_url: String,
}

const FIXTURES: [&str; 2] = ["01_bulk_renewal_certs.sql", "02_agent_fleet.sql"];
const LARGE: &str = "large/03_large_fleet.sql";

impl Seed {
    pub(crate) fn run(&self) -> Result<()> {
        let large = self.large.then_some(LARGE);
        for file in FIXTURES.into_iter().chain(large) {
            step(file, || {
                self.place
                    .run(&store::seed_text(self.place.backend()?, file)?)
            })?;
        }
        Ok(())
    }
}

impl Reset {
    pub(crate) fn run(&self) -> Result<()> {
        step("reset", || self.place.run(&reset(self.place.backend()?)))
    }
}

impl Place {
    fn backend(&self) -> Result<Backend> {
        match self.database_url.split_once("://") {
            Some(("sqlite", _)) => Ok(Backend::Sqlite),
            Some(("postgres" | "postgresql", _)) => Ok(Backend::Postgres),
            _ => bail!("--database-url begins with sqlite:// or postgres://"),
        }
    }

    fn run(&self, sql: &str) -> Result<()> {
        let said = match self.backend()? {
            Backend::Sqlite => {
                install::ensure(&[Program::Sqlite])?;
                let file = Path::new(self.database_url.trim_start_matches("sqlite://"));
                if !file.exists() {
                    bail!(
                        "{} does not exist; start a server on it first",
                        file.display()
                    );
                }
                store::sqlite(file, sql)?
            }
            Backend::Postgres => {
                install::ensure(&[Program::Postgres])?;
                let mut psql = bare(&Program::Postgres.require()?.join("psql"));
                psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql])
                    .arg(&self.database_url);
                child::output(&mut psql).context("psql")?
            }
        };
        if !said.trim().is_empty() {
            eprintln!("    {}", said.trim());
        }
        Ok(())
    }
}

/// Jobs and versions of the fixtures go, their states and times come back.
fn reset(backend: Backend) -> String {
    let (now, expires, heard) = match backend {
        Backend::Postgres => (
            "now()",
            "now() + make_interval(days => right(id, 5)::int % 30, hours => right(id, 5)::int % 24)",
            "now() - make_interval(secs => right(id, 5)::int % 60)",
        ),
        Backend::Sqlite => (
            "(unixepoch() * 1000000)",
            "(unixepoch() + (CAST(substr(id, -5) AS INTEGER) % 30) * 86400 + (CAST(substr(id, -5) AS INTEGER) % 24) * 3600) * 1000000",
            "(unixepoch() - CAST(substr(id, -5) AS INTEGER) % 60) * 1000000",
        ),
    };
    format!(
        "BEGIN;
DELETE FROM jobs WHERE certificate_id LIKE 'cert-loadtest-%';
DELETE FROM certificate_versions WHERE certificate_id LIKE 'cert-loadtest-%';
UPDATE managed_certificates SET status = 'Active', expires_at = {expires}, renew_at = NULL, updated_at = {now}
    WHERE id LIKE 'cert-loadtest-bulk-%';
UPDATE managed_certificates SET status = 'Active', updated_at = {now} WHERE id LIKE 'cert-loadtest-large-%' AND status <> 'Active';
UPDATE agents SET status = 'Online', last_heartbeat_at = {heard}, api_key_hash = 'loadtest_no_auth' WHERE id LIKE 'ag-loadtest-%';
COMMIT;
"
    )
}
