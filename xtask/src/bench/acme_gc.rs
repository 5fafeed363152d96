//! What ACME orders leave behind: rows and bytes before the sweeps and after them.
//!
//! Sweeps are off while orders are made. Then the server is started again with sweeps every second, which is the server's own loop,
//! told of short times; orders end, proofs and nonces run out, and it goes on until nothing changes any more.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Profile as Build, backends, built_as};
use crate::stack::acme::{self, Clients, Errand, Seen};
use crate::stack::build::{Profile, Programs};
use crate::stack::database::{Backend, Database};
use crate::stack::home::Home;
use crate::stack::server::Server;
use crate::stack::status_line::StatusLine;
use crate::stack::{interrupt, random};
use crate::step::step;

/// Minutes of ACME orders, then the sweeps: rows left for each finished order, sizes before and after
#[derive(clap::Args)]
pub(super) struct AcmeGc {
    /// How long orders are made; a tenth as long again for certificates that soon expire
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// On this database only
    #[arg(long)]
    database: Option<Backend>,
    /// How many clients order at a time
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// How many of a hundred orders are never finalised
    #[arg(long, default_value_t = 10)]
    abandoned: usize,
    /// Unoptimised, to see that it works
    #[arg(long)]
    debug: bool,
}

/// Its certificates expire within the run.
const SHORT_LIVED: &str = "prof-short-lived";
/// How long they live, and how long orders and nonces last: whatever was made has run out by then.
const LIFE: Duration = Duration::from_secs(60);
/// Shorter than [`RETENTION`], as they are where nobody sets either.
const AUTHORIZATION_LIFE: &str = "5s";
/// How long ended orders are kept.
const RETENTION: &str = "10s";
/// Runs of the loop in a row after which it is taken to have done all.
const QUIET_RUNS: f64 = 5.0;
/// Only bounds a hang.
const SWEEP_LIMIT: Duration = Duration::from_secs(1800);

impl AcmeGc {
    pub(super) fn run(self) -> Result<()> {
        let (programs, tools) = step("build", || {
            let (server, example) = if self.debug {
                (Profile::Dev, Build::Debug)
            } else {
                (Profile::Release, Build::Release)
            };
            let tools = Tools {
                clients: built_as("acme_drill", example)?,
                tables: built_as("acme_tables", example)?,
            };
            Ok((Programs::build(server)?, tools))
        })?;
        for backend in backends(self.database) {
            step(
                &format!("ACME orders and sweeps on {}", backend.name()),
                || self.measure(&programs, &tools, backend),
            )?;
        }
        Ok(())
    }

    fn measure(&self, programs: &Programs, tools: &Tools, backend: Backend) -> Result<()> {
        let home = Home::create("bench-acme-gc")?;
        let mut site = Site::start(programs, &home, backend)?;
        let lasting = self.order(&site, tools, &home, "", self.seconds)?;
        let path = format!("profile/{SHORT_LIVED}/");
        let short = self.order(&site, tools, &home, &path, (self.seconds / 10).max(5))?;
        let ended = Instant::now();
        site.server.stop()?;
        let before = tools.look(&site, false)?;
        site.server.set("CERTCTL_ACME_SERVER_GC_INTERVAL", "1s");
        site.server.start()?;
        let swept = sweep(&site, ended)?;
        site.server.stop()?;
        let after = tools.look(&site, false)?;
        let vacuumed = tools.look(&site, true)?;
        eprintln!(
            "    {} orders in {:.0} s by {} clients; the sweeps ran until {:.0} s after the last order",
            lasting.orders() + short.orders(),
            lasting.seconds + short.seconds,
            self.clients,
            swept.as_secs_f64(),
        );
        tell_kinds(&lasting, &short, &before, &after)?;
        tell_tables(
            lasting.orders() + short.orders(),
            &[&before, &after, &vacuumed],
        )
    }

    fn order(
        &self,
        site: &Site,
        tools: &Tools,
        home: &Home,
        path: &str,
        seconds: u64,
    ) -> Result<Seen> {
        let mut clients = Clients::start(
            &tools.clients,
            &Errand {
                directory: &format!("{}/acme/{path}directory", site.server.url()),
                roots: &site.server.root(),
                folder: home.path(),
                clients: self.clients,
                until: &format!("{seconds}s"),
                abandoned: self.abandoned,
            },
        )?;
        let (mut line, begun) = (StatusLine::new(), Instant::now());
        while !clients.are_done()? {
            interrupt::check()?;
            let passed = begun.elapsed().as_secs();
            line.say(&format!(
                "{passed} of {seconds} s, {} orders",
                clients.orders()
            ));
            sleep(Duration::from_millis(100));
        }
        clients.finish()
    }
}

/// Waits until the server's loop finds nothing to do any more; how long after the last order that is.
fn sweep(site: &Site, ended: Instant) -> Result<Duration> {
    let mut line = StatusLine::new();
    let mut last = (Swept::of(site)?, ended.elapsed());
    loop {
        interrupt::check()?;
        ensure!(
            ended.elapsed() < SWEEP_LIMIT,
            "the sweeps do not come to an end"
        );
        let now = Swept::of(site)?;
        if now.changes != last.0.changes {
            last = (now, ended.elapsed());
        }
        // What is the last to run out is what was made last; after that there is nothing to wait for.
        let all_ran_out = ended.elapsed() > LIFE + Duration::from_secs(15);
        if all_ran_out && now.runs >= last.0.runs + QUIET_RUNS {
            return Ok(last.1);
        }
        line.say(&format!(
            "{:.0} s after the last order, {:.0} runs of the sweeps",
            ended.elapsed().as_secs_f64(),
            now.runs
        ));
        sleep(Duration::from_millis(500));
    }
}

/// What the loop counted.
#[derive(Debug, Clone, Copy)]
struct Swept {
    runs: f64,
    /// Rows that it ended or deleted.
    changes: f64,
}

impl Swept {
    fn of(site: &Site) -> Result<Self> {
        let text = site
            .server
            .api()?
            .bytes_as_caller("/api/v1/metrics/prometheus")?;
        let text = String::from_utf8_lossy(&text);
        let count = |name: &str| {
            let name = format!("certctl_acme_gc_{name}_total ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            // What was not counted yet is not there.
            line.and_then(|number| number.trim().parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        let changes = [
            "nonces_reaped",
            "authzs_expired",
            "authzs_deleted",
            "orders_invalidated",
            "orders_deleted",
        ];
        Ok(Self {
            runs: count("runs"),
            changes: changes.into_iter().map(count).sum(),
        })
    }
}

/// A server that sweeps nothing yet.
struct Site {
    server: Server,
    // Dropped after the server, which uses it.
    database: Database,
}

impl Site {
    fn start(programs: &Programs, home: &Home, backend: Backend) -> Result<Self> {
        let database = Database::start(backend, home)?;
        let (key, life) = (random::secret()?, format!("{}s", LIFE.as_secs()));
        let mut settings = acme::SETTINGS.to_vec();
        settings.extend([
            ("CERTCTL_AUTH_SECRET", key.as_str()),
            ("CERTCTL_ACME_SERVER_GC_INTERVAL", "0"),
            ("CERTCTL_ACME_SERVER_ORDER_RETENTION", RETENTION),
            ("CERTCTL_ACME_SERVER_ORDER_TTL", &life),
            ("CERTCTL_ACME_SERVER_AUTHZ_TTL", AUTHORIZATION_LIFE),
            ("CERTCTL_ACME_SERVER_NONCE_TTL", &life),
        ]);
        let mut server = Server::new(&programs.server, home, "server", &database, &settings)?;
        server.start()?;
        let api = server.api()?;
        acme::furnish(&api)?;
        let profile = json!({"id": SHORT_LIVED, "name": SHORT_LIVED, "acme_auth_mode": "trust_authenticated",
            "allow_short_lived": true, "max_ttl_seconds": LIFE.as_secs()});
        api.post("/api/v1/profiles", &profile)?;
        acme::is_served(&api, &format!("/acme/profile/{SHORT_LIVED}/directory"))?;
        Ok(Self { server, database })
    }

    fn database_url(&self) -> String {
        let given = self.database.environment().into_iter();
        given
            .filter(|(name, _)| name == "CERTCTL_DATABASE_URL")
            .map(|(_, url)| url)
            .next()
            .unwrap_or_else(|| {
                let file = self.server.data_folder().join("certctl.db");
                format!("sqlite://{}", file.display())
            })
    }
}

/// The examples of the testkit that this runs.
struct Tools {
    clients: PathBuf,
    tables: PathBuf,
}

impl Tools {
    /// What the database holds; the server must not run.
    fn look(&self, site: &Site, vacuum: bool) -> Result<Value> {
        look(&self.tables, &site.database_url(), vacuum)
    }
}

fn look(program: &Path, url: &str, vacuum: bool) -> Result<Value> {
    let output = Command::new(program)
        .arg(url)
        .args(vacuum.then_some("vacuum"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("{} ended with {}", program.display(), output.status);
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Rows left for each finished order, by what became of it.
fn tell_kinds(lasting: &Seen, short: &Seen, before: &Value, after: &Value) -> Result<()> {
    let kinds = [
        (
            "certificate in date",
            acme::PROFILE,
            true,
            lasting.valid.len(),
        ),
        ("certificate expired", SHORT_LIVED, true, short.valid.len()),
        ("abandoned", acme::PROFILE, false, lasting.abandoned.len()),
        (
            "abandoned, the other profile",
            SHORT_LIVED,
            false,
            short.abandoned.len(),
        ),
    ];
    eprintln!("    rows for each finished order: orders / authorisations / challenges");
    eprintln!(
        "    {:<30}{:>9}{:>22}{:>22}",
        "what became of it", "finished", "before", "left"
    );
    for (name, profile, is_valid, finished) in kinds {
        let each = |said: &Value| -> Result<String> {
            let groups = said["orders"].as_array().context("no orders are told of")?;
            let mut sums = [0.0; 3];
            for group in groups {
                if group["profile"] == profile && (group["status"] == "valid") == is_valid {
                    let fields = ["orders", "authorizations", "challenges"];
                    for (sum, field) in sums.iter_mut().zip(fields) {
                        *sum += group[field].as_f64().unwrap_or(0.0);
                    }
                }
            }
            let [orders, authorizations, challenges] = sums.map(|sum| sum / as_f64(finished));
            Ok(format!(
                "{orders:.2} / {authorizations:.2} / {challenges:.2}"
            ))
        };
        eprintln!(
            "    {name:<30}{finished:>9}{:>22}{:>22}",
            each(before)?,
            each(after)?
        );
    }
    Ok(())
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX).max(1))
}

/// Every table that grew with the orders, and those of ACME: rows and MB before, after, and with what is free given back.
fn tell_tables(orders: usize, said: &[&Value; 3]) -> Result<()> {
    const MIB: f64 = 1024.0 * 1024.0;
    let [before, after, vacuumed] = said;
    eprintln!(
        "    {:<28}{:>10}{:>10}{:>11}{:>12}{:>10}{:>10}",
        "table", "rows", "after", "per order", "MiB before", "after", "vacuumed"
    );
    let tables = before["tables"].as_object().context("no tables")?;
    for (name, about) in tables {
        let rows = about["rows"].as_f64().unwrap_or(0.0);
        if rows < as_f64(orders) / 4.0 && !name.starts_with("acme_") {
            continue;
        }
        let left = after["tables"][name]["rows"].as_f64().unwrap_or(0.0);
        let mib = |said: &Value| said["tables"][name]["bytes"].as_f64().unwrap_or(0.0) / MIB;
        eprintln!(
            "    {name:<28}{rows:>10.0}{left:>10.0}{:>11.2}{:>12.1}{:>10.1}{:>10.1}",
            left / as_f64(orders),
            mib(before),
            mib(after),
            mib(vacuumed),
        );
    }
    let mib = |said: &Value| said["bytes"].as_f64().unwrap_or(0.0) / MIB;
    eprintln!(
        "    {:<28}{:>43.1}{:>10.1}{:>10.1}",
        "the whole database",
        mib(before),
        mib(after),
        mib(vacuumed)
    );
    Ok(())
}
