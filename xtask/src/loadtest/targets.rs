//! The servers that the connector tier visits: nginx, Apache, HAProxy and the stand-in for an F5, each on a port of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use certctl_procs::child::{Guard, Guarded};
use certctl_procs::install::{self, Program};
use certctl_procs::nginx::Nginx;
use certctl_procs::ports::free_port;

use crate::stack::build::{Profile, Programs};
use crate::stack::home::{Home, append_to, bare};
use crate::stack::openssl;
use crate::step::root;

/// Far more than a start takes; only bounds a hang.
const START_LIMIT: Duration = Duration::from_secs(20);
const NAME: &str = "loadtest-target";

/// All of them; stopped on drop.
pub(super) struct Targets {
    urls: Vec<(&'static str, String)>,
    _nginx: Nginx,
    _others: Vec<Guarded>,
}

impl Targets {
    /// Starts them with one certificate for all, installing what is missing.
    pub(super) fn start(home: &Home, f5_mock: &Path) -> Result<Self> {
        install::ensure(&[
            Program::Nginx,
            Program::Apache,
            Program::HaProxy,
            Program::OpenSsl,
        ])?;
        let folder = home.private_folder("targets")?;
        let (certificate, key) = (folder.join("target.pem"), folder.join("target.key"));
        openssl::throwaway(NAME, &certificate, &key)?;
        let combined = [fs::read(&certificate)?, fs::read(&key)?].concat();
        fs::write(folder.join("combined.pem"), combined)?;
        let ports = [free_port()?, free_port()?, free_port()?, free_port()?];
        let nginx = Nginx::start(
            folder.join("nginx"),
            &fixture("nginx.conf", &folder, ports[0])?,
        )?;
        let others = vec![
            apache(&folder, ports[1])?,
            haproxy(&folder, ports[2])?,
            f5(f5_mock, &folder, ports[3])?,
        ];
        let names = [
            "NGINX_TARGET_URL",
            "APACHE_TARGET_URL",
            "HAPROXY_TARGET_URL",
            "F5_TARGET_URL",
        ];
        let urls = names
            .into_iter()
            .zip(ports.map(|port| format!("https://127.0.0.1:{port}")))
            .collect();
        Ok(Self {
            urls,
            _nginx: nginx,
            _others: others,
        })
    }

    /// Where they are, by the variables of the driver.
    pub(super) fn variables(&self) -> impl Iterator<Item = (String, String)> {
        self.urls
            .iter()
            .map(|(name, url)| ((*name).to_owned(), url.clone()))
    }
}

/// The stand-in for an F5.
pub(super) fn f5_mock(profile: Profile) -> Result<PathBuf> {
    Programs::package(profile, "certctl-f5-mock")
}

/// A server that does nothing but answer, and where: the same stand-in, asked nothing of an F5.
pub(super) fn answering(program: &Path, folder: &Path) -> Result<(Guarded, String)> {
    let port = free_port()?;
    let server = f5(program, folder, port)?;
    Ok((server, format!("https://127.0.0.1:{port}/healthz")))
}

/// A configuration of `loadtest/fixtures` with its places filled in; the same file serves the containers.
fn fixture(name: &str, folder: &Path, port: u16) -> Result<String> {
    let path = root().join("loadtest/fixtures").join(name);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let folder = folder.display();
    let address = format!("127.0.0.1:{port}");
    Ok(text
        .replace("/certs/", &format!("{folder}/"))
        .replace("/scratch", &folder.to_string())
        .replace("listen 443 ssl", &format!("listen {address} ssl"))
        .replace("Listen 443", &format!("Listen {address}"))
        .replace("bind :443", &format!("bind {address}"))
        .replace(
            "ServerRoot /usr/local/apache2",
            "ServerRoot /usr/lib/apache2",
        ))
}

fn apache(folder: &Path, port: u16) -> Result<Guarded> {
    let conf = write_fixture("httpd.conf", folder, port)?;
    let mut command = bare(&Program::Apache.require()?);
    command.arg("-f").arg(conf).args(["-D", "FOREGROUND"]);
    listening(command, folder, "apache", port)
}

fn haproxy(folder: &Path, port: u16) -> Result<Guarded> {
    let conf = write_fixture("haproxy.cfg", folder, port)?;
    let mut command = bare(&Program::HaProxy.require()?);
    command.arg("-db").arg("-f").arg(conf);
    listening(command, folder, "haproxy", port)
}

fn f5(program: &Path, folder: &Path, port: u16) -> Result<Guarded> {
    let mut command = bare(program);
    command
        .args(["--api-listen", &format!("127.0.0.1:{}", free_port()?)])
        .args(["--https-listen", &format!("127.0.0.1:{port}")])
        .args(["--health-listen", &format!("127.0.0.1:{}", free_port()?)])
        .args(["--user", "admin", "--password", "loadtest"])
        .arg("--cert")
        .arg(folder.join("target.pem"))
        .arg("--key")
        .arg(folder.join("target.key"));
    listening(command, folder, "f5", port)
}

fn write_fixture(name: &str, folder: &Path, port: u16) -> Result<PathBuf> {
    let file = folder.join(name);
    fs::write(&file, fixture(name, folder, port)?)?;
    Ok(file)
}

/// Starts a server and waits until its port takes connections.
fn listening(
    mut command: std::process::Command,
    folder: &Path,
    name: &str,
    port: u16,
) -> Result<Guarded> {
    let log = folder.join(format!("{name}.log"));
    append_to(&mut command, &log)?;
    let mut process = Guard::default().spawn(command)?;
    process.wait_until(&log, START_LIMIT, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    })?;
    Ok(process)
}
