//! Whole servers in this process, over real sockets, on both databases.

#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml exempts tests, and cannot tell that their helpers belong to them"
)]

mod acme;
mod client;
mod database;
mod demo;
mod draining;
mod encryption;
mod examples;
mod installation;
mod starting;
