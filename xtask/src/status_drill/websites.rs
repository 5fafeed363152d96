//! The nginx that stands before the server, and the one with the websites.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use certctl_procs::child;
use certctl_procs::nginx::{self, Nginx};
use certctl_procs::ports::free_port;
use serde_json::{Value, json};

use super::{ISSUER, page};
use crate::stack::home::Home;
use crate::stack::openssl;
use crate::stack::server::Server;
use crate::stack::site::{LOG, unquoted};
use crate::stack::wait::until;

/// Plain HTTP before the status paths of a server; stopped on drop.
pub(super) struct Proxy {
    _nginx: Nginx,
    port: u16,
}

impl Proxy {
    pub(super) fn start(home: &Home, server: &Server) -> Result<Self> {
        let port = free_port()?;
        let root = server.root().display().to_string();
        let conf = page::snippet(
            page::PROXY,
            &[
                ("listen 80;", format!("listen 127.0.0.1:{port};")),
                ("https://certctl.example.com:8443", server.url()),
                // nginx compares names only, and the server is known by one.
                (
                    "proxy_ssl_name certctl.example.com",
                    "proxy_ssl_name localhost".to_owned(),
                ),
                ("/etc/certctl/root.pem", root),
            ],
        )?;
        Ok(Self {
            _nginx: Nginx::start(home.path().join("proxy"), &nginx::conf(&conf))?,
            port,
        })
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn ocsp_url(&self) -> String {
        format!("{}/.well-known/pki/ocsp/{ISSUER}", self.url())
    }

    pub(super) fn crl_url(&self) -> String {
        format!("{}/.well-known/pki/crl/{ISSUER}", self.url())
    }
}

/// One website.
pub(super) struct Website {
    pub(super) name: &'static str,
    pub(super) port: u16,
    pub(super) certificate: PathBuf,
    key: PathBuf,
}

/// An nginx with two websites that staple what they ask for, and a third that staples a file; stopped on drop.
pub(super) struct Websites {
    nginx: Nginx,
    /// Whose certificate is revoked.
    pub(super) revoked: Website,
    /// Whose certificate is not.
    pub(super) left_alone: Website,
    /// The first one once more, with the answer from a file.
    pub(super) from_file: Website,
    conf: String,
}

const REVOKED: &str = "revoked.status.test";
const LEFT_ALONE: &str = "good.status.test";

impl Websites {
    /// Starts nginx with certificates that nobody trusts, which the agent replaces.
    pub(super) fn start(home: &Home, proxy: &Proxy, root: &Path) -> Result<Self> {
        let prefix = home.path().join("websites");
        let folder = prefix.join("tls");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let website = |name: &'static str| {
            let (certificate, key) = (
                folder.join(format!("{name}.pem")),
                folder.join(format!("{name}.key")),
            );
            anyhow::Ok(Website {
                name,
                port: free_port()?,
                certificate,
                key,
            })
        };
        let (revoked, left_alone) = (website(REVOKED)?, website(LEFT_ALONE)?);
        let from_file = website(REVOKED)?;
        let mut conf = String::new();
        for site in [&revoked, &left_alone] {
            openssl::throwaway(site.name, &site.certificate, &site.key)?;
            conf += &page::snippet(
                page::STAPLES,
                &names(
                    site,
                    &[
                        ("/etc/certctl/root.pem", root.display().to_string()),
                        (
                            "http://pki.example.com/.well-known/pki/ocsp/iss-local",
                            proxy.ocsp_url(),
                        ),
                    ],
                ),
            )?;
        }
        Ok(Self {
            nginx: Nginx::start(prefix, &nginx::conf(&conf))?,
            revoked,
            left_alone,
            from_file,
            conf,
        })
    }

    /// Where the answer lies that is stapled from a file.
    pub(super) fn staple(&self) -> PathBuf {
        self.nginx.prefix().join("tls/staple.ocsp")
    }

    /// Adds the website that staples the file, which must be there by now.
    pub(super) fn staple_from_file(&self) -> Result<()> {
        let names = names(
            &self.from_file,
            &[(
                "/etc/nginx/tls/www.ocsp",
                self.staple().display().to_string(),
            )],
        );
        let more = page::snippet(page::STAPLES_FILE, &names)?;
        fs::write(
            self.nginx.conf_path(),
            nginx::conf(&format!("{}{more}", self.conf)),
        )?;
        self.reload()
    }

    /// Has nginx read its files again, as an operator does, and waits until nobody is served by the old ones any more; what it
    /// remembered to staple is forgotten.
    pub(super) fn reload(&self) -> Result<()> {
        let before = count(&self.log()?, RELOAD);
        let mut reload = Command::new("sh");
        reload.args(["-c", &self.nginx.reload_command()]);
        child::output(&mut reload)?;
        until("nginx has read its files again", || {
            let log = self.log()?;
            let reloads = count(&log, RELOAD);
            // One worker, so one line for each reload.
            let are_done = reloads > before && count(&log, WORKER_ENDS) >= reloads;
            Ok(are_done.then_some(()))
        })
    }

    fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.nginx.prefix().join(LOG))?)
    }

    /// Whether nginx said that it was told of a revocation.
    pub(super) fn refused_to_staple(&self) -> Result<bool> {
        Ok(self
            .log()?
            .contains(r#"certificate status "revoked" in the OCSP response"#))
    }

    /// What the agent has to know of a website.
    pub(super) fn target_config(&self, site: &Website) -> Result<Value> {
        Ok(json!({
            "cert_path": site.certificate,
            "key_path": site.key,
            "validate_command": unquoted(&self.nginx.validate_command())?,
            "reload_command": unquoted(&self.nginx.reload_command())?,
            "post_deploy_verify": { "endpoint": format!("127.0.0.1:{}", site.port), "server_name": site.name },
        }))
    }
}

/// What nginx logs when it is told to reload, and when a worker takes no more connections.
const RELOAD: &str = "(SIGHUP) received";
const WORKER_ENDS: &str = "gracefully shutting down";

fn count(log: &str, words: &str) -> usize {
    log.matches(words).count()
}

/// What the page calls a website's things, and what they are here.
fn names(site: &Website, more: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
    let mut names = vec![
        (
            "listen 443 ssl",
            format!("listen 127.0.0.1:{} ssl", site.port),
        ),
        ("www.example.com", site.name.to_owned()),
        (
            "/etc/nginx/tls/www.pem",
            site.certificate.display().to_string(),
        ),
        ("/etc/nginx/tls/www.key", site.key.display().to_string()),
    ];
    names.extend_from_slice(more);
    names
}
