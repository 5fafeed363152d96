//! `cargo xtask pkilint`: certificates, CRLs and OCSP answers of a running server before a judge that is not ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use certctl_procs::child;
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

/// The profiles of the demo seed, each with a name that it allows.
const PROFILES: [(&str, &str, &[&str]); 5] = [
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
        "workload",
        &["spiffe://example.com/workload/lint"],
    ),
    (
        "prof-high-security",
        "secure.example.com",
        &["secure.example.com"],
    ),
    ("prof-smime", "bob@example.com", &["bob@example.com"]),
];

impl Pkilint {
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
        self.certificate("the root", &fs::read(server.root())?)?;
        let mut issued = Vec::new();
        for (profile, common_name, names) in PROFILES {
            let id = issue(&api, profile, common_name, names)
                .with_context(|| format!("no certificate by {profile}"))?;
            let pem = api.get(&format!("/api/v1/certificates/{id}/export/pem"))?;
            let pem = text(&pem, "cert_pem")?.to_owned();
            self.certificate(profile, pem.as_bytes())?;
            issued.push(id);
        }
        let revoked = issued.first().context("nothing was issued")?;
        let good = issued.last().context("nothing was issued")?;
        api.post(
            &format!("/api/v1/certificates/{revoked}/revoke"),
            &json!({ "reason": "keyCompromise" }),
        )?;
        for (word, id) in [("revoked", revoked), ("good", good)] {
            let serial = serial(&api, id)?;
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
        let crl = until("the CRL that names the revoked certificate", || {
            let crl = api.bytes("/.well-known/pki/crl/iss-local")?;
            Ok(openssl::crl_names(&self.folder, &crl, &entry)?.then_some(crl))
        })?;
        self.document("the CRL", &crl, "lint_crl", &["-t", "CRL", "-p", "PKIX"])
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
        let mut command = Command::new(self.tools.join(program));
        command
            .arg("lint")
            .args(["-s", "ERROR", "-f", "TEXT"])
            .args(arguments)
            .arg(&file);
        let said = child::output(&mut command).with_context(|| format!("{what} is not clean"))?;
        ensure!(said.trim().is_empty(), "{what} is not clean: {said}");
        eprintln!("    {what}: no error");
        Ok(())
    }
}

/// Has a certificate made by a profile, with a key of the server's; its id.
fn issue(api: &Api, profile: &str, common_name: &str, names: &[&str]) -> Result<String> {
    let made = api.post(
        "/api/v1/certificates",
        &json!({
            "name": format!("pkilint-{profile}"), "common_name": common_name, "sans": names, "environment": "development",
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
