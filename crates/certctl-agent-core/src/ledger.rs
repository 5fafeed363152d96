//! The jobs that this agent has taken and not ended, on disk.
//!
//! A deployment is handed out once. If the agent dies over it and is back before the server misses it, nobody else ever
//! takes the job up; so the agent itself must know, after a start, what it owes the server. One file per job holds nothing
//! while the job is under way, and its report from when it is done until the server has taken it.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use certctl_domain::id::JobId;
use serde_json::Value;

use crate::Error;

const ENDING: &str = ".json";
const TEMPORARY: &str = ".tmp";

/// Its methods block on the file system.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    dir: PathBuf,
}

/// A job of an earlier life, with its report when it was done.
pub(crate) type Owed = (JobId, Option<Value>);

impl Ledger {
    /// Opens the folder, and reads what is owed from before.
    pub(crate) fn open(dir: PathBuf) -> Result<(Self, Vec<Owed>), Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(Error::file("make", &dir))?;
        let ledger = Self { dir };
        let owed = ledger
            .read_all()
            .map_err(Error::file("read", &ledger.dir))?;
        Ok((ledger, owed))
    }

    /// Notes that a job is under way.
    pub(crate) fn take(&self, job: &JobId) -> Result<(), Error> {
        self.write(job, b"")
    }

    /// Notes how a job ended.
    pub(crate) fn end(&self, job: &JobId, report: &Value) -> Result<(), Error> {
        self.write(job, report.to_string().as_bytes())
    }

    /// Forgets a job that the server knows the end of.
    pub(crate) fn forget(&self, job: &JobId) -> Result<(), Error> {
        let path = self.path(job);
        match fs::remove_file(&path) {
            Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
                Err(Error::file("remove", path)(reason))
            }
            _ => Ok(()),
        }
    }

    fn write(&self, job: &JobId, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path(job);
        let temporary = self.dir.join(format!("{job}{TEMPORARY}"));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            fs::File::open(&self.dir)?.sync_all()
        };
        write().map_err(Error::file("write", path))
    }

    fn path(&self, job: &JobId) -> PathBuf {
        self.dir.join(format!("{job}{ENDING}"))
    }

    fn read_all(&self) -> io::Result<Vec<Owed>> {
        let mut owed = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let Some(job) = job_of(&path) else {
                continue;
            };
            // A report that cannot be read is as good as none: the job is reported as cut off.
            let report = serde_json::from_slice(&fs::read(&path)?).ok();
            owed.push((job, report));
        }
        Ok(owed)
    }
}

fn job_of(path: &Path) -> Option<JobId> {
    let name = path.file_name()?.to_str()?;
    JobId::parse(name.strip_suffix(ENDING)?).ok()
}

#[cfg(test)]
mod tests {
    use certctl_domain::id::JobId;
    use serde_json::json;

    use super::Ledger;

    #[test]
    fn what_is_owed_outlives_the_agent() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("jobs");
        let [one, two, three] = ["job-1", "job-2", "job-3"].map(|id| JobId::parse(id).unwrap());
        let (ledger, owed) = Ledger::open(dir.clone()).unwrap();
        assert!(owed.is_empty());
        for job in [&one, &two, &three] {
            ledger.take(job).unwrap();
        }
        ledger.end(&two, &json!({"status": "Completed"})).unwrap();
        ledger.forget(&three).unwrap();
        ledger.forget(&three).unwrap();
        std::fs::write(dir.join("job-4.tmp"), "cut off").unwrap();

        let (_, mut owed) = Ledger::open(dir).unwrap();
        owed.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            owed,
            [(one, None), (two, Some(json!({"status": "Completed"})))]
        );
    }
}
