#![doc = include_str!("../README.md")]

pub mod access;
pub mod acme;
pub mod agent_groups;
pub mod agents;
pub mod approvals;
pub mod audit;
pub mod bootstrap;
pub mod bulk;
pub mod certificates;
pub mod config;
pub mod crls;
pub mod encryption;
pub mod engine;
mod error;
pub mod exports;
pub mod first_run;
pub mod grants;
pub mod heartbeats;
mod input;
pub mod issuers;
pub mod jobs;
pub mod keys;
pub mod limits;
pub mod maintenance;
pub mod metrics;
pub mod notifications;
pub mod ocsp;
pub mod owners;
pub mod policies;
pub mod profiles;
pub mod renewal_policies;
pub mod renewals;
mod responders;
mod revising;
pub mod revocations;
pub mod roles;
mod secrets;
pub mod seeds;
mod services;
pub mod stats;
pub mod status;
pub mod targets;
pub mod teams;
mod totals;
pub mod work;

pub use certctl_repository::{
    approvals::ApprovalFilter,
    audit_events::AuditFilter,
    certificates::{CertificateFilter, CertificateOrder},
    jobs::JobFilter,
    notifications::NotificationFilter,
};
pub use error::Error;
pub use services::Services;
