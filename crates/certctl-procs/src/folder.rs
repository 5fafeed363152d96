//! A folder that goes away with its owner.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::Error;

/// A folder made here and removed on drop; never one that held anything before.
#[derive(Debug)]
pub struct OwnedFolder {
    path: PathBuf,
}

impl OwnedFolder {
    /// Creates the folder, readable by its owner only (0700), with the parents it needs.
    ///
    /// # Errors
    /// [`Error::FolderInUse`] when it exists and is not empty, [`Error::Io`] when it cannot be made.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
        // Canonical, because the programs started in it change their own working directory.
        let path = path.canonicalize().map_err(Error::io("resolve", path))?;
        let mut entries = fs::read_dir(&path).map_err(Error::io("list", &path))?;
        if entries.next().is_some() {
            return Err(Error::FolderInUse(path));
        }
        let owned = Self { path };
        fs::set_permissions(&owned.path, Permissions::from_mode(0o700))
            .map_err(Error::io("restrict", &owned.path))?;
        Ok(owned)
    }

    /// The absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OwnedFolder {
    fn drop(&mut self) {
        if let Err(reason) = fs::remove_dir_all(&self.path)
            && self.path.exists()
        {
            eprintln!("cannot remove {}: {reason}", self.path.display());
        }
    }
}
