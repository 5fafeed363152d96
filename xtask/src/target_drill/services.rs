//! The services of the drill, each of which serves a name with a certificate that nobody trusts, to begin with.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use certctl_procs::apache::{self, Apache};
use certctl_procs::child::{Guard, Guarded};
use certctl_procs::haproxy::{self, HaProxy};
use certctl_procs::ports::free_port;
use serde_json::{Value, json};

use crate::stack::home::{Home, append_to, bare};
use crate::stack::openssl;
use crate::stack::site::Site;

/// Far more than a start takes; only bounds a hang.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A service that certificates are deployed to; stopped on drop.
pub(crate) struct Service {
    /// The type of its target.
    pub(crate) kind: &'static str,
    /// The name it serves.
    pub(super) name: String,
    /// Where, on the loopback.
    pub(super) port: u16,
    /// What its target has to know.
    pub(super) config: Value,
    server: Server,
}

enum Server {
    Nginx(Site),
    Apache(Apache),
    HaProxy(HaProxy),
    F5 { _mock: Guarded, hooks: u16 },
}

impl Service {
    pub(crate) fn nginx(home: &Home) -> Result<Self> {
        let site = Site::start(home, "nginx", "nginx.certctl.test")?;
        Ok(Self {
            kind: "NGINX",
            name: site.name().to_owned(),
            port: site.port(),
            config: site.target_config()?,
            server: Server::Nginx(site),
        })
    }

    pub(crate) fn apache(home: &Home) -> Result<Self> {
        let (folder, port) = (home.private_folder("apache")?, free_port()?);
        let name = "apache.certctl.test";
        let (cert, key, chain) = (
            folder.join("site.pem"),
            folder.join("site.key"),
            folder.join("chain.pem"),
        );
        openssl::throwaway(name, &cert, &key)?;
        // Apache refuses a chain file without a certificate.
        fs::copy(&cert, &chain)?;
        let directives = format!(
            "Listen 127.0.0.1:{port}\nServerName {name}\nSSLEngine on\nSSLCertificateFile {}\nSSLCertificateKeyFile {}\nSSLCertificateChainFile {}\n",
            cert.display(),
            key.display(),
            chain.display()
        );
        let server = Apache::start(&folder, &apache::conf(&folder, &directives))?;
        let config = json!({
            "cert_path": cert, "key_path": key, "chain_path": chain,
            "validate_command": server.validate_command(), "reload_command": server.reload_command(),
        });
        Ok(Self::looked_at(
            "Apache",
            name,
            port,
            config,
            Server::Apache(server),
        ))
    }

    pub(crate) fn haproxy(home: &Home) -> Result<Self> {
        let (folder, port) = (home.private_folder("haproxy")?, free_port()?);
        let name = "haproxy.certctl.test";
        let (cert, key, pem) = (
            folder.join("first.pem"),
            folder.join("first.key"),
            folder.join("site.pem"),
        );
        openssl::throwaway(name, &cert, &key)?;
        fs::write(
            &pem,
            fs::read_to_string(&cert)? + &fs::read_to_string(&key)?,
        )?;
        let conf = haproxy::conf(&format!(
            "frontend site\n    bind 127.0.0.1:{port} ssl crt {}\n    http-request return status 200",
            pem.display()
        ));
        let server = HaProxy::start(&folder, &conf, port)?;
        let config = json!({
            "pem_path": pem,
            "validate_command": server.validate_command(), "reload_command": server.reload_command(),
        });
        Ok(Self::looked_at(
            "HAProxy",
            name,
            port,
            config,
            Server::HaProxy(server),
        ))
    }

    pub(crate) fn f5(home: &Home, program: &Path) -> Result<Self> {
        let folder = home.private_folder("f5")?;
        let (api, port, hooks) = (free_port()?, free_port()?, free_port()?);
        let name = "f5.certctl.test";
        let (cert, key) = (folder.join("first.pem"), folder.join("first.key"));
        openssl::throwaway(name, &cert, &key)?;
        let mut command = bare(program);
        for (flag, port) in [
            ("--api-listen", api),
            ("--https-listen", port),
            ("--health-listen", hooks),
        ] {
            command.args([flag, &format!("127.0.0.1:{port}")]);
        }
        command.args(["--user", "deployer", "--password", PASSWORD]);
        command.arg("--cert").arg(&cert).arg("--key").arg(&key);
        let log = folder.join("f5.log");
        append_to(&mut command, &log)?;
        let mut mock = Guard::default().spawn(command)?;
        // The sockets are bound in the order of the flags.
        mock.wait_until(&log, START_LIMIT, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, hooks)).is_ok()
        })?;
        let config = json!({
            "host": "127.0.0.1", "port": api, "username": "deployer", "password": PASSWORD, "ssl_profile": "certctl",
            // The stand-in shows a certificate that is signed by itself.
            "insecure": true,
        });
        let server = Server::F5 { _mock: mock, hooks };
        Ok(Self::looked_at("F5", name, port, config, server))
    }

    fn looked_at(
        kind: &'static str,
        name: &str,
        port: u16,
        mut config: Value,
        server: Server,
    ) -> Self {
        config["post_deploy_verify"] =
            json!({ "endpoint": format!("127.0.0.1:{port}"), "server_name": name });
        config["post_deploy_verify_backoff"] = json!("200ms");
        config["post_deploy_verify_attempts"] = json!(20);
        Self {
            kind,
            name: name.to_owned(),
            port,
            config,
            server,
        }
    }

    /// Has it refuse the next deployment, for a reason that names `nonsense` or the commit.
    pub(super) fn break_it(&self) -> Result<()> {
        match &self.server {
            Server::Nginx(site) => site.break_configuration(),
            Server::Apache(server) => spoil(server.conf_path()),
            Server::HaProxy(server) => spoil(server.conf_path()),
            Server::F5 { hooks, .. } => refuse_commit(*hooks),
        }
    }

    /// Takes that back.
    pub(super) fn mend_it(&self) -> Result<()> {
        match &self.server {
            Server::Nginx(site) => site.mend_configuration(),
            Server::Apache(server) => unspoil(server.conf_path()),
            Server::HaProxy(server) => unspoil(server.conf_path()),
            // It refuses once.
            Server::F5 { .. } => Ok(()),
        }
    }
}

/// Shown by nobody: the drill looks for it.
pub(super) const PASSWORD: &str = "drill-canary-password";

const SPOILED: &str = "no_such_directive on;\n";

fn spoil(conf: &Path) -> Result<()> {
    fs::write(conf, fs::read_to_string(conf)? + SPOILED)?;
    Ok(())
}

fn unspoil(conf: &Path) -> Result<()> {
    fs::write(conf, fs::read_to_string(conf)?.replace(SPOILED, ""))?;
    Ok(())
}

/// By the stand-in's hook for tests.
fn refuse_commit(port: u16) -> Result<()> {
    let body = json!({ "call": "PATCH /mgmt/tm/transaction/", "status": 400 }).to_string();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    write!(
        stream,
        "POST /admin/faults HTTP/1.1\r\nHost: f5\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(
        answer.starts_with("HTTP/1.1 200"),
        "the hook was refused: {answer}"
    );
    Ok(())
}
