//! An nginx of a test's own; see [`certctl_procs::nginx`].

pub use certctl_procs::nginx::{Nginx, conf};
pub use certctl_procs::ports::free_port;
