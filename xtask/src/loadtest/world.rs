//! Everything that a scenario meets: database, server, and the servers it visits.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::driver::Variables;
use super::store::Store;
use super::suite::Suite;
use super::targets::Targets;
use crate::stack::api::Api;
use crate::stack::build::Programs;
use crate::stack::database::{Backend, Database};
use crate::stack::home::Home;
use crate::stack::server::Server;
use crate::stack::wait::until;

/// The key of the administrator, which is contract.
pub(super) const TOKEN: &str = "load-test-token";

/// What every server of a load test is started with (contract §6).
pub(super) const SETTINGS: [(&str, &str); 14] = [
    ("CERTCTL_AUTH_TYPE", "api-key"),
    ("CERTCTL_AUTH_SECRET", TOKEN),
    ("CERTCTL_LOG_LEVEL", "warn"),
    ("CERTCTL_KEYGEN_MODE", "agent"),
    ("CERTCTL_DEMO_SEED", "true"),
    ("CERTCTL_MAX_BODY_SIZE", "10485760"),
    // All requests come from one address, so a limit would refuse nearly half of them; what a refusal looks like has its own
    // scenario.
    ("CERTCTL_RATE_LIMIT_ENABLED", "false"),
    ("CERTCTL_ACME_SERVER_ENABLED", "true"),
    ("CERTCTL_ACME_SERVER_DEFAULT_PROFILE_ID", "prof-test"),
    ("CERTCTL_ACME_SERVER_DEFAULT_OWNER_ID", "o-alice"),
    ("CERTCTL_ACME_SERVER_DEFAULT_TEAM_ID", "t-platform"),
    (
        "CERTCTL_ACME_SERVER_DEFAULT_RENEWAL_POLICY_ID",
        "rp-standard",
    ),
    ("CERTCTL_ACME_SERVER_ISSUER_ID", "iss-local"),
    (
        "CERTCTL_AGENT_BOOTSTRAP_TOKEN",
        "load-test-bootstrap-token-0123456789",
    ),
];
const ENCRYPTION_KEY: &str = "load-test-encryption-key-0123456789abcdef";

/// The programs of a run.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) programs: Programs,
    pub(super) f5_mock: Option<PathBuf>,
    pub(super) k6: PathBuf,
    /// Whether the programs are optimised.
    pub(super) profile: &'static str,
}

pub(super) struct World {
    pub(super) server: Server,
    pub(super) settings: Vec<(String, String)>,
    pub(super) targets: Option<Targets>,
    pub(super) backend: Backend,
    // Dropped after the server, which uses it.
    pub(super) database: Database,
    pub(super) home: Home,
}

impl World {
    /// Brings everything up for a suite; what it started ends when it is dropped.
    pub(super) fn start(tools: &Tools, backend: Backend, suite: &Suite) -> Result<Self> {
        let home = Home::create("loadtest")?;
        let database = Database::start_with(backend, &home, suite.postgres)?;
        let mut settings: Vec<(&str, &str)> = SETTINGS.to_vec();
        if backend == Backend::Sqlite {
            settings.push(("CERTCTL_CONFIG_ENCRYPTION_KEY", ENCRYPTION_KEY));
        }
        for (name, value) in suite.settings {
            settings.retain(|(known, _)| known != name);
            settings.push((name, value));
        }
        let server = Server::new(
            &tools.programs.server,
            &home,
            "server",
            &database,
            &settings,
        )?;
        let settings = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut world = Self {
            server,
            settings,
            targets: None,
            backend,
            database,
            home,
        };
        world.server.start()?;
        if let Some(cluster) = world.database.cluster() {
            cluster.query(
                "certctl",
                "CREATE EXTENSION IF NOT EXISTS pg_stat_statements",
            )?;
        }
        world.first_scan()?;
        for file in suite.seeds {
            world.store()?.seed(file)?;
        }
        if suite.has_targets {
            let f5 = tools
                .f5_mock
                .as_deref()
                .context("the stand-in for an F5 was not built")?;
            world.targets = Some(Targets::start(&world.home, f5)?);
        }
        world.preflight()?;
        Ok(world)
    }

    /// Waits until the renewal scan of the start is over: it would plan and renew what is filled in behind its back.
    pub(super) fn first_scan(&self) -> Result<()> {
        until("the first renewal scan", || {
            Ok((self.scans()? > 0.0).then_some(()))
        })
    }

    /// How many renewal scans this server has made.
    pub(super) fn scans(&self) -> Result<f64> {
        Ok(sum(
            &self.metrics()?,
            "certctl_scheduler_runs_total",
            &["loop=\"renewalCheck\""],
        ))
    }

    /// What the server counts.
    pub(super) fn metrics(&self) -> Result<String> {
        let bytes = self.api()?.bytes_as_caller("/api/v1/metrics/prometheus")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Transactions that wrote and were committed, by their names.
    pub(super) fn commits(&self) -> Result<Commits> {
        Ok(commits(&self.metrics()?))
    }

    /// A server that answers something else under the address of ACME would be measured as a fast one.
    fn preflight(&self) -> Result<()> {
        let directory: Value =
            serde_json::from_slice(&self.api()?.bytes("/acme/profile/prof-test/directory")?)?;
        for key in [
            "newNonce",
            "newAccount",
            "newOrder",
            "revokeCert",
            "keyChange",
            "renewalInfo",
        ] {
            ensure!(
                directory[key].is_string(),
                "the ACME directory has no {key}: {directory}"
            );
        }
        Ok(())
    }

    pub(super) fn api(&self) -> Result<Api> {
        self.server.api()
    }

    pub(super) fn store(&self) -> Result<Store<'_>> {
        Store::new(&self.database, &self.server.data_folder())
    }

    /// The variables of the contract by which scripts find all of this (contract §6).
    pub(super) fn variables(&self) -> Variables {
        let mut variables = Variables::new();
        let mut set = |name: &str, value: String| variables.insert(name.to_owned(), value);
        set("CERTCTL_BASE", self.server.url());
        set("CERTCTL_TOKEN", TOKEN.to_owned());
        set(
            "CERTCTL_ACME_DIRECTORY",
            format!("{}/acme/profile/prof-test/directory", self.server.url()),
        );
        set("K6_INSECURE_SKIP_TLS_VERIFY", "true".to_owned());
        if let Some(targets) = &self.targets {
            variables.extend(targets.variables());
        }
        variables
    }

    /// The first process of PostgreSQL.
    pub(super) fn postgres_pid(&self) -> Option<u32> {
        let folder = self
            .database
            .cluster()?
            .folder()
            .join("data/postmaster.pid");
        std::fs::read_to_string(folder)
            .ok()?
            .lines()
            .next()?
            .parse()
            .ok()
    }
}

/// How many transactions of each name.
pub(super) type Commits = BTreeMap<String, f64>;

fn commits(metrics: &str) -> Commits {
    let lines = metrics.lines().filter(|line| {
        line.starts_with("certctl_db_transactions_total{") && line.contains("outcome=\"committed\"")
    });
    lines
        .filter_map(|line| {
            let name = line.split_once("name=\"")?.1.split_once('"')?.0;
            Some((name.to_owned(), line.rsplit(' ').next()?.parse().ok()?))
        })
        .collect()
}

/// The sum over a metric's lines that have these labels.
pub(super) fn sum(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    metrics
        .lines()
        .filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        })
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_told_by_name() {
        let text = "certctl_db_transactions_total{name=\"record heartbeats\",outcome=\"committed\"} 4\n\
                    certctl_db_transactions_total{name=\"record heartbeats\",outcome=\"failed\"} 9\n";
        assert_eq!(
            commits(text),
            Commits::from([("record heartbeats".to_owned(), 4.0)])
        );
    }

    #[test]
    fn lines_are_summed_by_name_and_labels() {
        let text = "a_total{loop=\"x\",result=\"ok\"} 2\na_total{loop=\"x\",result=\"no\"} 3\na_total{loop=\"y\"} 5\na_total_more 7\n";
        assert_eq!(sum(text, "a_total", &["loop=\"x\""]), 5.0);
        assert_eq!(sum(text, "a_total", &[]), 10.0);
    }
}
