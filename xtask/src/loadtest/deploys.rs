//! Deployments into real servers, one after the other on each kind, all kinds at the same time: from the request to the moment in
//! which a visitor is shown the new certificate. What a visitor is shown no k6 can see, so this drives by itself, with what the
//! drill of targets has.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use certctl_procs::install::{self, Program};
use serde_json::{Value, json};

use super::checks::{Checked, rows};
use super::machine;
use super::report::Report;
use super::sampler::{Sampler, Subjects};
use super::suite::{PLAIN, Shape, Suite};
use super::world::{Tools, World};
use crate::stack::agent::Agent;
use crate::stack::database::Backend;
use crate::stack::interrupt;
use crate::target_drill::Drill;
use crate::target_drill::services::Service;

pub(super) const SUITE: Suite = Suite {
    name: "connector-deploy",
    needs_f5: true,
    own: Some(run),
    ..PLAIN
};

/// From the request until it is served, for 19 of 20.
const AIM: Duration = Duration::from_secs(10);

/// When a deployment was asked for, in seconds of the run, and what it took.
type Deployment = (f64, Duration);

pub(super) fn run(tools: &Tools, backend: Backend, shape: &Shape) -> Result<Report> {
    install::ensure(&[
        Program::Nginx,
        Program::Apache,
        Program::HaProxy,
        Program::OpenSsl,
    ])?;
    let mut world = World::start(tools, backend, &SUITE)?;
    let run = machine::describe(tools, &world, shape)?;
    let mock = tools
        .f5_mock
        .as_deref()
        .context("the stand-in for an F5 was not built")?;
    let services = [
        Service::nginx(&world.home)?,
        Service::apache(&world.home)?,
        Service::haproxy(&world.home)?,
        Service::f5(&world.home, mock)?,
    ];
    let agent = Agent::start(&tools.programs.agent, &world.home, "web-1", &world.server)?;
    let drill = Drill::new(&world.server)?;
    let began = world.store()?.now()?;
    let sampler = Sampler::start(
        Subjects {
            server: world.server.pid().context("the server does not run")?,
            database: world.postgres_pid(),
            driver: None,
            api: world.api()?,
        },
        |_| {},
    );
    let outcome = all_kinds(
        &drill,
        &services,
        agent.id(),
        Duration::from_secs(shape.seconds),
    );
    let samples = sampler.finish()?;
    let seen = outcome?;
    drop(agent);
    let ended = world.server.stop()?;
    // The demo data has deployments of its own.
    let created = world.store()?.micros("created_at");
    let deployed = rows(
        &world,
        &format!(
            "SELECT count(*) FROM jobs WHERE type = 'Deployment' AND status = 'Completed' AND {created} >= {began}"
        ),
    )?;
    let mut checked: Vec<Checked> = seen.iter().map(|(kind, took)| aim(kind, took)).collect();
    let served: usize = seen.iter().map(|(_, took)| took.len()).sum();
    checked.push(Checked::at_least(
        "rows changed: deployments completed",
        deployed,
        served as f64,
    ));
    checked.push(Checked::at_least(
        "deployments served",
        served as f64,
        services.len() as f64,
    ));
    checked.push(Checked::equal(
        "kinds that refused a broken configuration and kept the old certificate",
        seen.len() as f64,
        4.0,
    ));
    checked.push(Checked::equal(
        "exit status of the server",
        f64::from(ended.code().unwrap_or(-1)),
        0.0,
    ));
    Ok(Report::new(summary(&seen, shape), run, &samples, checked))
}

/// Deploys on each kind until the time is over, then has it refuse a broken configuration.
fn all_kinds(
    drill: &Drill,
    services: &[Service],
    agent: &str,
    length: Duration,
) -> Result<Vec<(String, Vec<Deployment>)>> {
    let certificates = services
        .iter()
        .map(|service| drill.enter(service, agent))
        .collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = services
            .iter()
            .zip(&certificates)
            .map(|(service, certificate)| {
                scope.spawn(move || {
                    let mut took = Vec::new();
                    while took.is_empty() || begun.elapsed() < length {
                        interrupt::check()?;
                        let at = begun.elapsed().as_secs_f64();
                        took.push((
                            at,
                            drill
                                .renew(service, certificate)
                                .with_context(|| service.kind)?,
                        ));
                    }
                    let reason = drill
                        .refuse(service, certificate)
                        .with_context(|| service.kind)?;
                    eprintln!(
                        "    {}: {} deployments; refused and rolled back: {reason}",
                        service.kind,
                        took.len()
                    );
                    anyhow::Ok((service.kind.to_lowercase(), took))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a visitor panicked"))?)
            .collect()
    })
}

fn aim(kind: &str, took: &[Deployment]) -> Checked {
    Checked::at_most(
        &format!("asked_to_served_p95_ms{{scenario:{kind}_deploy}}"),
        percentile(took, 0.95),
        AIM.as_secs_f64() * 1000.0,
    )
}

/// The smallest time, in milliseconds, that such a share does not exceed.
fn percentile(took: &[Deployment], share: f64) -> f64 {
    let mut times: Vec<Duration> = took.iter().map(|(_, took)| *took).collect();
    times.sort();
    let place = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len().max(1));
    times
        .get(place - 1)
        .map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

fn summary(seen: &[(String, Vec<Deployment>)], shape: &Shape) -> Value {
    let scenarios: Vec<Value> = seen
        .iter()
        .map(|(kind, took)| {
            json!({
                "name": format!("{kind}_deploy"), "offered": "one by one", "seconds": shape.seconds, "iterations": took.len(),
                "achieved_per_second": took.len() as f64 / shape.seconds as f64, "dropped_iterations": 0, "errors": 0.0,
                "latency_ms": {
                    "p50": percentile(took, 0.5), "p95": percentile(took, 0.95), "p99": percentile(took, 0.99), "max": percentile(took, 1.0),
                    "count": took.len(),
                },
            })
        })
        .collect();
    let timeline = seen.iter().map(|(kind, took)| {
        let points = took.iter().map(|(at, took)| {
            let ms = took.as_secs_f64() * 1000.0;
            json!({"at": at, "p50": ms, "p95": ms, "p99": ms, "max": ms})
        });
        (format!("{kind}_deploy"), points.collect())
    });
    json!({
        "name": SUITE.name, "metrics": {}, "scenarios": scenarios, "connector_tier": {}, "thresholds": [],
        "timeline": Value::Object(timeline.collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_time_that_was_seen() {
        let took: Vec<Deployment> = (1..=20)
            .map(|second| (0.0, Duration::from_secs(second)))
            .collect();
        assert_eq!(percentile(&took, 0.5), 10_000.0);
        assert_eq!(percentile(&took, 0.95), 19_000.0);
        assert_eq!(percentile(&took, 1.0), 20_000.0);
        assert!(!aim("nginx", &took).ok && aim("nginx", &took[..10]).ok);
    }
}
