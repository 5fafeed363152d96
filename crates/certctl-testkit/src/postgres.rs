//! A PostgreSQL of a test's own; see [`certctl_procs::postgres`].

pub use certctl_procs::postgres::Cluster;
