#![doc = include_str!("../README.md")]

mod authority;
mod background;
mod build_info;
mod ca_keys;
mod embedded;
mod error;
mod identity;
mod running;
mod server;
mod telemetry;
mod vault;
mod wiring;

pub use embedded::Embedded;
pub use error::Error;
pub use running::Running;
pub use server::{Server, Welcome, migrate, reencrypt};
pub use telemetry::{Logs, start_logging, start_metrics};

/// What a change of keys tells of itself.
pub use certctl_service::encryption::Step;

/// What tells the time, for programs that read settings before there is a server.
pub use certctl_domain::time::{Clock, SystemClock};

/// What programs that serve the routes themselves name.
pub use certctl_http::{App, Peer};
