//! The API called in process and over sockets, with a fake authenticator and routes made for the rules under test.

#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml exempts tests, and cannot tell that their helpers belong to them"
)]

mod access;
mod acme;
mod agent_groups;
mod agents;
mod answers;
mod approvals;
mod audit;
mod auth;
mod bulk;
mod certificates;
mod cors;
mod demo;
mod errors;
mod examples;
mod issuers;
mod jobs;
mod lifecycle;
mod limits;
mod logs;
mod matrix;
mod meta;
mod metrics;
mod notifications;
mod nouns;
mod openapi;
mod owners;
mod pki;
mod policies;
mod profiles;
mod renewal_policies;
mod role_matrix;
mod stats;
mod support;
mod targets;
mod teams;
mod tls;

mod audit_trail;
