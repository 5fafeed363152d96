//! Where the CAs are kept that certctl makes itself.
//!
//! A CA must come into being once: two servers that start at the same moment, or one that is killed half way, must end with
//! one certificate and its key. So there is no "write", only [`CaStore::insert_if_absent`], which answers what is there
//! afterwards, whoever put it there.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use certctl_domain::{
    id::IssuerId,
    ports::{BoxFuture, issuer::IssuerError},
};
use zeroize::Zeroizing;

/// The greatest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// A CA as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredCa {
    /// Its certificate.
    pub cert_pem: String,
    /// Its private key: a sealed blob, or PEM where there is no encryption key.
    pub key_blob: Zeroizing<Vec<u8>>,
}

impl StoredCa {
    /// Whether the key is readable by whoever can read the store.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.key_blob.starts_with(b"-----BEGIN ")
    }
}

impl fmt::Debug for StoredCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredCa")
            .field("cert_pem", &self.cert_pem)
            .field("key_blob", &"<redacted>")
            .finish()
    }
}

/// Keeps CAs. Servers that share a database must share the store too, or each would make a CA of its own.
pub trait CaStore: Send + Sync {
    /// The CA of an issuer, when it has one.
    fn load<'a>(&'a self, id: &'a IssuerId)
    -> BoxFuture<'a, Result<Option<StoredCa>, IssuerError>>;

    /// Keeps `ca` unless the issuer has one already, and answers the one it has then. What is answered outlives a power cut.
    fn insert_if_absent<'a>(
        &'a self,
        id: &'a IssuerId,
        ca: StoredCa,
    ) -> BoxFuture<'a, Result<StoredCa, IssuerError>>;

    /// Forgets the CA of an issuer for good, key and all; nothing happens when it has none.
    fn remove<'a>(&'a self, id: &'a IssuerId) -> BoxFuture<'a, Result<(), IssuerError>>;

    /// The place a key is sealed for (see [`certctl_pki::seal`]).
    fn place(&self, id: &IssuerId) -> String;

    /// Whether a key may be kept unsealed when there is no encryption key; never in a database (operations §9).
    fn admits_plain_keys(&self) -> bool {
        false
    }
}

/// Keeps CAs in files of a folder: `<id>.crt` and `<id>.key`, the key readable by the owner alone.
///
/// The certificate's file is what makes a CA exist: it is put in place last, under a lock that the kernel releases when its
/// holder dies. Whatever a killed process leaves behind is without a certificate and is cleared away by the next.
#[derive(Debug, Clone)]
pub struct FileCaStore {
    folder: PathBuf,
}

impl FileCaStore {
    /// A store in `<data_dir>/ca`, which is made with mode 0700 when a CA is first kept.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self {
            folder: data_dir.join("ca"),
        }
    }
}

impl FileCaStore {
    /// The issuers that have a CA here.
    ///
    /// # Errors
    /// [`IssuerError::Other`] when the folder cannot be read.
    pub async fn issuers(&self) -> Result<Vec<IssuerId>, IssuerError> {
        let folder = self.folder.clone();
        blocking(move || {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let mut found = Vec::new();
            for entry in entries {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "crt")
                    && let Some(name) = path.file_stem().and_then(|name| name.to_str())
                    && let Ok(id) = IssuerId::parse(name)
                {
                    found.push(id);
                }
            }
            found.sort();
            Ok(found)
        })
        .await
    }

    /// Keeps the key of a CA in another form, unless it is no longer kept as in `before`: then false. At no moment is there no
    /// key, or half of one.
    ///
    /// # Errors
    /// [`IssuerError::Other`] when the file cannot be written.
    pub async fn replace_key(
        &self,
        id: &IssuerId,
        before: &StoredCa,
        key_blob: Zeroizing<Vec<u8>>,
    ) -> Result<bool, IssuerError> {
        let (paths, before) = (Paths::new(&self.folder, id), before.clone());
        blocking(move || {
            let lock = open_private(&paths.lock)?;
            lock.lock()?;
            if paths.load()?.as_ref() != Some(&before) {
                return Ok(false);
            }
            paths.put(&paths.key, &key_blob)?;
            Ok(true)
        })
        .await
    }
}

impl CaStore for FileCaStore {
    fn load<'a>(
        &'a self,
        id: &'a IssuerId,
    ) -> BoxFuture<'a, Result<Option<StoredCa>, IssuerError>> {
        let paths = Paths::new(&self.folder, id);
        Box::pin(blocking(move || paths.load()))
    }

    fn insert_if_absent<'a>(
        &'a self,
        id: &'a IssuerId,
        ca: StoredCa,
    ) -> BoxFuture<'a, Result<StoredCa, IssuerError>> {
        let paths = Paths::new(&self.folder, id);
        Box::pin(blocking(move || paths.insert_if_absent(ca)))
    }

    fn remove<'a>(&'a self, id: &'a IssuerId) -> BoxFuture<'a, Result<(), IssuerError>> {
        let paths = Paths::new(&self.folder, id);
        Box::pin(blocking(move || paths.remove()))
    }

    fn place(&self, id: &IssuerId) -> String {
        format!("file:ca_key:{id}")
    }

    fn admits_plain_keys(&self) -> bool {
        true
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, IssuerError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(io::Error::other("interrupted")))
        .map_err(|error| {
            // What the system says names paths, and an issuer's error is read by callers of the API.
            tracing::error!(%error, "the store of CAs cannot be used");
            IssuerError::Other("the store of CAs cannot be used".to_owned())
        })
}

/// The files of one CA.
struct Paths {
    folder: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    lock: PathBuf,
}

impl Paths {
    fn new(folder: &Path, id: &IssuerId) -> Self {
        // An id holds no separator and is neither `.` nor `..`, so it cannot lead out of the folder.
        let file = |extension: &str| folder.join(format!("{id}.{extension}"));
        Self {
            folder: folder.to_owned(),
            certificate: file("crt"),
            key: file("key"),
            lock: file("lock"),
        }
    }

    fn load(&self) -> io::Result<Option<StoredCa>> {
        let Some(certificate) = read(&self.certificate)? else {
            return Ok(None);
        };
        let key_blob = read(&self.key)?.ok_or_else(|| {
            // Making a new CA here would quietly replace the one that clients trust.
            io::Error::other(format!(
                "{} is there but {} is not; restore it from a backup",
                self.certificate.display(),
                self.key.display()
            ))
        })?;
        let cert_pem = String::from_utf8(certificate.to_vec()).map_err(io::Error::other)?;
        Ok(Some(StoredCa { cert_pem, key_blob }))
    }

    fn insert_if_absent(&self, ca: StoredCa) -> io::Result<StoredCa> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        // The lock is a file of its own because the others are replaced, and a lock on a replaced file guards nothing.
        let lock = open_private(&self.lock)?;
        lock.lock()?;
        if let Some(winner) = self.load()? {
            return Ok(winner);
        }
        self.put_orphan_aside()?;
        self.put(&self.key, &ca.key_blob)?;
        self.put(&self.certificate, ca.cert_pem.as_bytes())?;
        Ok(ca)
    }

    /// The key goes first and the certificate last: a kill between the two leaves a CA that says that its key is missing, and
    /// never a key of which nobody knows. An orphan is another CA's key, and stays.
    fn remove(&self) -> io::Result<()> {
        if !self.folder.is_dir() {
            return Ok(());
        }
        let lock = open_private(&self.lock)?;
        lock.lock()?;
        for path in [&self.key, &self.certificate] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        File::open(&self.folder)?.sync_all()
    }

    /// A key without a certificate is what a kill between the two leaves, and never signed anything. But it is also what an
    /// operator leaves who deletes the certificate by mistake, so it is moved away and not overwritten.
    fn put_orphan_aside(&self) -> io::Result<()> {
        match fs::rename(&self.key, self.key.with_extension("key.orphan")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes a file that is there whole or not at all, also after a power cut: contents, then name, then the folder's entry.
    fn put(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let temporary = path.with_added_extension("tmp");
        // What a killed process left under this name may be longer than what is written now.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = open_private(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(&self.folder)?.sync_all()
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn read(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len().min(MAX_FILE);
    let mut contents = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1));
    file.take(MAX_FILE).read_to_end(&mut contents)?;
    Ok(Some(contents))
}
