//! The repository against both databases, from one body each.

#![expect(
    clippy::unwrap_used,
    reason = "clippy knows tests by their attribute, and these bodies are called from such"
)]

/// Runs an expression in a transaction of its own.
macro_rules! tx {
    ($db:expr, $conn:ident => $body:expr) => {{
        let done: Result<_, certctl_repository::Error> =
            certctl_repository::transaction!($db, "test", $conn => { $body });
        done
    }};
}

/// A connection to read with.
macro_rules! reader {
    ($db:expr) => {
        &mut $db.read().await.unwrap()
    };
}

mod access;
mod acme_plans;
mod agent_groups;
mod agents;
mod approvals;
mod audit;
mod certificates;
mod certificates_lists;
mod changes;
mod counters;
mod crls;
mod fixtures;
mod issuance;
mod jobs;
mod jobs_agent;
mod jobs_claim;
mod jobs_complete;
mod jobs_sweeps;
mod leases;
mod listen;
mod migrations;
mod notifications;
mod nouns;
mod plans;
mod renewals;
mod revocations;
mod rows_of_others;
mod schema;
mod stats;
mod totals;
mod transactions;
