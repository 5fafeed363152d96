#![doc = include_str!("../README.md")]

mod error;
mod error_chain;
mod exposition;
mod health;
pub mod logging;
pub mod metrics_names;
mod recorder;

pub use crate::{
    error::Error,
    error_chain::ErrorChain,
    exposition::{CONTENT_TYPE, Exposition, Family},
    health::{Health, HealthState},
    recorder::{MetricsHandle, build, install},
};
