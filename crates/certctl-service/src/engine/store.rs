//! Stores what a batch came to: what was issued with everything that follows from it, and what failed.

use std::{collections::HashSet, sync::Arc, time::Duration};

use certctl_domain::{
    access::Actor,
    audit::{AuditEvent, EventCategory},
    certificate::{Certificate, CertificateSource, CertificateVersion},
    id::{CertificateId, CertificateVersionId, JobId},
    job::{Job, retry_delay},
    ports::issuer::IssuedCertificate,
    renewal_policy::{RenewalPolicy, renew_at},
    time::Timestamp,
};
use certctl_pki::key::PublicKey;
use certctl_repository::{
    Conn,
    acme::issuing::Ended,
    audit_events,
    intents::Intent,
    jobs::{
        self, NewJob, agent,
        complete::{self, Completion, Failure},
    },
    notifications::{self, Notice},
    transaction,
};
use serde_json::json;

use super::{
    Pass,
    batch::{Context, Failed, Outcome, Prepared},
    ended,
};
use crate::{
    Error, Services, acme,
    metrics::{RunEnd, observe_run},
    notifications as told, policies,
    renewals::{deployment, jitter, retry_interval, warn_unoffered},
    services::event,
};

/// How long a try of an order waits after the one before.
const ACME_RETRY: Duration = Duration::from_secs(10);
/// The longest an issuer's wish to be left alone is heeded.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Stores all that a batch came to, in one transaction.
///
/// A CA may answer with a certificate that is stored already; then the batch is stored one by one, so that only that one fails.
pub(super) async fn store(services: &Services, results: Results) -> Result<Pass, Error> {
    match results.store(services).await {
        Err(error) if error.is_duplicate() => results.store_singly(services).await,
        other => other,
    }
}

/// What is to be stored of a batch.
pub(crate) struct Results {
    context: Arc<Context>,
    outcome: Outcome,
    completions: Vec<Completion>,
    failures: Vec<Failure>,
    now: Timestamp,
}

/// What was stored of a batch, if the transaction is committed.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pass: Pass,
    completed: HashSet<JobId>,
    failed: Vec<JobId>,
    unoffered: Vec<(JobId, CertificateId)>,
    orders: Vec<Ended>,
}

impl Results {
    pub(super) fn of(context: Arc<Context>, outcome: Outcome, now: Timestamp) -> Self {
        let issued = outcome.issued.iter();
        let completions = issued.map(|(one, issued)| completion(&context, one, issued, now));
        let completions = completions.collect();
        let failed = outcome.failed.iter();
        let failures = failed.map(|one| failure(&context, one, now)).collect();
        Self {
            context,
            outcome,
            completions,
            failures,
            now,
        }
    }

    async fn store(&self, services: &Services) -> Result<Pass, Error> {
        let stored = transaction!(services.db, "complete jobs", conn => {
            self.write(conn).await
        });
        Ok(self.settle(services, &stored?))
    }

    async fn store_singly(self, services: &Services) -> Result<Pass, Error> {
        let of = |outcome: Outcome| Self::of(Arc::clone(&self.context), outcome, services.now());
        let Outcome {
            issued,
            failed,
            handed,
        } = self.outcome;
        let rest = Outcome {
            issued: Vec::new(),
            failed,
            handed,
        };
        let mut pass = of(rest).store(services).await?;
        for one in issued {
            let single = of(Outcome {
                issued: vec![one],
                ..Outcome::default()
            });
            pass += match single.store(services).await {
                Err(error) if error.is_duplicate() => {
                    let problem = "the issuer answered with a certificate that is stored already";
                    let refused = single.outcome.issued.into_iter();
                    let failed = refused.map(|(one, _)| Failed::permanent(one.claimed, problem));
                    let failed = Outcome {
                        failed: failed.collect(),
                        ..Outcome::default()
                    };
                    of(failed).store(services).await?
                }
                other => other?,
            };
        }
        Ok(pass)
    }

    /// Writes it; to be called in a transaction.
    pub(crate) async fn write(&self, conn: &mut Conn) -> Result<Stored, Error> {
        let Self {
            context,
            outcome,
            completions,
            failures,
            now,
        } = self;
        let now = *now;
        let done = complete::complete(conn, completions, now).await?;
        let done: HashSet<&JobId> = done.iter().collect();
        let (held, refused): (Vec<&Completion>, Vec<&Completion>) = completions
            .iter()
            .partition(|one| done.contains(&one.job_id));
        let new: Vec<NewJob> = held
            .iter()
            .flat_map(|one| follow_ups(context, one, now))
            .collect();
        let new = ended::still_wanted(conn, new).await?;
        jobs::insert_all(conn, &new).await?;
        ended::revoke_refused(conn, &refused, now).await?;
        let failed = complete::fail(conn, failures, now).await?;
        let exhausted = exhausted(outcome, failures, &failed);
        complete::fail_certificates(conn, &exhausted, now).await?;
        ended::end_intents(conn, &Actor::system(), &exhausted, now).await?;
        let handed = complete::await_csr(conn, &outcome.handed, now).await?;
        let unoffered = agent::mark_unoffered(conn, &handed).await?;
        let certificate = |id: &CertificateId| context.certificates.get(id);
        let issued: Vec<&Certificate> = held
            .iter()
            .filter_map(|one| certificate(&one.version.certificate_id))
            .collect();
        let (mut orders, told) = acme::orders_succeeded(conn, &issued, now).await?;
        let given_up: Vec<&Certificate> = exhausted.iter().filter_map(certificate).collect();
        let (failed_orders, told_of_failed) = acme::orders_failed(conn, &given_up, now).await?;
        orders.extend(failed_orders);
        let mut events: Vec<AuditEvent> =
            held.iter().map(|one| completed_event(one, now)).collect();
        events.extend(
            failures
                .iter()
                .filter(|one| failed.contains(&one.job_id))
                .map(|one| failed_event(one, now)),
        );
        events.extend(handed.iter().map(|id| handed_event(id, now)));
        events.extend(told);
        events.extend(told_of_failed);
        audit_events::insert_all(conn, &events).await?;
        let notices = notices(outcome, &held, failures, &failed);
        notifications::enqueue_all(conn, &notices, now).await?;
        let issued: Vec<CertificateId> = held
            .iter()
            .map(|one| one.version.certificate_id.clone())
            .collect();
        policies::evaluate(conn, &Actor::system(), &issued, now).await?;
        Ok(Stored {
            pass: Pass {
                claimed: 0,
                completed: held.len(),
                failed: failed.len(),
                awaiting_csr: handed.len(),
            },
            completed: held.into_iter().map(|one| one.job_id.clone()).collect(),
            failed,
            unoffered,
            orders,
        })
    }

    /// Tells and counts what was stored, after the commit.
    pub(crate) fn settle(&self, services: &Services, stored: &Stored) -> Pass {
        services.orders_ended(&stored.orders);
        for one in &self.outcome.failed {
            tracing::warn!(job.id = %one.claimed.job.id, error = %one.problem, cause = one.cause, retryable = one.retryable, "a job failed");
        }
        let ran = |job: &Job, end: RunEnd| {
            observe_run(job.job_type.as_str(), job.started_at, end, self.now);
        };
        for (one, _) in &self.outcome.issued {
            let job = &one.claimed.job;
            if stored.completed.contains(&job.id) {
                ran(job, RunEnd::Completed);
            }
        }
        for (one, failure) in self.outcome.failed.iter().zip(&self.failures) {
            if stored.failed.contains(&failure.job_id) {
                let end = RunEnd::failure(failure.next_attempt_at.is_some());
                ran(&one.claimed.job, end);
            }
        }
        warn_unoffered(&stored.unoffered);
        stored.pass
    }
}

fn completion(
    context: &Context,
    one: &Prepared,
    issued: &IssuedCertificate,
    now: Timestamp,
) -> Completion {
    let job = &one.claimed.job;
    let certificate_id = job
        .certificate_id
        .clone()
        .unwrap_or_else(|| CertificateId::from_stored(String::new()));
    let window = context
        .certificates
        .get(&certificate_id)
        .and_then(|certificate| context.policy(certificate))
        .map_or_else(Default::default, RenewalPolicy::window);
    let token = one.claimed.token;
    completion_of(&one.intent, token, certificate_id, window, issued, now)
}

/// What an intent came to; `window` is how long before its end the certificate is renewed.
pub(super) fn completion_of(
    intent: &Intent,
    token: i64,
    certificate_id: CertificateId,
    window: Duration,
    issued: &IssuedCertificate,
    now: Timestamp,
) -> Completion {
    let (key_algorithm, key_size) = match PublicKey::from_spki_der(&intent.spki) {
        Ok(key) => (key.algorithm().as_str().to_owned(), key.bits()),
        Err(_) => (String::new(), 0),
    };
    Completion {
        job_id: intent.job_id.clone(),
        token,
        version: CertificateVersion {
            id: CertificateVersionId::generate(now),
            certificate_id,
            issuer_id: intent.issuer_id.clone(),
            serial_number: issued.serial.clone(),
            not_before: issued.not_before,
            not_after: issued.not_after,
            fingerprint_sha256: issued.fingerprint_sha256.clone(),
            pem_chain: format!("{}{}", issued.leaf_pem, issued.chain_pem),
            csr_pem: intent.csr_pem.clone(),
            key_algorithm,
            key_size,
            created_at: now,
        },
        sealed_key: intent.sealed_key.clone(),
        renew_at: renew_at(issued.not_before, issued.not_after, window, jitter()),
    }
}

/// What owners are told of a batch: what was issued, and what failed and is not tried again.
fn notices(
    outcome: &Outcome,
    held: &[&Completion],
    failures: &[Failure],
    failed: &[JobId],
) -> Vec<Notice> {
    let renewed = held.iter().map(|one| told::of_completion(one));
    let given_up = outcome
        .failed
        .iter()
        .zip(failures)
        .filter_map(|(one, failure)| {
            let job = &one.claimed.job;
            let is_told = failure.next_attempt_at.is_none() && failed.contains(&failure.job_id);
            job.certificate_id
                .as_ref()
                .filter(|_| is_told)
                .map(|id| told::of_failed_renewal(id, &job.id, &failure.error))
        });
    renewed.chain(given_up).collect()
}

/// Certificates of jobs that failed for good, of those that were still this worker's to fail.
fn exhausted(outcome: &Outcome, failures: &[Failure], failed: &[JobId]) -> Vec<CertificateId> {
    let held: HashSet<&JobId> = failed.iter().collect();
    outcome
        .failed
        .iter()
        .zip(failures)
        .filter(|(_, failure)| failure.next_attempt_at.is_none() && held.contains(&failure.job_id))
        .filter_map(|(one, _)| one.claimed.job.certificate_id.clone())
        .collect()
}

/// One deployment for each target the certificate is mapped to.
fn follow_ups(context: &Context, done: &Completion, now: Timestamp) -> Vec<NewJob> {
    let certificate = &done.version.certificate_id;
    let retries = context
        .certificates
        .get(certificate)
        .and_then(|certificate| context.policy(certificate))
        .map_or(certctl_domain::job::DEFAULT_MAX_ATTEMPTS, |policy| {
            policy.max_retries
        });
    let targets = context
        .deployments
        .get(certificate)
        .map(Vec::as_slice)
        .unwrap_or_default();
    targets
        .iter()
        .map(|(target, agent)| deployment(certificate, target.clone(), agent.clone(), retries, now))
        .collect()
}

fn failure(context: &Context, one: &Failed, now: Timestamp) -> Failure {
    let job = &one.claimed.job;
    let interval = job
        .certificate_id
        .as_ref()
        .and_then(|id| context.certificates.get(id))
        .and_then(|certificate| context.policy(certificate))
        .map_or(certctl_domain::job::DEFAULT_RETRY_INTERVAL, |policy| {
            retry_interval(policy.retry_interval_seconds)
        });
    let is_acme = job
        .certificate_id
        .as_ref()
        .and_then(|id| context.certificates.get(id))
        .is_some_and(|certificate| certificate.source == CertificateSource::Acme);
    // A client waits, and gives up long before a policy's interval is over.
    let interval = if is_acme { ACME_RETRY } else { interval };
    let again = one.retryable && job.attempts < job.max_attempts;
    Failure {
        job_id: job.id.clone(),
        token: one.claimed.token,
        error: one.problem.chars().take(2000).collect(),
        next_attempt_at: again.then(|| {
            let asked = one.retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
            now + retry_delay(job.attempts, interval, jitter()).max(asked)
        }),
    }
}

pub(super) fn completed_event(one: &Completion, now: Timestamp) -> AuditEvent {
    let version = &one.version;
    let details = json!({"certificate_id": version.certificate_id.as_str(), "serial_number": version.serial_number.as_str(),
        "issuer_id": version.issuer_id.as_str(), "not_after": version.not_after.to_rfc3339(),
        "fingerprint_sha256": version.fingerprint_sha256});
    event(
        &Actor::system(),
        EventCategory::CertLifecycle,
        "renewal_job_completed",
        ("job", one.job_id.as_str()),
        details,
        now,
    )
}

fn failed_event(one: &Failure, now: Timestamp) -> AuditEvent {
    let details = json!({"error": one.error, "retry": one.next_attempt_at.is_some()});
    event(
        &Actor::system(),
        EventCategory::CertLifecycle,
        "renewal_job_failed",
        ("job", one.job_id.as_str()),
        details,
        now,
    )
}

fn handed_event(id: &JobId, now: Timestamp) -> AuditEvent {
    event(
        &Actor::system(),
        EventCategory::CertLifecycle,
        "renewal_awaiting_csr",
        ("job", id.as_str()),
        json!({}),
        now,
    )
}
