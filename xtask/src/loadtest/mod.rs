//! `cargo xtask loadtest` and its relatives: k6 against a whole certctl of local processes.
//!
//! Each suite gets a database and a server of its own, is run by k6, and is judged by k6's thresholds and by what it changed in the
//! database. The scripts know nothing of this program: they take the variables that such harnesses take.

mod beyond;
mod capture;
mod checks;
mod compose;
mod deploys;
mod driver;
mod machine;
mod picture;
mod report;
mod requests;
mod run;
mod sampler;
mod scan;
mod seed;
mod store;
mod suite;
mod targets;
mod world;
mod yardstick;

use anyhow::Result;

use self::run::Options;
use self::suite::Suite;
use crate::stack::database::Backend;

/// Every tier of the contract, ten seconds each: what a change has to pass.
pub(crate) fn smoke() -> Result<()> {
    driver::check_keys()?;
    Options::smoke(Backend::Postgres).run(&[&suite::API])?;
    Options::smoke(Backend::Sqlite).run(&[
        &suite::BULK,
        &suite::AGENT_STORM,
        &suite::ACME_BURST,
        &suite::ACME_SIGNED,
    ])
}

/// The subcommands.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Load: a scenario of each tier for ten seconds, as every change has to pass
    LoadtestSmoke,
    /// Load: the API tier (issuance, lists) and the connector tier (handshakes with nginx, Apache, HAProxy, F5)
    Loadtest(Options),
    /// Load: bulk renewal, ACME burst and agent storm, one after the other, each on a fresh database
    LoadtestScale(Options),
    /// Load: 10,000 certificates renewed in bulk
    LoadtestScaleBulk(Options),
    /// Load: 200 ACME clients without a pause
    LoadtestScaleAcme(Options),
    /// Load: the heartbeats of 5,000 agents, 167 a second
    LoadtestScaleAgent(Options),
    /// Load: 100 ACME clients, each once a second
    LoadtestAcmeFlow(Options),
    /// Load: whole signed ACME orders, 50 a second
    LoadtestAcmeSigned(Options),
    /// Load: 150 ACME orders of one account, of which 100 are taken
    LoadtestAcmeRatelimit(Options),
    /// Load: 2,000 heartbeats a second, each agent with its own key
    LoadtestAgentFlood(Options),
    /// Load: agents that poll, send requests, fetch certificates and report, while 20 renewals a second are asked for
    LoadtestAgentLoop(Options),
    /// Load: bulk renewals that always have something to do
    LoadtestBulkRenewalSustained(Options),
    /// Load: deployments into nginx, Apache, HAProxy and an F5, until they are served; then each refuses a broken configuration
    LoadtestConnectorDeploy(Options),
    /// Load: the API tier beside 60,000 certificates and 10,000 agents
    LoadtestDbScale(Options),
    /// Load: 10,000 renewals until none is left, with 25, 50 and 100 batches at a time
    LoadtestDrain(Options),
    /// Load: ten times the usual rate on a server with its usual limits
    LoadtestOverload(Options),
    /// Load: renewal scans over growing fleets
    LoadtestRenewalScan(Options),
    LoadtestCapture(capture::Capture),
    LoadtestReset(seed::Reset),
    Seed(seed::Seed),
}

impl Command {
    pub(crate) fn run(&self) -> Result<()> {
        let [drain_25, drain_50, drain_100] = &suite::DRAINS;
        let (options, suites): (&Options, &[&Suite]) = match self {
            Self::Loadtest(options) => (options, &[&suite::API]),
            Self::LoadtestScale(options) => (
                options,
                &[&suite::BULK, &suite::ACME_BURST, &suite::AGENT_STORM],
            ),
            Self::LoadtestScaleBulk(options) => (options, &[&suite::BULK]),
            Self::LoadtestScaleAcme(options) => (options, &[&suite::ACME_BURST]),
            Self::LoadtestScaleAgent(options) => (options, &[&suite::AGENT_STORM]),
            Self::LoadtestAcmeFlow(options) => (options, &[&suite::ACME_FLOW]),
            Self::LoadtestAcmeSigned(options) => (options, &[&suite::ACME_SIGNED]),
            Self::LoadtestAcmeRatelimit(options) => (options, &[&suite::ACME_RATELIMIT]),
            Self::LoadtestAgentFlood(options) => (options, &[&suite::AGENT_FLOOD]),
            Self::LoadtestAgentLoop(options) => (options, &[&suite::AGENT_LOOP]),
            Self::LoadtestBulkRenewalSustained(options) => (options, &[&suite::SUSTAINED]),
            Self::LoadtestConnectorDeploy(options) => (options, &[&deploys::SUITE]),
            Self::LoadtestDbScale(options) => (options, &[&suite::DB_SCALE]),
            Self::LoadtestDrain(options) => (options, &[drain_25, drain_50, drain_100]),
            Self::LoadtestOverload(options) => (options, &[&suite::OVERLOAD]),
            Self::LoadtestRenewalScan(options) => (options, &[&scan::SUITE]),
            Self::LoadtestSmoke => return smoke(),
            Self::LoadtestCapture(capture) => return capture.run(),
            Self::LoadtestReset(reset) => return reset.run(),
            Self::Seed(seed) => return seed.run(),
        };
        options.run(suites)
    }
}
