//! The packages of the workspace and what their manifests name, from `cargo metadata`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::step::cargo;

/// A package of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

/// A line of a manifest's dependency tables. `name` is the package's own, whatever the manifest renames it to.
#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// Which table a dependency stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Dev,
    Build,
}

/// What cargo says about the workspace, without the packages of others.
pub(crate) fn metadata(root: &Path) -> Result<Value> {
    let mut command = cargo();
    command
        .current_dir(root)
        .args(["metadata", "--no-deps", "--format-version", "1"]);
    let output = command.output().context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    serde_json::from_slice(&output.stdout)
        .context("cargo metadata printed something else than JSON")
}

/// Reads the packages out of the metadata.
pub(crate) fn from_metadata(metadata: &Value) -> Result<Vec<Package>> {
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?;
    packages.iter().map(package).collect()
}

fn package(value: &Value) -> Result<Package> {
    let name = text(value, "name")?;
    let dependencies = value["dependencies"]
        .as_array()
        .with_context(|| format!("{name} lists no dependencies"))?;
    let manifest = PathBuf::from(text(value, "manifest_path")?);
    Ok(Package {
        name,
        manifest,
        dependencies: dependencies.iter().map(dependency).collect::<Result<_>>()?,
    })
}

fn dependency(value: &Value) -> Result<Dependency> {
    let kind = match value["kind"].as_str() {
        None => Kind::Normal,
        Some("dev") => Kind::Dev,
        Some("build") => Kind::Build,
        Some(other) => bail!("cargo metadata knows a kind of dependency called {other}"),
    };
    Ok(Dependency {
        name: text(value, "name")?,
        kind,
    })
}

fn text(value: &Value, field: &str) -> Result<String> {
    let text = value[field]
        .as_str()
        .with_context(|| format!("cargo metadata has no {field} in {value}"))?;
    Ok(text.to_owned())
}
