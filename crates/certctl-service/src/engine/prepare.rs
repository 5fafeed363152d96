//! What the jobs of a batch are to have signed, recorded before it is.

use std::collections::{HashMap, HashSet};

use certctl_domain::{
    access::Actor,
    id::{IssuerId, JobId},
    key::KeySpec,
    profile::Profile,
    time::Timestamp,
};
use certctl_pki::{cert::random_serial, key::PrivateKey};
use certctl_repository::{
    intents::{self, Intent, Unfinished},
    jobs::claim::{self, ClaimedJob},
    transaction,
};
use certctl_telemetry::ErrorChain;

use super::{
    batch::{Context, Failed, Outcome, Prepared},
    ended, key_place, request,
};
use crate::{Error, Services, config::KeygenMode};

/// A job that the server makes a key for.
struct Keyless {
    claimed: ClaimedJob,
    issuer_id: IssuerId,
    spec: KeySpec,
    wanted: request::Wanted,
}

/// Decides what each renewal needs: a recorded request is signed, an agent is asked for one, or the server makes a key. What is
/// new is recorded before anything is signed.
pub(super) async fn prepare(
    services: &Services,
    context: &Context,
    renewals: Vec<ClaimedJob>,
    outcome: &mut Outcome,
) -> Result<Vec<Prepared>, Error> {
    let now = services.now();
    let mut ready = Vec::with_capacity(renewals.len());
    let mut keyless = Vec::new();
    let (mut stale, mut made) = (Vec::new(), Vec::new());
    for claimed in renewals {
        let Some(certificate) = claimed
            .job
            .certificate_id
            .as_ref()
            .and_then(|id| context.certificates.get(id))
        else {
            outcome
                .failed
                .push(Failed::permanent(claimed, "the certificate is gone"));
            continue;
        };
        match context.intents.get(&claimed.job.id) {
            // Where there is an intent, a worker that died may have had it signed: it is signed again, and recorded as revoked.
            None if ended::has_ended(certificate.status) => {
                let problem = format!("the certificate is {}", certificate.status);
                outcome.failed.push(Failed::permanent(claimed, problem));
            }
            Some(intent) if request::is_stale(intent, now) => match renewed(services, intent, now) {
                Ok(fresh) => {
                    stale.push(Unfinished {
                        job_id: intent.job_id.clone(),
                        certificate_id: certificate.id.clone(),
                        issuer_id: intent.issuer_id.clone(),
                        serial_number: intent.serial_number.clone(),
                    });
                    made.push((claimed, fresh));
                }
                Err(error) => outcome.failed.push(
                    Failed::retryable(
                        claimed,
                        "the recorded key cannot be opened with the encryption key of this server",
                    )
                    .because(ErrorChain(&error).to_string()),
                ),
            },
            Some(intent) => ready.push((claimed, intent.clone())),
            None if services.config.keygen_mode == KeygenMode::Agent => {
                outcome.handed.push((claimed.job.id, claimed.token));
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
                    Err(error) => outcome
                        .failed
                        .push(Failed::permanent(claimed, error.to_string())),
                }
            }
        }
    }
    made.extend(make_intents(services, keyless, now, outcome).await?);
    let ready = record(services, ready, made, &stale, now).await?;
    Ok(requests(ready, outcome))
}

/// As [`prepare()`], of jobs whose intents were recorded by whoever claimed them, a moment ago.
pub(super) fn recorded(
    context: &Context,
    batch: Vec<ClaimedJob>,
    outcome: &mut Outcome,
) -> Vec<Prepared> {
    let ready = batch.into_iter().filter_map(|claimed| {
        let intent = context.intents.get(&claimed.job.id)?.clone();
        Some((claimed, intent))
    });
    requests(ready.collect(), outcome)
}

fn requests(ready: Vec<(ClaimedJob, Intent)>, outcome: &mut Outcome) -> Vec<Prepared> {
    let mut prepared = Vec::with_capacity(ready.len());
    for (claimed, intent) in ready {
        match request::build(&intent) {
            Ok(request) => prepared.push(Prepared {
                claimed,
                intent,
                request,
            }),
            Err(error) => outcome
                .failed
                .push(Failed::permanent(claimed, error.to_string())),
        }
    }
    prepared
}

/// Records what is new, in place of what became stale, and leaves out the jobs that are no longer this worker's: what they are
/// to have signed is for their new holder to say. Where another worker recorded an intent first, that one is signed.
async fn record(
    services: &Services,
    ready: Vec<(ClaimedJob, Intent)>,
    made: Vec<(ClaimedJob, Intent)>,
    stale: &[Unfinished],
    now: Timestamp,
) -> Result<Vec<(ClaimedJob, Intent)>, Error> {
    let claimed: Vec<(JobId, i64)> = ready
        .iter()
        .chain(&made)
        .map(|(one, _)| (one.job.id.clone(), one.token))
        .collect();
    if claimed.is_empty() {
        return Ok(Vec::new());
    }
    let new: Vec<Intent> = made.iter().map(|(_, intent)| intent.clone()).collect();
    let recorded: HashMap<JobId, Intent> = transaction!(services.db, "record intents", conn => {
        let held: HashSet<JobId> = claim::still_held(conn, &claimed).await?.into_iter().collect();
        let over: Vec<Unfinished> = stale.iter().filter(|one| held.contains(&one.job_id)).cloned().collect();
        ended::give_up(conn, &Actor::system(), &over, now).await?;
        let new: Vec<Intent> = new.iter().filter(|one| held.contains(&one.job_id)).cloned().collect();
        intents::insert_absent(conn, &new).await?;
        let held: Vec<JobId> = held.into_iter().collect();
        let recorded = intents::find_many(conn, &held).await?;
        Ok::<_, Error>(recorded.into_iter().map(|one| (one.job_id.clone(), one)).collect())
    })?;
    let mut recorded = recorded;
    let all = ready.into_iter().chain(made);
    Ok(all
        .filter_map(|(one, _)| {
            let intent = recorded.remove(&one.job.id);
            if intent.is_none() {
                tracing::warn!(job.id = %one.job.id, "a job was taken from this worker before it was signed");
            }
            Some((one, intent?))
        })
        .collect())
}

/// The same key and names with another serial number, from now on. A key of the server is sealed for its serial number.
fn renewed(services: &Services, old: &Intent, now: Timestamp) -> Result<Intent, Error> {
    let serial_number = random_serial()?;
    let sealed_key = match &old.sealed_key {
        Some(sealed) => {
            let sealer = services.sealer.as_deref().ok_or_else(|| {
                Error::internal("a sealed key needs CERTCTL_CONFIG_ENCRYPTION_KEY")
            })?;
            let plain = sealer.open(&key_place(&old.serial_number), sealed)?;
            Some(sealer.seal(&key_place(&serial_number), &plain)?)
        }
        None => None,
    };
    Ok(Intent {
        serial_number,
        not_before: now.truncated_to_seconds(),
        sealed_key,
        created_at: now,
        ..old.clone()
    })
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
        outcome.failed.extend(
            keyless
                .into_iter()
                .map(|one| Failed::permanent(one.claimed, problem)),
        );
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
