//! What becomes of signatures and deployments of jobs and certificates that ended while they were signed.

use std::collections::HashSet;

use certctl_domain::{
    access::Actor,
    certificate::CertificateStatus,
    id::{CertificateId, RevocationId},
    job::JobStatus,
    revocation::{Revocation, RevocationReason},
    time::Timestamp,
};
use certctl_repository::{
    Conn, certificates,
    jobs::{self, NewJob, complete::Completion},
    revocations,
};

use crate::Error;

/// What was signed for a job that has ended otherwise meanwhile is no one's: nobody is given it, so it is no version, but it is
/// revoked, so that it is known and trusted by nobody. Of a job that another worker took up, that worker has the same serial.
pub(super) async fn revoke_refused(
    conn: &mut Conn,
    refused: &[&Completion],
    now: Timestamp,
) -> Result<(), Error> {
    for one in refused {
        let ended = match jobs::find(conn, &one.job_id).await {
            Ok(job) => matches!(job.status, JobStatus::Cancelled | JobStatus::Failed),
            Err(certctl_repository::Error::NotFound) => true,
            Err(error) => return Err(error.into()),
        };
        if !ended {
            continue;
        }
        let version = &one.version;
        let revocation = Revocation {
            id: RevocationId::generate(now),
            certificate_id: version.certificate_id.clone(),
            issuer_id: version.issuer_id.clone(),
            serial_number: version.serial_number.clone(),
            reason: RevocationReason::CessationOfOperation,
            revoked_by: Actor::system().id().to_owned(),
            revoked_at: now,
            issuer_notified: false,
        };
        revocations::insert(conn, &revocation).await?;
        tracing::warn!(job.id = %one.job_id, serial = %version.serial_number, "what was signed for a job that was called off is revoked");
    }
    Ok(())
}

/// Leaves out the deployments of certificates that were revoked or archived while they were signed.
pub(super) async fn still_wanted(conn: &mut Conn, new: Vec<NewJob>) -> Result<Vec<NewJob>, Error> {
    if new.is_empty() {
        return Ok(new);
    }
    let mut ids: Vec<CertificateId> = new.iter().map(|job| job.certificate_id.clone()).collect();
    ids.dedup();
    let ended: HashSet<CertificateId> = certificates::find_many(conn, &ids)
        .await?
        .into_iter()
        .filter(|one| has_ended(one.status))
        .map(|one| one.id)
        .collect();
    Ok(new
        .into_iter()
        .filter(|job| !ended.contains(&job.certificate_id))
        .collect())
}

/// Whether nothing more is to be issued or deployed.
pub(super) fn has_ended(status: CertificateStatus) -> bool {
    matches!(
        status,
        CertificateStatus::Revoked | CertificateStatus::Archived
    )
}
