#![doc = include_str!("../README.md")]

pub mod apache;
pub mod challenges;
pub mod child;
pub mod error;
pub mod folder;
pub mod haproxy;
pub mod install;
pub mod nginx;
pub mod ports;
pub mod postgres;

pub use error::Error;
