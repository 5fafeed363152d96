//! `cargo xtask demo`: one certificate through its whole life, on real programs.

mod bring_up;
mod faults;
mod life;
mod managed;
mod progress;
mod secrecy;

use std::path::Path;

use anyhow::Result;
use certctl_procs::install::{self, Program};

use crate::stack::build::{Profile, Programs};
use crate::stack::database::{Backend, Database};
use crate::stack::home::{self, Home};
use crate::stack::openssl::s_client_arguments;
use crate::stack::server::Server;
use crate::stack::site::Site;
use crate::stack::tls::Visitor;
use crate::stack::{agent, interrupt, server, site};
use managed::Managed;
use progress::Progress;

/// Take one certificate through its whole life: server, agent and a real nginx.
#[derive(clap::Args)]
pub(crate) struct Demo {
    /// End after the last step instead of staying until Ctrl-C.
    #[arg(long)]
    exit: bool,
    /// What the server stores in.
    #[arg(long, value_enum, default_value = "sqlite")]
    database: Backend,
    /// Leave the files of the run where they are, all but those of PostgreSQL.
    #[arg(long)]
    keep: bool,
}

/// The folders of the processes.
const SERVER: &str = "server";
const AGENT: &str = "web-1";
const SITE: &str = "nginx";

/// The name that is certified.
const NAME: &str = "demo.certctl.test";

impl Demo {
    /// As a check that ends by itself.
    pub(crate) fn to_the_end(database: Backend) -> Self {
        Self {
            exit: true,
            database,
            keep: false,
        }
    }

    pub(crate) fn run(&self) -> Result<()> {
        install::ensure(match self.database {
            Backend::Sqlite => &[Program::Nginx, Program::OpenSsl],
            Backend::Postgres => &[Program::Nginx, Program::OpenSsl, Program::Postgres],
        })?;
        let profile = Profile::cheapest();
        println!(
            "building server and agent ({}); the first time takes some minutes",
            profile.as_str()
        );
        let programs = Programs::build(profile)?;
        interrupt::listen()?;
        let mut home = Home::create("demo")?;
        if self.keep {
            home.keep();
        }
        println!("everything of this run lies in {}", home.path().display());
        let shown = self.show(&home, &programs);
        if shown.is_err() && interrupt::check().is_ok() {
            show_logs(home.path());
        }
        let path = home.path().to_path_buf();
        drop(home);
        let fate = if self.keep { "kept" } else { "removed" };
        println!("everything is stopped; {} is {fate}", path.display());
        shown
    }

    fn show(&self, home: &Home, programs: &Programs) -> Result<()> {
        let mut steps = Progress::new(15);
        // What is started first is stopped last.
        let database = steps.step("database", || bring_up::database(self.database, home))?;
        let server = steps.step("server", || {
            bring_up::server(&programs.server, home, &database)
        })?;
        let (api, visitor) = (server.api()?, Visitor::trusting(&server.root())?);
        let belonging = steps.step("team, owner, policy, profile", || bring_up::belonging(&api))?;
        steps.step("issuer", || bring_up::issuer(&api))?;
        let mut agent = steps.step("agent", || {
            bring_up::agent(&programs.agent, home, &server, &api)
        })?;
        let site = steps.step("nginx", || bring_up::site(home, &visitor))?;
        let managed = steps.step("target and certificate", || {
            let id = bring_up::certificate(&api, agent.id(), &site, &belonging)?;
            let said = format!("{id} for {NAME}, to be put into nginx by {}", agent.id());
            Ok((Managed::new(&api, &visitor, &site, id), said))
        })?;
        steps.step("first issuance", || life::first_issuance(&managed))?;
        steps.step("the key never left", || {
            secrecy::check(&managed, &agent, &server, &database)
        })?;
        steps.step("a stranger's view", || {
            life::judge(&managed, &server.root())
        })?;
        steps.step("renewal under load", || {
            life::renew_under_load(&managed, &server.root())
        })?;
        steps.step("deploy again", || faults::deploy_again(&managed))?;
        steps.step("broken nginx configuration", || {
            faults::broken_configuration(&managed)
        })?;
        steps.step("revocation", || life::revoke(&managed))?;
        steps.step("agent retired", || life::retire(&api, &mut agent))?;
        farewell(&server, &site, &database);
        if !self.exit {
            println!("\nrunning until Ctrl-C");
            interrupt::wait();
        }
        Ok(())
    }
}

/// What one needs to go on by oneself.
fn farewell(server: &Server, site: &Site, database: &Database) {
    let (url, root, key) = (server.url(), server.root(), server.key());
    let curl = format!(
        "curl --cacert {} -H 'Authorization: Bearer {key}'",
        root.display()
    );
    println!();
    println!("API       {url}/api/v1 (described by {url}/api/v1/openapi.json)");
    println!("website   https://{NAME}:{} on 127.0.0.1", site.port());
    println!("root      {}", root.display());
    println!("key       {key}");
    if let Database::Postgres { cluster, .. } = database {
        println!(
            "database  socket and files in {}",
            cluster.folder().display()
        );
    }
    println!("\ntry next:");
    println!("  {curl} {url}/api/v1/certificates");
    println!("  {curl} {url}/api/v1/metrics/prometheus");
    let words = s_client_arguments(site.port(), NAME, &root);
    println!("  openssl {} </dev/null", words.join(" "));
}

/// The end of every log, for whoever has to find out why a step failed.
fn show_logs(home: &Path) {
    const LINES: usize = 12;
    for (folder, log) in [
        (SERVER, server::LOG),
        (AGENT, agent::LOG),
        (SITE, site::LOG),
    ] {
        let lines = home::tail(&home.join(folder).join(log), LINES);
        if !lines.is_empty() {
            eprintln!("\nthe last lines of {folder}/{log}:");
            lines.iter().for_each(|line| eprintln!("  {line}"));
        }
    }
}
