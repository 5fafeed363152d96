//! Issued, served, renewed, revoked.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::managed::{Managed, Version, completed};
use crate::stack::agent::Agent;
use crate::stack::api::{Api, text};
use crate::stack::openssl::{self, Served};
use crate::stack::watch::Watch;

pub(super) fn first_issuance(managed: &Managed<'_>) -> Result<((), String)> {
    let before = managed.deployments()?;
    let version = managed.issue()?;
    let deployment = managed.next_deployment(&before)?;
    completed(&deployment)?;
    managed.serves(&version)?;
    managed.verified(&deployment, &version)?;
    let said = format!(
        "serial {}, valid until {}\nnginx serves it; the agent saw it, too, and said so on {}",
        version.serial,
        version.not_after,
        text(&deployment, "id")?,
    );
    Ok(((), said))
}

/// What a stranger sees, who knows our root and nothing else of us.
pub(super) fn judge(managed: &Managed<'_>, root: &Path) -> Result<((), String)> {
    let version = managed
        .versions()?
        .into_iter()
        .next()
        .context("there is no version")?;
    let served = seen_by_openssl(managed, root, &version)?;
    let said = format!(
        "openssl s_client says \"{}\"\n{}",
        served.verdict,
        served.lines.join("\n")
    );
    Ok(((), said))
}

/// Has the openssl program verify chain and name of what is served; fails when it is not this version.
fn seen_by_openssl(managed: &Managed<'_>, root: &Path, version: &Version) -> Result<Served> {
    let served = openssl::verify(managed.site.port(), managed.site.name(), root)?;
    let serial = served
        .lines
        .iter()
        .find_map(|line| line.strip_prefix("serial="));
    // openssl writes whole bytes.
    let serial = serial.map(|hex| hex.to_ascii_lowercase().trim_start_matches('0').to_owned());
    if serial.as_deref() != Some(&version.serial) {
        bail!(
            "openssl sees the serial {serial:?} instead of {}",
            version.serial
        );
    }
    Ok(served)
}

/// Renews while visitors come every few milliseconds, none of whom may be turned away.
pub(super) fn renew_under_load(managed: &Managed<'_>, root: &Path) -> Result<((), String)> {
    let old = managed
        .versions()?
        .into_iter()
        .next()
        .context("there is no version")?;
    let before = managed.deployments()?;
    let watch = Watch::start(managed.visitor, managed.site.port(), managed.site.name());
    let new = managed.issue()?;
    let deployment = managed.next_deployment(&before)?;
    completed(&deployment)?;
    managed.verified(&deployment, &new)?;
    managed.serves(&new)?;
    let seen = watch.finish()?;
    if let Some(failure) = seen.failures.first() {
        bail!(
            "{} of {} handshakes failed, the first: {failure}",
            seen.failures.len(),
            seen.handshakes
        );
    }
    let served: Vec<&str> = seen
        .certificates
        .iter()
        .map(|(fingerprint, _)| fingerprint.as_str())
        .collect();
    if served != [old.fingerprint.as_str(), new.fingerprint.as_str()] {
        bail!("the visitors saw {served:?} instead of the old and then the new certificate");
    }
    let verdict = seen_by_openssl(managed, root, &new)?.verdict;
    let said = format!(
        "0 of {} handshakes failed; serial {} is served now\n{} saw the old certificate, {} the new one; openssl says \"{verdict}\" of it",
        seen.handshakes, new.serial, seen.certificates[0].1, seen.certificates[1].1,
    );
    Ok(((), said))
}

pub(super) fn revoke(managed: &Managed<'_>) -> Result<((), String)> {
    managed.api.post(
        &managed.path("/revoke"),
        &json!({ "reason": "keyCompromise" }),
    )?;
    let certificate = managed.api.get(&managed.path(""))?;
    let (status, reason) = (
        text(&certificate, "status")?,
        text(&certificate, "revocation_reason")?,
    );
    if (status, reason) != ("Revoked", "keyCompromise") {
        bail!("the certificate is {status} ({reason})");
    }
    let events = managed.api.list("/api/v1/audit?category=cert_lifecycle")?;
    let event = events
        .iter()
        .find(|event| {
            event["resource_id"] == managed.id() && event["details"].to_string().contains(reason)
        })
        .context("the audit trail says nothing of the revocation")?;
    let refused = managed.api.send(
        ureq::http::Method::POST,
        &managed.path("/renew"),
        Some(&json!({})),
    )?;
    if refused.status != 400 {
        bail!(
            "a revoked certificate was renewed: {} {}",
            refused.status,
            refused.text
        );
    }
    let said = format!(
        "status {status}, reason {reason}, at {}\naudit: {} by {}: {}\na renewal is refused now",
        text(&certificate, "revoked_at")?,
        text(event, "action")?,
        text(event, "actor")?,
        event["details"],
    );
    Ok(((), said))
}

/// Retires the agent with what depends on it; its next call is answered with 410, and it ends.
pub(super) fn retire(api: &Api, agent: &mut Agent) -> Result<((), String)> {
    let path = format!("/api/v1/agents/{}", agent.id());
    let retired = api.delete(&format!("{path}?force=true&reason=end%20of%20the%20demo"))?;
    let status = agent.wait_for_end()?;
    if !status.success() {
        bail!("the retired agent ended with {status}");
    }
    let said = format!(
        "at {}; the agent was told so and ended with {status}",
        text(&retired, "retired_at")?
    );
    Ok(((), said))
}
