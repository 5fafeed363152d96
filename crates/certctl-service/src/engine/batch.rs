//! One batch of claimed jobs on its way: read, prepare, record, sign, store.

use std::{collections::HashMap, sync::Arc, time::Duration};

use certctl_domain::{
    certificate::Certificate,
    id::{AgentId, CertificateId, JobId, ProfileId, RenewalPolicyId, TargetId},
    job::JobType,
    ports::issuer::{IssuanceRequest, IssuedCertificate},
    profile::Profile,
    renewal_policy::RenewalPolicy,
};
use certctl_repository::{
    certificates,
    intents::{self, Intent},
    jobs::{agent, claim::ClaimedJob},
    profiles, renewal_policies,
};

use super::{
    Pass, prepare, sign,
    store::{Results, store},
};
use crate::{Error, Services};

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

    pub(super) fn policy(&self, certificate: &Certificate) -> Option<&RenewalPolicy> {
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

/// What a batch comes to.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) issued: Vec<(Prepared, IssuedCertificate)>,
    pub(super) failed: Vec<Failed>,
    pub(super) handed: Vec<(JobId, i64)>,
}

/// Works a batch off.
pub(super) async fn run(services: &Services, batch: Vec<ClaimedJob>) -> Result<Pass, Error> {
    let context = read(services, &batch).await?;
    let mut outcome = Outcome::default();
    let (renewals, others): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .partition(|one| matches!(one.job.job_type, JobType::Renewal | JobType::Issuance));
    outcome.failed.extend(others.into_iter().map(refuse_other));
    let prepared = prepare::prepare(services, &context, renewals, &mut outcome).await?;
    sign::sign(services, prepared, &mut outcome).await;
    let results = Results::of(Arc::new(context), outcome, services.now());
    store(services, results).await
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
