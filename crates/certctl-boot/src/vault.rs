//! What is kept on this machine and not in the database: files in the data directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use certctl_domain::{
    ports::{BoxFuture, vault::Vault},
    secret::Secret,
};

use crate::identity::lock;

/// Files below `<data_dir>/audit`, readable by their owner only.
#[derive(Debug, Clone)]
pub(crate) struct FileVault {
    folder: PathBuf,
}

impl FileVault {
    /// The folder is made when something is first kept.
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self {
            folder: data_dir.join("audit"),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let path = self.folder.join(name);
        tokio::task::spawn_blocking(move || work(&path))
            .await
            .unwrap_or_else(|_| Err(io::Error::other("interrupted")))
    }
}

impl Vault for FileVault {
    fn read<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Option<Secret>>> {
        Box::pin(self.blocking(name, read))
    }

    fn keep_first<'a>(&'a self, name: &'a str, text: Secret) -> BoxFuture<'a, io::Result<Secret>> {
        Box::pin(async move {
            make_folder(&self.folder)?;
            // Two servers that start at once on one disk agree on what is kept.
            let _lock = lock(&self.folder).await.map_err(io::Error::other)?;
            self.blocking(name, move |path| {
                if let Some(kept) = read(path)? {
                    return Ok(kept);
                }
                write(path, &text, true)?;
                Ok(text)
            })
            .await
        })
    }

    fn replace<'a>(&'a self, name: &'a str, text: Secret) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            make_folder(&self.folder)?;
            // What is replaced every second need not survive a power cut to the second.
            let is_key = name.ends_with(".pem");
            self.blocking(name, move |path| write(path, &text, is_key))
                .await
        })
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

fn read(path: &Path) -> io::Result<Option<Secret>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(Secret::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file that is there whole or not at all.
fn write(path: &Path, text: &Secret, durable: bool) -> io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let temporary = path.with_added_extension("tmp");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.expose().as_bytes())?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&temporary, path)?;
    if durable && let Some(folder) = path.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_kept_first_stays_until_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let vault = FileVault::new(folder.path());
        assert!(vault.read("a.pem").await.unwrap().is_none());
        let keep = |text: &str| vault.keep_first("a.pem", Secret::new(text));
        assert_eq!(keep("one").await.unwrap().expose(), "one");
        assert_eq!(keep("two").await.unwrap().expose(), "one");
        vault.replace("a.pem", Secret::new("three")).await.unwrap();
        assert_eq!(
            vault.read("a.pem").await.unwrap().unwrap().expose(),
            "three"
        );
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let own = folder.path().join("audit");
        assert_eq!((mode(&own), mode(&own.join("a.pem"))), (0o700, 0o600));
    }
}
