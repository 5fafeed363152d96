#![doc = include_str!("../README.md")]

#[macro_use]
mod db;
#[macro_use]
mod crud;
mod connect;
mod error;
mod in_place;
mod listen;
pub mod migrations;
mod postgres_tls;
mod prepared;
mod schema;
#[cfg(feature = "testing")]
pub mod testing;
mod transaction;
mod types;

pub mod access_version;
pub mod acme;
pub mod agent_groups;
pub mod agents;
pub mod api_keys;
pub mod approvals;
pub mod audit_events;
pub mod audit_keys;
pub mod audit_seals;
pub mod authorities;
pub mod bulk;
pub mod certificates;
pub mod counters;
pub mod crls;
pub mod grants;
pub mod installation;
pub mod intents;
pub mod issuers;
pub mod jobs;
pub mod leases;
pub mod limits;
pub mod locks;
pub mod metrics;
pub mod notifications;
pub mod ocsp_responders;
pub mod owners;
pub mod policy_review;
pub mod policy_rules;
pub mod policy_violations;
pub mod profiles;
pub mod renewal_policies;
pub mod renewals;
pub mod replanning;
pub mod revocations;
pub mod roles;
pub mod sealed;
pub mod seed;
pub mod short_lived;
pub mod stats;
pub mod targets;
pub mod teams;
pub mod totals;
pub mod versions;

/// What a program needs to name for this crate and for the settings; programs use no domain of their own.
pub use certctl_domain::{
    secret::Secret,
    time::{Clock, SystemClock},
};
pub use db::{Backend, Conn, Db, DbOptions};
pub use error::Error;
#[doc(hidden)]
pub use in_place::{in_place, spawn_writer};
pub use listen::{Listener, notify};
pub use transaction::{Attempts, RetryHint, Transaction};
