#![doc = include_str!("../README.md")]

pub mod acme;
pub mod deploy;
pub mod issuer;
pub mod probe;
pub mod target;
