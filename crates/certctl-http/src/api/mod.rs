//! The handlers: one module per noun, each with its wire types and its part of the table.

#[macro_use]
mod crud;

pub(crate) mod acme;
pub(crate) mod acme_operators;
pub(crate) mod admin;
pub(crate) mod agent_groups;
pub(crate) mod agents;
pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod certificates;
pub(crate) mod issuers;
pub(crate) mod jobs;
pub(crate) mod meta;
pub(crate) mod metrics;
pub(crate) mod notifications;
pub(crate) mod owners;
pub(crate) mod pki;
pub(crate) mod policies;
pub(crate) mod profiles;
pub(crate) mod renewal_policies;
pub(crate) mod stats;
pub(crate) mod targets;
pub(crate) mod teams;
