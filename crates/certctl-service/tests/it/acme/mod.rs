//! The ACME server's use cases, by clients that sign.

mod accounts;
mod ahead;
mod binding;
mod challenges;
mod dispatch;
mod edges;
mod ends;
mod kit;
mod lanes;
mod limits;
mod metrics;
mod nonces;
mod orders;
mod renewal;
mod replicas;
mod sweeps;
mod timed;
