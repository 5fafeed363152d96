//! The openssl program as somebody who wants to know whether a certificate is revoked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use certctl_procs::child;
use certctl_procs::install::Program;

use super::websites::{Proxy, Website};
use super::{ISSUER, SHARDS};
use crate::stack::api::Api;
use crate::stack::home::Home;
use crate::stack::openssl::s_client_arguments;

/// What OCSP says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Status {
    Good,
    /// With its reason.
    Revoked(String),
}

/// Trusts one root, knows nothing of the server but the address of the proxy.
pub(super) struct Verifier {
    program: PathBuf,
    root: PathBuf,
    folder: PathBuf,
    ocsp_url: String,
    crl_url: String,
    proxy: Api,
}

impl Verifier {
    pub(super) fn new(home: &Home, proxy: &Proxy, root: &Path) -> Result<Self> {
        Ok(Self {
            program: Program::OpenSsl.require()?,
            root: root.to_path_buf(),
            folder: home.private_folder("verifier")?,
            ocsp_url: proxy.ocsp_url(),
            crl_url: proxy.crl_url(),
            proxy: Api::new(&proxy.url(), root, "")?,
        })
    }

    /// Fails unless the certificate says where its status is told.
    pub(super) fn names_where_to_ask(&self, certificate: &Path) -> Result<()> {
        let mut said = String::new();
        for what in [&["-ocsp_uri"][..], &["-ext", "crlDistributionPoints"]] {
            let mut x509 = self.openssl(&["x509", "-noout"]);
            x509.args(what).arg("-in").arg(certificate);
            said += &child::output(&mut x509)?;
        }
        let is_part = (1..=SHARDS)
            .any(|number| said.contains(&format!("{}/{number}-of-{SHARDS}", self.crl_url)));
        ensure!(
            said.contains(&self.ocsp_url) && is_part,
            "the certificate does not say where to ask: {said}"
        );
        Ok(())
    }

    /// Asks with a nonce, which must come back, and believes what the root's CA vouches for.
    pub(super) fn by_post(&self, certificate: &Path) -> Result<Status> {
        let mut ocsp = self.ocsp(certificate);
        ocsp.args(["-url", &self.ocsp_url, "-CAfile"])
            .arg(&self.root);
        let said = verified(ocsp)?;
        ensure!(!said.contains("no nonce"), "the nonce was lost: {said}");
        status(&said, certificate)
    }

    /// Asks in the path of a GET, as caches like it (RFC 6960 §A.1).
    pub(super) fn by_get(&self, certificate: &Path) -> Result<Status> {
        let (request, response) = (self.file("request.der"), self.file("response.der"));
        let mut write = self.ocsp(certificate);
        write.args(["-no_nonce", "-reqout"]).arg(&request);
        child::output(&mut write)?;
        let mut encode = self.openssl(&["base64", "-A", "-in"]);
        encode.arg(&request);
        let encoded = child::output(&mut encode)?;
        let encoded = encoded
            .trim()
            .replace('+', "%2B")
            .replace('/', "%2F")
            .replace('=', "%3D");
        let path = format!("/.well-known/pki/ocsp/{ISSUER}/{encoded}");
        fs::write(&response, self.proxy.bytes(&path)?)?;
        let mut read = self.ocsp(certificate);
        read.args(["-no_nonce", "-respin"])
            .arg(&response)
            .arg("-CAfile")
            .arg(&self.root);
        status(&verified(read)?, certificate)
    }

    /// Asks, and believes the one responder that answered before and nobody else.
    pub(super) fn by_pinned_responder(&self, certificate: &Path) -> Result<Status> {
        let pinned = self.file("responder.pem");
        let mut look = self.ocsp(certificate);
        look.args(["-url", &self.ocsp_url, "-resp_text", "-CAfile"])
            .arg(&self.root);
        let said = verified(look)?;
        fs::write(&pinned, first_certificate(&said)?)?;
        let mut ocsp = self.ocsp(certificate);
        ocsp.args(["-url", &self.ocsp_url, "-VAfile"]).arg(&pinned);
        status(&verified(ocsp)?, certificate)
    }

    /// Whether the whole list, fetched and given to openssl, names the certificate.
    pub(super) fn is_on_list(&self, certificate: &Path) -> Result<bool> {
        let (der, pem) = (self.file("crl.der"), self.file("crl.pem"));
        let list = self
            .proxy
            .bytes(&format!("/.well-known/pki/crl/{ISSUER}"))?;
        fs::write(&der, list)?;
        let mut convert = self.openssl(&["crl", "-inform", "DER", "-in"]);
        convert.arg(&der).arg("-out").arg(&pem);
        child::output(&mut convert)?;
        let mut verify = self.verify();
        verify.arg("-CRLfile").arg(&pem).arg(certificate);
        is_revoked(verify)
    }

    /// Whether the part of the list that the certificate points at, fetched by openssl itself, names it.
    pub(super) fn is_on_downloaded_part(&self, certificate: &Path) -> Result<bool> {
        let mut verify = self.verify();
        verify.arg("-crl_download").arg(certificate);
        is_revoked(verify)
    }

    /// What is stapled to a handshake with a website; nothing when nothing is.
    pub(super) fn stapled(&self, site: &Website) -> Result<Option<String>> {
        let mut client = Command::new(&self.program);
        client
            .args(s_client_arguments(site.port, site.name, &self.root))
            .arg("-status");
        let said = child::output(&mut client)?;
        if said.contains("OCSP response: no response sent") {
            return Ok(None);
        }
        let status = said
            .lines()
            .find_map(|line| line.trim().strip_prefix("Cert Status: "));
        Ok(Some(
            status
                .context("openssl says nothing of the staple")?
                .to_owned(),
        ))
    }

    /// Asks for an answer that anyone may be given, and keeps it in a file.
    pub(super) fn fetch_staple(&self, certificate: &Path, file: &Path) -> Result<()> {
        let mut ocsp = self.ocsp(certificate);
        ocsp.args(["-no_nonce", "-url", &self.ocsp_url, "-CAfile"])
            .arg(&self.root)
            .arg("-respout")
            .arg(file);
        verified(ocsp).map(drop)
    }

    fn ocsp(&self, certificate: &Path) -> Command {
        let mut ocsp = self.openssl(&["ocsp", "-issuer"]);
        ocsp.arg(&self.root).arg("-cert").arg(certificate);
        ocsp
    }

    fn verify(&self) -> Command {
        let mut verify = self.openssl(&["verify", "-crl_check", "-CAfile"]);
        verify.arg(&self.root);
        verify
    }

    fn openssl(&self, arguments: &[&str]) -> Command {
        let mut openssl = Command::new(&self.program);
        openssl.args(arguments).stdin(Stdio::null());
        openssl
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Whether it ended well, and all it said.
fn said(mut command: Command) -> Result<(bool, String)> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.success(), text))
}

/// What `openssl ocsp` said; fails when it did not believe the answer.
fn verified(ocsp: Command) -> Result<String> {
    let (ended_well, said) = said(ocsp)?;
    ensure!(
        ended_well && said.contains("Response verify OK"),
        "openssl does not believe the answer: {said}"
    );
    Ok(said)
}

/// The status of a certificate among what `openssl ocsp` said.
fn status(said: &str, certificate: &Path) -> Result<Status> {
    let line = format!("{}: ", certificate.display());
    let word = said.lines().find_map(|said| said.strip_prefix(&line));
    match word.map(str::trim) {
        Some("good") => Ok(Status::Good),
        Some("revoked") => {
            let reason = said
                .lines()
                .find_map(|said| said.trim().strip_prefix("Reason: "));
            Ok(Status::Revoked(reason.unwrap_or_default().to_owned()))
        }
        _ => bail!("openssl says neither good nor revoked: {said}"),
    }
}

/// Whether `openssl verify` refused a certificate because it is revoked; any other refusal is an error.
fn is_revoked(verify: Command) -> Result<bool> {
    match said(verify)? {
        (true, said) if said.trim_end().ends_with(": OK") => Ok(false),
        (false, said) if said.contains("error 23 at 0 depth lookup: certificate revoked") => {
            Ok(true)
        }
        (_, said) => bail!("openssl verifies nothing: {said}"),
    }
}

/// The first certificate among other text, as PEM.
fn first_certificate(text: &str) -> Result<&str> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let begin = text
        .find("-----BEGIN CERTIFICATE-----")
        .context("the answer has no certificate in it")?;
    let end = text[begin..]
        .find(END)
        .context("a certificate has no end")?;
    Ok(&text[begin..begin + end + END.len()])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Status, first_certificate, status};

    #[test]
    fn openssl_is_understood() {
        let of = |said| status(said, Path::new("/t/a.pem"));
        assert_eq!(
            of("Response verify OK\n/t/a.pem: good\n\tThis Update: x\n").unwrap(),
            Status::Good
        );
        assert_eq!(
            of("/t/a.pem: revoked\n\tThis Update: x\n\tReason: keyCompromise\n").unwrap(),
            Status::Revoked("keyCompromise".to_owned())
        );
        of("/t/a.pem: unknown\n").unwrap_err();
        of("/t/b.pem: good\n").unwrap_err();
    }

    #[test]
    fn a_certificate_is_found_among_text() {
        let pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        assert_eq!(first_certificate(&format!("text\n{pem}more")).unwrap(), pem);
        first_certificate("nothing").unwrap_err();
    }
}
