//! What a deployment is to write, checked before anything is touched.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{
    Error,
    access::{self, Resolved},
};

/// The files of one deployment, in the order in which they become live.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The files; at least one.
    pub files: Vec<PlannedFile>,
    /// Mode and owner of files that do not exist yet and say nothing themselves.
    pub defaults: Access,
    /// How many backups stay beside each file.
    pub retention: Retention,
    /// Whether the files are written even when every one already holds the new bytes.
    pub skip_idempotent: bool,
}

/// One file of a plan.
#[derive(Clone)]
pub struct PlannedFile {
    /// Where it goes; absolute. A symbolic link is followed and its target replaced.
    pub path: PathBuf,
    /// What it is to hold; wiped on drop, for it may be a key.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Mode and owner that were asked for; what is left open is taken from the file that is there.
    pub access: Access,
    /// The mode of a file that does not exist yet, where the plan's default does not suit.
    pub default_mode: Option<u32>,
    /// Whether it holds a private key: a new one is 0600 when nothing else is said.
    pub secret: bool,
}

impl fmt::Debug for PlannedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlannedFile")
            .field("path", &self.path)
            .field("length", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Mode and owner of a file, as far as they are given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The permission bits.
    pub mode: Option<u32>,
    /// A user by name or number. Without a group it changes nothing.
    pub owner: Option<String>,
    /// A group by name or number.
    pub group: Option<String>,
}

/// How many backups of a file are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// None. The one made for going back is removed when the deployment has succeeded.
    Nothing,
    /// The newest so many.
    Newest(usize),
}

impl Retention {
    /// Reads the number of the configuration: 0 means the default of 3, a negative one none at all (targets §2).
    #[must_use]
    pub fn from_setting(number: i64) -> Self {
        match usize::try_from(number) {
            Err(_) => Self::Nothing,
            Ok(0) => Self::default(),
            Ok(count) => Self::Newest(count),
        }
    }

    pub(super) fn count(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Newest(count) => count,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self::Newest(3)
    }
}

/// A file whose place, mode and owner are settled.
#[derive(Clone)]
pub(super) struct Destination {
    /// The real path, free of symbolic links.
    pub(super) path: PathBuf,
    /// The bytes it is to hold.
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Mode and owner the new file gets.
    pub(super) access: Resolved,
}

impl Plan {
    /// Checks the plan and settles where each file goes and whose it will be. Blocks on the file system.
    pub(super) fn resolve(&self) -> Result<Vec<Destination>, Error> {
        if self.files.is_empty() {
            return Err(invalid("the plan names no file"));
        }
        let mut seen = BTreeSet::new();
        let mut destinations = Vec::with_capacity(self.files.len());
        for file in &self.files {
            check_path(&file.path)?;
            let path = real_path(&file.path)?;
            if !seen.insert(path.clone()) {
                return Err(invalid(format!("{} is written twice", file.path.display())));
            }
            let access = access::resolve(&path, file, &self.defaults)?;
            let bytes = file.bytes.clone();
            destinations.push(Destination {
                path,
                bytes,
                access,
            });
        }
        Ok(destinations)
    }
}

fn check_path(path: &Path) -> Result<(), Error> {
    let text = path
        .to_str()
        .ok_or_else(|| invalid(format!("{} is not UTF-8", path.display())))?;
    if text.trim().is_empty() {
        return Err(invalid("a path is empty"));
    }
    if !path.is_absolute() || text.ends_with('/') || text.contains('\0') {
        return Err(invalid(format!(
            "{} is not the absolute path of a file",
            path.display()
        )));
    }
    Ok(())
}

/// Follows symbolic links to the file that is really replaced: renaming over a link would replace the link.
fn real_path(path: &Path) -> Result<PathBuf, Error> {
    const MOST_LINKS: usize = 40;
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(invalid(format!("{} is no file", path.display())));
        };
        let parent = fs::canonicalize(parent).map_err(|reason| {
            invalid(format!(
                "the folder {} cannot be used: {reason}",
                parent.display()
            ))
        })?;
        let place = parent.join(name);
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(&place).map_err(Error::write("read", &place))?;
                path = parent.join(target);
            }
            Ok(found) if found.is_file() => return utf8(place),
            Ok(_) => return Err(invalid(format!("{} is no regular file", place.display()))),
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => return utf8(place),
            Err(reason) => return Err(Error::write("look at", place)(reason)),
        }
    }
    Err(invalid(format!(
        "{} leads through too many symbolic links",
        path.display()
    )))
}

/// The journal keeps paths as text.
fn utf8(path: PathBuf) -> Result<PathBuf, Error> {
    check_path(&path).map(|()| path)
}

fn invalid(problem: impl Into<String>) -> Error {
    Error::PlanInvalid(problem.into())
}
