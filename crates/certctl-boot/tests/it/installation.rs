//! Where a server lives in a test, and how it is started.

use std::{net::TcpListener, path::PathBuf};

use certctl_boot::{Clock as _, Error, Running, Server, SystemClock, Welcome};
use certctl_settings::{MapEnv, Settings, Sources};
use tempfile::TempDir;

use crate::client::{Client, client};

/// The key of the administrator where a test configures one.
pub(crate) const ADMIN_KEY: &str = "test-admin-key-0123456789abcdef";

/// The data directory and the settings of one server.
pub(crate) struct Installation {
    folder: TempDir,
    settings: Vec<(String, String)>,
}

impl Installation {
    /// An empty folder and an empty environment, but for the port.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data").display().to_string();
        Self {
            folder,
            settings: Vec::new(),
        }
        .set("DATA_DIR", &data)
        .set("SERVER_PORT", &free_port().to_string())
    }

    /// One on a database; for PostgreSQL with what a start on it asks for.
    pub(crate) fn on(url: &str) -> Self {
        let one = Self::new().set("DATABASE_URL", url);
        if url.starts_with("sqlite") {
            return one;
        }
        one.set("SERVER_TLS_BOOTSTRAP", "true")
            .set("AGENT_BOOTSTRAP_TOKEN", "test-bootstrap-token-0123456789")
            .set(
                "CONFIG_ENCRYPTION_KEY",
                "a test's encryption key of 32 bytes and more",
            )
    }

    /// One whose administrator is known.
    pub(crate) fn with_admin(self) -> Self {
        self.set("API_KEYS_NAMED", &format!("admin:{ADMIN_KEY}:admin"))
    }

    /// With a setting, given by its name without the prefix.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        let name = format!("CERTCTL_{name}");
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value.to_owned()));
        self
    }

    /// Without a setting again.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.settings
            .retain(|(known, _)| *known != format!("CERTCTL_{name}"));
        self
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn settings(&self) -> Settings {
        let env: MapEnv = self
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let loaded = Settings::load(&Sources::from_env(&env, SystemClock.now()));
        loaded.unwrap_or_else(|error| panic!("{error}")).settings
    }

    pub(crate) async fn build(&self) -> Result<Server, Error> {
        let metrics = certctl_boot::start_metrics().unwrap();
        Server::build(self.settings(), metrics).await
    }

    /// A server that serves, and how to reach it.
    pub(crate) async fn start(&self) -> (Running, Client, Welcome) {
        let server = self
            .build()
            .await
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
        let welcome = server.welcome().clone();
        let client = client(&welcome);
        (server.spawn(), client, welcome)
    }

    /// Why it does not start, with all causes.
    pub(crate) async fn refusal(&self) -> String {
        match self.build().await {
            Ok(_) => panic!("it starts"),
            Err(error) => chain(&error),
        }
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// An error with all its causes.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
