//! What happens when there is nothing to do, and when nginx refuses.

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::managed::{Managed, completed};
use crate::stack::api::text;

/// Deploys what is in place already: nothing may be written, and nginx not be bothered.
pub(super) fn deploy_again(managed: &Managed<'_>) -> Result<((), String)> {
    let version = managed
        .versions()?
        .into_iter()
        .next()
        .context("there is no version")?;
    let (files, reloads) = (managed.site.files()?, managed.site.reloads()?);
    let before = managed.deployments()?;
    managed.api.post(&managed.path("/deploy"), &json!({}))?;
    let deployment = managed.next_deployment(&before)?;
    completed(&deployment)?;
    managed.verified(&deployment, &version)?;
    if managed.site.files()? != files {
        bail!("files that were in place already were written again");
    }
    if managed.site.reloads()? != reloads {
        bail!("nginx was reloaded although nothing had changed");
    }
    let said = format!(
        "{} Completed; no file was touched, nginx was not reloaded",
        text(&deployment, "id")?
    );
    Ok(((), said))
}

/// Renews while nginx would refuse its configuration: the old certificate stays, and the new one comes when it is mended.
pub(super) fn broken_configuration(managed: &Managed<'_>) -> Result<((), String)> {
    let old = managed
        .versions()?
        .into_iter()
        .next()
        .context("there is no version")?;
    managed.site.break_configuration()?;
    let before = managed.deployments()?;
    let new = managed.issue()?;
    let failed = managed.next_deployment(&before)?;
    if failed["status"] != "Failed" {
        bail!("nginx cannot have taken this configuration: {failed}");
    }
    let reason = text(&failed, "last_error")?.to_owned();
    if !reason.contains("no_such_directive") {
        bail!("the reason does not say what nginx refused: {reason}");
    }
    managed
        .serves(&old)
        .context("after the failed deployment")?;
    managed.site.mend_configuration()?;
    let before = managed.deployments()?;
    managed.api.post(&managed.path("/deploy"), &json!({}))?;
    let deployment = managed.next_deployment(&before)?;
    completed(&deployment)?;
    managed.verified(&deployment, &new)?;
    managed.serves(&new)?;
    let said = format!(
        "the deployment failed and was rolled back\n{} Failed: {}\nthe old serial {} stayed in service; mended, {} is served",
        text(&failed, "id")?,
        reason.lines().next().unwrap_or_default(),
        old.serial,
        new.serial,
    );
    Ok(((), said))
}
