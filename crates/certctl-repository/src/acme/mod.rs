//! What the ACME server keeps: accounts, orders, authorisations, challenges, and what guards them.
//!
//! Whatever many clients do at once is written for all of them by one statement (docs/ARCHITECTURE.md, "The desk"). Every change
//! of state names the state it starts from.

pub mod accounts;
pub mod authorizations;
pub mod challenges;
pub mod eab_keys;
pub mod failing_names;
pub mod issuing;
pub mod nonces;
pub mod orders;
mod stored;
pub mod sweeps;
