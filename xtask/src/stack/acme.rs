//! A server that issues by ACME to anybody on this machine, without limits, and clients that ask it to.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, bail, ensure};
use certctl_procs::child::{Guard, Guarded};
use serde_json::{Value, json};

use super::api::Api;
use super::home::bare;
use super::wait::until;

/// The profile of the routes that name none; it believes its accounts.
pub(crate) const PROFILE: &str = "prof-load";

/// What a server is told.
pub(crate) const SETTINGS: [(&str, &str); 11] = [
    ("CERTCTL_RATE_LIMIT_ENABLED", "false"),
    ("CERTCTL_LOG_LEVEL", "warn"),
    ("CERTCTL_ACME_SERVER_ENABLED", "true"),
    ("CERTCTL_ACME_SERVER_DEFAULT_PROFILE_ID", PROFILE),
    ("CERTCTL_ACME_SERVER_DEFAULT_OWNER_ID", "o-load"),
    ("CERTCTL_ACME_SERVER_DEFAULT_TEAM_ID", "t-load"),
    (
        "CERTCTL_ACME_SERVER_DEFAULT_RENEWAL_POLICY_ID",
        "rp-default",
    ),
    ("CERTCTL_ACME_SERVER_ISSUER_ID", "iss-local"),
    ("CERTCTL_ACME_SERVER_RATE_LIMIT_ORDERS_PER_HOUR", "0"),
    ("CERTCTL_ACME_SERVER_RATE_LIMIT_CONCURRENT_ORDERS", "0"),
    ("CERTCTL_ACME_SERVER_RATE_LIMIT_NEW_ACCOUNTS_PER_HOUR", "0"),
];

/// Makes the rows that those settings name, and waits until there is a directory.
pub(crate) fn furnish(api: &Api) -> Result<()> {
    api.post("/api/v1/teams", &json!({"id": "t-load", "name": "Load"}))?;
    api.post(
        "/api/v1/owners",
        &json!({"id": "o-load", "name": "Load", "email": "load@example.test", "team_id": "t-load"}),
    )?;
    api.post(
        "/api/v1/profiles",
        &json!({"id": PROFILE, "name": PROFILE, "acme_auth_mode": "trust_authenticated"}),
    )?;
    is_served(api, "/acme/directory")
}

/// A profile that was just made is known within a second.
pub(crate) fn is_served(api: &Api, directory: &str) -> Result<()> {
    until("the directory", || Ok(api.bytes(directory).ok())).map(drop)
}

/// What clients are to do.
pub(crate) struct Errand<'a> {
    /// The URL of the directory.
    pub(crate) directory: &'a str,
    /// The roots to trust.
    pub(crate) roots: &'a Path,
    /// A folder for what they write down.
    pub(crate) folder: &'a Path,
    pub(crate) clients: usize,
    /// `1000` orders, or `600s`.
    pub(crate) until: &'a str,
    /// Of each hundred orders so many are not finalised.
    pub(crate) abandoned: usize,
}

/// Clients at work; see the example `acme_drill` of the testkit.
pub(crate) struct Clients {
    process: Guarded,
    orders: Arc<AtomicUsize>,
    last_line: JoinHandle<Option<String>>,
    ledger: PathBuf,
}

/// What clients saw.
pub(crate) struct Seen {
    pub(crate) seconds: f64,
    /// Counts by name.
    tally: Value,
    /// The ids of orders that became valid, with the serial number of what was downloaded.
    pub(crate) valid: Vec<(String, String)>,
    pub(crate) abandoned: Vec<String>,
}

impl Clients {
    pub(crate) fn start(program: &Path, errand: &Errand<'_>) -> Result<Self> {
        let ledger = errand.folder.join("orders.txt");
        let mut command = bare(program);
        command
            .arg(errand.directory)
            .args([errand.roots, ledger.as_path()])
            .arg(errand.clients.to_string())
            .arg(errand.until)
            .arg(errand.abandoned.to_string())
            .stdout(Stdio::piped());
        let mut process = Guard::default().spawn(command)?;
        let output = process.child().stdout.take();
        let output = output.context("the clients have no output")?;
        let orders = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&orders);
        let last_line = thread::spawn(move || {
            let mut last = None;
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(number) = number_of(&line) {
                    counted.store(number, Ordering::Relaxed);
                }
                last = Some(line);
            }
            last
        });
        Ok(Self {
            process,
            orders,
            last_line,
            ledger,
        })
    }

    /// How many orders have ended.
    pub(crate) fn orders(&self) -> usize {
        self.orders.load(Ordering::Relaxed)
    }

    /// Whether the clients have ended, whatever came of it.
    pub(crate) fn are_done(&mut self) -> Result<bool> {
        Ok(self.process.try_wait()?.is_some())
    }

    /// Waits for their end.
    ///
    /// # Errors
    /// When one of them was refused something; what it was stands on standard error.
    pub(crate) fn finish(mut self) -> Result<Seen> {
        let status = self.process.wait()?;
        let last = self.last_line.join();
        ensure!(status.success(), "the clients ended with {status}");
        let line = last.ok().flatten().context("the clients say nothing")?;
        let said: Value = serde_json::from_str(&line)?;
        let (mut valid, mut abandoned) = (Vec::new(), Vec::new());
        for line in std::fs::read_to_string(&self.ledger)?.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["valid", id, serial] => valid.push((id.to_owned(), serial.to_owned())),
                ["abandoned", id] => abandoned.push(id.to_owned()),
                _ => bail!("the clients wrote down {line}"),
            }
        }
        Ok(Seen {
            seconds: said["seconds"].as_f64().context("no time")?,
            tally: said["summary"].clone(),
            valid,
            abandoned,
        })
    }
}

impl Seen {
    /// A number that they tell.
    pub(crate) fn number(&self, name: &str) -> Result<f64> {
        let number = self.tally[name].as_f64();
        number.with_context(|| format!("the clients do not tell {name}"))
    }

    /// Orders that ended, abandoned ones included.
    pub(crate) fn orders(&self) -> usize {
        self.valid.len() + self.abandoned.len()
    }
}

fn number_of(line: &str) -> Option<usize> {
    let said: Value = serde_json::from_str(line).ok()?;
    usize::try_from(said["orders"].as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::number_of;

    #[test]
    fn progress_is_told_apart_from_the_summary() {
        assert_eq!(number_of(r#"{"orders":7,"seconds":0.5}"#), Some(7));
        let summary = r#"{"seconds":0.5,"summary":{"orders":7}}"#;
        assert_eq!(number_of(summary), None);
        assert_eq!(number_of("thread 'main' panicked"), None);
    }
}
