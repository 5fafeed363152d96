//! A running server that serves a pair, and the connector for it.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use certctl_connectors::{
    deploy::{
        Engine,
        command::{CommandRunner, SystemRunner},
    },
    probe::{Endpoint, Prober},
    target::{HaProxy, Means, TargetConnector, WebServer},
};
use certctl_domain::time::SystemClock;
use certctl_testkit::{
    ca::{Ca, Pair},
    install::{Program, ensure},
    nginx::{self, free_port},
    procs::{apache, haproxy},
};
use serde_json::{Value, json};

pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// Which server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Apache,
    HaProxy,
}

/// The server itself; stopped on drop.
enum Server {
    Nginx(nginx::Nginx),
    Apache(apache::Apache),
    HaProxy(haproxy::HaProxy),
}

/// A server on two ports: `port` serves the managed pair, `other_port` one that nobody touches.
pub(crate) struct Web {
    folder: tempfile::TempDir,
    server: Server,
    kind: Kind,
    port: u16,
    other_port: u16,
    pub(crate) ca: Ca,
    pub(crate) first: Pair,
}

impl Kind {
    pub(crate) fn connector(self, runner: Arc<dyn CommandRunner>) -> Arc<dyn TargetConnector> {
        let means = Means {
            engine: Engine::new(Arc::new(SystemClock)),
            runner,
            prober: Prober::new(),
        };
        match self {
            Self::Nginx => Arc::new(WebServer::nginx(means)),
            Self::Apache => Arc::new(WebServer::apache(means)),
            Self::HaProxy => Arc::new(HaProxy::new(means)),
        }
    }

    pub(crate) fn real_connector(self) -> Arc<dyn TargetConnector> {
        self.connector(SystemRunner::shared())
    }

    /// How its deployments are called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Apache => "apache",
            Self::HaProxy => "haproxy",
        }
    }

    fn program(self) -> Program {
        match self {
            Self::Nginx => Program::Nginx,
            Self::Apache => Program::Apache,
            Self::HaProxy => Program::HaProxy,
        }
    }

    /// Whose new files are, when root deploys.
    pub(crate) fn account(self) -> u32 {
        let names: &[&str] = match self {
            Self::Nginx => &["nginx", "www-data"],
            Self::Apache => &["apache", "www-data", "httpd"],
            Self::HaProxy => &["haproxy"],
        };
        let found = names
            .iter()
            .find_map(|name| nix::unistd::User::from_name(name).unwrap());
        found.expect("the package brings an account").uid.as_raw()
    }

    /// What a deployment of a pair writes: the field of the configuration, the name of the file, its bytes and the mode
    /// of a new one.
    pub(crate) fn files(self, pair: &Pair) -> Vec<(&'static str, &'static str, String, u32)> {
        let (cert, chain, key) = (&pair.cert_pem, &pair.chain_pem, pair.key_pem.expose());
        match self {
            Self::Nginx => vec![
                ("cert_path", "cert.pem", format!("{cert}{chain}"), 0o644),
                ("key_path", "key.pem", key.to_owned(), 0o640),
            ],
            Self::Apache => vec![
                ("cert_path", "cert.pem", cert.clone(), 0o644),
                ("chain_path", "chain.pem", chain.clone(), 0o644),
                ("key_path", "key.pem", key.to_owned(), 0o600),
            ],
            Self::HaProxy => vec![("pem_path", "site.pem", format!("{cert}{chain}{key}"), 0o600)],
        }
    }

    /// The sections that serve the files of the folder `tls` on a port.
    fn block(self, folder: &Path, port: u16, tls: &str) -> String {
        let tls = folder.join(tls);
        let tls = tls.display();
        match self {
            Self::Nginx => format!(
                "    server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {tls}/cert.pem; ssl_certificate_key {tls}/key.pem; }}\n"
            ),
            Self::Apache => format!(
                "Listen 127.0.0.1:{port}\n<VirtualHost 127.0.0.1:{port}>\nSSLEngine on\nSSLCertificateFile {tls}/cert.pem\nSSLCertificateChainFile {tls}/chain.pem\nSSLCertificateKeyFile {tls}/key.pem\n</VirtualHost>\n"
            ),
            Self::HaProxy => format!(
                "frontend {port}\n    bind 127.0.0.1:{port} ssl crt {tls}/site.pem\n    http-request return status 200\n"
            ),
        }
    }
}

impl Web {
    pub(crate) fn start(kind: Kind) -> Self {
        ensure(&[kind.program()]).expect("these tests need real servers");
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new("Connector Test Root");
        let first = ca.issue("first.example");
        for (name, pair) in [("tls", &first), ("other", &ca.issue("other.example"))] {
            let tls = folder.path().join(name);
            fs::create_dir(&tls).unwrap();
            for (_, file, text, _) in kind.files(pair) {
                fs::write(tls.join(file), text).unwrap();
            }
        }
        let (port, other_port) = (free_port().unwrap(), free_port().unwrap());
        let path = folder.path();
        let text = kind.block(path, port, "tls") + &kind.block(path, other_port, "other");
        let server = match kind {
            Kind::Nginx => Server::Nginx(nginx::Nginx::start(path, &nginx::conf(&text)).unwrap()),
            Kind::Apache => {
                let conf = apache::conf(path, &text);
                Server::Apache(apache::Apache::start(path, &conf).unwrap())
            }
            Kind::HaProxy => {
                let conf = haproxy::conf(&text);
                Server::HaProxy(haproxy::HaProxy::start(path, &conf, port).unwrap())
            }
        };
        Self {
            folder,
            server,
            kind,
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
        let (validate, reload) = self.commands();
        let mut config = json!({
            "validate_command": validate,
            "reload_command": reload,
            "post_deploy_verify": {"endpoint": format!("127.0.0.1:{verified_port}"), "timeout": "5s"},
            "post_deploy_verify_attempts": 20,
            "post_deploy_verify_backoff": "50ms",
            "post_deploy_verify_max_backoff": 200_000_000,
        });
        for (field, file, _, _) in self.kind.files(&self.first) {
            config[field] = json!(self.path(file));
        }
        config
    }

    fn commands(&self) -> (String, String) {
        match &self.server {
            Server::Nginx(server) => {
                let program = Program::Nginx.require().unwrap();
                let command = format!(
                    "{} -p {} -c {} -e error.log",
                    program.display(),
                    server.prefix().display(),
                    server.conf_path().display()
                );
                (format!("{command} -t -q"), format!("{command} -s reload"))
            }
            Server::Apache(server) => (server.validate_command(), server.reload_command()),
            Server::HaProxy(server) => (server.validate_command(), server.reload_command()),
        }
    }

    pub(crate) fn verified_config(&self) -> Value {
        self.config(self.port)
    }

    pub(crate) fn misdirected_config(&self) -> Value {
        let mut config = self.config(self.other_port);
        config["post_deploy_verify_attempts"] = json!(2);
        config
    }

    /// Files that are not there yet, and no verification, for nobody serves them.
    pub(crate) fn fresh_config(&self) -> Value {
        let mut config = self.verified_config();
        for (field, file, _, _) in self.kind.files(&self.first) {
            config[field] = json!(self.path(&format!("new-{file}")));
        }
        config["post_deploy_verify"]["enabled"] = json!(false);
        config
    }

    /// Makes the server's own configuration one that it refuses.
    pub(crate) fn break_configuration(&self) {
        let path = match &self.server {
            Server::Nginx(server) => server.conf_path(),
            Server::Apache(server) => server.conf_path(),
            Server::HaProxy(server) => server.conf_path(),
        };
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, text + "nonsense;\n").unwrap();
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

    /// Waits until a certificate is served: for a moment after a reload old workers still answer, and an Apache that is
    /// started anew does not answer at all.
    pub(crate) async fn serves(&self, fingerprint: &str) {
        for _ in 0..500 {
            let seen = Prober::new().probe(&self.endpoint(), LIMIT).await;
            if seen.is_ok_and(|seen| seen.fingerprint_sha256 == fingerprint) {
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

impl Drop for Web {
    fn drop(&mut self) {
        // An Apache that did not survive a reload was started anew by the one that took it back, as nobody's child.
        if let Server::Apache(server) = &self.server {
            let command = server.reload_command().replace("graceful", "stop");
            let mut words = command.split_whitespace();
            if let Some(program) = words.next() {
                // When it is not running there is nothing to stop.
                let _: std::io::Result<std::process::Output> =
                    Command::new(program).args(words).output();
            }
        }
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
