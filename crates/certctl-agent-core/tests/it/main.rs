//! The agent against a server that speaks the contract and can be made to misbehave.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod bench;
mod deploying;
mod http;
mod life;
mod registering;
mod requesting;
mod running;
mod server;
mod services;
mod transport;
