//! k6, and what can be seen of it while it runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use certctl_procs::child::{Guard, Guarded};
use certctl_procs::ports::free_port;
use serde_json::Value;

use crate::stack::home::{Home, append_to, bare, tail};
use crate::stack::python;
use crate::step::{root, run};

/// What k6 ends with when a threshold was breached.
const BREACHED: i32 = 99;

/// The variables that a script is run with.
pub(super) type Variables = BTreeMap<String, String>;

/// A k6 that runs a script; ended on drop.
pub(super) struct Driver {
    process: Guarded,
    address: String,
    log: PathBuf,
    client: ureq::Agent,
}

/// What k6 counts while it runs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Glance {
    pub(super) requests: f64,
    pub(super) p95_ms: f64,
}

impl Driver {
    /// Starts a script, which lies below `loadtest/`; its summary goes into `folder`.
    pub(super) fn start(
        k6: &Path,
        home: &Home,
        script: &str,
        variables: &Variables,
        folder: &Path,
    ) -> Result<Self> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let log = home
            .path()
            .join(format!("{}.log", script.replace('/', "-")));
        let mut command = bare(k6);
        command
            .args(["run", "--quiet", "--no-usage-report", "--address", &address])
            .current_dir(root().join("loadtest"))
            .env("HOME", home.path());
        command
            .arg("-e")
            .arg(format!("LOADTEST_RESULTS={}", folder.display()));
        for (name, value) in variables {
            command.arg("-e").arg(format!("{name}={value}"));
        }
        command.arg(script);
        append_to(&mut command, &log)?;
        let client = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(1)))
            .proxy(None)
            .build()
            .new_agent();
        Ok(Self {
            process: Guard::default()
                .grace(Duration::from_secs(40))
                .spawn(command)?,
            address,
            log,
            client,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// How far it is; nothing before its first samples and after its end.
    pub(super) fn glance(&self) -> Option<Glance> {
        let sample = |metric: &str, field: &str| {
            let url = format!("http://{}/v1/metrics/{metric}", self.address);
            let mut answer = self.client.get(url).call().ok()?;
            let text = answer.body_mut().read_to_string().ok()?;
            let said: Value = serde_json::from_str(&text).ok()?;
            said["data"]["attributes"]["sample"][field].as_f64()
        };
        Some(Glance {
            requests: sample("http_reqs", "count")?,
            p95_ms: sample("http_req_duration", "p(95)").unwrap_or_default(),
        })
    }

    /// Whether it has ended. What it thinks of its thresholds is in its summary.
    pub(super) fn ended(&mut self) -> Result<bool> {
        let Some(status) = self.process.try_wait()? else {
            return Ok(false);
        };
        match status.code() {
            Some(0 | BREACHED) => Ok(true),
            _ => bail!(
                "k6 ended with {status}:\n{}",
                self.complaints(40).join("\n")
            ),
        }
    }

    /// The last lines it wrote.
    pub(super) fn complaints(&self, lines: usize) -> Vec<String> {
        tail(&self.log, lines)
    }
}

/// Where k6 is; installed when it is not there yet.
pub(super) fn k6() -> Result<PathBuf> {
    Ok(python::K6.programs()?.join("k6"))
}

/// Whether the driver's own keys are written as ACME wants them, which a run with few accounts would mostly not notice.
pub(super) fn check_keys() -> Result<()> {
    let mut command = bare(&k6()?);
    command
        .args(["run", "--quiet", "--no-usage-report", "k6/acme_keys.js"])
        .current_dir(root().join("loadtest"));
    run(command)
}

/// Reads the one summary that a script has written into a folder.
pub(super) fn summary(folder: &Path) -> Result<Value> {
    let mut found = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "json") {
            found.push(path);
        }
    }
    let [file] = &found[..] else {
        bail!("k6 wrote {} summaries, not one", found.len());
    };
    let text = fs::read_to_string(file)?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))
}
