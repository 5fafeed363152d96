//! What the machine can do by itself, measured in the same run: durable commits, signatures, and answers of a server that does
//! nothing else. A figure says little without it.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use certctl_procs::child;
use certctl_procs::install::Program;
use serde_json::{Value, json};

use super::checks::Checked;
use super::driver::{self, Driver, Variables};
use super::report::scenarios;
use super::store::sqlite;
use super::targets;
use super::world::{Tools, World};
use crate::stack::openssl;

/// How long each is measured, in seconds.
const SECONDS: u64 = 3;
/// Transactions of SQLite that are timed.
const TRANSACTIONS: usize = 2000;

/// What was measured.
pub(super) struct Yardstick {
    commits_per_second: f64,
    signatures_per_second: f64,
    verifications_per_second: f64,
    bare_p50_ms: f64,
    bare_p99_ms: f64,
}

impl Yardstick {
    pub(super) fn measure(tools: &Tools, world: &World) -> Result<Self> {
        let commits_per_second = commits(world).context("cannot measure commits")?;
        let (signatures_per_second, verifications_per_second) = signatures()?;
        let (bare_p50_ms, bare_p99_ms) = answers(tools, world).context("cannot measure answers")?;
        Ok(Self {
            commits_per_second,
            signatures_per_second,
            verifications_per_second,
            bare_p50_ms,
            bare_p99_ms,
        })
    }

    /// As it stands in the summary.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "commits_per_second": self.commits_per_second,
            "p256_signatures_per_second": self.signatures_per_second,
            "p256_verifications_per_second": self.verifications_per_second,
            "bare_answer_ms": {"p50": self.bare_p50_ms, "p99": self.bare_p99_ms},
        })
    }

    /// What a run came to, measured by it.
    pub(super) fn ratios(&self, summary: &Value, commits: f64, seconds: f64) -> Vec<Checked> {
        let mut told: Vec<Checked> = scenarios(summary)
            .filter_map(|one| {
                let p50 = one["latency_ms"]["p50"].as_f64()?;
                let name = one["name"].as_str().unwrap_or_default();
                let what = format!("median in medians of a bare answer{{scenario:{name}}}");
                Some(Checked::told(&what, p50 / self.bare_p50_ms))
            })
            .collect();
        told.push(Checked::told(
            "commits a second, of what one session of the database commits",
            commits / seconds / self.commits_per_second,
        ));
        told
    }
}

/// Durable commits a second, one row each, by one session.
fn commits(world: &World) -> Result<f64> {
    if let Some(cluster) = world.database.cluster() {
        cluster.create_database("yardstick")?;
        cluster.query("yardstick", "CREATE TABLE commits (n integer)")?;
        let script = world.home.path().join("commit.sql");
        std::fs::write(&script, "INSERT INTO commits VALUES (1);\n")?;
        let said = cluster.pgbench("yardstick", &script, SECONDS)?;
        cluster.query("postgres", "DROP DATABASE yardstick")?;
        return tps(&said);
    }
    let file = world.home.path().join("yardstick.db");
    sqlite(
        &file,
        "PRAGMA journal_mode = WAL; CREATE TABLE commits (n integer);",
    )?;
    let script = format!(
        "PRAGMA synchronous = FULL;\n{}",
        "INSERT INTO commits VALUES (1);\n".repeat(TRANSACTIONS)
    );
    let begun = Instant::now();
    sqlite(&file, &script)?;
    Ok(TRANSACTIONS as f64 / begun.elapsed().as_secs_f64())
}

fn tps(said: &str) -> Result<f64> {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("tps = "))
        .context("pgbench says nothing of transactions a second")?;
    let number = line.split_whitespace().next().unwrap_or_default();
    number
        .parse()
        .with_context(|| format!("pgbench says {line:?}"))
}

/// Signatures and verifications a second on P-256, by one thread of openssl.
fn signatures() -> Result<(f64, f64)> {
    let mut command = Command::new(Program::OpenSsl.require()?);
    command.args(["speed", "-seconds", "1", "ecdsap256"]);
    let said = child::output(&mut command)?;
    rates(&said).with_context(|| format!("openssl speed says {said:?}"))
}

fn rates(said: &str) -> Option<(f64, f64)> {
    let line = said.lines().find(|line| line.contains("nistp256"))?;
    let mut numbers = line.split_whitespace().rev();
    let verified = numbers.next()?.parse().ok()?;
    let signed = numbers.next()?.parse().ok()?;
    Some((signed, verified))
}

/// Median and 99th percentile, in milliseconds, of what a server answers that has nothing to do; by k6, a hundred a second.
fn answers(tools: &Tools, world: &World) -> Result<(f64, f64)> {
    let program = tools
        .f5_mock
        .as_deref()
        .context("the server that only answers was not built")?;
    let folder = world.home.private_folder("yardstick")?;
    openssl::throwaway(
        "localhost",
        &folder.join("target.pem"),
        &folder.join("target.key"),
    )?;
    let (_server, url) = targets::answering(program, &folder)?;
    let results = world.home.private_folder("yardstick-k6")?;
    let variables = Variables::from([
        ("LOADTEST_BARE_URL".to_owned(), url),
        ("LOADTEST_DURATION".to_owned(), format!("{SECONDS}s")),
    ]);
    let mut driver = Driver::start(&tools.k6, &world.home, "k6/bare.js", &variables, &results)?;
    while !driver.ended()? {
        crate::stack::interrupt::check()?;
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let summary = driver::summary(&results)?;
    let bare = scenarios(&summary).next().context("k6 asked nothing")?;
    let ms = |field: &str| {
        bare["latency_ms"][field]
            .as_f64()
            .context("k6 measured nothing")
    };
    let (p50, p99) = (ms("p50")?, ms("p99")?);
    ensure!(p50 > 0.0, "an answer took no time");
    Ok((p50, p99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pgbench_and_openssl_are_understood() {
        let said = "number of failed transactions: 0 (0.000%)\ninitial connection time = 2.1 ms\ntps = 1234.500000 (without initial connection time)\n";
        assert!((tps(said).unwrap() - 1234.5).abs() < 1e-9);
        assert!(tps("nothing").is_err());
        let said = "                              sign    verify    sign/s verify/s\n 256 bits ecdsa (nistp256)   0.0000s   0.0000s  67698.0  22935.7\n";
        assert_eq!(rates(said), Some((67698.0, 22935.7)));
        assert_eq!(rates("nothing"), None);
    }

    #[test]
    fn a_run_is_told_in_what_the_machine_can_do() {
        let yardstick = Yardstick {
            commits_per_second: 500.0,
            signatures_per_second: 1.0,
            verifications_per_second: 1.0,
            bare_p50_ms: 0.5,
            bare_p99_ms: 1.0,
        };
        let summary = json!({"scenarios": [{"name": "list", "latency_ms": {"p50": 2.0}}, {"name": "none", "latency_ms": {}}]});
        let told = yardstick.ratios(&summary, 1000.0, 10.0);
        let told: Vec<(&str, f64)> = told
            .iter()
            .map(|one| (one.what.as_str(), one.value))
            .collect();
        assert_eq!(
            told,
            [
                ("median in medians of a bare answer{scenario:list}", 4.0),
                (
                    "commits a second, of what one session of the database commits",
                    0.2
                ),
            ]
        );
    }
}
