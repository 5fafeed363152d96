#![doc = include_str!("../README.md")]

mod agent;
mod config;
mod deployment;
mod dry_run;
mod error;
mod host;
mod keys;
mod ledger;
mod outbox;
mod pace;
mod register;
mod report;
mod request;
mod run;
mod tls;
mod verify;
mod wire;
mod work;

// What a program needs to name in order to make an agent, so that it depends on this crate alone.
pub use certctl_connectors::target::config::parse_span;
pub use certctl_domain::{
    id::AgentId,
    secret::Secret,
    time::{Clock, SystemClock},
};

pub use crate::{
    agent::{Agent, Polled},
    config::{AgentConfig, HEARTBEAT_INTERVAL, Identity, Overrides, POLL_INTERVAL, ServerConfig},
    dry_run::Trial,
    error::Error,
    register::{environment, register, register_into, remembered_or_registered},
    run::End,
};
