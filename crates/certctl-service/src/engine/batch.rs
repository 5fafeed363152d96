//! One batch of claimed jobs on its way: read, prepare, record, sign, store.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use certctl_domain::{
    access::Actor,
    audit::{AuditEvent, EventCategory},
    certificate::{Certificate, CertificateSource, CertificateVersion},
    id::{
        AgentId, CertificateId, CertificateVersionId, JobId, ProfileId, RenewalPolicyId, TargetId,
    },
    job::{JobType, retry_delay},
    ports::issuer::{IssuanceRequest, IssuedCertificate},
    profile::Profile,
    renewal_policy::{RenewalPolicy, renew_at},
    time::Timestamp,
};
use certctl_pki::key::PublicKey;
use certctl_repository::{
    audit_events, certificates,
    intents::{self, Intent},
    jobs::{
        self, NewJob, agent,
        claim::ClaimedJob,
        complete::{self, Completion, Failure},
    },
    notifications::{self, Notice},
    profiles, renewal_policies, transaction,
};
use serde_json::json;

use super::{Pass, ended, prepare, sign};
use crate::{
    Error, Services, acme,
    metrics::{RunEnd, observe_run},
    notifications as told, policies,
    renewals::{deployment, jitter, retry_interval, warn_unoffered},
    services::event,
};

/// Everything the jobs of a batch refer to.
pub(super) struct Context {
    pub(super) certificates: HashMap<CertificateId, Certificate>,
    pub(super) profiles: HashMap<ProfileId, Profile>,
    pub(super) policies: HashMap<RenewalPolicyId, RenewalPolicy>,
    pub(super) intents: HashMap<JobId, Intent>,
    pub(super) deployments: HashMap<CertificateId, Vec<(TargetId, AgentId)>>,
}

impl Context {
    pub(super) fn profile(&self, certificate: &Certificate) -> Option<&Profile> {
        certificate
            .profile_id
            .as_ref()
            .and_then(|id| self.profiles.get(id))
    }

    fn policy(&self, certificate: &Certificate) -> Option<&RenewalPolicy> {
        self.policies.get(&certificate.renewal_policy_id)
    }
}

/// A job with what is to be signed for it.
pub(super) struct Prepared {
    pub(super) claimed: ClaimedJob,
    pub(super) intent: Intent,
    pub(super) request: IssuanceRequest,
}

/// A job that ends badly.
pub(super) struct Failed {
    pub(super) claimed: ClaimedJob,
    /// Why, in words of our own.
    pub(super) problem: String,
    /// Why, in the words of others; for the log only.
    pub(super) cause: Option<String>,
    pub(super) retryable: bool,
    /// How long whoever refused it asks to be left alone.
    pub(super) retry_after: Option<Duration>,
}

impl Failed {
    /// One that trying again does not help.
    pub(super) fn permanent(claimed: ClaimedJob, problem: impl Into<String>) -> Self {
        Self {
            claimed,
            problem: problem.into(),
            cause: None,
            retryable: false,
            retry_after: None,
        }
    }

    /// One that may go well the next time.
    pub(super) fn retryable(claimed: ClaimedJob, problem: impl Into<String>) -> Self {
        Self {
            retryable: true,
            ..Self::permanent(claimed, problem)
        }
    }

    /// With what the log is to say of it.
    pub(super) fn because(self, cause: String) -> Self {
        Self {
            cause: Some(cause),
            ..self
        }
    }
}

/// How long a try of an order waits after the one before.
const ACME_RETRY: Duration = Duration::from_secs(10);
/// The longest an issuer's wish to be left alone is heeded.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What a batch comes to.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) issued: Vec<(Prepared, IssuedCertificate)>,
    pub(super) failed: Vec<Failed>,
    pub(super) handed: Vec<(JobId, i64)>,
}

/// Works a batch off. Of jobs that this process made claimed everything is known, and on record; of others nothing.
pub(super) async fn run(
    services: &Services,
    batch: Vec<ClaimedJob>,
    known: Option<Context>,
) -> Result<Pass, Error> {
    let mut outcome = Outcome::default();
    if let Some(context) = known {
        let prepared = prepare::recorded(&context, batch, &mut outcome);
        sign::sign(services, prepared, &mut outcome).await;
        return store(services, &context, outcome).await;
    }
    let context = read(services, &batch).await?;
    let (renewals, others): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .partition(|one| matches!(one.job.job_type, JobType::Renewal | JobType::Issuance));
    outcome.failed.extend(others.into_iter().map(refuse_other));
    let prepared = prepare::prepare(services, &context, renewals, &mut outcome).await?;
    sign::sign(services, prepared, &mut outcome).await;
    store(services, &context, outcome).await
}

/// Deployments without an agent and validations have no executor on the server.
fn refuse_other(claimed: ClaimedJob) -> Failed {
    let problem = match claimed.job.job_type {
        JobType::Deployment => "the target has no agent that could deploy to it",
        _ => "no worker of this server runs jobs of this type",
    };
    Failed::permanent(claimed, problem)
}

async fn read(services: &Services, batch: &[ClaimedJob]) -> Result<Context, Error> {
    let mut conn = services.read().await?;
    let job_ids: Vec<JobId> = batch.iter().map(|one| one.job.id.clone()).collect();
    let certificate_ids: Vec<CertificateId> = batch
        .iter()
        .filter_map(|one| one.job.certificate_id.clone())
        .collect();
    let certificates: HashMap<_, _> = certificates::find_many(&mut conn, &certificate_ids)
        .await?
        .into_iter()
        .map(|one| (one.id.clone(), one))
        .collect();
    let mut known_profiles = HashMap::new();
    let mut known_policies = HashMap::new();
    for certificate in certificates.values() {
        if let Some(id) = &certificate.profile_id
            && !known_profiles.contains_key(id)
        {
            known_profiles.insert(id.clone(), profiles::find(&mut conn, id).await?);
        }
        let id = &certificate.renewal_policy_id;
        if !known_policies.contains_key(id) {
            known_policies.insert(id.clone(), renewal_policies::find(&mut conn, id).await?);
        }
    }
    let intents = intents::find_many(&mut conn, &job_ids)
        .await?
        .into_iter()
        .map(|one| (one.job_id.clone(), one))
        .collect();
    let mut deployments: HashMap<CertificateId, Vec<(TargetId, AgentId)>> = HashMap::new();
    for (certificate, target, agent) in agent::deployments_of(&mut conn, &certificate_ids).await? {
        deployments
            .entry(certificate)
            .or_default()
            .push((target, agent));
    }
    Ok(Context {
        certificates,
        profiles: known_profiles,
        policies: known_policies,
        intents,
        deployments,
    })
}

/// Stores all that a batch came to, in one transaction.
///
/// A CA may answer with a certificate that is stored already; then the batch is stored one by one, so that only that one fails.
async fn store(services: &Services, context: &Context, outcome: Outcome) -> Result<Pass, Error> {
    match store_together(services, context, &outcome).await {
        Err(error) if error.is_duplicate() => {}
        other => return other,
    }
    let Outcome {
        issued,
        failed,
        handed,
    } = outcome;
    let rest = Outcome {
        issued: Vec::new(),
        failed,
        handed,
    };
    let mut pass = store_together(services, context, &rest).await?;
    for one in issued {
        let single = Outcome {
            issued: vec![one],
            ..Outcome::default()
        };
        pass += match store_together(services, context, &single).await {
            Err(error) if error.is_duplicate() => {
                let problem =
                    "the issuer answered with a certificate that is stored already".to_owned();
                let failed = single
                    .issued
                    .into_iter()
                    .map(|(one, _)| Failed::permanent(one.claimed, problem.clone()))
                    .collect();
                store_together(
                    services,
                    context,
                    &Outcome {
                        failed,
                        ..Outcome::default()
                    },
                )
                .await?
            }
            other => other?,
        };
    }
    Ok(pass)
}

async fn store_together(
    services: &Services,
    context: &Context,
    outcome: &Outcome,
) -> Result<Pass, Error> {
    let now = services.now();
    let completions: Vec<Completion> = outcome
        .issued
        .iter()
        .map(|(one, issued)| completion(context, one, issued, now))
        .collect();
    let failures: Vec<Failure> = outcome
        .failed
        .iter()
        .map(|one| failure(context, one, now))
        .collect();
    let stored = transaction!(services.db, "complete jobs", conn => {
        let done = complete::complete(conn, &completions, now).await?;
        let done: HashSet<&JobId> = done.iter().collect();
        let held: Vec<&Completion> = completions.iter().filter(|one| done.contains(&one.job_id)).collect();
        let new: Vec<NewJob> = held.iter().flat_map(|one| follow_ups(context, one, now)).collect();
        let new = ended::still_wanted(conn, new).await?;
        jobs::insert_all(conn, &new).await?;
        let refused: Vec<&Completion> = completions.iter().filter(|one| !done.contains(&one.job_id)).collect();
        ended::revoke_refused(conn, &refused, now).await?;
        let failed = complete::fail(conn, &failures, now).await?;
        let exhausted = exhausted(outcome, &failures, &failed);
        complete::fail_certificates(conn, &exhausted, now).await?;
        ended::end_intents(conn, &Actor::system(), &exhausted, now).await?;
        let handed = complete::await_csr(conn, &outcome.handed, now).await?;
        let unoffered = agent::mark_unoffered(conn, &handed).await?;
        let mut events: Vec<AuditEvent> = held.iter().map(|one| completed_event(one, now)).collect();
        events.extend(failures.iter().filter(|one| failed.contains(&one.job_id)).map(|one| failed_event(one, now)));
        events.extend(handed.iter().map(|id| handed_event(id, now)));
        let certificate = |id: &CertificateId| context.certificates.get(id);
        let issued: Vec<&Certificate> = held.iter().filter_map(|one| certificate(&one.version.certificate_id)).collect();
        let (mut orders, told) = acme::orders_succeeded(conn, &issued, now).await?;
        events.extend(told);
        let given_up: Vec<&Certificate> = exhausted.iter().filter_map(certificate).collect();
        let (failed_orders, told) = acme::orders_failed(conn, &given_up, now).await?;
        orders.extend(failed_orders);
        events.extend(told);
        audit_events::insert_all(conn, &events).await?;
        notifications::enqueue_all(conn, &notices(outcome, &held, &failures, &failed), now).await?;
        let issued: Vec<CertificateId> = held.iter().map(|one| one.version.certificate_id.clone()).collect();
        policies::evaluate(conn, &Actor::system(), &issued, now).await?;
        let pass = Pass { claimed: 0, completed: held.len(), failed: failed.len(), awaiting_csr: handed.len() };
        let held: HashSet<JobId> = held.into_iter().map(|one| one.job_id.clone()).collect();
        Ok::<_, Error>((pass, held, failed, unoffered, orders))
    });
    let (pass, held, failed, unoffered, orders) = stored?;
    services.orders_ended(&orders);
    for one in &outcome.failed {
        tracing::warn!(job.id = %one.claimed.job.id, error = %one.problem, cause = one.cause, retryable = one.retryable, "a job failed");
    }
    for (one, _) in outcome
        .issued
        .iter()
        .filter(|(one, _)| held.contains(&one.claimed.job.id))
    {
        let job = &one.claimed.job;
        observe_run(
            job.job_type.as_str(),
            job.started_at,
            RunEnd::Completed,
            now,
        );
    }
    for (one, failure) in outcome
        .failed
        .iter()
        .zip(&failures)
        .filter(|(_, failure)| failed.contains(&failure.job_id))
    {
        let (job, end) = (
            &one.claimed.job,
            RunEnd::failure(failure.next_attempt_at.is_some()),
        );
        observe_run(job.job_type.as_str(), job.started_at, end, now);
    }
    warn_unoffered(&unoffered);
    Ok(pass)
}

fn completion(
    context: &Context,
    one: &Prepared,
    issued: &IssuedCertificate,
    now: Timestamp,
) -> Completion {
    let certificate_id = one
        .claimed
        .job
        .certificate_id
        .clone()
        .unwrap_or_else(|| CertificateId::from_stored(String::new()));
    let window = context
        .certificates
        .get(&certificate_id)
        .and_then(|certificate| context.policy(certificate))
        .map_or_else(Default::default, RenewalPolicy::window);
    let (key_algorithm, key_size) = match PublicKey::from_spki_der(&one.intent.spki) {
        Ok(key) => (key.algorithm().as_str().to_owned(), key.bits()),
        Err(_) => (String::new(), 0),
    };
    Completion {
        job_id: one.claimed.job.id.clone(),
        token: one.claimed.token,
        version: CertificateVersion {
            id: CertificateVersionId::generate(now),
            certificate_id,
            issuer_id: one.intent.issuer_id.clone(),
            serial_number: issued.serial.clone(),
            not_before: issued.not_before,
            not_after: issued.not_after,
            fingerprint_sha256: issued.fingerprint_sha256.clone(),
            pem_chain: format!("{}{}", issued.leaf_pem, issued.chain_pem),
            csr_pem: one.intent.csr_pem.clone(),
            key_algorithm,
            key_size,
            created_at: now,
        },
        sealed_key: one.intent.sealed_key.clone(),
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

fn completed_event(one: &Completion, now: Timestamp) -> AuditEvent {
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
