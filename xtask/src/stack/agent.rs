//! A certctl-agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context as _, Result};
use certctl_procs::child::{self, Guard, Guarded};

use super::home::{Home, append_to, bare};
use super::server::Server;
use super::wait;

/// A registered agent that runs; stopped on drop.
pub(crate) struct Agent {
    process: Guarded,
    folder: PathBuf,
    id: String,
}

/// Below the folder of an agent.
pub(crate) const LOG: &str = "agent.log";

impl Agent {
    /// Registers an agent with the server's bootstrap token, under the name of its folder, and starts it.
    ///
    /// It asks for work twice a second, for nobody wants to watch it wait for half a minute.
    pub(crate) fn start(program: &Path, home: &Home, name: &str, server: &Server) -> Result<Self> {
        let folder = home.private_folder(name)?;
        let identity = folder.join("agent.env");
        let mut register = bare(program);
        register
            .args([
                "register",
                "--name",
                name,
                "--server",
                &server.url(),
                "--ca-bundle",
            ])
            .arg(server.root())
            .arg("--out")
            .arg(&identity)
            .env("CERTCTL_AGENT_BOOTSTRAP_TOKEN", server.bootstrap_token());
        child::output(&mut register)?;
        let environment = environment(&fs::read_to_string(&identity)?);
        let id = environment
            .iter()
            .find(|(name, _)| name == "CERTCTL_AGENT_ID");
        let id = id
            .map(|(_, id)| id.clone())
            .context("the registration gave no id")?;
        let mut run = bare(program);
        run.envs(environment)
            .env("CERTCTL_KEY_DIR", folder.join(KEYS))
            .env("CERTCTL_AGENT_HEARTBEAT_INTERVAL", "1s")
            .env("CERTCTL_AGENT_POLL_INTERVAL", "500ms")
            .env("CERTCTL_AGENT_START_DELAY", "0s")
            .env("CERTCTL_VERIFY_DELAY", "300ms");
        append_to(&mut run, &folder.join(LOG))?;
        Ok(Self {
            process: Guard::default().spawn(run)?,
            folder,
            id,
        })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Where it keeps its keys.
    pub(crate) fn key_folder(&self) -> PathBuf {
        self.folder.join(KEYS)
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait_for_end(&mut self) -> Result<ExitStatus> {
        wait::until("the agent ends", || Ok(self.process.try_wait()?))
    }
}

const KEYS: &str = "keys";

/// The lines of an environment file.
fn environment(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
