//! Runs suites one after the other, and says at the end what was not kept.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use serde_json::json;

use super::checks::{Checked, Outcome};
use super::driver::{self, Driver};
use super::report::Report;
use super::sampler::{Sample, Sampler, Subjects};
use super::suite::{Shape, Suite};
use super::world::{Tools, World};
use super::yardstick::Yardstick;
use super::{driver::Variables, machine};
use crate::stack::build::{Profile, Programs};
use crate::stack::database::Backend;
use crate::stack::home::tail;
use crate::stack::interrupt;
use crate::step::{root, step};

/// How a suite is run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// What everything runs on
    #[arg(long, value_enum, default_value_t = Stack::Local)]
    stack: Stack,
    /// Where the server keeps its rows
    #[arg(long, value_enum, default_value_t = Backend::Postgres)]
    database: Backend,
    /// How long each scenario lasts, such as 5m or 90s
    #[arg(long, default_value = "5m", value_parser = seconds)]
    duration: u64,
    /// What every rate and number of clients is multiplied by
    #[arg(long, default_value_t = 1.0)]
    rate_scale: f64,
    /// Ten seconds, with all thresholds, to see that it works
    #[arg(long)]
    smoke: bool,
    /// Leave the folder with database and logs where it is
    #[arg(long)]
    keep: bool,
}

/// What everything runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Stack {
    /// Processes of this machine, on loopback.
    Local,
    /// Containers, by the compose file in `loadtest/`.
    Compose,
}

const SMOKE_SECONDS: u64 = 10;

impl Options {
    /// As every change is run.
    pub(crate) fn smoke(database: Backend) -> Self {
        Self {
            stack: Stack::Local,
            database,
            duration: SMOKE_SECONDS,
            rate_scale: 1.0,
            smoke: true,
            keep: false,
        }
    }

    /// Runs them all, the later ones also when an earlier one was not kept.
    pub(super) fn run(&self, suites: &[&Suite]) -> Result<()> {
        ensure!(
            self.rate_scale > 0.0,
            "--rate-scale must be more than nothing"
        );
        interrupt::listen()?;
        if self.stack == Stack::Compose {
            ensure!(
                self.database == Backend::Postgres,
                "the containers have PostgreSQL"
            );
            return suites
                .iter()
                .try_for_each(|suite| super::compose::run_one(suite, &self.shape()).map(drop));
        }
        let tools = tools(suites, self.smoke)?;
        let mut breaches = Vec::new();
        for suite in suites {
            let name = if suite.name.is_empty() {
                "loadtest"
            } else {
                suite.name
            };
            let said = step(&format!("{name} on {}", self.database.name()), || {
                self.run_one(&tools, suite)
            });
            match said {
                Ok(lines) => breaches.extend(lines),
                Err(reason) => {
                    interrupt::check()?;
                    breaches.push(format!("{reason:#}"));
                }
            }
        }
        if !breaches.is_empty() {
            bail!("{} not kept:\n  {}", breaches.len(), breaches.join("\n  "));
        }
        Ok(())
    }

    fn shape(&self) -> Shape {
        Shape {
            is_smoke: self.smoke,
            is_optimised: Profile::cheapest() == Profile::Release,
            seconds: if self.smoke {
                SMOKE_SECONDS
            } else {
                self.duration
            },
            scale: self.rate_scale,
        }
    }

    /// Where summaries go: those of the canonical database where the contract has them, others beside them.
    fn results(&self) -> PathBuf {
        let mut folder = root().join("loadtest/results");
        if self.smoke {
            folder.push("smoke");
        }
        if self.database == Backend::Sqlite {
            folder.push("sqlite");
        }
        folder
    }

    /// Runs one and gives what was not kept.
    fn run_one(&self, tools: &Tools, suite: &Suite) -> Result<Vec<String>> {
        let shape = self.shape();
        if let Some(own) = suite.own {
            return self.publish(&own(tools, self.database, &shape)?, suite);
        }
        let mut world = World::start(tools, self.database, suite)?;
        if self.keep {
            world.home.keep();
            eprintln!("    everything lies in {}", world.home.path().display());
        }
        let outcome = drive(tools, suite, &mut world, &shape);
        if outcome.is_err() {
            for line in tail(&world.server.log(), 1000) {
                if line.contains(r#""level":"ERROR""#) {
                    eprintln!("    server: {line}");
                }
            }
        }
        self.publish(&outcome?, suite)
    }

    /// Writes and shows what came out of it.
    fn publish(&self, report: &Report, suite: &Suite) -> Result<Vec<String>> {
        let file = report.write(&self.results(), suite.name)?;
        eprint!("{}", report.text());
        eprintln!(
            "    written to {} and beside it",
            file.strip_prefix(root()).unwrap_or(&file).display()
        );
        Ok(report.breaches())
    }
}

/// Everything that has to be there before a world can be brought up.
fn tools(suites: &[&Suite], is_smoke: bool) -> Result<Tools> {
    let k6 = step("k6", driver::k6)?;
    let profile = Profile::cheapest();
    step("build", || {
        // It also is what bare answers are asked of.
        let needs_f5 = !is_smoke
            || suites
                .iter()
                .any(|suite| suite.has_targets || suite.needs_f5);
        Ok(Tools {
            programs: Programs::build(profile)?,
            f5_mock: needs_f5
                .then(|| super::targets::f5_mock(profile))
                .transpose()?,
            k6,
            profile: profile.as_str(),
        })
    })
}

/// The run itself, up to the counting of rows after the server has ended in order.
fn drive(tools: &Tools, suite: &Suite, world: &mut World, shape: &Shape) -> Result<Report> {
    let mut variables = world.variables();
    variables.insert(
        "LOADTEST_DURATION".to_owned(),
        format!("{}s", shape.seconds),
    );
    variables.insert("LOADTEST_RATE_SCALE".to_owned(), shape.scale.to_string());
    (suite.prepare)(world, &mut variables, shape)?;
    let mut run = machine::describe(tools, world, shape)?;
    // Ten seconds of their own are too many for a run of ten.
    let yardstick = if shape.is_smoke {
        None
    } else {
        eprintln!("    what the machine can do: commits, signatures, bare answers");
        Some(Yardstick::measure(tools, world)?)
    };
    run["machine"] = yardstick.as_ref().map_or(json!(null), Yardstick::to_json);
    let began = world.store()?.now()?;
    let before = world.commits()?;
    let started = Instant::now();
    let (mut summary, samples) = follow(tools, suite, world, &variables)?;
    let seconds = started.elapsed().as_secs_f64();
    let mut by_name: Vec<(String, f64)> = world
        .commits()?
        .into_iter()
        .map(|(name, number)| {
            let more = number - before.get(&name).copied().unwrap_or_default();
            (name, more)
        })
        .filter(|(_, number)| *number > 0.0)
        .collect();
    by_name.sort_by(|a, b| b.1.total_cmp(&a.1));
    let commits = by_name.iter().map(|(_, number)| number).sum();
    summary["commits"] = by_name
        .into_iter()
        .map(|(name, number)| json!({"transaction": name, "commits": number}))
        .collect();
    // What waits to be written, such as heartbeats, is written before the server ends.
    let ended = world.server.stop()?;
    let outcome = Outcome {
        summary: &summary,
        began,
        commits,
        looks: samples.len() as f64,
        is_optimised: tools.profile == Profile::Release.as_str(),
    };
    let mut checked = (suite.check)(world, &outcome)?;
    checked.push(Checked::told("commits", commits));
    if let Some(yardstick) = yardstick {
        checked.extend(yardstick.ratios(outcome.summary, commits, seconds));
    }
    checked.push(Checked::equal(
        "exit status of the server",
        f64::from(ended.code().unwrap_or(-1)),
        0.0,
    ));
    Ok(Report::new(summary, run, &samples, checked))
}

/// Starts k6 and tells how it goes until it ends.
fn follow(
    tools: &Tools,
    suite: &Suite,
    world: &World,
    variables: &Variables,
) -> Result<(serde_json::Value, Vec<Sample>)> {
    const PAUSE: Duration = Duration::from_millis(100);
    const SAY_EVERY: Duration = Duration::from_secs(5);
    let folder = world.home.private_folder("k6")?;
    let mut driver = Driver::start(&tools.k6, &world.home, suite.script, variables, &folder)?;
    let last = Arc::new(Mutex::new(Sample::default()));
    let seen = Arc::clone(&last);
    let sampler = Sampler::start(
        Subjects {
            server: world.server.pid().context("the server does not run")?,
            database: world.postgres_pid(),
            driver: Some(driver.pid()),
            api: world.api()?,
        },
        move |sample| *seen.lock().unwrap_or_else(PoisonError::into_inner) = *sample,
    );
    let begun = Instant::now();
    let mut said = begun;
    loop {
        interrupt::check()?;
        if driver.ended()? {
            break;
        }
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            let sample = *last.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(glance) = driver.glance() {
                eprintln!(
                    "    {:>4.0} s: {:>8} requests, p95 {:>7.2} ms; server {:>3.0} % CPU, {} MiB; database {:>3.0} %; k6 {:>3.0} %",
                    begun.elapsed().as_secs_f64(),
                    glance.requests,
                    glance.p95_ms,
                    sample.cpu,
                    sample.rss_kib / 1024,
                    sample.database_cpu,
                    sample.driver_cpu,
                );
            }
        }
        sleep(PAUSE);
    }
    let samples = sampler.finish()?;
    // Also of a run whose thresholds were kept: an iteration that broke off may be within them.
    for line in driver
        .complaints(1000)
        .iter()
        .filter(|line| line.contains("level="))
        .take(10)
    {
        eprintln!("    k6: {line}");
    }
    let mut summary = driver::summary(&folder)?;
    let file = &mut summary["name"];
    *file = suite.name.into();
    Ok((summary, samples))
}

/// The seconds of a duration such as `5m`, `90s` or `1m30s`.
fn seconds(text: &str) -> Result<u64, String> {
    let bad = || format!("{text} is no duration such as 5m, 90s or 1m30s");
    let (mut whole, mut number) = (0_u64, String::new());
    for letter in text.chars() {
        let worth = match letter {
            '0'..='9' => {
                number.push(letter);
                continue;
            }
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(bad()),
        };
        let count: u64 = number.parse().map_err(|_| bad())?;
        whole = count
            .checked_mul(worth)
            .and_then(|more| whole.checked_add(more))
            .ok_or_else(bad)?;
        number.clear();
    }
    if whole == 0 || !number.is_empty() {
        Err(bad())
    } else {
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(seconds("5m"), Ok(300));
        assert_eq!(seconds("1m30s"), Ok(90));
        for bad in ["", "5", "m", "0s", "5 m", "1d", "99999999999999999999s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
