//! `cargo xtask kill-drill`: the server is killed again and again while it renews, and must lose and double nothing.
//!
//! The moments are drawn from a seed that is printed, so that a failure can be drawn again. The batches are made small and the
//! leases short, so that a kill finds jobs in every stage: asked for, claimed, recorded, signed, stored.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use ureq::http::Method;

use crate::stack::api::{Api, text};
use crate::stack::build::{Profile, Programs};
use crate::stack::database::{Backend, Database};
use crate::stack::home::Home;
use crate::stack::server::Server;
use crate::step::step;

/// Kill the server while it renews; nothing may be lost or doubled
#[derive(clap::Args)]
pub(crate) struct KillDrill {
    /// On this database only
    #[arg(long)]
    database: Option<Backend>,
    /// Draw the moments of an earlier run again
    #[arg(long)]
    seed: Option<u64>,
    /// How often the server is killed
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// How many certificates are renewed
    #[arg(long, default_value_t = 200)]
    certificates: usize,
}

/// The lease of a claimed job in the drill; nothing may be stuck longer.
const LEASE: Duration = Duration::from_secs(2);
/// The longest time the server is left alone between its start and the kill.
const LONGEST_LIFE_MS: u64 = 90;
/// What recovery and the work itself may take beyond the lease: a tick of the processor, which runs every second here, and a
/// busy machine.
const SLACK: Duration = Duration::from_secs(8);
/// Only bounds a hang.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);

impl KillDrill {
    pub(crate) fn run(self) -> Result<()> {
        let seed = self.seed.unwrap_or_else(fresh_seed);
        eprintln!("seed {seed}");
        let programs = step("build", || Programs::build(Profile::cheapest()))?;
        let backends = match self.database {
            Some(one) => vec![one],
            None => vec![Backend::Sqlite, Backend::Postgres],
        };
        for backend in backends {
            step(&format!("kill drill on {}", backend.name()), || {
                self.drill(&programs, backend, seed)
            })?;
        }
        Ok(())
    }

    fn drill(&self, programs: &Programs, backend: Backend, seed: u64) -> Result<()> {
        let home = Home::create("kill-drill")?;
        let database = Database::start(backend, &home)?;
        let lease = format!("{}s", LEASE.as_secs());
        let settings = [
            ("CERTCTL_AUTH_SECRET", "kill-drill-key-0123456789abcdef"),
            (
                "CERTCTL_CONFIG_ENCRYPTION_KEY",
                "kill-drill-encryption-key-0123456789",
            ),
            ("CERTCTL_KEYGEN_MODE", "server"),
            ("CERTCTL_DEMO_MODE_ACK", "true"),
            ("CERTCTL_RATE_LIMIT_ENABLED", "false"),
            ("CERTCTL_JOB_BATCH_SIZE", "2"),
            ("CERTCTL_JOB_LEASE_TTL", lease.as_str()),
            ("CERTCTL_SCHEDULER_JOB_PROCESSOR_INTERVAL", "1s"),
            ("CERTCTL_SCHEDULER_RETRY_INTERVAL", "1s"),
        ];
        let mut server = Server::new(&programs.server, &home, "server", &database, &settings)?;
        server.start()?;
        let fleet = Fleet::make(&server.api()?, self.certificates)?;
        eprintln!(
            "    {} certificates have their first version",
            fleet.ids.len()
        );
        let kills = self.renew_under_fire(&mut server, &fleet, seed)?;
        server.start()?;
        let last_start = Instant::now();
        let api = server.api()?;
        wait_until_settled(&api, last_start)?;
        let stuck_for = last_start.elapsed();
        ensure!(
            stuck_for < LEASE + SLACK,
            "a job was stuck for {:.1} s, longer than its lease",
            stuck_for.as_secs_f64()
        );
        fleet.check(&api)?;
        eprintln!(
            "    {kills} kills, {} certificates: each has exactly one new version, no serial twice; {} jobs were interrupted and taken up again; all settled {:.1} s after the last start (lease {} s)",
            fleet.ids.len(),
            interrupted(&api)?,
            stuck_for.as_secs_f64(),
            LEASE.as_secs(),
        );
        server.stop()?;
        Ok(())
    }

    /// Asks for every renewal while another thread kills and starts the server.
    fn renew_under_fire(&self, server: &mut Server, fleet: &Fleet, seed: u64) -> Result<usize> {
        let asked = AtomicUsize::new(0);
        // Each life of the server gets its share, so that every kill finds work.
        let share = fleet.ids.len().div_ceil(self.kills.max(1));
        let allowed = AtomicUsize::new(share);
        let over = AtomicBool::new(false);
        let api = Mutex::new(server.api()?);
        let mut random = SplitMix(seed);
        thread::scope(|scope| {
            let asking = scope.spawn(|| {
                for (number, id) in fleet.ids.iter().enumerate() {
                    while number >= allowed.load(Ordering::SeqCst) && !over.load(Ordering::SeqCst) {
                        thread::sleep(Duration::from_millis(1));
                    }
                    renew_once(&api, id, &over)?;
                    asked.fetch_add(1, Ordering::SeqCst);
                }
                Ok::<_, anyhow::Error>(())
            });
            let mut killed = 0;
            let outcome = (|| {
                for kill in 1..=self.kills {
                    thread::sleep(Duration::from_millis(random.below(LONGEST_LIFE_MS)));
                    server.kill()?;
                    killed += 1;
                    server.start()?;
                    allowed.fetch_add(share, Ordering::SeqCst);
                    *api.lock().unwrap_or_else(PoisonError::into_inner) = server.api()?;
                    eprintln!(
                        "    kill {kill}/{}: {} of {} renewals asked for",
                        self.kills,
                        asked.load(Ordering::SeqCst),
                        fleet.ids.len()
                    );
                }
                Ok::<_, anyhow::Error>(())
            })();
            if outcome.is_err() {
                over.store(true, Ordering::SeqCst);
            }
            allowed.store(usize::MAX, Ordering::SeqCst);
            let asking = asking
                .join()
                .map_err(|_| anyhow::anyhow!("the thread that asks for renewals panicked"))?;
            outcome?;
            asking?;
            server.kill()?;
            Ok(killed)
        })
    }
}

/// Asks for one renewal until it is known to be under way or done: an answer that was lost is looked up, never asked for twice.
fn renew_once(api: &Mutex<Api>, id: &str, over: &AtomicBool) -> Result<()> {
    let path = format!("/api/v1/certificates/{id}");
    let started = Instant::now();
    loop {
        ensure!(!over.load(Ordering::SeqCst), "the drill was given up");
        ensure!(
            started.elapsed() < SETTLE_LIMIT,
            "{id} could not be renewed"
        );
        let api = api.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match api.send(Method::POST, &format!("{path}/renew"), None) {
            Ok(answer) if answer.status == 202 || answer.status == 409 => return Ok(()),
            Ok(answer) if answer.status >= 500 => {}
            Ok(answer) => bail!(
                "renewing {id} was answered with {}: {}",
                answer.status,
                answer.text
            ),
            Err(_) => {}
        }
        // The answer was lost; whether the request was, only the server knows.
        if let Ok(true) = was_heard(&api, &path) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn was_heard(api: &Api, path: &str) -> Result<bool> {
    let status = api.get(path)?;
    let versions = api.get(&format!("{path}/versions"))?;
    Ok(text(&status, "status")? == "RenewalInProgress" || versions["total"] != json!(1))
}

/// No job is open any more, within a lease and what the last of them needs.
fn wait_until_settled(api: &Api, since: Instant) -> Result<()> {
    loop {
        let open: u64 = ["Pending", "Running", "AwaitingCSR", "AwaitingApproval"]
            .iter()
            .map(|status| {
                api.get(&format!("/api/v1/jobs?status={status}&per_page=1"))
                    .map(|page| page["total"].as_u64().unwrap_or(0))
            })
            .sum::<Result<u64>>()?;
        if open == 0 {
            return Ok(());
        }
        ensure!(since.elapsed() < SETTLE_LIMIT, "{open} jobs are stuck");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Renewals that were started more than once, which only a kill brings about here.
fn interrupted(api: &Api) -> Result<usize> {
    let mut count = 0;
    for page in 1.. {
        let jobs = api.list(&format!(
            "/api/v1/jobs?type=Renewal&per_page=500&page={page}"
        ))?;
        count += jobs
            .iter()
            .filter(|job| job["attempts"].as_u64().unwrap_or(0) > 1)
            .count();
        if jobs.len() < 500 {
            break;
        }
    }
    Ok(count)
}

/// The certificates of a drill, each with its first version.
struct Fleet {
    ids: Vec<String>,
    first_serials: HashSet<String>,
}

impl Fleet {
    fn make(api: &Api, count: usize) -> Result<Self> {
        api.post("/api/v1/teams", &json!({"id": "t-drill", "name": "Drill"}))?;
        api.post("/api/v1/owners", &json!({"id": "o-drill", "name": "Drill", "email": "drill@example.test", "team_id": "t-drill"}))?;
        api.post(
            "/api/v1/renewal-policies",
            &json!({"name": "drill", "max_retries": 10, "retry_interval_seconds": 60}),
        )?;
        let ids: Vec<String> = (1..=count)
            .map(|number| format!("cert-drill-{number:04}"))
            .collect();
        for id in &ids {
            let body = json!({"id": id, "name": id, "common_name": format!("{id}.example.test"), "owner_id": "o-drill",
                "team_id": "t-drill", "issuer_id": "iss-local", "renewal_policy_id": "rp-drill"});
            api.post("/api/v1/certificates", &body)?;
            api.call(
                Method::POST,
                &format!("/api/v1/certificates/{id}/renew"),
                None,
            )?;
        }
        wait_until_settled(api, Instant::now())?;
        let mut first_serials = HashSet::new();
        for id in &ids {
            let serials = serials(api, id)?;
            ensure!(
                serials.len() == 1,
                "{id} has {} versions before the drill",
                serials.len()
            );
            first_serials.extend(serials);
        }
        Ok(Self { ids, first_serials })
    }

    /// Every certificate is active with exactly one new version, and no serial occurs twice.
    fn check(&self, api: &Api) -> Result<()> {
        let mut seen = HashSet::new();
        let mut problems = Vec::new();
        for id in &self.ids {
            let certificate = api.get(&format!("/api/v1/certificates/{id}"))?;
            let status = text(&certificate, "status")?;
            let serials = serials(api, id)?;
            let new = serials
                .iter()
                .filter(|serial| !self.first_serials.contains(*serial))
                .count();
            if status != "Active" || new != 1 || serials.len() != 2 {
                problems.push(format!(
                    "{id} is {status} with {new} new of {} versions",
                    serials.len()
                ));
            }
            for serial in serials {
                if !seen.insert(serial.clone()) {
                    problems.push(format!("serial {serial} occurs twice"));
                }
            }
        }
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        Ok(())
    }
}

fn serials(api: &Api, id: &str) -> Result<Vec<String>> {
    let versions = api.list(&format!("/api/v1/certificates/{id}/versions"))?;
    versions
        .iter()
        .map(|version: &Value| text(version, "serial_number").map(str::to_owned))
        .collect::<Result<_>>()
        .context("versions")
}

/// A seed that differs from run to run.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// The generator of Steele, Lea and Flood: small, and the same on every machine.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::SplitMix;

    #[test]
    fn a_seed_draws_the_same_moments_again() {
        let draw = |seed| {
            let mut random = SplitMix(seed);
            (0..5).map(|_| random.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
