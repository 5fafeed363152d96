//! What each command runs: a script, what it needs, and what must have changed in the database when it is over.

use anyhow::Result;

use super::checks::{self, Checked, Outcome};
use super::driver::Variables;
use super::world::World;

/// What is run together on one database, and summed up in one file.
pub(super) struct Suite {
    /// The name of the summary, `summary-<name>`; empty for the API tier.
    pub(super) name: &'static str,
    /// Below `loadtest/`.
    pub(super) script: &'static str,
    /// Settings of the server beside, or in place of, those of every run.
    pub(super) settings: &'static [(&'static str, &'static str)],
    /// Settings of PostgreSQL beside its usual ones.
    pub(super) postgres: &'static [&'static str],
    /// Files of `loadtest/seed` that are loaded.
    pub(super) seeds: &'static [&'static str],
    /// Whether nginx, Apache, HAProxy and the stand-in for an F5 are visited.
    pub(super) has_targets: bool,
    /// Further variables of the driver, made right before it starts.
    pub(super) prepare: fn(&World, &mut Variables, &Shape) -> Result<()>,
    /// What must hold when it is over.
    pub(super) check: fn(&World, &Outcome<'_>) -> Result<Vec<Checked>>,
}

/// How much is asked of a run.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// Seconds of each scenario.
    pub(super) seconds: u64,
    /// What rates are multiplied by.
    pub(super) scale: f64,
}

const CERTIFICATES: &str = "01_bulk_renewal_certs.sql";
const AGENTS: &str = "02_agent_fleet.sql";

const PLAIN: Suite = Suite {
    name: "",
    script: "",
    settings: &[],
    postgres: &[],
    seeds: &[],
    has_targets: false,
    prepare: |_, _, _| Ok(()),
    check: |_, _| Ok(Vec::new()),
};

pub(super) const API: Suite = Suite {
    script: "k6.js",
    has_targets: true,
    check: checks::issued,
    ..PLAIN
};

pub(super) const ACME_FLOW: Suite = Suite {
    name: "acme-flow",
    script: "k6/acme_flow.js",
    check: checks::unauthenticated_acme,
    ..PLAIN
};

pub(super) const BULK: Suite = Suite {
    name: "bulk-renewal",
    script: "k6/bulk_renewal.js",
    seeds: &[CERTIFICATES],
    check: checks::bulk,
    ..PLAIN
};

pub(super) const ACME_BURST: Suite = Suite {
    name: "acme-burst",
    script: "k6/acme_burst.js",
    check: checks::unauthenticated_acme,
    ..PLAIN
};

pub(super) const AGENT_STORM: Suite = Suite {
    name: "agent-storm",
    script: "k6/agent_storm.js",
    seeds: &[AGENTS],
    check: checks::heartbeats,
    ..PLAIN
};
