//! What becomes of signatures and deployments of jobs and certificates that ended while they were signed.

use std::collections::HashSet;

use certctl_domain::{
    access::Actor,
    audit::EventCategory,
    certificate::CertificateStatus,
    id::{CertificateId, JobId, RevocationId},
    job::JobStatus,
    revocation::{Revocation, RevocationReason},
    time::Timestamp,
};
use certctl_repository::{
    Conn, audit_events, certificates,
    intents::{self, Unfinished},
    jobs::{self, NewJob, complete::Completion},
    revocations,
};

use serde_json::json;

use crate::{Error, services::event};

/// What was signed for a job that has ended otherwise meanwhile is no one's: nobody is given it, so it is no version, but it is
/// revoked, so that it is known and trusted by nobody. Of a job that another worker took up, that worker has the same serial.
pub(super) async fn revoke_refused(
    conn: &mut Conn,
    refused: &[&Completion],
    now: Timestamp,
) -> Result<(), Error> {
    let mut revoked = Vec::new();
    for one in refused {
        let ended = match jobs::find(conn, &one.job_id).await {
            Ok(job) => matches!(job.status, JobStatus::Cancelled | JobStatus::Failed),
            Err(certctl_repository::Error::NotFound) => true,
            Err(error) => return Err(error.into()),
        };
        // Where the intent is still there, the same serial is asked for again, or ends with it.
        let again = intents::find_many(conn, std::slice::from_ref(&one.job_id))
            .await?
            .iter()
            .any(|intent| intent.serial_number == one.version.serial_number);
        if !ended || again {
            continue;
        }
        let version = &one.version;
        revoked.push(Revocation {
            id: RevocationId::generate(now),
            certificate_id: version.certificate_id.clone(),
            issuer_id: version.issuer_id.clone(),
            serial_number: version.serial_number.clone(),
            reason: RevocationReason::CessationOfOperation,
            revoked_by: Actor::system().id().to_owned(),
            revoked_at: now,
            issuer_notified: false,
        });
        tracing::warn!(job.id = %one.job_id, serial = %version.serial_number, "what was signed for a job that was called off is revoked");
    }
    Ok(revocations::enter(conn, &revoked).await?)
}

/// Ends the intents of jobs of certificates that ended without a version and are not tried again: whether a CA has signed already
/// cannot be known, since a worker signs outside of any transaction. What was never signed does no harm on a list of what is
/// revoked; what was signed and is on none does. The sealed key goes with the intent. A job that is tried again keeps both.
///
/// To be called in the transaction that ends the jobs, after it.
pub(crate) async fn end_intents(
    conn: &mut Conn,
    actor: &Actor,
    certificates: &[CertificateId],
    now: Timestamp,
) -> Result<(), Error> {
    if certificates.is_empty() {
        return Ok(());
    }
    let unfinished = intents::unfinished(conn, certificates).await?;
    give_up(conn, actor, &unfinished, now).await
}

/// Revokes what intents may have had signed, and deletes them.
pub(super) async fn give_up(
    conn: &mut Conn,
    actor: &Actor,
    unfinished: &[Unfinished],
    now: Timestamp,
) -> Result<(), Error> {
    if unfinished.is_empty() {
        return Ok(());
    }
    let mut events = Vec::with_capacity(unfinished.len());
    let mut revoked = Vec::with_capacity(unfinished.len());
    for one in unfinished {
        revoked.push(Revocation {
            id: RevocationId::generate(now),
            certificate_id: one.certificate_id.clone(),
            issuer_id: one.issuer_id.clone(),
            serial_number: one.serial_number.clone(),
            reason: RevocationReason::CessationOfOperation,
            revoked_by: actor.id().to_owned(),
            revoked_at: now,
            issuer_notified: false,
        });
        let details = json!({"certificate_id": one.certificate_id.as_str(), "issuer_id": one.issuer_id.as_str(),
            "serial_number": one.serial_number.as_str()});
        events.push(event(
            actor,
            EventCategory::CertLifecycle,
            "unfinished_issuance_revoked",
            ("job", one.job_id.as_str()),
            details,
            now,
        ));
    }
    audit_events::insert_all(conn, &events).await?;
    let jobs: Vec<JobId> = unfinished.iter().map(|one| one.job_id.clone()).collect();
    intents::delete_many(conn, &jobs).await?;
    // Last, because it locks a row that every revocation of the issuer waits for.
    Ok(revocations::enter(conn, &revoked).await?)
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
