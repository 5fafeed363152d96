//! The certificate of the run, and what is asked about it again and again.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::stack::api::{Api, text};
use crate::stack::site::Site;
use crate::stack::tls::Visitor;
use crate::stack::wait;

/// A certificate, the API that manages it and the website that serves it.
pub(super) struct Managed<'a> {
    pub(super) api: &'a Api,
    pub(super) visitor: &'a Visitor,
    pub(super) site: &'a Site,
    id: String,
}

/// An issued version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    /// Lowercase hex.
    pub(super) serial: String,
    /// SHA-256 of the leaf, lowercase hex.
    pub(super) fingerprint: String,
    pub(super) not_after: String,
}

impl<'a> Managed<'a> {
    pub(super) fn new(api: &'a Api, visitor: &'a Visitor, site: &'a Site, id: String) -> Self {
        Self {
            api,
            visitor,
            site,
            id,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// A path below that of the certificate.
    pub(super) fn path(&self, below: &str) -> String {
        format!("/api/v1/certificates/{}{below}", self.id)
    }

    /// Asks for a new version and waits until it is issued.
    pub(super) fn issue(&self) -> Result<Version> {
        let before = self.versions()?.len();
        let asked = self.api.post(&self.path("/renew"), &json!({}))?;
        let job = self.finished(text(&asked, "job_id")?)?;
        if job["status"] != "Completed" {
            bail!("the job of the renewal ended otherwise: {job}");
        }
        let versions = self.versions()?;
        if versions.len() != before + 1 {
            bail!("one renewal made {} versions of {before}", versions.len());
        }
        versions.into_iter().next().context("there is no version")
    }

    /// The versions, newest first.
    pub(super) fn versions(&self) -> Result<Vec<Version>> {
        let rows = self.api.list(&self.path("/versions"))?;
        rows.iter()
            .map(|row| {
                Ok(Version {
                    serial: text(row, "serial_number")?.to_owned(),
                    fingerprint: text(row, "fingerprint_sha256")?.to_owned(),
                    not_after: text(row, "not_after")?.to_owned(),
                })
            })
            .collect()
    }

    /// The ids of all deployments of this certificate there have been.
    pub(super) fn deployments(&self) -> Result<BTreeSet<String>> {
        let rows = self.api.list("/api/v1/jobs?type=Deployment")?;
        let ours = rows
            .iter()
            .filter(|row| row["certificate_id"] == self.id.as_str());
        ours.map(|row| Ok(text(row, "id")?.to_owned())).collect()
    }

    /// Waits until a deployment that was not there before has ended.
    pub(super) fn next_deployment(&self, before: &BTreeSet<String>) -> Result<Value> {
        let id = wait::until("a deployment is asked for", || {
            let new = self.deployments()?;
            Ok(new.difference(before).next().cloned())
        })?;
        self.finished(&id)
    }

    /// Waits until a job has ended, well or not.
    fn finished(&self, job: &str) -> Result<Value> {
        wait::until(&format!("{job} ends"), || {
            let job = self.api.get(&format!("/api/v1/jobs/{job}"))?;
            let ended = ["Completed", "Failed", "Cancelled"]
                .iter()
                .any(|status| job["status"] == *status);
            Ok(ended.then_some(job))
        })
    }

    /// Waits for what the agent saw at the website after a deployment; fails when it was not this version.
    pub(super) fn verified(&self, deployment: &Value, version: &Version) -> Result<()> {
        let path = format!("/api/v1/jobs/{}/verification", text(deployment, "id")?);
        let seen = wait::until("the agent reports what is served", || {
            let answer = self.api.send(ureq::http::Method::GET, &path, None)?;
            match answer.status {
                200 => Ok(Some(serde_json::from_str::<Value>(&answer.text)?)),
                404 => Ok(None),
                status => bail!("GET {path} was answered with {status}: {}", answer.text),
            }
        })?;
        if seen["verified"] != true || seen["actual_fingerprint"] != version.fingerprint.as_str() {
            bail!("the agent saw something else: {seen}");
        }
        Ok(())
    }

    /// A handshake that trusts our root only; fails when it shows another version.
    pub(super) fn serves(&self, version: &Version) -> Result<()> {
        let served = self.visitor.visit(self.site.port(), self.site.name())?;
        if served != version.fingerprint {
            bail!(
                "nginx serves {served} instead of {} ({})",
                version.fingerprint,
                version.serial
            );
        }
        Ok(())
    }
}

/// Fails unless the job ended well.
pub(super) fn completed(job: &Value) -> Result<()> {
    if job["status"] != "Completed" {
        bail!("the deployment ended otherwise: {job}");
    }
    Ok(())
}
