//! The one folder of a run.

use std::fs::{self, File, OpenOptions, Permissions};
use std::mem;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use certctl_procs::folder::OwnedFolder;

/// Holds all files of a run, in a folder for each process; removed on drop unless it is to be kept.
pub(crate) struct Home {
    path: PathBuf,
    owned: Option<OwnedFolder>,
}

impl Home {
    /// Makes the folder among the temporary files; `what` becomes part of its name.
    pub(crate) fn create(what: &str) -> Result<Self> {
        let name = format!("certctl-{what}-{}", std::process::id());
        let owned = OwnedFolder::create(std::env::temp_dir().join(name))?;
        let path = owned.path().to_path_buf();
        // PostgreSQL has a user of its own, who must get to the folder below this one. What is secret lies in folders
        // that nobody else can enter.
        fs::set_permissions(&path, Permissions::from_mode(0o711))
            .with_context(|| format!("cannot open {} to others", path.display()))?;
        Ok(Self {
            path,
            owned: Some(owned),
        })
    }

    /// Leaves the folder where it is when the run ends.
    pub(crate) fn keep(&mut self) {
        if let Some(owned) = self.owned.take() {
            mem::forget(owned);
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A folder for one process that only this user can enter.
    pub(crate) fn private_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.path.join(name);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }
}

/// A command that gets nothing of this program's environment but the path, so that a setting of the person who runs it
/// does not change what is shown.
pub(crate) fn bare(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// Has the command write to the end of a log, which outlives each of several starts.
pub(crate) fn append_to(command: &mut Command, log: &Path) -> Result<()> {
    let opened = OpenOptions::new().create(true).append(true).open(log);
    let file: File = opened.with_context(|| format!("cannot open {}", log.display()))?;
    command.stdout(file.try_clone()?).stderr(file);
    Ok(())
}

/// The last lines of a log; nothing when there is none.
pub(crate) fn tail(log: &Path, lines: usize) -> Vec<String> {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}
