//! Mode and owner of a file that is to be replaced.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    path::Path,
};

use nix::unistd::{Gid, Group, Uid, User};

use super::{
    Error,
    plan::{Access, PlannedFile},
};

/// What a new file gets; `None` leaves what creating it gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resolved {
    mode: Option<u32>,
    owner: Option<(u32, u32)>,
}

/// Explicit beats existing beats default; each of mode, owner and group for itself.
pub(super) fn resolve(
    path: &Path,
    file: &PlannedFile,
    defaults: &Access,
) -> Result<Resolved, Error> {
    let existing = match fs::metadata(path) {
        Ok(found) => Some(found),
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => None,
        Err(reason) => return Err(Error::write("look at", path)(reason)),
    };
    let mode = file
        .access
        .mode
        .or(existing.as_ref().map(|found| found.mode() & 0o7777))
        .or(file.default_mode)
        .or(defaults.mode)
        .or(file.secret.then_some(0o600));
    let user = match (&file.access.owner, &existing, &defaults.owner) {
        (Some(name), _, _) => Some(user_id(name)?),
        (None, Some(found), _) => Some(found.uid()),
        (None, None, Some(name)) => Some(user_id(name)?),
        (None, None, None) => None,
    };
    let group = match (&file.access.group, &existing, &defaults.group) {
        (Some(name), _, _) => Some(group_id(name)?),
        (None, Some(found), _) => Some(found.gid()),
        (None, None, Some(name)) => Some(group_id(name)?),
        (None, None, None) => None,
    };
    Ok(Resolved {
        mode,
        owner: user.zip(group),
    })
}

impl Resolved {
    /// Applies mode and owner to an open file that nobody else sees yet.
    pub(super) fn apply(self, file: &fs::File) -> io::Result<()> {
        if let Some(mode) = self.mode {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        let Some((user, group)) = self.owner else {
            return Ok(());
        };
        let is = file.metadata()?;
        if (is.uid(), is.gid()) == (user, group) {
            return Ok(());
        }
        match fchown(file, Some(user), Some(group)) {
            // Only root may give files away. An agent that runs as another user deploys with its own ownership,
            // which is what its operator chose by running it so.
            Err(reason)
                if reason.kind() == io::ErrorKind::PermissionDenied
                    && !Uid::effective().is_root() =>
            {
                Ok(())
            }
            Err(reason) => Err(reason),
            // Changing the owner clears set-id bits, so the mode is set once more.
            Ok(()) => match self.mode {
                Some(mode) => file.set_permissions(fs::Permissions::from_mode(mode)),
                None => Ok(()),
            },
        }
    }
}

/// The first of these accounts that exists, with its group, for the defaults of a plan.
#[must_use]
pub(crate) fn first_account(names: &[&str]) -> Option<(String, String)> {
    names.iter().find_map(|name| {
        let user = User::from_name(name).ok().flatten()?;
        // Debian and Red Hat name the group like the user; elsewhere the primary group serves.
        let group = match Group::from_name(name).ok().flatten() {
            Some(group) => group.gid,
            None => user.gid,
        };
        Some((user.uid.to_string(), group.to_string()))
    })
}

fn user_id(name: &str) -> Result<u32, Error> {
    if let Ok(number) = name.parse::<u32>() {
        return Ok(number);
    }
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) | Err(_) => Err(Error::PlanInvalid(format!("there is no user {name:?}"))),
    }
}

fn group_id(name: &str) -> Result<u32, Error> {
    if let Ok(number) = name.parse::<u32>() {
        return Ok(number);
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(Gid::as_raw(group.gid)),
        Ok(None) | Err(_) => Err(Error::PlanInvalid(format!("there is no group {name:?}"))),
    }
}
