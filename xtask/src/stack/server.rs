//! A certctl-server that can be killed and started again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use certctl_procs::child::{Guard, Guarded, Signal};
use certctl_procs::ports::free_port;
use serde_json::Value;

use super::api::Api;
use super::database::Database;
use super::home::{Home, append_to, bare};

/// A server with its own data folder and port; stopped on drop.
pub(crate) struct Server {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    settings: Vec<(String, String)>,
    process: Option<Guarded>,
    key: String,
    bootstrap_token: String,
}

/// Far more than a start takes; only bounds a hang.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The line that shows the key of the administrator, up to the key.
const KEY_LINE: &str = "admin API key, shown this once: ";

impl Server {
    /// Prepares a server in a folder of that name, with further settings beyond those that the database needs.
    ///
    /// A key given as `CERTCTL_AUTH_SECRET` is used; otherwise it is read from the log of the first start, which has it
    /// only on a new database.
    pub(crate) fn new(
        program: &Path,
        home: &Home,
        name: &str,
        database: &Database,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let folder = home.private_folder(name)?;
        let port = free_port()?;
        let mut all = database.environment();
        all.push(("CERTCTL_SERVER_PORT".to_owned(), port.to_string()));
        all.push((
            "CERTCTL_DATA_DIR".to_owned(),
            folder.join("data").display().to_string(),
        ));
        all.extend(
            settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let key = settings
            .iter()
            .find(|(name, _)| *name == "CERTCTL_AUTH_SECRET");
        Ok(Self {
            program: program.to_path_buf(),
            folder,
            port,
            settings: all,
            process: None,
            key: key.map(|(_, key)| (*key).to_owned()).unwrap_or_default(),
            bootstrap_token: settings
                .iter()
                .find(|(name, _)| *name == "CERTCTL_AGENT_BOOTSTRAP_TOKEN")
                .map(|(_, token)| *token)
                .or(database.bootstrap_token())
                .unwrap_or_default()
                .to_owned(),
        })
    }

    /// Changes a setting for the next start.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it and waits until it is ready; the time from its start until then, in steps of ten milliseconds.
    pub(crate) fn start(&mut self) -> Result<Duration> {
        let mut command = bare(&self.program);
        command
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder);
        append_to(&mut command, &self.log())?;
        let started = Instant::now();
        let guard = Guard::default().grace(Duration::from_secs(40));
        let process = self.process.insert(guard.spawn(command)?);
        let (url, root) = (
            format!("https://127.0.0.1:{}", self.port),
            self.folder.join(ROOT),
        );
        let mut probe: Option<Api> = None;
        process.wait_until(&self.folder.join(LOG), START_LIMIT, || {
            // The first start makes the root, so there is nothing to trust before.
            if probe.is_none() {
                probe = Api::new(&url, &root, "").ok();
            }
            probe.as_ref().is_some_and(|api| {
                api.send(ureq::http::Method::GET, "/ready", None)
                    .is_ok_and(|answer| answer.status == 200)
            })
        })?;
        let took = started.elapsed();
        self.learn()?;
        Ok(took)
    }

    /// Reads what the first start made.
    fn learn(&mut self) -> Result<()> {
        if self.key.is_empty() {
            let log = fs::read_to_string(self.log())?;
            self.key = shown_key(&log).context("the log does not show the administrator's key")?;
        }
        if self.bootstrap_token.is_empty() {
            let token = fs::read_to_string(self.data_folder().join("agent-bootstrap-token"))?;
            self.bootstrap_token = token.trim_end().to_owned();
        }
        Ok(())
    }

    /// Has it do nothing until it is thawed or killed.
    pub(crate) fn freeze(&mut self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub(crate) fn thaw(&mut self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        let process = self.process.as_mut().context("the server does not run")?;
        Ok(process.signal(signal)?)
    }

    /// Ends it with SIGKILL, as a crash does.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        match self.process.take() {
            Some(mut process) => Ok(process.stop()?),
            None => bail!("the server does not run"),
        }
    }

    /// The process id, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Guarded::pid)
    }

    /// The memory it holds now, in KiB.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        let pid = self.pid().context("the server does not run")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.context("the system does not say how much memory the server holds")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The root that its own certificate comes from.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join(ROOT)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join(LOG)
    }

    pub(crate) fn data_folder(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The key of the administrator.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// What agents register with.
    pub(crate) fn bootstrap_token(&self) -> &str {
        &self.bootstrap_token
    }

    /// A client with the administrator's key.
    pub(crate) fn api(&self) -> Result<Api> {
        Api::new(&self.url(), &self.root(), &self.key)
    }
}

/// Below the folder of a server.
pub(crate) const LOG: &str = "server.log";
const ROOT: &str = "data/tls/root.crt";

/// The key in the JSON lines of a first start.
fn shown_key(log: &str) -> Option<String> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|line| {
            line["msg"]
                .as_str()?
                .strip_prefix(KEY_LINE)
                .map(str::to_owned)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_read_from_the_log_of_a_first_start() {
        let log = "{\"msg\":\"listening\"}\nplain\n{\"level\":\"INFO\",\"msg\":\"admin API key, shown this once: 00ff\"}\n";
        assert_eq!(shown_key(log).as_deref(), Some("00ff"));
        assert_eq!(shown_key("{\"msg\":\"listening\"}"), None);
    }
}
