#![doc = include_str!("../README.md")]

pub mod install;
pub mod nginx;
pub mod postgres;
