//! The programs that tests run against; see [`certctl_procs::install`].

pub use certctl_procs::install::{Program, ensure};
