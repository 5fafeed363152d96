//! A website on an nginx of its own.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use certctl_procs::nginx::{self, Nginx};
use certctl_procs::ports::free_port;
use serde_json::{Value, json};

use super::home::Home;
use super::openssl;

/// An nginx that serves one name; stopped on drop.
pub(crate) struct Site {
    nginx: Nginx,
    port: u16,
    name: String,
    conf: String,
}

/// Below the folder of a site.
pub(crate) const LOG: &str = "error.log";

impl Site {
    /// Starts nginx in a folder of that name. It cannot start without a certificate, so it gets a self-signed one that
    /// nobody trusts.
    pub(crate) fn start(home: &Home, folder: &str, name: &str) -> Result<Self> {
        let prefix = home.path().join(folder);
        fs::create_dir_all(prefix.join("tls"))?;
        openssl::throwaway(name, &prefix.join(CERTIFICATE), &prefix.join(KEY))?;
        let port = free_port()?;
        let conf = nginx::conf(&format!(
            "    server {{
        listen 127.0.0.1:{port} ssl;
        server_name {name};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {CERTIFICATE};
        ssl_certificate_key {KEY};
        location / {{ return 200 'served by nginx, certified by certctl\\n'; }}
    }}"
        ));
        Ok(Self {
            nginx: Nginx::start(prefix, &conf)?,
            port,
            name: name.to_owned(),
            conf,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.nginx.prefix().join(CERTIFICATE)
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.nginx.prefix().join(KEY)
    }

    /// What a target of type NGINX has to know.
    pub(crate) fn target_config(&self) -> Result<Value> {
        Ok(json!({
            "cert_path": self.certificate(),
            "key_path": self.key(),
            "validate_command": unquoted(&self.nginx.validate_command())?,
            "reload_command": unquoted(&self.nginx.reload_command())?,
            "post_deploy_verify": { "endpoint": format!("127.0.0.1:{}", self.port), "server_name": self.name },
        }))
    }

    /// Puts a directive into the configuration that nginx does not know.
    pub(crate) fn break_configuration(&self) -> Result<()> {
        fs::write(
            self.nginx.conf_path(),
            format!("no_such_directive on;\n{}", self.conf),
        )?;
        Ok(())
    }

    /// Takes it out again.
    pub(crate) fn mend_configuration(&self) -> Result<()> {
        fs::write(self.nginx.conf_path(), &self.conf)?;
        Ok(())
    }

    /// How often nginx was told to read its files again.
    pub(crate) fn reloads(&self) -> Result<usize> {
        let log = fs::read_to_string(self.nginx.prefix().join(LOG))?;
        Ok(log
            .lines()
            .filter(|line| line.contains("reconfiguring"))
            .count())
    }

    /// Which files are in place: each with its inode and when it was changed, in nanoseconds since 1970.
    pub(crate) fn files(&self) -> Result<Vec<(u64, i64)>> {
        let stamp = |path: &Path| {
            let file =
                fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
            anyhow::Ok((file.ino(), file.mtime() * 1_000_000_000 + file.mtime_nsec()))
        };
        Ok(vec![stamp(&self.certificate())?, stamp(&self.key())?])
    }
}

const CERTIFICATE: &str = "tls/site.pem";
const KEY: &str = "tls/site.key";

/// The command without its quotes, which a target's commands may not have: they are run without a shell.
pub(crate) fn unquoted(command: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || " /._-'".contains(c);
    if !command.chars().all(plain) || command.contains("''") || command.contains(r"'\''") {
        bail!("the folder for temporary files needs quoting: {command}");
    }
    Ok(command.replace('\'', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_left_out_only_where_they_are_not_needed() {
        assert_eq!(
            unquoted("'/usr/sbin/nginx' -p '/t/a-b' -t").unwrap(),
            "/usr/sbin/nginx -p /t/a-b -t"
        );
        for bad in [r"'/t/it'\''s' -t", "'/t/a;b' -t", "'/t/$x'"] {
            assert!(unquoted(bad).is_err(), "{bad}");
        }
    }
}
