#![doc = include_str!("../README.md")]

#[macro_use]
mod db;
#[macro_use]
mod crud;
mod connect;
mod error;
pub mod migrations;
mod postgres_tls;
mod schema;
mod types;

pub mod agents;
pub mod api_keys;
pub mod approvals;
pub mod audit_events;
pub mod authorities;
pub mod certificates;
pub mod installation;
pub mod intents;
pub mod issuers;
pub mod jobs;
pub mod leases;
pub mod metrics;
pub mod owners;
pub mod profiles;
pub mod renewal_policies;
pub mod renewals;
pub mod revocations;
pub mod roles;
pub mod seed;
pub mod targets;
pub mod teams;
pub mod versions;

pub use db::{Backend, Conn, Db, DbOptions, RetryHint, Transaction};
pub use error::Error;
