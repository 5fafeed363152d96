#![doc = include_str!("../README.md")]

mod authority;
mod build_info;
mod error;
mod identity;
mod running;
mod server;
mod telemetry;
mod wiring;

pub use error::Error;
pub use running::Running;
pub use server::{Server, Welcome, migrate};
pub use telemetry::{Logs, start_logging, start_metrics};

/// What tells the time, for programs that read settings before there is a server.
pub use certctl_domain::time::{Clock, SystemClock};
