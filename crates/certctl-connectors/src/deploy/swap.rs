//! The file side of a deployment: stage, back up, replace, put back. All of it blocks.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use certctl_domain::time::Timestamp;
use certctl_telemetry::ErrorChain;
use ring::digest::{SHA256, digest};

use super::{
    Error, beside, journal,
    journal::Journal,
    plan::{Destination, Retention},
};

/// New files beside the live ones, ready to replace them.
///
/// Dropping it before [`Swap::commit`] removes everything it made.
pub(super) struct Swap {
    files: Vec<Staged>,
    journal: PathBuf,
    committed: bool,
}

struct Staged {
    path: PathBuf,
    temporary: PathBuf,
    backup: Option<PathBuf>,
    replaced: bool,
}

/// Whether there is anything to do.
pub(super) enum Stage {
    /// Every file already holds its new bytes.
    Idempotent,
    /// The new files are written beside the old.
    Ready(Swap),
}

/// Puts an unfinished predecessor right, then writes backups and temporary files.
pub(super) fn stage(
    files: &[Destination],
    now: Timestamp,
    skip_idempotent: bool,
) -> Result<Stage, Error> {
    let paths: BTreeSet<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
    for path in &paths {
        beside::sweep(path, now)?;
    }
    let unfinished = journal::recover(&paths)?;
    if !unfinished && !skip_idempotent && all_hold_their_bytes(files)? {
        return Ok(Stage::Idempotent);
    }
    let first = files.first().expect("a resolved plan has a file");
    let mut swap = Swap {
        files: Vec::with_capacity(files.len()),
        journal: beside::journal(&first.path),
        committed: false,
    };
    for file in files {
        swap.add(file, beside::nanos(now))?;
    }
    Ok(Stage::Ready(swap))
}

fn all_hold_their_bytes(files: &[Destination]) -> Result<bool, Error> {
    for file in files {
        let found = match fs::File::open(&file.path) {
            Ok(found) => found,
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(reason) => return Err(Error::write("read", &file.path)(reason)),
        };
        // One byte more than expected is enough to see a difference, and bounds what is read.
        let mut bytes = Vec::with_capacity(file.bytes.len() + 1);
        found
            .take(file.bytes.len() as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::write("read", &file.path))?;
        if digest(&SHA256, &bytes).as_ref() != digest(&SHA256, &file.bytes).as_ref() {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Swap {
    fn add(&mut self, file: &Destination, nanos: u64) -> Result<(), Error> {
        let backup = back_up(&file.path, nanos)?;
        // Known to the swap before anything else can fail, so that a full disk leaves nothing behind.
        self.files.push(Staged {
            path: file.path.clone(),
            temporary: beside::temporary(&file.path, nanos),
            backup,
            replaced: false,
        });
        let (temporary, open) = create_new(nanos, |nanos| beside::temporary(&file.path, nanos))?;
        if let Some(staged) = self.files.last_mut() {
            staged.temporary.clone_from(&temporary);
        }
        let write = |mut open: fs::File| -> io::Result<()> {
            open.write_all(&file.bytes)?;
            open.sync_all()?;
            file.access.apply(&open)?;
            open.sync_all()
        };
        write(open).map_err(Error::write("write", temporary))
    }

    /// Where each new file lies until it is live.
    pub(super) fn staged(&self) -> Vec<(PathBuf, PathBuf)> {
        self.files
            .iter()
            .map(|file| (file.path.clone(), file.temporary.clone()))
            .collect()
    }

    /// Makes the new files live, in the order of the plan.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        let before = self
            .files
            .iter()
            .map(|file| (file.path.as_path(), file.backup.as_deref()));
        if let Err(failure) = Journal::new(before).open(&self.journal) {
            beside::remove(&self.journal)?;
            return Err(failure);
        }
        self.committed = true;
        for file in &mut self.files {
            fs::rename(&file.temporary, &file.path).map_err(Error::write("replace", &file.path))?;
            file.replaced = true;
        }
        self.sync_folders()
    }

    /// Puts the old files back; goes on after a failure and returns the first.
    pub(super) fn restore(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for file in self.files.iter_mut().rev().filter(|file| file.replaced) {
            let restored = match &file.backup {
                Some(backup) => journal::restore(backup, &file.path),
                None => beside::remove(&file.path),
            };
            match restored {
                Ok(()) => file.replaced = false,
                Err(failure) => result = result.and(Err(failure)),
            }
        }
        result.and(self.sync_folders())
    }

    /// The backups of this deployment that exist.
    pub(super) fn backups(&self) -> Vec<PathBuf> {
        let backups = self.files.iter().filter_map(|file| file.backup.clone());
        backups.filter(|backup| backup.exists()).collect()
    }

    /// Ends a deployment that was undone: nothing of it stays.
    pub(super) fn close_undone(mut self) -> Result<(), Error> {
        // The journal first: it must not outlive the backups that it names.
        beside::remove(&self.journal)?;
        beside::sync_folder_of(&self.journal)?;
        self.remove_staged()
    }

    /// Ends a deployment that succeeded, keeping so many backups of each file.
    pub(super) fn close_done(self, retention: Retention) -> Result<(), Error> {
        beside::remove(&self.journal)?;
        beside::sync_folder_of(&self.journal)?;
        for file in &self.files {
            let found =
                beside::backups(&file.path).map_err(Error::write("list beside", &file.path))?;
            for old in found.iter().skip(retention.count()) {
                beside::remove(old)?;
            }
        }
        Ok(())
    }

    fn remove_staged(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for file in &self.files {
            result = result.and(beside::remove(&file.temporary));
            if let Some(backup) = &file.backup {
                result = result.and(beside::remove(backup));
            }
        }
        self.files.clear();
        result
    }

    fn sync_folders(&self) -> Result<(), Error> {
        let mut synced = BTreeSet::new();
        for file in &self.files {
            if synced.insert(file.path.parent()) {
                beside::sync_folder_of(&file.path)?;
            }
        }
        Ok(())
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        if self.committed {
            // The journal stays on purpose where nobody closed this: the next deployment puts it right.
            return;
        }
        if let Err(problem) = self.remove_staged() {
            tracing::warn!(problem = %ErrorChain(&problem), "a staged file could not be removed");
        }
    }
}

/// Keeps the present content under another name.
///
/// A link costs no room and keeps mode, owner and bytes by being the same file; a copy serves where links are not to be
/// had.
fn back_up(path: &Path, nanos: u64) -> Result<Option<PathBuf>, Error> {
    let mut nanos = nanos;
    loop {
        let backup = beside::backup(path, nanos);
        match fs::hard_link(path, &backup) {
            Ok(()) => return Ok(Some(backup)),
            Err(reason) if reason.kind() == io::ErrorKind::AlreadyExists => nanos += 1,
            Err(_) if !path.exists() => return Ok(None),
            Err(_) => return copy_to_backup(path, nanos).map(Some),
        }
    }
}

fn copy_to_backup(path: &Path, nanos: u64) -> Result<PathBuf, Error> {
    let (backup, mut to) = create_new(nanos, |nanos| beside::backup(path, nanos))?;
    let mut copy = || -> io::Result<()> {
        let mut from = fs::File::open(path)?;
        io::copy(&mut from, &mut to)?;
        let is = from.metadata()?;
        to.set_permissions(fs::Permissions::from_mode(is.mode() & 0o7777))?;
        let owned = fchown(&to, Some(is.uid()), Some(is.gid()));
        if let Err(reason) = owned
            && reason.kind() != io::ErrorKind::PermissionDenied
        {
            return Err(reason);
        }
        to.sync_all()
    };
    copy().map_err(|reason| {
        // The failure to report is the first one.
        let _: Result<(), Error> = beside::remove(&backup);
        Error::write("back up to", &backup)(reason)
    })?;
    Ok(backup)
}

/// Creates a file that nobody else has, readable by its owner only; moves on by a nanosecond where the name is taken.
fn create_new(mut nanos: u64, name: impl Fn(u64) -> PathBuf) -> Result<(PathBuf, fs::File), Error> {
    loop {
        let path = name(nanos);
        let opened = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match opened {
            Ok(file) => return Ok((path, file)),
            Err(reason) if reason.kind() == io::ErrorKind::AlreadyExists => nanos += 1,
            Err(reason) => return Err(Error::write("create", path)(reason)),
        }
    }
}
