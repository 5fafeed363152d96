//! A server, a host with folders of its own, and an agent between them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use certctl_agent_core::{Agent, AgentConfig, End, Error, Identity, Overrides, ServerConfig};
use certctl_connectors::target::Registry;
use certctl_domain::{id::AgentId, key::KeySpec, secret::Secret, time::SystemClock};
use certctl_pki::key::PrivateKey;
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::server::{AGENT, API_KEY, Server};

pub(crate) struct Bench {
    pub(crate) server: Server,
    folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let bench = Self {
            server: Server::start().await,
            folder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(bench.tls("")).unwrap();
        bench
    }

    pub(crate) fn server_config(&self) -> ServerConfig {
        ServerConfig {
            url: self.server.url(),
            ca_bundle: Some(self.server.ca_bundle()),
            insecure_skip_verify: false,
            version: "9.8.7".to_owned(),
        }
    }

    pub(crate) fn config(&self) -> AgentConfig {
        AgentConfig {
            server: self.server_config(),
            identity: Identity {
                agent_id: AgentId::parse(AGENT).unwrap(),
                api_key: Secret::new(API_KEY),
            },
            name: "bench".to_owned(),
            key_dir: self.key_dir(),
            heartbeat_interval: Duration::from_millis(20),
            poll_interval: Duration::from_millis(20),
            start_delay: Some(Duration::ZERO),
            overrides: Overrides::default(),
        }
    }

    pub(crate) fn agent(&self) -> Agent {
        Agent::new(self.config(), Arc::new(SystemClock)).unwrap()
    }

    pub(crate) fn agent_with(&self, registry: Registry) -> Agent {
        Agent::with_registry(self.config(), registry).unwrap()
    }

    pub(crate) fn key_dir(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn tls(&self, name: &str) -> PathBuf {
        self.folder.path().join("tls").join(name)
    }

    /// A target whose commands do nothing and which is not looked at.
    pub(crate) fn target(&self) -> Value {
        json!({
            "cert_path": self.tls("cert.pem"), "key_path": self.tls("key.pem"),
            "validate_command": "true", "reload_command": "true",
        })
    }

    /// Lets a key be in use for a certificate that the server has, without an agent's doing.
    pub(crate) fn has_live_pair(&self, id: &str) -> (String, String) {
        let key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
        let chain = self.server.ca.certify(key.spki_der(), &["live.test"]);
        let certificate = json!({"certificate_pem": chain});
        self.server
            .state()
            .certificates
            .insert(id.to_owned(), certificate);
        fs::create_dir_all(self.key_dir()).unwrap();
        let pem = key.to_pem().expose().to_owned();
        fs::write(self.key_dir().join(format!("{id}.key")), &pem).unwrap();
        (chain, pem)
    }

    pub(crate) fn keys(&self) -> BTreeMap<String, String> {
        contents(&self.key_dir())
    }
}

/// A folder's files with their text.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .filter(|entry| entry.path().is_file())
        .map(|entry| {
            let text = fs::read_to_string(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), text)
        })
        .collect()
}

/// An agent whose loops run.
pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<End, Error>>,
}

impl Running {
    pub(crate) fn start(agent: Agent) -> Self {
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(async move {
            let shutdown = async {
                // A sender that is dropped asks for the end as well.
                let _ = stopped.await;
            };
            agent.run(shutdown).await
        });
        Self { stop, ended }
    }

    pub(crate) async fn stop(self) -> End {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap().unwrap()
    }

    /// Waits for an end that nobody on this side asked for.
    pub(crate) async fn ends_by_itself(self) -> End {
        let end = tokio::time::timeout(Duration::from_secs(30), self.ended).await;
        let end = end.expect("the agent ends").unwrap().unwrap();
        drop(self.stop);
        end
    }
}

/// Waits until something holds; fails loudly when it never does.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not seen within half a minute: {what}");
}
