//! An empty PostgreSQL for a session by hand: prints its URL, runs until its input ends.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use certctl_procs::install::{self, Program};
use certctl_procs::postgres::Cluster;

fn main() -> ExitCode {
    let folder = std::env::args_os().nth(1).map_or_else(
        || std::env::temp_dir().join(format!("throwaway-postgres-{}", std::process::id())),
        PathBuf::from,
    );
    let started = install::ensure(&[Program::Postgres]).and_then(|()| Cluster::start(folder));
    let cluster = match started {
        Ok(cluster) => cluster,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    let said = writeln!(io::stdout(), "{}", cluster.url("postgres"));
    match said.and_then(|()| io::copy(&mut io::stdin(), &mut io::sink())) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
