//! Signing before anything is written, where the CA's key is in this process.
//!
//! A CA elsewhere has issued once it has signed, whatever becomes of its answer, so a serial is on record before it is asked. What
//! the CA in this process signs is seen by nobody until this process hands it out: what is lost with the process was never issued.
//! So all that follows from it is entered at once, in one transaction, and only what is stored is handed out.

use std::time::Duration;

use certctl_domain::{
    audit::AuditEvent,
    certificate::{Certificate, CertificateStatus},
    id::CertificateId,
    issuer::IssuerType,
    time::Timestamp,
};
use certctl_repository::{
    Conn, certificates,
    jobs::{
        complete::{self, Completion},
        held::{FIRST_TOKEN, insert_completed},
    },
    notifications,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    held::Held,
    request,
    store::{completed_event, completion_of},
};
use crate::{
    Error, Services,
    metrics::{RunEnd, observe_run, observe_signed_ahead},
    notifications as told, policies,
};

/// What was signed and is stored nowhere yet.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    /// The certificate as it is to be entered.
    certificate: Certificate,
    completion: Completion,
    /// Who signed, and how long that took.
    signed_by: (IssuerType, Duration),
}

impl Signed {
    /// Leaf first, then the chain.
    pub(crate) fn pem_chain(&self) -> &str {
        &self.completion.version.pem_chain
    }
}

impl Services {
    /// Has signed what is not on record, if the CA's key is in this process and it answers by then. None where it is not, or where
    /// something is in the way, which is then for a job to find, to tell and to count.
    pub(crate) async fn sign_ahead(
        &self,
        held: &Held,
        at_a_time: &Semaphore,
        deadline: Instant,
    ) -> Option<Signed> {
        let intent = &held.intent;
        // Not within the time: it may read, and a read is not to be broken off.
        let connected = self.connected_issuer(&intent.issuer_id).await.ok()?;
        let is_ours = connected.issuer.status_signer().is_some();
        if !connected.enabled || !is_ours {
            return None;
        }
        let request = request::build(intent).ok()?;
        let started = Instant::now();
        let signing = async {
            let _turn = at_a_time.acquire().await.ok()?;
            let mut answers = connected.issuer.issue(vec![request]).await;
            answers.pop()?.ok()
        };
        let issued = timeout_at(deadline, signing).await.ok()??;
        let signed_by = (connected.kind, started.elapsed());
        let now = self.now();
        let completion = completion_of(
            intent,
            FIRST_TOKEN,
            held.certificate.id.clone(),
            held.policy.window(),
            &issued,
            now,
        );
        let certificate = Certificate {
            status: CertificateStatus::Active,
            expires_at: Some(completion.version.not_after),
            renew_at: Some(completion.renew_at),
            last_renewal_at: Some(now),
            updated_at: now,
            ..held.certificate.clone()
        };
        Some(Signed {
            certificate,
            completion,
            signed_by,
        })
    }

    /// Counts what [`enter`] entered, after the commit.
    pub(crate) fn count_ahead(&self, held: &Held, signed: &Signed) {
        let (kind, took) = signed.signed_by;
        observe_signed_ahead(kind, took);
        let job = &held.job;
        let started_at = Some(job.created_at);
        observe_run(
            job.job_type.as_str(),
            started_at,
            RunEnd::Completed,
            self.now(),
        );
    }
}

/// Enters certificates, jobs that are done, versions and what owners are told, in the transaction that hands them out. Returns what
/// is to stand in the audit log.
pub(crate) async fn enter(
    conn: &mut Conn,
    signed: &[(&Held, &Signed)],
    now: Timestamp,
) -> Result<Vec<AuditEvent>, Error> {
    if signed.is_empty() {
        return Ok(Vec::new());
    }
    let new: Vec<Certificate> = signed
        .iter()
        .map(|(_, one)| one.certificate.clone())
        .collect();
    certificates::insert_all(conn, &new).await?;
    let jobs: Vec<_> = signed.iter().map(|(held, _)| &held.job).collect();
    insert_completed(conn, &jobs, now).await?;
    let done: Vec<&Completion> = signed.iter().map(|(_, one)| &one.completion).collect();
    complete::enter(conn, &done).await?;
    let notices: Vec<_> = done.iter().map(|one| told::of_completion(one)).collect();
    notifications::enqueue_all(conn, &notices, now).await?;
    let ids: Vec<CertificateId> = new.into_iter().map(|one| one.id).collect();
    policies::evaluate(conn, &certctl_domain::access::Actor::system(), &ids, now).await?;
    Ok(done.iter().map(|one| completed_event(one, now)).collect())
}
