//! `cargo xtask target-drill`: a server, an agent, and each kind of target that there is.
//!
//! Each service is renewed several times, and the time from the request until a visitor sees the new certificate is told.
//! Then its configuration is broken: the deployment fails, the old certificate stays in service, and when it is mended the
//! new one comes. The counters of the server must say the same.

pub(crate) mod services;

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use certctl_procs::install::{self, Program};
use serde_json::{Value, json};

use crate::stack::agent::Agent;
use crate::stack::api::{Api, text};
use crate::stack::build::{Profile, Programs};
use crate::stack::database::{Backend, Database};
use crate::stack::home::Home;
use crate::stack::interrupt;
use crate::stack::server::Server;
use crate::stack::tls::Visitor;
use crate::stack::wait::until;
use crate::step::step;
use services::{PASSWORD, Service};

/// Deploy into nginx, Apache, HAProxy and an F5, and have each of them refuse
#[derive(clap::Args)]
pub(crate) struct TargetDrill {
    /// On this database only
    #[arg(long)]
    database: Option<Backend>,
    /// How often each certificate is renewed
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

const ISSUER: &str = "iss-local";

/// From the request until the certificate is served, for 19 of 20.
const AIM: Duration = Duration::from_secs(10);

impl TargetDrill {
    /// On both databases, in short.
    pub(crate) fn everywhere() -> Self {
        Self {
            database: None,
            rounds: 3,
        }
    }

    pub(crate) fn run(&self) -> Result<()> {
        install::ensure(&[
            Program::Nginx,
            Program::Apache,
            Program::HaProxy,
            Program::OpenSsl,
        ])?;
        ensure!(self.rounds > 0, "--rounds must be at least 1");
        let profile = Profile::cheapest();
        let programs = step("build", || Programs::build(profile))?;
        let mock = step("build the stand-in for an F5", || {
            Programs::package(profile, "certctl-f5-mock")
        })?;
        interrupt::listen()?;
        for backend in crate::bench::backends(self.database) {
            step(&format!("target drill on {}", backend.name()), || {
                let home = Home::create("target-drill")?;
                let services = [
                    Service::nginx(&home)?,
                    Service::apache(&home)?,
                    Service::haproxy(&home)?,
                    Service::f5(&home, &mock)?,
                ];
                drill(&programs, backend, &home, &services, self.rounds)
            })?;
        }
        Ok(())
    }
}

fn drill(
    programs: &Programs,
    backend: Backend,
    home: &Home,
    services: &[Service],
    rounds: usize,
) -> Result<()> {
    let database = Database::start(backend, home)?;
    let settings = [(
        // The password of the F5 is sealed.
        "CERTCTL_CONFIG_ENCRYPTION_KEY",
        "target-drill-encryption-key-0123456789",
    )];
    let mut server = Server::new(&programs.server, home, "server", &database, &settings)?;
    server.start()?;
    let agent = Agent::start(&programs.agent, home, "web-1", &server)?;
    let drill = Drill::new(&server)?;
    for service in services {
        let certificate = drill.enter(service, agent.id())?;
        let mut took = (0..rounds)
            .map(|_| drill.renew(service, &certificate))
            .collect::<Result<Vec<Duration>>>()
            .with_context(|| service.kind)?;
        took.sort();
        // The smallest that 19 of 20 do not exceed.
        let p95 = took[(took.len() * 95).div_ceil(100) - 1];
        let reason = drill
            .refuse(service, &certificate)
            .with_context(|| service.kind)?;
        eprintln!(
            "    {:8} served {:.2} s after the request (median of {rounds}; p95 {:.2} s); refused and rolled back: {reason}",
            service.kind,
            took[took.len() / 2].as_secs_f64(),
            p95.as_secs_f64(),
        );
        ensure!(p95 <= AIM, "{}: p95 is {p95:?}", service.kind);
        drill.counted(service, rounds)?;
    }
    drill.tells_nobody(&server)?;
    let ended = server.stop()?;
    ensure!(ended.success(), "the server ended with {ended}");
    Ok(())
}

/// To whom the certificates belong.
struct Belonging {
    team: String,
    owner: String,
    policy: String,
}

fn enter(api: &Api) -> Result<Belonging> {
    let create = |path: &str, body| anyhow::Ok(text(&api.post(path, &body)?, "id")?.to_owned());
    let team = create("/api/v1/teams", json!({ "name": "Drill" }))?;
    let owner = json!({ "name": "Drill", "email": "drill@example.test", "team_id": team });
    Ok(Belonging {
        owner: create("/api/v1/owners", owner)?,
        policy: create("/api/v1/renewal-policies", json!({ "name": "drill" }))?,
        team,
    })
}

/// Enters, renews and refuses, as a person would by the API.
pub(crate) struct Drill {
    api: Api,
    visitor: Visitor,
    belonging: Belonging,
}

impl Drill {
    /// On a server that runs.
    pub(crate) fn new(server: &Server) -> Result<Self> {
        let api = server.api()?;
        Ok(Self {
            belonging: enter(&api)?,
            visitor: Visitor::trusting(&server.root())?,
            api,
        })
    }

    /// Enters target and certificate; the id of the certificate.
    pub(crate) fn enter(&self, service: &Service, agent: &str) -> Result<String> {
        let target = json!({
            "name": service.name, "type": service.kind, "agent_id": agent, "config": service.config,
        });
        let target = self.api.post("/api/v1/targets", &target)?;
        let Belonging {
            team,
            owner,
            policy,
        } = &self.belonging;
        let certificate = json!({
            "name": service.name, "common_name": service.name, "sans": [service.name],
            "owner_id": owner, "team_id": team, "issuer_id": ISSUER, "renewal_policy_id": policy,
            "target_ids": [text(&target, "id")?],
        });
        let made = self.api.post("/api/v1/certificates", &certificate)?;
        Ok(text(&made, "id")?.to_owned())
    }

    /// Asks for a new certificate and waits until a visitor who trusts our root only is shown it.
    pub(crate) fn renew(&self, service: &Service, id: &str) -> Result<Duration> {
        let before = self.visitor.look(service.port, &service.name).ok();
        let deployments = self.deployments(id)?;
        let asked = Instant::now();
        self.api
            .post(&format!("/api/v1/certificates/{id}/renew"), &json!({}))?;
        until("the new certificate is served", || {
            let seen = self.visitor.look(service.port, &service.name).ok();
            Ok((seen.is_some() && seen != before).then_some(()))
        })?;
        let took = asked.elapsed();
        let deployment = self.next_deployment(id, &deployments)?;
        ensure!(
            deployment["status"] == "Completed",
            "the deployment ended otherwise: {deployment}"
        );
        Ok(took)
    }

    /// Renews while the service refuses: the old certificate stays, and the new one comes when it is mended. Why it refused.
    pub(crate) fn refuse(&self, service: &Service, id: &str) -> Result<String> {
        let old = self.visitor.look(service.port, &service.name)?;
        let before = self.deployments(id)?;
        service.break_it()?;
        self.api
            .post(&format!("/api/v1/certificates/{id}/renew"), &json!({}))?;
        let failed = self.next_deployment(id, &before)?;
        ensure!(
            failed["status"] == "Failed",
            "the service cannot have taken this: {failed}"
        );
        let reason = text(&failed, "last_error")?.to_owned();
        ensure!(
            reason.starts_with("validate_failed: ")
                && (reason.contains("no_such_directive")
                    || reason.contains("committing the transaction")),
            "the reason does not say what was refused: {reason}"
        );
        let live = self.visitor.look(service.port, &service.name)?;
        ensure!(live == old, "{live} is served instead of {old}");
        service.mend_it()?;
        self.api
            .post(&format!("/api/v1/certificates/{id}/deploy"), &json!({}))?;
        until("the new certificate is served", || {
            let seen = self.visitor.look(service.port, &service.name).ok();
            Ok((seen.is_some_and(|seen| seen != old)).then_some(()))
        })?;
        // The report comes after the look, and the counters with it.
        until("no deployment is under way", || {
            let rows = self.rows(id)?;
            let idle = rows
                .iter()
                .all(|row| row["status"] != "Running" && row["status"] != "Pending");
            Ok(idle.then_some(()))
        })?;
        // The line that names the reason, from its end: before that stands the command.
        let mut lines = reason.lines();
        let line = lines
            .clone()
            .find(|line| line.contains("no_such_directive"));
        let line = line.or_else(|| lines.next()).unwrap_or_default();
        let skipped = line.chars().count().saturating_sub(100);
        Ok(line.chars().skip(skipped).collect())
    }

    /// What the server has counted for this kind of target.
    fn counted(&self, service: &Service, rounds: usize) -> Result<()> {
        let page = String::from_utf8(self.api.bytes_as_caller("/api/v1/metrics/prometheus")?)?;
        let count = |name: &str, label: &str| {
            let wanted = [
                name,
                "{",
                &format!("target_type=\"{}\"", service.kind),
                label,
            ];
            let line = page.lines().find(|line| {
                line.starts_with(name) && wanted.iter().all(|part| line.contains(part))
            });
            line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .unwrap_or_default()
        };
        let seen = [
            count("certctl_deploy_attempts_total", "result=\"success\""),
            count("certctl_deploy_attempts_total", "result=\"failure\""),
            count("certctl_deploy_validate_failures_total", ""),
            count("certctl_deploy_rollback_total", "outcome=\"restored\""),
        ];
        // Whoever mends a service may be overtaken by the next attempt at the job that failed.
        #[expect(
            clippy::cast_precision_loss,
            reason = "a few rounds are counted exactly"
        )]
        let successes = rounds as f64 + 1.0;
        ensure!(
            seen[0] >= successes && seen[1..] == [1.0, 1.0, 1.0],
            "{} was counted otherwise: {seen:?} (successes, failures, refusals, restored)",
            service.kind
        );
        Ok(())
    }

    /// The password of the F5 is on no page and in no log.
    fn tells_nobody(&self, server: &Server) -> Result<()> {
        let targets = self.api.list("/api/v1/targets")?;
        let shown = Value::from(targets).to_string() + &fs::read_to_string(server.log())?;
        ensure!(!shown.contains(PASSWORD), "the password of the F5 is shown");
        Ok(())
    }

    fn rows(&self, id: &str) -> Result<Vec<Value>> {
        let mut rows = self.api.list("/api/v1/jobs?type=Deployment")?;
        rows.retain(|row| row["certificate_id"] == id);
        Ok(rows)
    }

    fn deployments(&self, id: &str) -> Result<BTreeSet<String>> {
        self.rows(id)?
            .iter()
            .map(|row| Ok(text(row, "id")?.to_owned()))
            .collect()
    }

    /// Waits until a deployment that was not there before has ended.
    fn next_deployment(&self, id: &str, before: &BTreeSet<String>) -> Result<Value> {
        until("a deployment ends", || {
            let rows = self.rows(id)?;
            Ok(rows.into_iter().find(|row| {
                let is_new = row["id"].as_str().is_some_and(|id| !before.contains(id));
                is_new && (row["status"] == "Completed" || row["status"] == "Failed")
            }))
        })
    }
}
