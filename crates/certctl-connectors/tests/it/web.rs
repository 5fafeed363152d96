//! A running nginx that serves a pair, and the connector for it.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use certctl_connectors::{
    deploy::{
        Engine,
        command::{CommandRunner, SystemRunner},
    },
    probe::{Endpoint, Prober},
    target::Nginx,
};
use certctl_domain::time::SystemClock;
use certctl_testkit::{
    ca::{Ca, Pair},
    install::{Program, ensure},
    nginx::{self, free_port},
};
use serde_json::{Value, json};

pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// nginx on two ports: `port` serves the managed pair, `other_port` one that nobody touches.
pub(crate) struct Web {
    folder: tempfile::TempDir,
    server: nginx::Nginx,
    port: u16,
    other_port: u16,
    pub(crate) ca: Ca,
    pub(crate) first: Pair,
}

impl Web {
    pub(crate) fn start() -> Self {
        ensure(&[Program::Nginx]).expect("these tests need nginx: install the package nginx");
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new("Connector Test Root");
        let first = ca.issue("first.example");
        for (name, pair) in [("tls", &first), ("other", &ca.issue("other.example"))] {
            let tls = folder.path().join(name);
            fs::create_dir(&tls).unwrap();
            fs::write(tls.join("cert.pem"), &pair.cert_pem).unwrap();
            fs::write(tls.join("key.pem"), pair.key_pem.expose()).unwrap();
        }
        let (port, other_port) = (free_port().unwrap(), free_port().unwrap());
        let block = |port: u16, tls: &str| {
            format!(
                "    server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {tls}/cert.pem; ssl_certificate_key {tls}/key.pem; }}\n"
            )
        };
        let http = block(port, "tls") + &block(other_port, "other");
        let server = nginx::Nginx::start(folder.path(), &nginx::conf(&http)).unwrap();
        Self {
            folder,
            server,
            port,
            other_port,
            ca,
            first,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("tls").join(name)
    }

    /// The target's configuration, with verification of `port` or `other_port`.
    pub(crate) fn config(&self, verified_port: u16) -> Value {
        let program = Program::Nginx.require().unwrap();
        let command = format!(
            "{} -p {} -c {} -e error.log",
            program.display(),
            self.server.prefix().display(),
            self.server.conf_path().display()
        );
        json!({
            "cert_path": self.path("cert.pem"),
            "key_path": self.path("key.pem"),
            "validate_command": format!("{command} -t -q"),
            "reload_command": format!("{command} -s reload"),
            "post_deploy_verify": {"endpoint": format!("127.0.0.1:{verified_port}"), "timeout": "5s"},
            "post_deploy_verify_attempts": 20,
            "post_deploy_verify_backoff": "50ms",
            "post_deploy_verify_max_backoff": 200_000_000,
        })
    }

    pub(crate) fn verified_config(&self) -> Value {
        self.config(self.port)
    }

    pub(crate) fn misdirected_config(&self) -> Value {
        let mut config = self.config(self.other_port);
        config["post_deploy_verify_attempts"] = json!(2);
        config
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::new("127.0.0.1", self.port)
    }

    pub(crate) async fn served(&self) -> String {
        Prober::new()
            .probe(&self.endpoint(), LIMIT)
            .await
            .unwrap()
            .fingerprint_sha256
    }

    /// Waits until a certificate is served: for a moment after a reload old workers still answer.
    pub(crate) async fn serves(&self, fingerprint: &str) {
        for _ in 0..500 {
            if self.served().await == fingerprint {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{fingerprint} is never served");
    }

    /// Every file of the managed folder with bytes, mode and owner.
    pub(crate) fn snapshot(&self) -> BTreeMap<String, (Vec<u8>, u32, u32, u32)> {
        snapshot(&self.folder.path().join("tls"))
    }
}

pub(crate) fn snapshot(folder: &Path) -> BTreeMap<String, (Vec<u8>, u32, u32, u32)> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let is = entry.metadata().unwrap();
            let bytes = fs::read(entry.path()).unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, (bytes, is.mode() & 0o7777, is.uid(), is.gid()))
        })
        .collect()
}

pub(crate) fn connector(runner: Arc<dyn CommandRunner>) -> Nginx {
    Nginx::new(Engine::new(Arc::new(SystemClock)), runner, Prober::new())
}

pub(crate) fn real_connector() -> Nginx {
    connector(SystemRunner::shared())
}
