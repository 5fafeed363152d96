//! The certctl server.

mod args;
mod start;

use std::process::ExitCode;

use crate::args::Args;

/// Requests allocate much and briefly on several threads, which the allocator of the C library is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 0 for an end in order, 1 when the server did not start or had to cut something at its end.
fn main() -> ExitCode {
    match start::run(Args::from_process()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("certctl-server: {problem:#}");
            ExitCode::FAILURE
        }
    }
}
