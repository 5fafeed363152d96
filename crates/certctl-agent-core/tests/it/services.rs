//! Services on the bench's host, each with a pair that nobody manages to begin with.

use std::{fs, path::Path};

use certctl_domain::secret::Secret;
use certctl_testkit::{
    f5_mock::{Effect, Fault, Mock, Options, PairPem},
    install::{Program, ensure},
    nginx::{self, free_port},
    procs::{apache, haproxy},
};
use serde_json::{Value, json};

use crate::bench::Bench;

/// What kind of service it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Apache,
    HaProxy,
    F5,
}

/// A running service; stopped on drop.
pub(crate) struct Service {
    server: Server,
    /// Where it serves, on the loopback.
    pub(crate) port: u16,
    /// The configuration of the target, with verification.
    pub(crate) target: Value,
}

enum Server {
    Nginx(nginx::Nginx),
    Apache(apache::Apache),
    HaProxy(haproxy::HaProxy),
    F5(Box<Mock>),
}

impl Kind {
    /// The type of its targets.
    pub(crate) fn target_type(self) -> &'static str {
        match self {
            Self::Nginx => "NGINX",
            Self::Apache => "Apache",
            Self::HaProxy => "HAProxy",
            Self::F5 => "F5",
        }
    }

    /// What is seen of a deployment that a broken configuration of the service stops.
    pub(crate) fn stopped_with(self) -> &'static str {
        match self {
            Self::Nginx | Self::Apache => "nonsense",
            Self::HaProxy => "unknown keyword 'nonsense;'",
            Self::F5 => "committing the transaction was refused with 400",
        }
    }
}

impl Service {
    pub(crate) async fn start(kind: Kind, bench: &Bench) -> Self {
        let (chain, key) = bench.has_live_pair("elsewhere");
        fs::remove_dir_all(bench.key_dir()).unwrap();
        let port = free_port().unwrap();
        let tls = bench.tls("");
        let folder = bench.folder();
        let (server, port, mut target) = match kind {
            Kind::Nginx => {
                write(&tls, &[("cert.pem", &chain), ("key.pem", &key)]);
                let (server, target) = nginx(folder, port);
                (Server::Nginx(server), port, target)
            }
            Kind::Apache => {
                let root = bench.server.ca.root_pem();
                write(
                    &tls,
                    &[("cert.pem", &chain), ("key.pem", &key), ("chain.pem", root)],
                );
                let (server, target) = apache(folder, port);
                (Server::Apache(server), port, target)
            }
            Kind::HaProxy => {
                write(&tls, &[("site.pem", &format!("{chain}{key}"))]);
                let (server, target) = haproxy(folder, port);
                (Server::HaProxy(server), port, target)
            }
            Kind::F5 => {
                let (mock, target) = f5(chain, key).await;
                let port = mock.virtual_server().port();
                (Server::F5(Box::new(mock)), port, target)
            }
        };
        target["post_deploy_verify"] = json!({"endpoint": format!("127.0.0.1:{port}")});
        target["post_deploy_verify_backoff"] = json!("100ms");
        target["post_deploy_verify_attempts"] = json!(20);
        Self {
            server,
            port,
            target,
        }
    }

    /// Has the service refuse what it is given next.
    pub(crate) fn break_it(&self) {
        let path = match &self.server {
            Server::Nginx(server) => server.conf_path(),
            Server::Apache(server) => server.conf_path(),
            Server::HaProxy(server) => server.conf_path(),
            Server::F5(mock) => {
                return mock.device().inject(Fault {
                    call: "PATCH /mgmt/tm/transaction/".to_owned(),
                    after: 0,
                    effect: Effect::Status(400),
                });
            }
        };
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, text + "nonsense;\n").unwrap();
    }
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
}

fn nginx(folder: &Path, port: u16) -> (nginx::Nginx, Value) {
    ensure(&[Program::Nginx]).expect("this test needs nginx: install the package nginx");
    let conf = nginx::conf(&format!(
        "server {{ listen 127.0.0.1:{port} ssl; ssl_certificate tls/cert.pem; ssl_certificate_key tls/key.pem; }}"
    ));
    let server = nginx::Nginx::start(folder, &conf).unwrap();
    let command = format!(
        "{} -p {} -c {} -e error.log",
        Program::Nginx.require().unwrap().display(),
        server.prefix().display(),
        server.conf_path().display()
    );
    let target = json!({
        "cert_path": folder.join("tls/cert.pem"), "key_path": folder.join("tls/key.pem"),
        "validate_command": format!("{command} -t -q"), "reload_command": format!("{command} -s reload"),
    });
    (server, target)
}

fn apache(folder: &Path, port: u16) -> (apache::Apache, Value) {
    ensure(&[Program::Apache]).expect("this test needs Apache: install the package apache2");
    let site = format!(
        "Listen 127.0.0.1:{port}\nSSLEngine on\nSSLCertificateFile tls/cert.pem\nSSLCertificateKeyFile tls/key.pem\nSSLCertificateChainFile tls/chain.pem\n"
    );
    let server = apache::Apache::start(folder, &apache::conf(folder, &site)).unwrap();
    let target = json!({
        "cert_path": folder.join("tls/cert.pem"), "key_path": folder.join("tls/key.pem"),
        "chain_path": folder.join("tls/chain.pem"),
        "validate_command": server.validate_command(), "reload_command": server.reload_command(),
    });
    (server, target)
}

fn haproxy(folder: &Path, port: u16) -> (haproxy::HaProxy, Value) {
    ensure(&[Program::HaProxy]).expect("this test needs HAProxy: install the package haproxy");
    let pem = folder.join("tls/site.pem");
    let conf = haproxy::conf(&format!(
        "frontend site\n    bind 127.0.0.1:{port} ssl crt {}\n    http-request return status 200",
        pem.display()
    ));
    let server = haproxy::HaProxy::start(folder, &conf, port).unwrap();
    let target = json!({
        "pem_path": pem,
        "validate_command": server.validate_command(), "reload_command": server.reload_command(),
    });
    (server, target)
}

async fn f5(chain: String, key: String) -> (Mock, Value) {
    let pair = PairPem {
        certificates: chain,
        key: Secret::new(key),
    };
    let options = Options {
        pair: Some(pair),
        ..Options::on_loopback()
    };
    let mock = Mock::start(options).await.unwrap();
    let target = json!({
        "host": "127.0.0.1", "port": mock.api().port(), "username": "admin", "password": "admin",
        "ssl_profile": "certctl", "insecure": true,
    });
    (mock, target)
}
