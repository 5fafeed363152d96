//! One batch of claimed jobs on its way: read, prepare, record, sign, store.

use std::collections::{BTreeMap, HashMap};

use certctl_domain::{
    access::Actor,
    audit::{AuditEvent, EventCategory},
    certificate::{Certificate, CertificateVersion},
    id::{
        AgentId, CertificateId, CertificateVersionId, IssuerId, JobId, ProfileId, RenewalPolicyId,
        TargetId,
    },
    issuer::IssuerType,
    job::{JobType, retry_delay},
    key::KeySpec,
    ports::issuer::{IssuanceRequest, IssuedCertificate, IssuerError},
    profile::Profile,
    renewal_policy::{RenewalPolicy, renew_at},
    time::Timestamp,
};
use certctl_pki::{
    cert::random_serial,
    key::{PrivateKey, PublicKey},
};
use certctl_repository::{
    audit_events, certificates,
    intents::{self, Intent},
    jobs::{
        self, NewJob, agent,
        claim::ClaimedJob,
        complete::{self, Completion, Failure},
    },
    profiles, renewal_policies, transaction,
};
use certctl_telemetry::ErrorChain;
use serde_json::json;

use super::{Pass, ended, key_place, request};
use crate::{
    Error, Services,
    config::KeygenMode,
    issuers::registry::ConnectError,
    renewals::{deployment, jitter, retry_interval},
    services::event,
};

/// Everything the jobs of a batch refer to.
struct Context {
    certificates: HashMap<CertificateId, Certificate>,
    profiles: HashMap<ProfileId, Profile>,
    policies: HashMap<RenewalPolicyId, RenewalPolicy>,
    intents: HashMap<JobId, Intent>,
    deployments: HashMap<CertificateId, Vec<(TargetId, AgentId)>>,
}

impl Context {
    fn profile(&self, certificate: &Certificate) -> Option<&Profile> {
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
struct Prepared {
    claimed: ClaimedJob,
    intent: Intent,
    request: IssuanceRequest,
}

/// A job that the server makes a key for.
struct Keyless {
    claimed: ClaimedJob,
    issuer_id: IssuerId,
    spec: KeySpec,
    wanted: request::Wanted,
}

/// A job that ends badly.
struct Failed {
    claimed: ClaimedJob,
    problem: String,
    retryable: bool,
}

/// What a batch comes to.
#[derive(Default)]
struct Outcome {
    issued: Vec<(Prepared, IssuedCertificate)>,
    failed: Vec<Failed>,
    handed: Vec<(JobId, i64, Option<&'static str>)>,
}

/// Works a batch off.
pub(super) async fn run(services: &Services, batch: Vec<ClaimedJob>) -> Result<Pass, Error> {
    let context = read(services, &batch).await?;
    let mut outcome = Outcome::default();
    let (renewals, others): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .partition(|one| matches!(one.job.job_type, JobType::Renewal | JobType::Issuance));
    outcome.failed.extend(others.into_iter().map(refuse_other));
    let prepared = prepare(services, &context, renewals, &mut outcome).await?;
    sign(services, prepared, &mut outcome).await;
    store(services, &context, outcome).await
}

/// Deployments without an agent and validations have no executor on the server.
fn refuse_other(claimed: ClaimedJob) -> Failed {
    let problem = match claimed.job.job_type {
        JobType::Deployment => "the target has no agent that could deploy to it",
        _ => "no worker of this server runs jobs of this type",
    };
    Failed {
        claimed,
        problem: problem.to_owned(),
        retryable: false,
    }
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

/// Decides what each renewal needs: a recorded request is signed, an agent is asked for one, or the server makes a key. What is
/// new is recorded before anything is signed.
async fn prepare(
    services: &Services,
    context: &Context,
    renewals: Vec<ClaimedJob>,
    outcome: &mut Outcome,
) -> Result<Vec<Prepared>, Error> {
    let now = services.now();
    let mut ready = Vec::with_capacity(renewals.len());
    let mut keyless = Vec::new();
    for claimed in renewals {
        let Some(certificate) = claimed
            .job
            .certificate_id
            .as_ref()
            .and_then(|id| context.certificates.get(id))
        else {
            outcome.failed.push(Failed {
                claimed,
                problem: "the certificate is gone".to_owned(),
                retryable: false,
            });
            continue;
        };
        match context.intents.get(&claimed.job.id) {
            // Where there is an intent, a worker that died may have had it signed: it is signed again, and recorded as revoked.
            None if ended::has_ended(certificate.status) => {
                let problem = format!("the certificate is {}", certificate.status);
                outcome.failed.push(Failed {
                    claimed,
                    problem,
                    retryable: false,
                });
            }
            Some(intent) => ready.push((claimed, intent.clone())),
            None if services.config.keygen_mode == KeygenMode::Agent => {
                let hint = (!context.deployments.contains_key(&certificate.id))
                    .then_some("no agent-bound target");
                if hint.is_some() {
                    tracing::warn!(job.id = %claimed.job.id, certificate.id = %certificate.id, "no agent-bound target; an operator may submit a request");
                }
                outcome.handed.push((claimed.job.id, claimed.token, hint));
            }
            None => {
                let profile = context.profile(certificate);
                let spec = profile.map_or(KeySpec::EcdsaP256, Profile::key_spec);
                match request::Wanted::of(certificate, profile) {
                    Ok(wanted) => keyless.push(Keyless {
                        claimed,
                        issuer_id: certificate.issuer_id.clone(),
                        spec,
                        wanted,
                    }),
                    Err(error) => outcome.failed.push(Failed {
                        claimed,
                        problem: error.to_string(),
                        retryable: false,
                    }),
                }
            }
        }
    }
    let made = make_intents(services, keyless, now, outcome).await?;
    let new: Vec<Intent> = made.iter().map(|(_, intent)| intent.clone()).collect();
    if !new.is_empty() {
        transaction!(services.db, "record intents", conn => {
            Ok::<_, Error>(intents::insert_all(conn, &new).await?)
        })?;
    }
    ready.extend(made);
    let mut prepared = Vec::with_capacity(ready.len());
    for (claimed, intent) in ready {
        match request::build(&intent) {
            Ok(request) => prepared.push(Prepared {
                claimed,
                intent,
                request,
            }),
            Err(error) => outcome.failed.push(Failed {
                claimed,
                problem: error.to_string(),
                retryable: false,
            }),
        }
    }
    Ok(prepared)
}

/// Makes keys and serial numbers, away from the threads that serve requests.
async fn make_intents(
    services: &Services,
    keyless: Vec<Keyless>,
    now: Timestamp,
    outcome: &mut Outcome,
) -> Result<Vec<(ClaimedJob, Intent)>, Error> {
    if keyless.is_empty() {
        return Ok(Vec::new());
    }
    let Some(sealer) = services.sealer.clone() else {
        let problem =
            "a key made by the server cannot be stored without CERTCTL_CONFIG_ENCRYPTION_KEY";
        outcome
            .failed
            .extend(keyless.into_iter().map(|Keyless { claimed, .. }| Failed {
                claimed,
                problem: problem.to_owned(),
                retryable: false,
            }));
        return Ok(Vec::new());
    };
    tokio::task::spawn_blocking(move || {
        keyless
            .into_iter()
            .map(
                |Keyless {
                     claimed,
                     issuer_id,
                     spec,
                     wanted,
                 }| {
                    let key = PrivateKey::generate(spec)?;
                    let serial_number = random_serial()?;
                    let sealed = sealer
                        .seal(&key_place(&serial_number), key.to_pem().expose().as_bytes())?;
                    let intent = Intent {
                        job_id: claimed.job.id.clone(),
                        issuer_id,
                        serial_number,
                        not_before: now.truncated_to_seconds(),
                        spki: key.spki_der().to_vec(),
                        request: wanted.to_json(),
                        csr_pem: String::new(),
                        sealed_key: Some(sealed),
                        created_at: now,
                    };
                    Ok((claimed, intent))
                },
            )
            .collect::<Result<Vec<_>, Error>>()
    })
    .await
    .map_err(Error::internal)?
}

/// Has each issuer sign its part of the batch.
async fn sign(services: &Services, prepared: Vec<Prepared>, outcome: &mut Outcome) {
    let mut by_issuer: BTreeMap<IssuerId, Vec<Prepared>> = BTreeMap::new();
    for one in prepared {
        by_issuer
            .entry(one.intent.issuer_id.clone())
            .or_default()
            .push(one);
    }
    for (issuer_id, part) in by_issuer {
        let connected = match services.connected_issuer(&issuer_id).await {
            Ok(connected) if connected.enabled => connected,
            Ok(_) => {
                outcome.failed.extend(
                    part.into_iter()
                        .map(|one| fail(one, "the issuer is disabled".to_owned(), true)),
                );
                continue;
            }
            Err(error) => {
                let retryable = match &error {
                    ConnectError::Issuer(error) => error.is_retryable(),
                    ConnectError::Row(error) => matches!(error, Error::Unavailable(_)),
                };
                let problem = ErrorChain(&error).to_string();
                outcome.failed.extend(
                    part.into_iter()
                        .map(|one| fail(one, problem.clone(), retryable)),
                );
                continue;
            }
        };
        let requests = part.iter().map(|one| one.request.clone()).collect();
        let started = std::time::Instant::now();
        let answers = connected.issuer.issue(requests).await;
        crate::metrics::observe_issuance(connected.kind, started.elapsed(), &answers);
        collect(part, answers, connected.kind, outcome);
    }
}

fn collect(
    part: Vec<Prepared>,
    answers: Vec<Result<IssuedCertificate, IssuerError>>,
    kind: IssuerType,
    outcome: &mut Outcome,
) {
    let expected = part.len();
    if answers.len() != expected {
        tracing::error!(issuer.kind = %kind, expected, got = answers.len(), "an issuer answered another number of requests than it was asked");
    }
    let mut answers = answers.into_iter();
    for one in part {
        match answers.next() {
            Some(Ok(issued)) => outcome.issued.push((one, issued)),
            Some(Err(error)) => {
                outcome
                    .failed
                    .push(fail(one, error.to_string(), error.is_retryable()));
            }
            None => outcome
                .failed
                .push(fail(one, "the issuer did not answer".to_owned(), true)),
        }
    }
}

fn fail(one: Prepared, problem: String, retryable: bool) -> Failed {
    Failed {
        claimed: one.claimed,
        problem,
        retryable,
    }
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
                    .map(|(one, _)| fail(one, problem.clone(), false))
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
    let pass = transaction!(services.db, "complete jobs", conn => {
        let done = complete::complete(conn, &completions, now).await?;
        let done: std::collections::HashSet<&JobId> = done.iter().collect();
        let held: Vec<&Completion> = completions.iter().filter(|one| done.contains(&one.job_id)).collect();
        let new: Vec<NewJob> = held.iter().flat_map(|one| follow_ups(context, one, now)).collect();
        let new = ended::still_wanted(conn, new).await?;
        jobs::insert_all(conn, &new).await?;
        let refused: Vec<&Completion> = completions.iter().filter(|one| !done.contains(&one.job_id)).collect();
        ended::revoke_refused(conn, &refused, now).await?;
        let failed = complete::fail(conn, &failures, now).await?;
        complete::fail_certificates(conn, &exhausted(outcome, &failures, &failed), now).await?;
        let handed = complete::await_csr(conn, &outcome.handed, now).await?;
        let mut events: Vec<AuditEvent> = held.iter().map(|one| completed_event(one, now)).collect();
        events.extend(failures.iter().filter(|one| failed.contains(&one.job_id)).map(|one| failed_event(one, now)));
        events.extend(handed.iter().map(|id| handed_event(id, now)));
        audit_events::insert_all(conn, &events).await?;
        Ok::<_, Error>(Pass { claimed: 0, completed: held.len(), failed: failed.len(), awaiting_csr: handed.len() })
    })?;
    for one in &outcome.failed {
        tracing::warn!(job.id = %one.claimed.job.id, error = %one.problem, retryable = one.retryable, "a job failed");
    }
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

/// Certificates of jobs that failed for good, of those that were still this worker's to fail.
fn exhausted(outcome: &Outcome, failures: &[Failure], failed: &[JobId]) -> Vec<CertificateId> {
    let held: std::collections::HashSet<&JobId> = failed.iter().collect();
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
    let again = one.retryable && job.attempts < job.max_attempts;
    Failure {
        job_id: job.id.clone(),
        token: one.claimed.token,
        error: one.problem.chars().take(2000).collect(),
        next_attempt_at: again.then(|| now + retry_delay(job.attempts, interval, jitter())),
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
