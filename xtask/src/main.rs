//! Everything one types while working on certctl.
//!
//! One file per subcommand. Nothing here uses certctl's own crates but the process helpers, so that the first
//! `cargo xtask` on a fresh machine starts within seconds.

mod ci;
mod stack;
mod step;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Everything one types while working on certctl"
)]
enum Xtask {
    Ci(ci::Ci),
    Test(test::Test),
    Tidy(tidy::Tidy),
}

fn main() -> ExitCode {
    let done = match Xtask::parse() {
        Xtask::Ci(ci) => ci.run(),
        Xtask::Test(test) => test.run(),
        Xtask::Tidy(tidy) => tidy.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: {reason:#}");
            ExitCode::FAILURE
        }
    }
}
