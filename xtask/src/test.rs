//! `cargo xtask test`: all tests on both databases, with nothing installed before.

mod report;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use certctl_procs::install::{self, Program};
use certctl_procs::postgres::Cluster;

use crate::step::{cargo, spawn, step};
use report::{Database, Report};

/// Run all tests, on SQLite and on a PostgreSQL started for the run.
#[derive(clap::Args)]
pub(crate) struct Test {
    /// Leave PostgreSQL out.
    #[arg(long)]
    quick: bool,
    /// Arguments for `cargo test`; a second `--` starts those for the tests.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Parts of the names of tests that need PostgreSQL: those that start it themselves, and those run on it.
const NEEDS_POSTGRES: [&str; 3] = ["_postgres", "postgres::", "::postgres"];

impl Test {
    /// The whole suite, as a change has to pass it.
    pub(crate) fn everything() -> Self {
        Self {
            quick: false,
            arguments: Vec::new(),
        }
    }

    pub(crate) fn run(&self) -> Result<()> {
        step("programs", || Ok(install::ensure(self.programs())?))?;
        let cluster = if self.quick {
            None
        } else {
            Some(step("postgres", start_cluster)?)
        };
        let mut command = self.command();
        match &cluster {
            Some(cluster) => command
                .env("CERTCTL_TEST_DATABASES", "sqlite,postgres")
                .env("CERTCTL_TEST_POSTGRES_URL", cluster.url("postgres")),
            None => command
                .env("CERTCTL_TEST_DATABASES", "sqlite")
                .env_remove("CERTCTL_TEST_POSTGRES_URL"),
        };
        let (report, success) = step("cargo test", || run_tests(command))?;
        println!("{report}");
        self.judge(&report, success)
    }

    fn programs(&self) -> &'static [Program] {
        if self.quick {
            &[
                Program::Nginx,
                Program::Apache,
                Program::HaProxy,
                Program::OpenSsl,
            ]
        } else {
            &[
                Program::Postgres,
                Program::Nginx,
                Program::Apache,
                Program::HaProxy,
                Program::OpenSsl,
            ]
        }
    }

    fn command(&self) -> Command {
        let split = self.arguments.iter().position(|argument| argument == "--");
        let (for_cargo, for_tests) = match split {
            Some(at) => (&self.arguments[..at], &self.arguments[at + 1..]),
            None => (&self.arguments[..], &[][..]),
        };
        let chosen = |word: &String| word.starts_with("-p") || word.starts_with("--package");
        let mut command = cargo();
        command.args(["test", "--no-fail-fast"]);
        if !for_cargo.iter().any(chosen) {
            command.arg("--workspace");
        }
        command.args(for_cargo).arg("--").args(for_tests);
        if self.quick {
            command.args(NEEDS_POSTGRES.iter().flat_map(|name| ["--skip", name]));
        }
        command
    }

    /// A run that was green because it did not happen is a failure too.
    fn judge(&self, report: &Report, success: bool) -> Result<()> {
        if report.failed() > 0 {
            bail!("failed tests: {}", report.failed());
        }
        if !success {
            bail!("cargo test failed outside of a test");
        }
        if !self.arguments.is_empty() {
            return Ok(());
        }
        let demanded: &[Database] = if self.quick {
            &[Database::Sqlite]
        } else {
            &[Database::Sqlite, Database::Postgres]
        };
        for database in demanded {
            if report.ran_on(*database) == 0 {
                bail!("no test ran on {database}");
            }
        }
        Ok(())
    }
}

fn start_cluster() -> Result<Cluster> {
    let folder = std::env::temp_dir().join(format!("certctl-test-{}", std::process::id()));
    Cluster::start(folder).context("cannot start PostgreSQL")
}

/// Runs the tests, shows what they print as it comes, and keeps count.
fn run_tests(mut command: Command) -> Result<(Report, bool)> {
    command.stdout(Stdio::piped());
    let mut cargo = spawn(command)?;
    let output = cargo
        .child()
        .stdout
        .take()
        .context("cargo test has no output")?;
    let mut report = Report::default();
    let mut shown = std::io::stdout().lock();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        // A test may print bytes that are no text.
        let line = String::from_utf8_lossy(&line);
        writeln!(shown, "{line}")?;
        report.read(&line);
    }
    Ok((report, cargo.wait()?.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(test: &Test) -> String {
        let command = test.command();
        let words: Vec<_> = command
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect();
        words.join(" ")
    }

    fn test(quick: bool, words: &str) -> Test {
        Test {
            quick,
            arguments: words.split_whitespace().map(str::to_owned).collect(),
        }
    }

    fn report(lines: &str) -> Report {
        let mut report = Report::default();
        lines.lines().for_each(|line| report.read(line));
        report
    }

    #[test]
    fn arguments_reach_cargo_and_the_tests() {
        assert_eq!(
            arguments(&test(false, "")),
            "test --no-fail-fast --workspace --"
        );
        assert_eq!(
            arguments(&test(false, "-p xtask -- tidy")),
            "test --no-fail-fast -p xtask -- tidy"
        );
        assert_eq!(
            arguments(&test(true, "--lib")),
            "test --no-fail-fast --workspace --lib -- --skip _postgres --skip postgres:: --skip ::postgres",
        );
    }

    #[test]
    fn a_failed_test_fails_the_run() {
        let failed = report(
            "test a::sqlite ... FAILED\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured",
        );
        let refusal = test(true, "").judge(&failed, false).unwrap_err();
        assert_eq!(refusal.to_string(), "failed tests: 1");
    }

    #[test]
    fn a_build_that_fails_fails_the_run() {
        assert!(
            test(false, "-p x")
                .judge(&Report::default(), false)
                .is_err()
        );
    }

    #[test]
    fn a_demanded_database_on_which_nothing_ran_fails_the_run() {
        let one_side = report(
            "test a::sqlite ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured",
        );
        test(true, "").judge(&one_side, true).unwrap();
        let refusal = test(false, "").judge(&one_side, true).unwrap_err();
        assert_eq!(refusal.to_string(), "no test ran on postgres");
    }
}
