//! What each command runs: a script, what it needs, and what must have changed in the database when it is over.

use anyhow::Result;

use super::beyond;
use super::checks::{self, Checked, Outcome};
use super::driver::Variables;
use super::report::Report;
use super::world::{Tools, World};
use crate::stack::database::Backend;

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
    /// Whether the stand-in for an F5 is needed otherwise.
    pub(super) needs_f5: bool,
    /// What runs it in the place of k6, where k6 cannot see what is measured.
    pub(super) own: Option<Own>,
    /// Further variables of the driver, made right before it starts.
    pub(super) prepare: fn(&World, &mut Variables, &Shape) -> Result<()>,
    /// What must hold when it is over.
    pub(super) check: fn(&World, &Outcome<'_>) -> Result<Vec<Checked>>,
}

/// Runs a suite without k6.
pub(super) type Own = fn(&Tools, Backend, &Shape) -> Result<Report>;

/// How much is asked of a run.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// Whether it is only to be seen that it works.
    pub(super) is_smoke: bool,
    /// Whether the programs are optimised; otherwise less is asked of them where they could not keep up.
    pub(super) is_optimised: bool,
    /// Seconds of each scenario.
    pub(super) seconds: u64,
    /// What rates are multiplied by.
    pub(super) scale: f64,
}

const CERTIFICATES: &str = "01_bulk_renewal_certs.sql";
const AGENTS: &str = "02_agent_fleet.sql";
const LARGE: &str = "large/03_large_fleet.sql";

/// With nothing but a server; the others say what they have beyond.
pub(super) const PLAIN: Suite = Suite {
    name: "",
    script: "",
    settings: &[],
    postgres: &[],
    seeds: &[],
    has_targets: false,
    needs_f5: false,
    own: None,
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
    prepare: beyond::prepare_burst,
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

/// Two thousand heartbeats a second, each by the agent itself.
pub(super) const AGENT_FLOOD: Suite = Suite {
    name: "agent-flood",
    prepare: beyond::prepare_tokens,
    check: beyond::flood,
    ..AGENT_STORM
};

pub(super) const ACME_SIGNED: Suite = Suite {
    name: "acme-signed",
    script: "k6/acme_signed.js",
    settings: &[
        ("CERTCTL_ACME_SERVER_RATE_LIMIT_ORDERS_PER_HOUR", "0"),
        ("CERTCTL_ACME_SERVER_RATE_LIMIT_CONCURRENT_ORDERS", "0"),
        ("CERTCTL_ACME_SERVER_RATE_LIMIT_NEW_ACCOUNTS_PER_HOUR", "0"),
    ],
    prepare: beyond::prepare_orders,
    check: beyond::acme_signed,
    ..PLAIN
};

pub(super) const ACME_RATELIMIT: Suite = Suite {
    name: "acme-ratelimit",
    script: "k6/acme_ratelimit.js",
    prepare: beyond::prepare_orders,
    check: beyond::acme_ratelimit,
    ..PLAIN
};

/// Draining with so many batches at a time.
const fn drain(name: &'static str, settings: &'static [(&'static str, &'static str)]) -> Suite {
    Suite {
        name,
        script: "k6/drain.js",
        settings,
        seeds: &[CERTIFICATES],
        check: beyond::drain,
        ..PLAIN
    }
}

pub(super) const DRAINS: [Suite; 3] = [
    drain(
        "drain-25",
        &[
            ("CERTCTL_KEYGEN_MODE", "server"),
            ("CERTCTL_DEMO_MODE_ACK", "true"),
            ("CERTCTL_RENEWAL_CONCURRENCY", "25"),
        ],
    ),
    drain(
        "drain-50",
        &[
            ("CERTCTL_KEYGEN_MODE", "server"),
            ("CERTCTL_DEMO_MODE_ACK", "true"),
            ("CERTCTL_RENEWAL_CONCURRENCY", "50"),
        ],
    ),
    drain(
        "drain-100",
        &[
            ("CERTCTL_KEYGEN_MODE", "server"),
            ("CERTCTL_DEMO_MODE_ACK", "true"),
            ("CERTCTL_RENEWAL_CONCURRENCY", "100"),
        ],
    ),
];

pub(super) const SUSTAINED: Suite = Suite {
    name: "bulk-renewal-sustained",
    script: "k6/bulk_renewal_sustained.js",
    seeds: &[CERTIFICATES, LARGE],
    check: beyond::sustained,
    ..PLAIN
};

pub(super) const AGENT_LOOP: Suite = Suite {
    name: "agent-loop",
    script: "k6/agent_loop.js",
    prepare: beyond::prepare_loop,
    check: beyond::agent_loop,
    ..PLAIN
};

pub(super) const DB_SCALE: Suite = Suite {
    name: "db-scale",
    script: "k6.js",
    settings: &[("CERTCTL_DATABASE_MAX_CONNS", "200")],
    postgres: &["shared_buffers=1GB", "max_connections=400"],
    seeds: &[CERTIFICATES, AGENTS, LARGE],
    prepare: beyond::prepare_large,
    check: beyond::db_scale,
    ..PLAIN
};

pub(super) const OVERLOAD: Suite = Suite {
    name: "overload",
    script: "k6/overload.js",
    settings: &[("CERTCTL_RATE_LIMIT_ENABLED", "true")],
    prepare: beyond::prepare_rush,
    seeds: &[CERTIFICATES],
    ..PLAIN
};
