//! Builds our own programs, with cargo's progress shown.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::step::{cargo, root, spawn};

/// How much cargo optimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

impl Profile {
    /// Release where it has been built before, for it then costs little; else dev, which is minutes faster.
    pub(crate) fn cheapest() -> Self {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root().join("target"), |folder| root().join(folder));
        if target.join("release/certctl-server").exists() {
            Self::Release
        } else {
            Self::Dev
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }
}

/// Where our programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) server: PathBuf,
    pub(crate) agent: PathBuf,
}

impl Programs {
    /// Builds them.
    pub(crate) fn build(profile: Profile) -> Result<Self> {
        let built = build(profile, &["certctl-server", "certctl-agent"])?;
        Ok(Self {
            server: find(&built, "certctl-server")?,
            agent: find(&built, "certctl-agent")?,
        })
    }

    /// Builds the one program of a package, which has its name.
    pub(crate) fn package(profile: Profile, name: &str) -> Result<PathBuf> {
        find(&build(profile, &[name])?, name)
    }
}

/// Builds packages and says where their programs are.
fn build(profile: Profile, packages: &[&str]) -> Result<Vec<PathBuf>> {
    let mut command = cargo();
    command.args(["build", "--locked"]);
    for package in packages {
        command.args(["-p", package]);
    }
    command.args(["--profile", profile.as_str()]);
    // The messages say where the programs went, whatever the target folder is; errors stay readable on the terminal.
    command
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped());
    let mut building = spawn(command)?;
    let output = building
        .child()
        .stdout
        .take()
        .context("cargo has no output")?;
    let text = std::io::read_to_string(output)?;
    if !building.wait()?.success() {
        bail!("the programs could not be built");
    }
    Ok(executables(&text))
}

fn find(built: &[PathBuf], name: &str) -> Result<PathBuf> {
    built
        .iter()
        .find(|path| path.file_name().is_some_and(|file| file == name))
        .cloned()
        .with_context(|| format!("cargo built no {name}"))
}

/// The programs that cargo names in its messages.
fn executables(messages: &str) -> Vec<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| {
            message["executable"]
                .as_str()
                .map(|path| Path::new(path).to_path_buf())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"a"},"executable":null}
not json
{"reason":"compiler-artifact","target":{"name":"b"},"executable":"/t/debug/b"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executables(messages), [PathBuf::from("/t/debug/b")]);
    }
}
