//! The certctl agent.

mod args;
mod start;

use std::{panic::catch_unwind, process::ExitCode};

use crate::args::Args;

/// Exit codes are the contract's: 0 for an end in order, 1 for everything else, panics included (agent §9).
fn main() -> ExitCode {
    let args = match Args::from_process() {
        Ok(args) => args,
        Err(usage) => {
            let code = ExitCode::from(u8::from(usage.use_stderr()));
            // Nobody is left to be told that the terminal is gone.
            let _: std::io::Result<()> = usage.print();
            return code;
        }
    };
    match catch_unwind(|| start::run(&args)) {
        Ok(Ok(code)) => code,
        Ok(Err(problem)) => {
            eprintln!("certctl-agent: {problem:#}");
            ExitCode::FAILURE
        }
        // The panic has been printed where it happened.
        Err(_) => ExitCode::FAILURE,
    }
}
