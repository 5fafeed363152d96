#![doc = include_str!("../README.md")]

pub mod ca;
pub mod client;
pub mod database;
pub mod entities;
pub mod install;
pub mod nginx;
pub mod postgres;
pub mod proxy;
pub mod services;

pub use database::TestDb;
pub use entities::Basics;

/// For tests of crates that may not name it: secrets and times.
pub use certctl_domain as domain;

/// For tests of crates that may not name it: a BIG-IP that is none.
pub use certctl_f5_mock as f5_mock;

/// For tests of crates that may not name it: guarded programs.
pub use certctl_procs as procs;

/// For tests of crates that may not name it: certificates for their servers.
pub use certctl_pki as pki;

/// For tests of crates that may not name it: the real CA, to stand in front of.
pub use certctl_connectors as connectors;

/// For tests of programs, which name no crate but the testkit.
pub use certctl_repository::Backend;
