//! `cargo xtask acme-drill`: ACME clients order from two replicas behind a round-robin, and now and then one replica is killed.
//!
//! The clients go on: what is not answered is asked again, with the nonce that may have been used up. Afterwards the database has
//! to agree with what they wrote down. The lease of jobs is made short, so that what a dead replica had taken is soon taken up.

use std::collections::HashSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use certctl_procs::postgres::Cluster;

use crate::bench::{Profile as Build, built_as};
use crate::stack::acme::{self, Clients, Errand, Seen};
use crate::stack::build::{Profile, Programs};
use crate::stack::database::{Backend, Database};
use crate::stack::home::Home;
use crate::stack::round_robin::RoundRobin;
use crate::stack::server::Server;
use crate::stack::status_line::StatusLine;
use crate::stack::wait::until;
use crate::stack::{interrupt, random};
use crate::step::step;

/// Order certificates by ACME from two replicas while one is killed; none may be lost, stuck or issued twice
#[derive(clap::Args)]
pub(crate) struct AcmeDrill {
    /// How many orders are made
    #[arg(long, default_value_t = 1000)]
    orders: usize,
    /// How many clients order at a time
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// How often a replica is killed; each time takes some seconds of orders
    #[arg(long, default_value_t = 1)]
    kills: usize,
    /// Unoptimised, also where optimised programs have been built
    #[arg(long)]
    debug: bool,
}

/// The lease of a claimed job in the drill.
const LEASE: Duration = Duration::from_secs(2);
/// How often it is looked for jobs whose lease has run out.
const TICK: Duration = Duration::from_secs(1);
/// What the work itself may take on a busy machine, once it is taken up.
const WORK: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);
/// How long a replica is held still before it is killed.
const STILL: Duration = Duration::from_millis(100);

impl AcmeDrill {
    pub(crate) fn run(self) -> Result<()> {
        let profile = if self.debug {
            Profile::Dev
        } else {
            Profile::cheapest()
        };
        let (programs, clients) = step("build", || {
            let optimised = if profile == Profile::Release {
                Build::Release
            } else {
                Build::Debug
            };
            let clients = built_as("acme_drill", optimised)?;
            Ok((Programs::build(profile)?, clients))
        })?;
        step("ACME drill on two replicas", || {
            self.drill(&programs, &clients)
        })
    }

    fn drill(&self, programs: &Programs, program: &std::path::Path) -> Result<()> {
        let home = Home::create("acme-drill")?;
        let mut site = Site::start(programs, &home)?;
        let roots = home.path().join("roots.pem");
        std::fs::write(&roots, site.roots()?)?;
        let mut clients = Clients::start(
            program,
            &Errand {
                directory: &format!("{}/acme/directory", site.url()),
                roots: &roots,
                folder: home.path(),
                clients: self.clients,
                until: &self.orders.to_string(),
                abandoned: 0,
            },
        )?;
        let killed = self.order_under_fire(&mut clients, &mut site);
        // Where clients were refused something, that says more than what became of the kills.
        let seen = clients.finish()?;
        killed?;
        until("the last order to end", || {
            let open = "SELECT id FROM acme_orders WHERE status = 'processing'";
            Ok(site.ask(open)?.is_empty().then_some(()))
        })?;
        let found = Found::look(&site)?;
        self.tell(&seen, &found, &site.balancer.given())?;
        let mut problems = site.contradictions(&seen)?;
        problems.extend(found.complaints(&seen)?);
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        for replica in &mut site.replicas {
            let ended = replica.stop()?;
            ensure!(ended.success(), "a replica ended with {ended}");
        }
        Ok(())
    }

    /// Kills a replica at work whenever a share of the orders has ended, and starts it again when the other has had a lease's time.
    fn order_under_fire(&self, clients: &mut Clients, site: &mut Site) -> Result<()> {
        let mut line = StatusLine::new();
        for kill in 1..=self.kills {
            let mark = self.orders * kill / (self.kills + 1);
            while clients.orders() < mark {
                ensure!(
                    !clients.are_done()?,
                    "the clients ended before kill {kill} of {}",
                    self.kills
                );
                self.wait(clients, &mut line, kill - 1)?;
            }
            // Whoever is at work; one that has just come back may have no connections yet.
            let mut victim = kill % 2;
            while !site.strike(victim)? {
                ensure!(
                    !clients.are_done()?,
                    "the clients ended before kill {kill} of {} met a transaction; ask for more orders",
                    self.kills
                );
                self.wait(clients, &mut line, kill - 1)?;
                victim = 1 - victim;
            }
            let killed = Instant::now();
            while killed.elapsed() < LEASE && !clients.are_done()? {
                self.wait(clients, &mut line, kill)?;
            }
            site.replicas[victim].start()?;
        }
        while !clients.are_done()? {
            self.wait(clients, &mut line, self.kills)?;
        }
        Ok(())
    }

    fn wait(&self, clients: &Clients, line: &mut StatusLine, kills: usize) -> Result<()> {
        interrupt::check()?;
        line.say(&format!(
            "{} of {} orders, {kills} of {} kills",
            clients.orders(),
            self.orders,
            self.kills
        ));
        sleep(LOOK);
        Ok(())
    }

    fn tell(&self, seen: &Seen, found: &Found, given: &[usize]) -> Result<()> {
        let rows = [
            (
                "orders fulfilled",
                format!("{} in {:.1} s", seen.valid.len(), seen.seconds),
            ),
            ("kills, each in a transaction", self.kills.to_string()),
            ("connections to each replica", format!("{given:?}")),
            ("requests", whole(seen, "requests")?),
            ("answers lost and asked for again", whole(seen, "lost")?),
            ("answers 503", whole(seen, "unavailable")?),
            ("answers badNonce", whole(seen, "refused_nonces")?),
            (
                "of these in a row, at most",
                whole(seen, "refused_in_a_row")?,
            ),
            (
                "orders made twice because an answer was lost",
                found.orphans.to_string(),
            ),
            (
                "longest `processing`, by the audit trail",
                format!(
                    "{:.2} s (lease {} s)",
                    found.longest.as_secs_f64(),
                    LEASE.as_secs()
                ),
            ),
            (
                "longest order, by the clients",
                format!("{:.2} s", seen.number("longest_order_seconds")?),
            ),
        ];
        for (name, value) in rows {
            eprintln!("    {name:<46} {value}");
        }
        Ok(())
    }
}

fn whole(seen: &Seen, name: &str) -> Result<String> {
    Ok(format!("{:.0}", seen.number(name)?))
}

/// Two replicas on one database, and what stands before them.
struct Site {
    replicas: [Server; 2],
    balancer: RoundRobin,
    // Dropped after the servers, which use it.
    database: Database,
}

impl Site {
    fn start(programs: &Programs, home: &Home) -> Result<Self> {
        let database = Database::start(Backend::Postgres, home)?;
        let key = random::secret()?;
        let (lease, tick) = (
            format!("{}s", LEASE.as_secs()),
            format!("{}s", TICK.as_secs()),
        );
        let mut settings = acme::SETTINGS.to_vec();
        settings.extend([
            ("CERTCTL_AUTH_SECRET", key.as_str()),
            ("CERTCTL_JOB_LEASE_TTL", &lease),
            ("CERTCTL_SCHEDULER_JOB_PROCESSOR_INTERVAL", &tick),
            ("CERTCTL_SCHEDULER_RETRY_INTERVAL", &tick),
        ]);
        let replica = |name: &str| Server::new(&programs.server, home, name, &database, &settings);
        let mut replicas = [replica("first")?, replica("second")?];
        let ports: Vec<u16> = replicas.iter().map(Server::port).collect();
        let balancer = RoundRobin::start(&ports)?;
        let base = format!("https://127.0.0.1:{}", balancer.port());
        for replica in &mut replicas {
            replica.set("CERTCTL_ACME_SERVER_BASE_URL", &base);
            replica.start()?;
        }
        acme::furnish(&replicas[0].api()?)?;
        acme::is_served(&replicas[1].api()?, "/acme/directory")?;
        Ok(Self {
            replicas,
            balancer,
            database,
        })
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.balancer.port())
    }

    /// Of both, each of which may have a root of its own.
    fn roots(&self) -> Result<String> {
        let read = |server: &Server| Ok(std::fs::read_to_string(server.root())?);
        self.replicas.iter().map(read).collect()
    }

    /// Kills a replica in the middle of a transaction; false, and it goes on, when it is in none at this moment.
    fn strike(&mut self, victim: usize) -> Result<bool> {
        self.replicas[victim].freeze()?;
        // Only who stands still leaves a transaction without a statement for so long.
        sleep(STILL);
        let begun = format!(
            "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction' AND state_change < now() - interval '{} ms'",
            STILL.as_millis() / 2
        );
        let is_in_one = !self.ask(&begun)?.is_empty();
        let replica = &mut self.replicas[victim];
        if is_in_one {
            replica.kill()?;
        } else {
            replica.thaw()?;
        }
        Ok(is_in_one)
    }

    fn ask(&self, sql: &str) -> Result<Vec<String>> {
        let cluster: &Cluster = self.database.cluster().context("no PostgreSQL")?;
        let rows = cluster.query("certctl", sql)?;
        Ok(rows.lines().map(str::to_owned).collect())
    }

    /// Where the database is not as it has to be, or not as the clients saw it.
    fn contradictions(&self, seen: &Seen) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        for (what, sql) in RULES {
            let broken = self.ask(sql)?;
            problems.extend(broken.iter().map(|row| format!("{what}: {row}")));
        }
        let stored: HashSet<String> = self.ask(ISSUED)?.into_iter().collect();
        let mut serials = HashSet::new();
        for (order, serial) in &seen.valid {
            if !stored.contains(&format!("{order} {serial}")) {
                problems.push(format!(
                    "{order} led to {serial}, which the database does not say"
                ));
            }
            if !serials.insert(serial) {
                problems.push(format!("{serial} was downloaded of two orders"));
            }
        }
        Ok(problems)
    }
}

/// What must find nothing.
const RULES: [(&str, &str); 6] = [
    (
        "an order came to nothing",
        "SELECT id || ' ' || coalesce(error::text, '') FROM acme_orders WHERE status = 'invalid'",
    ),
    (
        "a valid order has not one version",
        "SELECT o.id || ' has ' || count(v.id) FROM acme_orders o LEFT JOIN certificate_versions v ON v.certificate_id = o.certificate_id \
         WHERE o.status = 'valid' GROUP BY o.id HAVING count(v.id) <> 1",
    ),
    (
        "two orders have one certificate",
        "SELECT certificate_id FROM acme_orders WHERE certificate_id IS NOT NULL GROUP BY certificate_id HAVING count(*) > 1",
    ),
    (
        "a serial number occurs twice",
        "SELECT serial_number FROM certificate_versions GROUP BY serial_number HAVING count(*) > 1",
    ),
    (
        "a certificate belongs to no valid order",
        "SELECT m.id FROM managed_certificates m WHERE m.source = 'ACME' \
         AND NOT EXISTS (SELECT FROM acme_orders o WHERE o.certificate_id = m.id AND o.status = 'valid')",
    ),
    (
        "a job has not ended",
        "SELECT id || ' is ' || status FROM jobs WHERE status <> 'Completed'",
    ),
];

const ISSUED: &str = "SELECT o.id || ' ' || v.serial_number FROM acme_orders o \
    JOIN certificate_versions v ON v.certificate_id = o.certificate_id WHERE o.status = 'valid'";

/// What the database tells of the run.
struct Found {
    valid: usize,
    /// Orders that nobody finalised: the answer that would have named them was lost.
    orphans: usize,
    longest: Duration,
    longest_id: String,
}

impl Found {
    fn look(site: &Site) -> Result<Self> {
        let count = |sql: &str| -> Result<usize> { Ok(site.ask(sql)?.concat().parse()?) };
        let longest = site.ask(
            "SELECT e.resource_id || ' ' || extract(epoch FROM e.timestamp - b.timestamp) FROM audit_events b \
             JOIN audit_events e ON e.resource_id = b.resource_id AND e.action = 'acme_order_finalized' \
             WHERE b.action = 'acme_order_processing' ORDER BY e.timestamp - b.timestamp DESC LIMIT 1",
        )?;
        let (id, seconds) = longest
            .first()
            .and_then(|row| row.split_once(' '))
            .context("the audit trail tells of no order")?;
        Ok(Self {
            valid: count("SELECT count(*) FROM acme_orders WHERE status = 'valid'")?,
            orphans: count("SELECT count(*) FROM acme_orders WHERE status = 'ready'")?,
            longest: Duration::from_secs_f64(seconds.parse::<f64>()?.max(0.0)),
            longest_id: id.to_owned(),
        })
    }

    fn complaints(&self, seen: &Seen) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        if self.valid != seen.valid.len() {
            problems.push(format!(
                "{} orders are valid, of which the clients know {}",
                self.valid,
                seen.valid.len()
            ));
        }
        if self.longest > LEASE + TICK + WORK {
            problems.push(format!(
                "{} was stuck for {:.1} s, longer than its lease",
                self.longest_id,
                self.longest.as_secs_f64()
            ));
        }
        let in_a_row = seen.number("refused_in_a_row")?;
        if in_a_row > 1.0 {
            problems.push(format!(
                "a nonce was refused that a refusal had brought, {in_a_row:.0} times in a row"
            ));
        }
        Ok(problems)
    }
}
