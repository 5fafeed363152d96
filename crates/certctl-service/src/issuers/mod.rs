//! Issuers.

pub(crate) mod registry;
