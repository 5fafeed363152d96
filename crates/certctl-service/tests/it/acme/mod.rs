//! The ACME server's use cases, by clients that sign.

mod accounts;
mod challenges;
mod kit;
mod nonces;
mod orders;
mod renewal;
mod sweeps;
