//! The files that certctl keeps beside a file it manages, and how it finds them again.
//!
//! All names start with the name of the managed file, so that a glob such as `*.pem` in a service's configuration
//! matches none of them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use certctl_domain::time::Timestamp;

use super::Error;

/// A temporary file older than this belongs to a deployment that no longer runs (targets §2).
const STALE_AFTER: Duration = Duration::from_secs(3600);

const BACKUP: &str = ".certctl-bak.";
const TEMPORARY: &str = ".certctl-tmp.";
const JOURNAL: &str = ".certctl-open";

/// A moment as 19 digits, so that names sort by age.
pub(super) fn stamp(nanos: u64) -> String {
    format!("{nanos:019}")
}

/// Nanoseconds since the Unix epoch.
pub(super) fn nanos(now: Timestamp) -> u64 {
    u64::try_from(now.as_micros())
        .unwrap_or(0)
        .saturating_mul(1000)
}

pub(super) fn backup(path: &Path, nanos: u64) -> PathBuf {
    append(path, &format!("{BACKUP}{}", stamp(nanos)))
}

pub(super) fn temporary(path: &Path, nanos: u64) -> PathBuf {
    append(path, &format!("{TEMPORARY}{}", stamp(nanos)))
}

pub(super) fn journal(path: &Path) -> PathBuf {
    append(path, JOURNAL)
}

fn append(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The backups of a file, newest first.
pub(super) fn backups(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = stamped(path, BACKUP)?;
    found.sort_by(|a, b| b.cmp(a));
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Removes what a deployment that died left, when it is certainly not one that still runs.
pub(super) fn sweep(path: &Path, now: Timestamp) -> Result<(), Error> {
    let oldest_kept = nanos(now - STALE_AFTER);
    for (at, leftover) in stamped(path, TEMPORARY).map_err(Error::write("list beside", path))? {
        if at < oldest_kept {
            remove(&leftover)?;
        }
    }
    Ok(())
}

/// Removes a file; one that is gone already is fine.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
            Err(Error::write("remove", path)(reason))
        }
        _ => Ok(()),
    }
}

/// Makes names in a folder durable: without it a power cut can undo a rename that was acted upon.
pub(super) fn sync_folder_of(path: &Path) -> Result<(), Error> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::write("sync", folder))
}

fn stamped(path: &Path, infix: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Ok(Vec::new());
    };
    let prefix = format!("{name}{infix}");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let digits = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_prefix(&prefix).map(str::to_owned));
        if let Some(at) = digits
            .filter(|d| d.len() == 19)
            .and_then(|d| d.parse().ok())
        {
            found.push((at, entry.path()));
        }
    }
    Ok(found)
}
