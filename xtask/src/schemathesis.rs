//! `cargo xtask schemathesis`: thousands of requests that follow the OpenAPI document, and thousands that break it.
//!
//! A real server is asked what its own document promises: that what fits the schemas is taken, that what does not is refused,
//! that every answer has a status and a body that the document knows, and that none is a fault of the server.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::stack::build::{Profile, Programs};
use crate::stack::database::{Backend, Database};
use crate::stack::home::Home;
use crate::stack::python;
use crate::stack::random;
use crate::stack::server::Server;
use crate::step::{root, run, step};

/// Ask a running server, by thousands of requests made from its OpenAPI document, whether it keeps to it
#[derive(clap::Args)]
pub(crate) struct Schemathesis {
    /// On this database only
    #[arg(long)]
    database: Option<Backend>,
    /// At most so many cases for each operation and phase
    #[arg(long, default_value_t = 60)]
    examples: u32,
    /// Make the requests of an earlier run again
    #[arg(long)]
    seed: Option<u64>,
    /// Only what is named here: a path, as the document writes it
    #[arg(long)]
    path: Option<String>,
}

impl Schemathesis {
    /// What every change has to pass.
    pub(crate) const fn short() -> Self {
        Self {
            database: Some(Backend::Sqlite),
            examples: 5,
            seed: Some(1),
            path: None,
        }
    }

    pub(crate) fn run(&self) -> Result<()> {
        let tool = step("schemathesis", || python::SCHEMATHESIS.programs())?;
        let programs = step("build", || Programs::build(Profile::cheapest()))?;
        let backends = match self.database {
            Some(one) => vec![one],
            None => vec![Backend::Sqlite, Backend::Postgres],
        };
        for backend in backends {
            step(&format!("schemathesis on {}", backend.name()), || {
                self.ask(&tool.join("schemathesis"), &programs, backend)
            })?;
        }
        Ok(())
    }

    fn ask(&self, tool: &Path, programs: &Programs, backend: Backend) -> Result<()> {
        let home = Home::create("schemathesis")?;
        let database = Database::start(backend, &home)?;
        let (key, encryption) = (random::secret()?, random::secret()?);
        let mut settings = vec![
            ("CERTCTL_AUTH_SECRET", key.as_str()),
            // A limit would refuse most of what is asked.
            ("CERTCTL_RATE_LIMIT_ENABLED", "false"),
            ("CERTCTL_OCSP_RATE_LIMIT_PER_IP_MIN", "0"),
            ("CERTCTL_CERT_EXPORT_RATE_LIMIT_PER_ACTOR_HR", "0"),
            // Rows to find, to change and to trip over.
            ("CERTCTL_DEMO_SEED", "true"),
            // Its operators' routes answer 503 otherwise.
            ("CERTCTL_ACME_SERVER_ENABLED", "true"),
        ];
        if backend == Backend::Sqlite {
            settings.push(("CERTCTL_CONFIG_ENCRYPTION_KEY", encryption.as_str()));
        }
        let mut server = Server::new(&programs.server, &home, "server", &database, &settings)?;
        server.start()?;
        let outcome = self.requests(tool, &home, &server);
        if outcome.is_err() {
            let log = std::fs::read_to_string(server.log())?;
            for line in log
                .lines()
                .filter(|line| line.contains(r#""level":"ERROR""#))
                .take(20)
            {
                eprintln!("    server: {line}");
            }
        }
        let ended = server.stop()?;
        outcome?;
        ensure!(ended.success(), "the server ended with {ended}");
        Ok(())
    }

    fn requests(&self, tool: &Path, home: &Home, server: &Server) -> Result<()> {
        // Its own folder keeps what it remembers of earlier runs out of the tree.
        let folder = home.private_folder("requests")?;
        for file in ["schemathesis.toml", "xtask/schemathesis_hooks.py"] {
            let from = root().join(file);
            let name = from.file_name().context("a file has a name")?;
            std::fs::copy(&from, folder.join(name))
                .with_context(|| format!("cannot read {}", from.display()))?;
        }
        let mut command = Command::new(tool);
        command
            .arg("run")
            .arg(format!("{}/api/v1/openapi.json", server.url()))
            .args([
                "--header",
                &format!("Authorization: Bearer {}", server.key()),
            ])
            .arg("--tls-verify")
            .arg(server.root())
            .args(["--max-examples", &self.examples.to_string()])
            .args(["--continue-on-failure", "--no-shrink"])
            .current_dir(&folder);
        if let Some(seed) = self.seed {
            command.args(["--seed", &seed.to_string()]);
        }
        match &self.path {
            Some(path) => command.args(["--include-path", path]),
            // Without a filter the route of the document itself is left out.
            None => command.args(["--include-path-regex", "."]),
        };
        run(command).context("see the failures above; repeat them with --seed")
    }
}
