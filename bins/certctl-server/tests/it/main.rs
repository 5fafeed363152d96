//! The program as it is run: its signals, its switches, its status.

#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml exempts tests, and cannot tell that their helpers belong to them"
)]

mod database;
mod program;
mod reloading;
mod replicas;
mod switches;
mod terminating;
