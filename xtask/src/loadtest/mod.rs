//! `cargo xtask loadtest` and its relatives: k6 against a whole certctl of local processes.
//!
//! Each suite gets a database and a server of its own, is run by k6, and is judged by k6's thresholds and by what it changed in the
//! database. The scripts know nothing of this program: they take the variables that such harnesses take.

mod checks;
mod driver;
mod machine;
mod picture;
mod report;
mod run;
mod sampler;
mod store;
mod suite;
mod targets;
mod world;

use anyhow::Result;

use self::run::Options;
use self::suite::Suite;

/// The subcommands.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Load: the API tier (issuance, lists) and the connector tier (handshakes with nginx, Apache, HAProxy, F5)
    Loadtest(Options),
    /// Load: bulk renewal, ACME burst and agent storm, one after the other, each on a fresh database
    LoadtestScale(Options),
    /// Load: 10,000 certificates renewed in bulk
    LoadtestScaleBulk(Options),
    /// Load: 200 ACME clients without a pause
    LoadtestScaleAcme(Options),
    /// Load: the heartbeats of 5,000 agents
    LoadtestScaleAgent(Options),
    /// Load: 100 ACME clients, each once a second
    LoadtestAcmeFlow(Options),
}

impl Command {
    pub(crate) fn run(&self) -> Result<()> {
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
        };
        options.run(suites)
    }
}
