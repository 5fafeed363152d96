//! `cargo xtask acme-conformance`: clients that are not ours order, prove, renew and revoke at a running server.
//!
//! Names are resolved by pebble-challtestsrv, which sends them all to this machine; certificates are judged by openssl. Each client
//! runs each flow that it is able to; what it is not able to stands in the table with the reason.

mod certbot;
mod client;
mod dehydrated;
mod flows;
mod lego;
mod uacme;
mod world;

use std::time::Instant;

use anyhow::{Result, bail};
use certctl_procs::install::{self, Program};

use self::{
    client::Client,
    flows::{FLOWS, Flow, Outcome},
    world::World,
};
use crate::bench::backends;
use crate::stack::build::{Profile, Programs};
use crate::stack::database::Backend;
use crate::stack::home::Home;
use crate::step::step;

/// Have lego, certbot, uacme and dehydrated order certificates of a running server
#[derive(clap::Args)]
pub(crate) struct AcmeConformance {
    /// On this database only
    #[arg(long)]
    database: Option<Backend>,
    /// With this client only: lego, certbot, uacme or dehydrated
    #[arg(long)]
    client: Option<String>,
    /// Leave the folder with logs and certificates where it is
    #[arg(long)]
    keep: bool,
}

impl AcmeConformance {
    /// With every client, on both databases.
    pub(crate) fn everything() -> Self {
        Self {
            database: None,
            client: None,
            keep: false,
        }
    }

    pub(crate) fn run(&self) -> Result<()> {
        step("clients", || {
            Ok(install::ensure(&[
                Program::Lego,
                Program::Certbot,
                Program::Uacme,
                Program::Dehydrated,
                Program::ChallengeServer,
                Program::Curl,
                Program::OpenSsl,
            ])?)
        })?;
        let programs = step("build", || Programs::build(Profile::cheapest()))?;
        backends(self.database).into_iter().try_for_each(|backend| {
            step(&format!("ACME clients on {}", backend.name()), || {
                self.on(&programs, backend)
            })
        })
    }

    fn on(&self, programs: &Programs, backend: Backend) -> Result<()> {
        let mut home = Home::create("acme")?;
        if self.keep {
            home.keep();
            eprintln!("    everything lies in {}", home.path().display());
        }
        let clients = self.clients(&home)?;
        let mut world = World::start(programs, &home, backend)?;
        let mut table = Table::new(&clients);
        // The server is started again between the two halves, since binding is asked of everybody or of nobody.
        for asks_binding in [false, true] {
            world.serve(asks_binding)?;
            for flow in FLOWS.iter().filter(|flow| flow.is_bound() == asks_binding) {
                for (number, client) in clients.iter().enumerate() {
                    let started = Instant::now();
                    let outcome = flow.run(&**client, &world);
                    let took = started.elapsed().as_secs_f64();
                    table.note(*flow, number, &outcome);
                    match outcome {
                        Outcome::Failed(reason) => {
                            eprintln!("    {} {}: FAILED: {reason:#}", client.name(), flow.name());
                        }
                        Outcome::Passed => {
                            eprintln!("    {} {}: {took:.1} s", client.name(), flow.name());
                        }
                        Outcome::NotAble(_) => {}
                    }
                }
            }
        }
        eprint!("{}", table.text());
        let ended = world.end()?;
        if table.failures > 0 {
            bail!("{} flows failed", table.failures);
        }
        if !ended.success() {
            bail!("the server ended with {ended}");
        }
        Ok(())
    }

    fn clients(&self, home: &Home) -> Result<Vec<Box<dyn Client>>> {
        let all: Vec<Box<dyn Client>> = vec![
            Box::new(lego::Lego::new(home)?),
            Box::new(certbot::Certbot::new(home)?),
            Box::new(uacme::Uacme::new(home)?),
            Box::new(dehydrated::Dehydrated::new(home)?),
        ];
        let Some(wanted) = &self.client else {
            return Ok(all);
        };
        let found: Vec<_> = all
            .into_iter()
            .filter(|client| client.name() == wanted.as_str())
            .collect();
        if found.is_empty() {
            bail!("there is no client {wanted}");
        }
        Ok(found)
    }
}

/// What became of each flow with each client.
struct Table {
    heads: Vec<&'static str>,
    rows: Vec<(Flow, Vec<String>)>,
    notes: Vec<String>,
    failures: usize,
}

impl Table {
    fn new(clients: &[Box<dyn Client>]) -> Self {
        Self {
            heads: clients.iter().map(|client| client.name()).collect(),
            rows: FLOWS
                .iter()
                .map(|flow| (*flow, vec![String::new(); clients.len()]))
                .collect(),
            notes: Vec::new(),
            failures: 0,
        }
    }

    fn note(&mut self, flow: Flow, client: usize, outcome: &Outcome) {
        let word = match outcome {
            Outcome::Passed => "ok".to_owned(),
            Outcome::NotAble(reason) => {
                let note = format!("{}: {reason}", self.heads[client]);
                let number = self.notes.iter().position(|known| *known == note);
                let number = number.unwrap_or_else(|| {
                    self.notes.push(note);
                    self.notes.len() - 1
                });
                format!("n/a ({})", number + 1)
            }
            Outcome::Failed(_) => {
                self.failures += 1;
                "FAILED".to_owned()
            }
        };
        if let Some((_, cells)) = self.rows.iter_mut().find(|(row, _)| *row == flow) {
            cells[client] = word;
        }
    }

    fn text(&self) -> String {
        let mut text = format!("    {:<22}", "");
        text.extend(self.heads.iter().map(|head| format!("{head:<12}")));
        text.push('\n');
        for (flow, cells) in &self.rows {
            text += &format!("    {:<22}", flow.name());
            text.extend(cells.iter().map(|cell| format!("{cell:<12}")));
            text.push('\n');
        }
        for (number, note) in self.notes.iter().enumerate() {
            text += &format!("    ({}) {note}\n", number + 1);
        }
        text
    }
}
