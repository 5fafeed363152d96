//! The private keys of the host.
//!
//! Three files per certificate (agent §5): `<id>.key` is the key in use, `<id>.key.pending` the one whose certificate has
//! not come yet, `<id>.key.prev` the one that was in use before and is kept until the new one is proved. A pending key takes
//! the place of the one in use by a rename, and only when a certificate that belongs to it is in hand; so whatever fails on
//! the way, and wherever the machine stops, the key of the last certificate that came is still there. Which of the three that
//! is, is never remembered but found out anew each time, by comparing with the certificate.

mod files;
#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use certctl_domain::{
    id::{CertificateId, JobId},
    key::KeySpec,
    secret::Secret,
};
use certctl_pki::{cert::ParsedCertificate, key::PrivateKey};

use self::files::Files;
use crate::Error;

/// The keys in one folder. Its methods block on the file system.
pub(crate) struct KeyStore {
    /// Held over every step that belongs together: two targets may be given one certificate at the same moment.
    files: Mutex<Files>,
}

/// Where a key lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    Live,
    Pending,
    Previous,
}

impl Slot {
    fn file(self, id: &CertificateId) -> String {
        match self {
            Self::Live => format!("{id}.key"),
            Self::Pending => format!("{id}.key.pending"),
            Self::Previous => format!("{id}.key.prev"),
        }
    }
}

/// Names the job that a pending key was made for.
fn job_file(id: &CertificateId) -> String {
    format!("{id}.key.pending.job")
}

impl KeyStore {
    /// Opens the folder, making it when it is missing, and checks that it can be written.
    pub(crate) fn open(dir: impl Into<PathBuf>) -> Result<Self, Error> {
        let files = Files::open(dir.into())?;
        Ok(Self {
            files: Mutex::new(files),
        })
    }

    /// The pending key, when it was made for this job and is of this kind: an answer that got lost must not lead to a
    /// second key.
    pub(crate) fn pending_for(
        &self,
        id: &CertificateId,
        job: &JobId,
        spec: KeySpec,
    ) -> Result<Option<PrivateKey>, Error> {
        let files = self.lock();
        if files
            .read(&job_file(id))?
            .is_none_or(|made_for| made_for.expose() != job.as_str())
        {
            return Ok(None);
        }
        let key = parse(files.read(&Slot::Pending.file(id))?);
        Ok(key.filter(|key| key.spec() == spec))
    }

    /// Keeps a new key as the pending one.
    pub(crate) fn stage(
        &self,
        id: &CertificateId,
        job: &JobId,
        key_pem: &Secret,
    ) -> Result<(), Error> {
        let files = self.lock();
        // Without the note no job takes the key for its own, so a stop in between makes a new one, at worst.
        files.remove(&job_file(id))?;
        files.write(&Slot::Pending.file(id), key_pem)?;
        files.write(&job_file(id), &Secret::new(job.as_str()))
    }

    /// Forgets the pending key of a job that was refused.
    pub(crate) fn drop_pending(&self, id: &CertificateId, job: &JobId) -> Result<(), Error> {
        let files = self.lock();
        if files
            .read(&job_file(id))?
            .is_some_and(|made_for| made_for.expose() == job.as_str())
        {
            files.remove(&Slot::Pending.file(id))?;
            files.remove(&job_file(id))?;
        }
        Ok(())
    }

    /// The key of a certificate, wherever it lies; changes nothing.
    pub(crate) fn find(
        &self,
        id: &CertificateId,
        certificate: &ParsedCertificate,
    ) -> Result<(Slot, Secret), Error> {
        find(&self.lock(), id, certificate)
    }

    /// The key of a certificate that has come. A pending one takes the place of the one in use, which is kept.
    pub(crate) fn claim(
        &self,
        id: &CertificateId,
        certificate: &ParsedCertificate,
    ) -> Result<Secret, Error> {
        let files = self.lock();
        let (slot, pem) = find(&files, id, certificate)?;
        if slot == Slot::Pending {
            let live = Slot::Live.file(id);
            let previous = Slot::Previous.file(id);
            // A previous key that is still there was the last one proved; the one in use now never was, and goes.
            if !files.exists(&previous) && files.exists(&live) {
                files.link(&live, &previous)?;
            }
            files.rename(&Slot::Pending.file(id), &live)?;
            files.remove(&job_file(id))?;
        }
        Ok(pem)
    }

    /// The certificate does its work: if its key is the one in use, the one before that is no longer needed.
    pub(crate) fn settle(
        &self,
        id: &CertificateId,
        certificate: &ParsedCertificate,
    ) -> Result<(), Error> {
        let files = self.lock();
        match find(&files, id, certificate) {
            Ok((Slot::Live, _)) => files.remove(&Slot::Previous.file(id)),
            Ok(_) | Err(Error::KeyMismatch(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find(
    files: &Files,
    id: &CertificateId,
    certificate: &ParsedCertificate,
) -> Result<(Slot, Secret), Error> {
    for slot in [Slot::Live, Slot::Pending, Slot::Previous] {
        let Some(pem) = files.read(&slot.file(id))? else {
            continue;
        };
        // A damaged file belongs to no certificate.
        let belongs =
            PrivateKey::from_pem(pem.expose()).is_ok_and(|key| certificate.matches_key(&key));
        if belongs {
            return Ok((slot, pem));
        }
    }
    Err(Error::KeyMismatch(id.to_string()))
}

fn parse(pem: Option<Secret>) -> Option<PrivateKey> {
    PrivateKey::from_pem(pem?.expose()).ok()
}
