//! ACME orders: how many a second beside pebble, and what each costs in the database.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use certctl_procs::child::{Guard, Guarded};
use certctl_procs::install::{self, Program};
use certctl_procs::ports::free_port;
use serde_json::{Value, json};

use super::{Profile as Build, backends, built_as};
use crate::stack::api::Api;
use crate::stack::build::{Profile, Programs};
use crate::stack::database::{Backend, Database};
use crate::stack::home::{Home, append_to, bare};
use crate::stack::server::Server;
use crate::stack::wait::LIMIT;
use crate::stack::{acme, openssl, random};
use crate::step::step;

/// Whole signed ACME orders: a second beside pebble's, statements and commits of each, and what reading costs
#[derive(clap::Args)]
pub(super) struct Acme {
    /// On this database only
    #[arg(long)]
    database: Option<Backend>,
    /// How many clients order at a time
    #[arg(long, value_delimiter = ',', default_values_t = [8, 50])]
    clients: Vec<usize>,
    /// How long each run lasts, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Unoptimised, to see that it works
    #[arg(long)]
    debug: bool,
}

/// Requests for each look at what reading costs.
const READS: usize = 1000;

impl Acme {
    pub(super) fn run(self) -> Result<()> {
        step("programs", || {
            Ok(install::ensure(&[Program::Pebble, Program::OpenSsl])?)
        })?;
        let (programs, load) = step("build", || {
            let (server, driver) = if self.debug {
                (Profile::Dev, Build::Debug)
            } else {
                (Profile::Release, Build::Release)
            };
            Ok((Programs::build(server)?, built_as("acme_load", driver)?))
        })?;
        for backend in backends(self.database) {
            step(&format!("ACME on {}", backend.name()), || {
                self.measure(&programs, &load, backend)
            })?;
        }
        Ok(())
    }

    fn measure(&self, programs: &Programs, load: &Path, backend: Backend) -> Result<()> {
        let home = Home::create("bench-acme")?;
        let ours = Ours::start(programs, &home, backend)?;
        let load = Load {
            program: load.to_path_buf(),
        };
        ours.costs(&load, self.seconds)?;
        for clients in &self.clients {
            let arguments = ["orders", &clients.to_string(), &self.seconds.to_string()];
            let theirs = Pebble::orders(&home, &load, &arguments)?;
            let before = ours.counted()?;
            let mine = load.run(&ours.directory(), &ours.server.root(), &arguments)?;
            let spent = ours.counted()?.since(&before);
            let (a, b) = (rate(&mine)?, rate(&theirs)?);
            eprintln!(
                "    {clients} clients: certctl {a:.0} orders/s (p50 {:.1} ms, p99 {:.1} ms), pebble {b:.0} orders/s (p50 {:.1} ms, p99 {:.1} ms), ratio {:.2}; {}",
                number(&mine, "p50_ms")?,
                number(&mine, "p99_ms")?,
                number(&theirs, "p50_ms")?,
                number(&theirs, "p99_ms")?,
                a / b,
                spent.each(number(&mine, "orders")? + f64::from(u32::try_from(*clients)?)),
            );
        }
        ours.end()
    }
}

fn rate(said: &Value) -> Result<f64> {
    number(said, "orders_per_second")
}

fn number(said: &Value, field: &str) -> Result<f64> {
    said[field]
        .as_f64()
        .with_context(|| format!("{field} is missing in {said}"))
}

/// The driver.
struct Load {
    program: PathBuf,
}

impl Load {
    fn run(&self, directory: &str, root: &Path, arguments: &[&str]) -> Result<Value> {
        let output = Command::new(&self.program)
            .arg(directory)
            .arg(root)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            bail!("the driver ended with {} at {directory}", output.status);
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// Debian's small ACME server, which keeps everything in memory.
struct Pebble {
    port: u16,
    certificate: PathBuf,
    _process: Guarded,
}

impl Pebble {
    fn start(home: &Home) -> Result<Self> {
        let folder = home.private_folder("pebble")?;
        let (port, management) = (free_port()?, free_port()?);
        let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        openssl::throwaway("localhost", &certificate, &key)?;
        let config = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{port}"), "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": certificate, "privateKey": key, "httpPort": free_port()?, "tlsPort": free_port()?,
            "ocspResponderURL": "", "externalAccountBindingRequired": false,
        }});
        let file = folder.join("config.json");
        std::fs::write(&file, config.to_string())?;
        let mut command = bare(&Program::Pebble.require()?);
        command
            .arg("-config")
            .arg(&file)
            // It believes every proof at once, and an account that proved a name once need not do it again: what is
            // nearest to a profile that believes its accounts.
            .env("PEBBLE_VA_ALWAYS_VALID", "1")
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "100")
            .env("PEBBLE_WFE_NONCEREJECT", "0");
        let log = folder.join("pebble.log");
        append_to(&mut command, &log)?;
        let mut process = Guard::default().spawn(command)?;
        process.wait_until(&log, LIMIT, || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })?;
        Ok(Self {
            port,
            certificate,
            _process: process,
        })
    }

    fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// Orders of a pebble that has just been started. It can stop answering for good under load, because it locks an order twice for
    /// reading (letsencrypt/pebble#554); another one is asked then.
    fn orders(home: &Home, load: &Load, arguments: &[&str]) -> Result<Value> {
        const TRIES: u32 = 3;
        let mut tries = 1;
        loop {
            let pebble = Self::start(home)?;
            match load.run(&pebble.directory(), &pebble.certificate, arguments) {
                Err(reason) if tries < TRIES => {
                    eprintln!("    another pebble is started: {reason:#}");
                }
                said => return said,
            }
            tries += 1;
        }
    }
}

/// A certctl with a profile that believes its accounts, and without limits.
struct Ours {
    server: Server,
    database: Database,
}

impl Ours {
    fn start(programs: &Programs, home: &Home, backend: Backend) -> Result<Self> {
        let database = Database::start(backend, home)?;
        let key = random::secret()?;
        let mut settings = acme::SETTINGS.to_vec();
        settings.push(("CERTCTL_AUTH_SECRET", key.as_str()));
        let mut server = Server::new(&programs.server, home, "server", &database, &settings)?;
        server.start()?;
        let api = server.api()?;
        acme::furnish(&api)?;
        if let Some(cluster) = database.cluster() {
            cluster.query(
                "postgres",
                "CREATE EXTENSION IF NOT EXISTS pg_stat_statements",
            )?;
        }
        Ok(Self { server, database })
    }

    fn directory(&self) -> String {
        format!("{}/acme/directory", self.server.url())
    }

    /// What a lone order costs, and what requests cost that must cost nothing; beside what the server does by itself meanwhile.
    fn costs(&self, load: &Load, seconds: u32) -> Result<()> {
        let before = self.counted()?;
        sleep(Duration::from_secs(seconds.into()));
        let idle = self.counted()?.since(&before);
        eprintln!("    idle: {} in {seconds} s", idle.whole());
        let before = self.counted()?;
        let alone = load.run(
            &self.directory(),
            &self.server.root(),
            &["orders", "1", &seconds.to_string()],
        )?;
        let spent = self.counted()?.since(&before);
        // The first order proves the name and counts as well.
        eprintln!(
            "    1 client: {:.0} orders/s (p50 {:.1} ms); {}",
            rate(&alone)?,
            number(&alone, "p50_ms")?,
            spent.each(number(&alone, "orders")? + 1.0)
        );
        for (what, path, status) in [
            ("directory", "/acme/directory", "200"),
            ("new-nonce", "/acme/new-nonce", "204"),
            ("malformed ARI id", "/acme/renewal-info/no.id.at.all", "400"),
        ] {
            let before = self.counted()?;
            let said = load.run(
                &self.directory(),
                &self.server.root(),
                &["get", path, &READS.to_string()],
            )?;
            let spent = self.counted()?.since(&before);
            ensure!(
                said["statuses"][status] == READS,
                "{what}: {}",
                said["statuses"]
            );
            eprintln!(
                "    {READS} times {what} in {:.2} s: {}",
                number(&said, "seconds")?,
                spent.whole()
            );
        }
        Ok(())
    }

    fn counted(&self) -> Result<Counted> {
        Counted::of(&self.server.api()?, &self.database)
    }

    fn end(mut self) -> Result<()> {
        let ended = self.server.stop()?;
        ensure!(ended.success(), "the server ended with {ended}");
        Ok(())
    }
}

/// What the database was asked so far.
#[derive(Debug, Clone, Copy)]
struct Counted {
    /// Transactions that wrote and were committed, by the server's own count.
    writes: f64,
    /// On PostgreSQL by its own count: statements, and commits with those of mere reading.
    postgres: Option<(f64, f64)>,
}

impl Counted {
    fn of(api: &Api, database: &Database) -> Result<Self> {
        let text = api.bytes_as_caller("/api/v1/metrics/prometheus")?;
        let writes = String::from_utf8_lossy(&text)
            .lines()
            .filter(|line| {
                line.starts_with("certctl_db_transactions_total{")
                    && line.contains("outcome=\"committed\"")
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        let postgres = database
            .cluster()
            .map(|cluster| {
                let said = cluster.query(
                    "postgres",
                    "SELECT (SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid \
                     WHERE d.datname = 'certctl' AND s.query !~* '^(begin|commit|rollback|start transaction)')::text || ' ' || \
                     (SELECT xact_commit FROM pg_stat_database WHERE datname = 'certctl')::text",
                )?;
                let mut numbers = said.split_whitespace().map(str::parse::<f64>);
                let mut next = || numbers.next().context("PostgreSQL says nothing");
                Ok::<_, anyhow::Error>((next()??, next()??))
            })
            .transpose()?;
        Ok(Self { writes, postgres })
    }

    fn since(self, before: &Self) -> Self {
        Self {
            writes: self.writes - before.writes,
            postgres: self
                .postgres
                .zip(before.postgres)
                .map(|(now, then)| (now.0 - then.0, now.1 - then.1)),
        }
    }

    fn whole(self) -> String {
        self.by(1.0, 0)
    }

    /// For each of so many orders.
    fn each(self, orders: f64) -> String {
        format!("{} for each order", self.by(orders, 2))
    }

    fn by(self, number: f64, digits: usize) -> String {
        let mut text = format!("{:.digits$} writing transactions", self.writes / number);
        if let Some((statements, commits)) = self.postgres {
            text += &format!(
                ", {:.digits$} statements, {:.digits$} commits with those of reading",
                statements / number,
                commits / number
            );
        }
        text
    }
}
