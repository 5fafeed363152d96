//! The openssl program, as the judge that is not ours.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use certctl_procs::child;
use certctl_procs::install::Program;

/// Makes a self-signed certificate for a day, and its P-256 key.
pub(crate) fn throwaway(name: &str, certificate: &Path, key: &Path) -> Result<()> {
    let mut openssl = Command::new(Program::OpenSsl.require()?);
    openssl
        .args([
            "req",
            "-x509",
            "-nodes",
            "-days",
            "1",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args([
            "-subj",
            "/CN=throwaway",
            "-addext",
            &format!("subjectAltName=DNS:{name}"),
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
        ])
        .arg(key)
        .arg("-out")
        .arg(certificate);
    child::output(&mut openssl)?;
    Ok(())
}

/// Who is served at a port of this machine.
#[derive(Debug)]
pub(crate) struct Served {
    /// Subject, issuer, serial and end, a line each.
    pub(crate) lines: Vec<String>,
    /// The line in which the verdict is.
    pub(crate) verdict: String,
}

/// The arguments with which `openssl s_client` checks what a port serves, as one would type them.
pub(crate) fn s_client_arguments(port: u16, name: &str, root: &Path) -> Vec<String> {
    let (address, root) = (format!("127.0.0.1:{port}"), root.display().to_string());
    let words = [
        "s_client",
        "-connect",
        &address,
        "-servername",
        name,
        "-verify_hostname",
        name,
        "-CAfile",
        &root,
        "-verify_return_error",
    ];
    words.map(str::to_owned).to_vec()
}

/// Connects as a stranger who trusts this root only; fails when chain or name does not hold.
pub(crate) fn verify(port: u16, name: &str, root: &Path) -> Result<Served> {
    let program = Program::OpenSsl.require()?;
    let mut client = Command::new(&program);
    client.args(s_client_arguments(port, name, root));
    let said = child::output(&mut client)?;
    let verdict = said
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("Verify return code:") || line.starts_with("Verification:"))
        .context("openssl says nothing of verification")?
        .to_owned();
    if !verdict.ends_with("0 (ok)") && !verdict.ends_with("OK") {
        bail!("openssl: {verdict}");
    }
    let begin = said
        .find("-----BEGIN CERTIFICATE-----")
        .context("openssl shows no certificate")?;
    let lines = describe(&program, &said[begin..])?;
    Ok(Served { lines, verdict })
}

fn describe(program: &Path, pem: &str) -> Result<Vec<String>> {
    let mut x509 = Command::new(program)
        .args([
            "x509",
            "-noout",
            "-subject",
            "-issuer",
            "-serial",
            "-enddate",
            "-ext",
            "subjectAltName",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    x509.stdin
        .take()
        .context("openssl has no input")?
        .write_all(pem.as_bytes())?;
    let output = x509.wait_with_output()?;
    if !output.status.success() {
        bail!("openssl x509 ended with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.trim().to_owned())
        .collect())
}

/// Whether a CRL in DER names a serial number, which is lower-case hex without leading zeros.
pub(crate) fn crl_names(folder: &Path, crl: &[u8], serial: &str) -> Result<bool> {
    let file = folder.join("crl.der");
    std::fs::write(&file, crl).with_context(|| format!("cannot write {}", file.display()))?;
    let mut openssl = Command::new(Program::OpenSsl.require()?);
    openssl
        .args(["crl", "-inform", "DER", "-noout", "-text", "-in"])
        .arg(&file);
    let said = child::output(&mut openssl)?.to_lowercase();
    Ok(said
        .lines()
        .filter_map(|line| line.trim().strip_prefix("serial number:"))
        .any(|named| named.trim().trim_start_matches('0') == serial))
}
