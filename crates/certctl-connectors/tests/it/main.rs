//! The deploy engine and the nginx connector on real files and a real nginx, and the validators of challenges on real sockets.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod acme;
mod command;
mod engine;
mod full_disk;
mod given_ca;
mod local_ca;
mod nginx;
mod web;
