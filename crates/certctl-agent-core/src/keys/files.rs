//! The steps on disk: each one happens whole or not at all, and is durable when it returns.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use certctl_domain::secret::Secret;

use crate::Error;

/// The longest key file that is read, in bytes; an RSA key of 4096 bits takes 3 KiB.
const LONGEST_FILE: u64 = 64 * 1024;
const TEMPORARY: &str = ".tmp";

pub(super) struct Files {
    dir: PathBuf,
    /// How many steps on disk are still done before the machine stops.
    #[cfg(test)]
    pub(super) fuse: std::cell::Cell<u32>,
}

impl Files {
    pub(super) fn open(dir: PathBuf) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(Error::file("make", &dir))?;
        let is = fs::metadata(&dir).map_err(Error::file("look at", &dir))?;
        if is.mode() & 0o077 != 0 {
            tracing::warn!(folder = %dir.display(), "others could look into the key folder; closing it to them");
            fs::set_permissions(&dir, Permissions::from_mode(0o700))
                .map_err(Error::file("close", &dir))?;
        }
        let files = Self {
            dir,
            #[cfg(test)]
            fuse: std::cell::Cell::new(u32::MAX),
        };
        files.sweep()?;
        // A folder that cannot be written must stop the start, not the first renewal.
        let probe = "certctl-agent.probe";
        files.write(probe, &Secret::new(""))?;
        files.remove(probe)?;
        Ok(files)
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.dir.join(name).exists()
    }

    pub(super) fn read(&self, name: &str) -> Result<Option<Secret>, Error> {
        let path = self.dir.join(name);
        match fs::metadata(&path) {
            Ok(is) if is.len() > LONGEST_FILE => {
                return Err(Error::file("read", path)(io::Error::other(
                    "it is too long",
                )));
            }
            _ => {}
        }
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Secret::new(text))),
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(reason) => Err(Error::file("read", path)(reason)),
        }
    }

    pub(super) fn write(&self, name: &str, text: &Secret) -> Result<(), Error> {
        let path = self.dir.join(name);
        let temporary = self.dir.join(format!("{name}{TEMPORARY}"));
        self.step()?;
        let write = || -> io::Result<()> {
            remove_if_there(&temporary)?;
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(text.expose().as_bytes())?;
            file.sync_all()
        };
        if let Err(reason) = write() {
            // The first failure is the one to report.
            let _: io::Result<()> = remove_if_there(&temporary);
            return Err(Error::file("write", temporary)(reason));
        }
        self.step()?;
        fs::rename(&temporary, &path).map_err(Error::file("write", path))?;
        self.sync()
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        self.step()?;
        let to = self.dir.join(to);
        fs::rename(self.dir.join(from), &to).map_err(Error::file("replace", to))?;
        self.sync()
    }

    /// Gives a file a second name, which must be free.
    pub(super) fn link(&self, from: &str, to: &str) -> Result<(), Error> {
        self.step()?;
        if fs::hard_link(self.dir.join(from), self.dir.join(to)).is_ok() {
            return self.sync();
        }
        // Not every file system has links; a copy does as well.
        match self.read(from)? {
            Some(text) => self.write(to, &text),
            None => Ok(()),
        }
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), Error> {
        self.step()?;
        let path = self.dir.join(name);
        remove_if_there(&path).map_err(Error::file("remove", path))?;
        self.sync()
    }

    /// Removes what a write that was cut off left.
    fn sweep(&self) -> Result<(), Error> {
        let entries = fs::read_dir(&self.dir).map_err(Error::file("list", &self.dir))?;
        for entry in entries {
            let path = entry.map_err(Error::file("list", &self.dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_ours = [".key.pending", ".key.pending.job", ".key.prev", ".probe"]
                .iter()
                .any(|end| {
                    name.strip_suffix(TEMPORARY)
                        .is_some_and(|n| n.ends_with(end))
                });
            if is_ours {
                remove_if_there(&path).map_err(Error::file("remove", &path))?;
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        fs::File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(Error::file("sync", &self.dir))
    }

    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "tests stop the machine here"
    )]
    fn step(&self) -> Result<(), Error> {
        Ok(())
    }

    #[cfg(test)]
    fn step(&self) -> Result<(), Error> {
        match self.fuse.get().checked_sub(1) {
            Some(left) => {
                self.fuse.set(left);
                Ok(())
            }
            None => Err(Error::file("reach", &self.dir)(io::Error::other(
                "the machine stopped",
            ))),
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(reason),
        _ => Ok(()),
    }
}
