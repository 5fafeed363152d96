//! The demo data (model §7.2, operations §10): a fleet of 32 certificates with a past, as SQL that both databases read and that
//! may run at every start.
//!
//! Times are relative to the load. Nothing happens to it by itself for a day: no renewal falls due, no failed job has another
//! attempt, the one that runs has no lease that could run out, and the agents, which are nobody, are never found silent
//! (`NOBODY`).

mod certificates;
mod fleet;
mod history;

use std::time::Duration;

use certctl_domain::{serial::SerialNumber, time::Timestamp};

use super::sql::Sql;
use crate::Backend;

/// In the place of the hash of a demo agent's key: no key has it, and an agent that has it is nobody that could fall silent.
pub(crate) const NOBODY: &str = "demo_no_auth";

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3600);

/// A version that the demo data wants to have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedVersion {
    /// Its id.
    pub id: String,
    /// The common name of its certificate.
    pub common_name: String,
    /// The names of its certificate.
    pub sans: Vec<String>,
    /// Its serial number.
    pub serial_number: SerialNumber,
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

/// A version that was signed for the demo data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedVersion {
    /// What was wanted.
    pub planned: PlannedVersion,
    /// The certificate.
    pub pem_chain: String,
    /// Its fingerprint, lowercase hex.
    pub fingerprint_sha256: String,
}

/// The versions that [`sql`] wants to have signed, whoever signs them.
#[must_use]
pub fn planned_versions(now: Timestamp) -> Vec<PlannedVersion> {
    certificates::planned(now.truncated_to_seconds())
}

/// The statements that insert what is absent. `versions` are those of [`planned_versions`] at the same time.
#[must_use]
pub fn sql(backend: Backend, now: Timestamp, versions: &[SignedVersion]) -> String {
    let now = now.truncated_to_seconds();
    let mut sql = Sql::new(backend);
    fleet::write(&mut sql, now);
    certificates::write(&mut sql, now, versions);
    history::write(&mut sql, now);
    sql.into_text()
}

/// The lines of a table, each as its cells between bars.
fn lines<const N: usize>(table: &'static str) -> impl Iterator<Item = [&'static str; N]> {
    table
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            cells
                .try_into()
                .unwrap_or_else(|cells: Vec<&str>| panic!("{} cells in {line}", cells.len()))
        })
}

/// A list in one cell, separated by commas.
fn list(cell: &str) -> Vec<String> {
    cell.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The moment so many days from another one, before it where they are negative; half days too.
fn days_from(now: Timestamp, days: &str) -> Timestamp {
    let days: f64 = days.parse().expect("a table of ours has numbers of days");
    let off = DAY.mul_f64(days.abs());
    if days < 0.0 { now - off } else { now + off }
}
