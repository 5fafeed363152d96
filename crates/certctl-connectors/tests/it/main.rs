//! The deploy engine and the connectors on real files and real servers, and the validators of challenges on real sockets.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod acme;
mod command;
mod engine;
mod f5;
mod full_disk;
mod given_ca;
mod local_ca;
mod nginx;
mod reloaded;
mod web;
