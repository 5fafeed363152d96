//! What is shown with each client.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use certctl_procs::child;
use certctl_procs::install::Program;

use super::client::{Ca, Client, Proof};
use super::world::World;

/// One thing that a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Register and order under a profile that believes its accounts.
    Issue,
    /// Order the same again.
    Renew,
    /// Revoke by the account's key.
    Revoke,
    /// Prove a name by a file.
    Http01,
    /// Prove a name by a handshake.
    TlsAlpn01,
    /// Prove a wildcard and the name below it by records.
    Wildcard,
    /// Order for an address.
    Address,
    /// Change the account's key, and order with the new one.
    KeyRollover,
    /// Register where accounts must be bound.
    Binding,
}

/// In the order in which they are run; later ones use what earlier ones made.
pub(super) const FLOWS: [Flow; 9] = [
    Flow::Issue,
    Flow::Renew,
    Flow::Revoke,
    Flow::Http01,
    Flow::TlsAlpn01,
    Flow::Wildcard,
    Flow::Address,
    Flow::KeyRollover,
    Flow::Binding,
];

/// What became of a flow.
pub(super) enum Outcome {
    Passed,
    /// The client has no such thing.
    NotAble(&'static str),
    Failed(anyhow::Error),
}

impl Flow {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Renew => "renew",
            Self::Revoke => "revoke",
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Wildcard => "wildcard by dns-01",
            Self::Address => "ip identifier",
            Self::KeyRollover => "key rollover",
            Self::Binding => "account binding",
        }
    }

    /// Whether the server must ask for bindings.
    pub(super) fn is_bound(self) -> bool {
        self == Self::Binding
    }

    pub(super) fn run(self, client: &dyn Client, world: &World) -> Outcome {
        if let Some(reason) = client.cannot(self) {
            return Outcome::NotAble(reason);
        }
        match self.carried_out(client, world) {
            Ok(()) => Outcome::Passed,
            Err(error) => Outcome::Failed(error),
        }
    }

    fn carried_out(self, client: &dyn Client, world: &World) -> Result<()> {
        let name = client.name();
        match self {
            Self::Issue => {
                let ca = world.trusting();
                client.register(&ca)?;
                let names = [host("first", name), host("second", name)];
                let chain = client.issue(&ca, Proof::Http01, &names)?;
                judge(&chain, &ca, &names).map(drop)
            }
            Self::Renew => {
                let ca = world.trusting();
                let names = [host("first", name), host("second", name)];
                let before = world.serials(&names[0])?;
                let chain = client.renew(&ca, Proof::Http01, &names)?;
                let serial = judge(&chain, &ca, &names)?;
                ensure!(
                    !before.contains(&serial),
                    "the certificate is the one from before"
                );
                Ok(())
            }
            Self::Revoke => {
                let ca = world.trusting();
                let names = [host("first", name), host("second", name)];
                let before = world.revoked(&names[0])?;
                client.revoke(&ca, &names)?;
                let after = world.revoked(&names[0])?;
                let new: Vec<&String> = after.iter().filter(|one| !before.contains(*one)).collect();
                ensure!(
                    new.len() == 1,
                    "{} certificates were revoked instead of one",
                    new.len()
                );
                world.crl_names(new[0])
            }
            Self::Http01 => {
                let ca = world.proving();
                client.register(&ca)?;
                let names = [host("http", name)];
                let chain = client.issue(&ca, Proof::Http01, &names)?;
                judge(&chain, &ca, &names).map(drop)
            }
            Self::TlsAlpn01 => {
                let ca = world.proving();
                let names = [host("tls", name)];
                let chain = client.issue(&ca, Proof::TlsAlpn01, &names)?;
                judge(&chain, &ca, &names).map(drop)
            }
            Self::Wildcard => {
                let ca = world.proving();
                let names = [format!("*.{}", host("wild", name)), host("wild", name)];
                let chain = client.issue(&ca, Proof::Dns01, &names)?;
                judge(&chain, &ca, &names).map(drop)
            }
            Self::Address => {
                let ca = world.proving();
                let names = ["127.0.0.1".to_owned()];
                let chain = client.issue(&ca, Proof::Http01, &names)?;
                judge(&chain, &ca, &names).map(drop)
            }
            Self::KeyRollover => {
                let ca = world.proving();
                client.roll_key(&ca)?;
                let names = [host("rolled", name)];
                let chain = client.issue(&ca, Proof::Http01, &names)?;
                judge(&chain, &ca, &names).map(drop)
            }
            Self::Binding => {
                let unbound = Ca {
                    label: "unbound",
                    binding: None,
                    ..world.binding(name)?
                };
                ensure!(
                    client.register(&unbound).is_err(),
                    "an account was made without a binding"
                );
                let ca = world.binding(name)?;
                client.register(&ca)?;
                let names = [host("bound", name)];
                let chain = client.issue(&ca, Proof::Http01, &names)?;
                judge(&chain, &ca, &names).map(drop)
            }
        }
    }
}

fn host(what: &str, client: &str) -> String {
    format!("{what}.{client}.test")
}

/// Has openssl verify a chain against the CA's root and for each name; the serial number, lower-case hex without leading zeros.
fn judge(chain: &Path, ca: &Ca, names: &[String]) -> Result<String> {
    let openssl = Program::OpenSsl.require()?;
    for name in names {
        let is_address = name.parse::<std::net::IpAddr>().is_ok();
        // For a wildcard any host below it is asked for.
        let host = name.replacen('*', "any", 1);
        let mut verify = Command::new(&openssl);
        verify
            .args(["verify", "-purpose", "sslserver"])
            .arg(if is_address {
                "-verify_ip"
            } else {
                "-verify_hostname"
            })
            .arg(host)
            .arg("-CAfile")
            .arg(&ca.root)
            .arg("-untrusted")
            .arg(chain)
            .arg(chain);
        child::output(&mut verify).with_context(|| format!("openssl does not verify {name}"))?;
    }
    let mut serial = Command::new(&openssl);
    serial.args(["x509", "-noout", "-serial", "-in"]).arg(chain);
    let said = child::output(&mut serial)?.to_lowercase();
    let digits = said.trim().strip_prefix("serial=").context("no serial")?;
    Ok(digits.trim_start_matches('0').to_owned())
}
