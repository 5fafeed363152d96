//! The use cases on both databases.

#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml exempts tests, and cannot tell that their helpers belong to them"
)]

mod access;
mod acme;
mod agents;
mod api_trail;
mod approvals;
mod bootstrap;
mod bulk;
mod certificates;
mod crashes;
mod crls;
mod encryption;
mod engine;
mod issuers;
mod keys;
mod kit;
mod limits;
mod list_totals;
mod maintenance;
mod notifications;
mod ocsp;
mod owners;
mod policies;
mod profiles;
mod refusals;
mod refusals_complete;
mod refusals_fleet;
mod renewal_policies;
mod renewals;
mod replicas;
mod reports;
mod revocations;
mod roles;
mod seeds;
mod support;
mod targets;
mod teams;
mod totals;
mod work;

mod audit;
