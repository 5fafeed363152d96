//! A certctl-server that was started as a process.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use certctl_testkit::{
    client::Client,
    nginx::free_port,
    procs::child::{Guard, Guarded, Signal},
};
use tempfile::TempDir;

/// The key of the administrator.
pub(crate) const ADMIN_KEY: &str = "test-admin-key-0123456789abcdef";
/// A key to seal with.
pub(crate) const ENCRYPTION_KEY: &str = "a test's encryption key of 32 bytes and more";

/// Far more than anything takes; a test that waits this long fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a server lives, and its settings.
pub(crate) struct Home {
    folder: TempDir,
    pub(crate) port: u16,
    settings: Vec<(String, String)>,
}

impl Home {
    /// An empty folder, an empty environment but for the port, and an administrator who is known.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data").display().to_string();
        let port = free_port().unwrap();
        Self {
            folder,
            port,
            settings: Vec::new(),
        }
        .set("DATA_DIR", &data)
        .set("SERVER_PORT", &port.to_string())
        .set("API_KEYS_NAMED", &format!("admin:{ADMIN_KEY}:admin"))
    }

    /// One on a database; for PostgreSQL with what a start on it asks for.
    pub(crate) fn on(url: &str) -> Self {
        let one = Self::new()
            .set("DATABASE_URL", url)
            .set("CONFIG_ENCRYPTION_KEY", ENCRYPTION_KEY);
        if url.starts_with("sqlite") {
            return one;
        }
        one.set("SERVER_TLS_BOOTSTRAP", "true")
            .set("AGENT_BOOTSTRAP_TOKEN", "test-bootstrap-token-0123456789")
    }

    /// With a setting, given by its name without the prefix.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.settings
            .push((format!("CERTCTL_{name}"), value.to_owned()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The root that its own certificate comes from.
    pub(crate) fn root(&self) -> String {
        fs::read_to_string(self.path("data/tls/root.crt")).unwrap_or_default()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The program with these settings and no others.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certctl-server"));
        command
            .args(arguments)
            .env_clear()
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end: status, standard output, standard error.
    pub(crate) fn run(&self, arguments: &[&str]) -> (ExitStatus, String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status, text(output.stdout), text(output.stderr))
    }

    /// Starts the program; it may not be ready yet.
    pub(crate) fn spawn(&self) -> Process<'_> {
        let mut command = self.command(&[]);
        let log = File::create(self.path("log")).unwrap();
        command.stderr(log.try_clone().unwrap()).stdout(log);
        let guard = Guard::default().grace(PATIENCE);
        Process {
            home: self,
            child: guard.spawn(command).unwrap(),
        }
    }

    /// Starts the program and waits until it is ready; trusts the root it made, or this one.
    pub(crate) async fn start(&self, root: Option<&str>) -> (Process<'_>, Client) {
        let mut process = self.spawn();
        let client = process.ready(root).await;
        (process, client)
    }
}

/// A process; stopped on drop.
pub(crate) struct Process<'a> {
    home: &'a Home,
    child: Guarded,
}

impl Process<'_> {
    /// Waits until it says that it is ready.
    pub(crate) async fn ready(&mut self, root: Option<&str>) -> Client {
        let port = self.home.port;
        let mut client = None;
        self.until("it is ready", async |home| {
            let root = root.map_or_else(|| home.root(), str::to_owned);
            // Its port is its own from its start on, so whoever answers there with the right certificate is it.
            if !root.contains("END CERTIFICATE") {
                return false;
            }
            let one = client.insert(Client::new(port, &root));
            one.connect().await.is_ok() && one.get("/ready", "").await.status == 200
        })
        .await;
        client.expect("it was made before it answered")
    }

    /// Waits until something is so; fails when the process ends before.
    pub(crate) async fn until(&mut self, what: &str, mut so: impl AsyncFnMut(&Home) -> bool) {
        let waited = async {
            while !so(self.home).await {
                if let Some(status) = self.child.try_wait().unwrap() {
                    panic!("{what}: it ended with {status}:\n{}", self.home.log());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waited).await;
        waited.unwrap_or_else(|_| panic!("never seen: {what}:\n{}", self.home.log()));
    }

    /// Waits until the log holds a text.
    pub(crate) async fn says(&mut self, text: &str) {
        self.until(text, async |home| home.log().contains(text))
            .await;
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.child.signal(signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, ended).await;
        ended.unwrap_or_else(|_| panic!("it does not end:\n{}", self.home.log()))
    }

    /// Asks it to end, and waits.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }
}
