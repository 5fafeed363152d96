//! Shows that the private key is on the agent's host and nowhere else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, bail};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use super::managed::Managed;
use crate::stack::agent::Agent;
use crate::stack::api::text;
use crate::stack::database::Database;
use crate::stack::random::hex;
use crate::stack::server::Server;

pub(super) fn check(
    managed: &Managed<'_>,
    agent: &Agent,
    server: &Server,
    database: &Database,
) -> Result<((), String)> {
    let path = agent.key_folder().join(format!("{}.key", managed.id()));
    let mode = fs::metadata(&path)
        .with_context(|| format!("there is no {}", path.display()))?
        .permissions()
        .mode()
        & 0o7777;
    if mode != 0o600 {
        bail!("{} has mode {mode:04o}", path.display());
    }
    let forms = forms(&fs::read(&path)?)?;
    let stored = database.contents(&server.data_folder())?;
    let version = managed
        .versions()?
        .into_iter()
        .next()
        .context("there is no version")?;
    // Who does not find what must be there looks in the wrong place.
    if !contains(&stored, version.serial.as_bytes()) {
        bail!("the database does not hold the certificate that was just issued");
    }
    let log = fs::read(server.log())?;
    for (name, form) in &forms {
        if contains(&stored, form) || contains(&log, form) {
            bail!("the server has the private key as {name}");
        }
    }
    let exported = managed.api.get(&managed.path("/export/pem"))?;
    let exported = text(&exported, "full_pem")?;
    if !exported.contains("BEGIN CERTIFICATE") || exported.contains("PRIVATE KEY") {
        bail!("the export is not just certificates");
    }
    let names: Vec<&str> = forms.iter().map(|(name, _)| *name).collect();
    let said = format!(
        "made on the agent's host, {} with mode {mode:04o}\n{} KiB of database and log searched for it as {}: not there; the serial is\nthe export holds certificates only",
        path.display(),
        (stored.len() + log.len()) / 1024,
        names.join(", "),
    );
    Ok(((), said))
}

/// What the key would look like if somebody had stored it.
fn forms(pem: &[u8]) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let key = PrivateKeyDer::from_pem_slice(pem)?;
    let der = key.secret_der();
    let number = private_number(der).context("the key is not one for P-256")?;
    let body = std::str::from_utf8(pem)?
        .lines()
        .nth(1)
        .context("the key has no body")?;
    Ok(vec![
        ("PEM", body.as_bytes().to_vec()),
        ("DER", der.to_vec()),
        ("bytes", number.to_vec()),
        ("hex", hex(number).into_bytes()),
    ])
}

/// The 32 bytes of the private number: an octet string after the version 1 (RFC 5915, section 3).
fn private_number(der: &[u8]) -> Option<&[u8]> {
    const BEFORE: [u8; 5] = [0x02, 0x01, 0x01, 0x04, 0x20];
    let at = der
        .windows(BEFORE.len())
        .position(|window| window == BEFORE)?
        + BEFORE.len();
    der.get(at..at + 32)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_private_number_follows_the_version() {
        let der = [
            &[0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20][..],
            &[7; 32],
            &[0xa0, 0x00],
        ]
        .concat();
        assert_eq!(private_number(&der), Some(&[7; 32][..]));
        assert_eq!(private_number(&der[..20]), None);
        assert!(contains(&der, &[7; 32]) && !contains(&der, &[7; 33]));
    }
}
