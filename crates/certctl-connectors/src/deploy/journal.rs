//! The note that a replacement has begun and is not known to be good.
//!
//! It is on disk before the first rename and goes away when the service has taken the new files over, or has the old
//! ones back. A deployment that finds one knows that its predecessor died in between: certificate and key may not
//! belong together, and equal bytes do not mean that the service has read them.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Error, beside};

/// What was there before, per file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Journal {
    files: Vec<Before>,
}

/// One file before its replacement.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Before {
    path: PathBuf,
    /// Where its old content is; nothing when it did not exist.
    backup: Option<PathBuf>,
}

impl Journal {
    pub(super) fn new<'a>(files: impl Iterator<Item = (&'a Path, Option<&'a Path>)>) -> Self {
        let files = files
            .map(|(path, backup)| Before {
                path: path.to_path_buf(),
                backup: backup.map(Path::to_path_buf),
            })
            .collect();
        Self { files }
    }

    /// Writes the note and makes it durable.
    pub(super) fn open(&self, place: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(self).expect("paths are checked to be UTF-8 by the plan");
        let write = || -> io::Result<()> {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(place)?;
            file.write_all(&text)?;
            file.sync_all()
        };
        write().map_err(Error::write("write", place))?;
        beside::sync_folder_of(place)
    }
}

/// Puts back what an unfinished deployment of these files replaced. Says whether there was one.
///
/// Files that the note names and the present plan does not are left alone: they are not locked.
pub(super) fn recover(paths: &BTreeSet<PathBuf>) -> Result<bool, Error> {
    let mut found = false;
    for path in paths {
        let place = beside::journal(path);
        let text = match fs::read(&place) {
            Ok(text) => text,
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => continue,
            Err(reason) => return Err(Error::write("read", place)(reason)),
        };
        found = true;
        // A note that is cut short was never followed by a rename, because it is synced first.
        if let Ok(journal) = serde_json::from_slice::<Journal>(&text) {
            for before in journal.files.iter().filter(|b| paths.contains(&b.path)) {
                before.bring_back()?;
            }
        }
        beside::remove(&place)?;
    }
    Ok(found)
}

impl Before {
    fn bring_back(&self) -> Result<(), Error> {
        match &self.backup {
            Some(backup) if backup.exists() => restore(backup, &self.path)?,
            Some(_) => return Ok(()),
            None => beside::remove(&self.path)?,
        }
        beside::sync_folder_of(&self.path)
    }
}

/// Puts a backup back in place, atomically and without needing room on the disk; the backup stays where the file system
/// has links.
pub(super) fn restore(backup: &Path, path: &Path) -> Result<(), Error> {
    let mut link = backup.as_os_str().to_owned();
    link.push(".back");
    let link = PathBuf::from(link);
    beside::remove(&link)?;
    let source = match fs::hard_link(backup, &link) {
        Ok(()) => link.as_path(),
        Err(_) => backup,
    };
    fs::rename(source, path).map_err(Error::write("restore", path))?;
    // Renaming a link over another link of the same file does nothing (POSIX rename), and leaves this one.
    beside::remove(&link)
}
