//! Keys of OCSP responders in files (protocols §4): `ocsp-responder-<issuer>.key`, which the owner alone may read.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use certctl_domain::{
    id::IssuerId,
    ports::{
        BoxFuture,
        issuer::{IssuerError, ResponderKeyFiles},
    },
    secret::Secret,
};

/// The greatest file that is read, in bytes; a key has a few hundred.
const MAX_FILE: u64 = 64 * 1024;

/// Keys in a folder, which is made with mode 0700 when the first is kept.
#[derive(Debug, Clone)]
pub struct KeyFolder(PathBuf);

impl KeyFolder {
    /// Keys in this folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    fn file(&self, issuer: &IssuerId) -> PathBuf {
        // An id holds no separator and is neither `.` nor `..`, so it cannot lead out of the folder.
        self.0.join(format!("ocsp-responder-{issuer}.key"))
    }
}

impl ResponderKeyFiles for KeyFolder {
    fn path(&self, issuer: &IssuerId) -> String {
        self.file(issuer).display().to_string()
    }

    fn load<'a>(
        &'a self,
        issuer: &'a IssuerId,
    ) -> BoxFuture<'a, Result<Option<Secret>, IssuerError>> {
        let path = self.file(issuer);
        Box::pin(blocking(move || match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(metadata) if metadata.len() > MAX_FILE => {
                Err(io::Error::other("too large for a key"))
            }
            Ok(_) => fs::read_to_string(&path).map(|text| Some(Secret::new(text))),
        }))
    }

    fn store<'a>(
        &'a self,
        issuer: &'a IssuerId,
        pem: Secret,
    ) -> BoxFuture<'a, Result<(), IssuerError>> {
        let (folder, path) = (self.0.clone(), self.file(issuer));
        Box::pin(blocking(move || {
            put(&folder, &path, pem.expose().as_bytes())
        }))
    }
}

/// Writes beside and renames, so that a reader finds the key of before or this one, also after a power cut.
fn put(folder: &Path, path: &Path, contents: &[u8]) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let temporary = path.with_added_extension("tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, IssuerError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(io::Error::other("interrupted")))
        .map_err(|error| {
            // What the system says names paths, and an issuer's error is read by callers of the API.
            tracing::error!(%error, "the key of an OCSP responder cannot be kept in its file");
            IssuerError::Other("the key files of OCSP responders cannot be used".to_owned())
        })
}
