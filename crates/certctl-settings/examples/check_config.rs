//! Prints what is in force for a server with the environment of this process, as `certctl-server --check-config` does.

use std::process::ExitCode;

use certctl_domain::time::{Clock, SystemClock};
use certctl_settings::{ProcessEnv, Settings, Sources};

fn main() -> ExitCode {
    match Settings::load(&Sources::from_env(&ProcessEnv, SystemClock.now())) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("warning: {warning}");
            }
            print!("{}", loaded.effective);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
