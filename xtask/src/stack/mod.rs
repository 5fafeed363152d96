//! A whole certctl of local processes, for commands that show, break or measure it.
//!
//! Everything of a run lies in one [`home::Home`]; every process is guarded, so that none outlives this program. Nothing here
//! knows what a run is for.

pub(crate) mod acme;
pub(crate) mod agent;
pub(crate) mod api;
pub(crate) mod build;
pub(crate) mod database;
pub(crate) mod home;
pub(crate) mod interrupt;
pub(crate) mod openssl;
pub(crate) mod python;
pub(crate) mod random;
pub(crate) mod round_robin;
pub(crate) mod server;
pub(crate) mod site;
pub(crate) mod status_line;
pub(crate) mod tls;
pub(crate) mod wait;
pub(crate) mod watch;
