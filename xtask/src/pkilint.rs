//! `cargo xtask pkilint`: certificates, CRLs and OCSP answers of a running server before a judge that is not ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::stack::api::{Api, text};
use crate::stack::build::{Profile, Programs};
use crate::stack::database::{Backend, Database};
use crate::stack::home::Home;
use crate::stack::openssl;
use crate::stack::python;
use crate::stack::server::Server;
use crate::stack::wait::until;
use crate::step::step;

/// Have pkilint look at a certificate of every default profile, at CRLs and at OCSP answers
#[derive(clap::Args)]
pub(crate) struct Pkilint {
    /// The database of the server
    #[arg(long, default_value = "sqlite")]
    database: Backend,
}

/// The profiles of the demo seed, each with names that it allows.
const PROFILES: [(&str, &str, &[&str]); 6] = [
    (
        "prof-standard-tls",
        "standard.example.com",
        &["standard.example.com", "www.standard.example.com"],
    ),
    (
        "prof-internal-mtls",
        "lint.internal.example.com",
        &["lint.internal.example.com"],
    ),
    (
        "prof-short-lived",
        "workload.example.com",
        &["workload.example.com"],
    ),
    (
        "prof-short-lived",
        "spiffe.example.com",
        &["spiffe://example.com/workload/lint"],
    ),
    (
        "prof-high-security",
        "secure.example.com",
        &["secure.example.com"],
    ),
    ("prof-smime", "bob@example.com", &["bob@example.com"]),
];

/// Findings that are the program's own: it takes URIs of the schemes it knows only for URIs, and SPIFFE's is none of them.
const SPARED: [&str; 1] = [r#"Invalid URI syntax: "spiffe://"#];

/// Parts of the revocation list.
const SHARDS: u32 = 2;

impl Pkilint {
    /// As a step of the checks.
    pub(crate) fn short() -> Self {
        Self {
            database: Backend::Sqlite,
        }
    }

    pub(crate) fn run(&self) -> Result<()> {
        let tools = step("pkilint", || python::PKILINT.programs())?;
        let programs = step("build", || Programs::build(Profile::cheapest()))?;
        step(&format!("pkilint on {}", self.database.name()), || {
            self.lint(&tools, &programs)
        })
    }

    fn lint(&self, tools: &Path, programs: &Programs) -> Result<()> {
        let home = Home::create("pkilint")?;
        let database = Database::start(self.database, &home)?;
        let settings = [
            ("CERTCTL_AUTH_SECRET", "pkilint-key-0123456789abcdef0123"),
            (
                "CERTCTL_CONFIG_ENCRYPTION_KEY",
                "pkilint-encryption-key-0123456789",
            ),
            ("CERTCTL_KEYGEN_MODE", "server"),
            ("CERTCTL_DEMO_MODE_ACK", "true"),
            ("CERTCTL_DEMO_SEED", "true"),
            ("CERTCTL_RATE_LIMIT_ENABLED", "false"),
        ];
        let mut server = Server::new(&programs.server, &home, "server", &database, &settings)?;
        server.start()?;
        let lints = Lints {
            tools: tools.to_path_buf(),
            folder: home.private_folder("documents")?,
        };
        lints.look_at(&server)?;
        server.stop()?;
        Ok(())
    }
}

/// The programs, and where what they look at is put.
struct Lints {
    tools: PathBuf,
    folder: PathBuf,
}

impl Lints {
    fn look_at(&self, server: &Server) -> Result<()> {
        let api = server.api()?;
        point_somewhere(&api)?;
        self.certificate("the root", &fs::read(server.root())?)?;
        let mut issued = Vec::new();
        for (number, (profile, common_name, names)) in PROFILES.into_iter().enumerate() {
            let id = issue(&api, number, profile, common_name, names)
                .with_context(|| format!("no certificate by {profile}"))?;
            let pem = api.get(&format!("/api/v1/certificates/{id}/export/pem"))?;
            let pem = text(&pem, "cert_pem")?.to_owned();
            self.certificate(&format!("{profile} for {common_name}"), pem.as_bytes())?;
            issued.push(id);
        }
        let revoked = issued.first().context("nothing was issued")?;
        let good = issued.last().context("nothing was issued")?;
        self.lists(&api, "before a revocation")?;
        api.post(
            &format!("/api/v1/certificates/{revoked}/revoke"),
            &json!({ "reason": "keyCompromise" }),
        )?;
        for (word, serial) in [
            ("revoked", serial(&api, revoked)?),
            ("good", serial(&api, good)?),
            ("unknown", "0badc0de".to_owned()),
        ] {
            let answer = api.bytes(&format!("/.well-known/pki/ocsp/iss-local/{serial}"))?;
            self.document(
                &format!("an OCSP answer: {word}"),
                &answer,
                "lint_ocsp_response",
                &[],
            )?;
        }
        let entry = serial(&api, revoked)?;
        // The CRL is made again soon after a revocation, not with it.
        until("the CRL that names the revoked certificate", || {
            let crl = api.bytes(CRL)?;
            Ok(openssl::crl_names(&self.folder, &crl, &entry)?.then_some(()))
        })?;
        self.lists(&api, "after it")
    }

    /// The whole list, and each part of it.
    fn lists(&self, api: &Api, when: &str) -> Result<()> {
        const ARGUMENTS: [&str; 4] = ["-t", "CRL", "-p", "PKIX"];
        let whole = api.bytes(CRL)?;
        self.document(&format!("the CRL {when}"), &whole, "lint_crl", &ARGUMENTS)?;
        for number in 1..=SHARDS {
            let part = format!("{number}-of-{SHARDS}");
            let list = api.bytes(&format!("{CRL}/{part}"))?;
            self.document(
                &format!("part {part} of the CRL {when}"),
                &list,
                "lint_crl",
                &ARGUMENTS,
            )?;
        }
        Ok(())
    }

    fn certificate(&self, what: &str, pem: &[u8]) -> Result<()> {
        self.document(
            &format!("the certificate of {what}"),
            pem,
            "lint_pkix_cert",
            &[],
        )
    }

    /// Fails with what the program found, if it found an error.
    fn document(&self, what: &str, bytes: &[u8], program: &str, arguments: &[&str]) -> Result<()> {
        let file = self.folder.join("document");
        fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
        let output = Command::new(self.tools.join(program))
            .arg("lint")
            .args(["-s", "ERROR", "-f", "TEXT"])
            .args(arguments)
            .arg(&file)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {program}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = errors(&said);
        // It ends with the number of what it found, and with that of a crash of its own when it found nothing.
        ensure!(
            output.status.success() || !errors.is_empty(),
            "{program} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let (spared, ours): (Vec<&str>, Vec<&str>) = errors
            .into_iter()
            .partition(|error| SPARED.iter().any(|known| error.contains(known)));
        ensure!(ours.is_empty(), "{what} is not clean: {said}");
        match spared[..] {
            [] => eprintln!("    {what}: no error"),
            _ => eprintln!("    {what}: no error but {}", spared.join(", ")),
        }
        Ok(())
    }
}

/// The lines that say what is wrong; those between them say where.
fn errors(said: &str) -> Vec<&str> {
    said.lines()
        .map(str::trim)
        .filter(|line| line.contains(" (ERROR)") || line.contains(" (FATAL)"))
        .collect()
}

const CRL: &str = "/.well-known/pki/crl/iss-local";

/// Has certificates and parts of the list say where status is told, so that this is looked at, too.
fn point_somewhere(api: &Api) -> Result<()> {
    let config = json!({
        "ocsp_url": "http://pki.example.com/.well-known/pki/ocsp/iss-local",
        "crl_distribution_point_urls": [format!("http://pki.example.com{CRL}")],
        "crl_shards": SHARDS,
    });
    api.call(
        ureq::http::Method::PUT,
        "/api/v1/issuers/iss-local",
        Some(&json!({ "config": config })),
    )?;
    Ok(())
}

/// Has a certificate made by a profile, with a key of the server's; its id.
fn issue(
    api: &Api,
    number: usize,
    profile: &str,
    common_name: &str,
    names: &[&str],
) -> Result<String> {
    let made = api.post(
        "/api/v1/certificates",
        &json!({
            "name": format!("pkilint-{number}"), "common_name": common_name, "sans": names, "environment": "development",
            "owner_id": "o-alice", "team_id": "t-platform", "issuer_id": "iss-local", "renewal_policy_id": "rp-standard",
            "certificate_profile_id": profile,
        }),
    )?;
    let id = text(&made, "id")?.to_owned();
    api.post(&format!("/api/v1/certificates/{id}/renew"), &json!({}))?;
    until("the certificate", || {
        let row = api.get(&format!("/api/v1/certificates/{id}"))?;
        match text(&row, "status")? {
            "Failed" => bail!("the issuance failed: {}", last_error(api, &id)?),
            status => Ok((status == "Active").then_some(())),
        }
    })?;
    Ok(id)
}

fn last_error(api: &Api, certificate: &str) -> Result<String> {
    let jobs = api.list("/api/v1/jobs?per_page=500")?;
    let job = jobs
        .into_iter()
        .find(|job| job["certificate_id"] == certificate);
    Ok(job.map_or_else(
        || "it has no job".to_owned(),
        |job| job["last_error"].to_string(),
    ))
}

fn serial(api: &Api, certificate: &str) -> Result<String> {
    let versions: Vec<Value> = api.list(&format!("/api/v1/certificates/{certificate}/versions"))?;
    let newest = versions.first().context("it has no version")?;
    Ok(text(newest, "serial_number")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::errors;

    #[test]
    fn errors_are_told_from_where_they_are() {
        let said = "UriValidator @ certificate.tbsCertificate\n    pkix.invalid_uri_syntax (ERROR): Invalid URI syntax: \"a\"\n\n";
        assert_eq!(
            errors(said),
            ["pkix.invalid_uri_syntax (ERROR): Invalid URI syntax: \"a\""]
        );
        assert!(errors("").is_empty());
    }
}
