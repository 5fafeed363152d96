//! The agent protocol: what is to do, requests, certificates, reports (api §16).

mod report;

use std::collections::HashMap;

use certctl_domain::{
    access::{Actor, ActorType, Permission, Scope},
    agent::Agent,
    audit::EventCategory,
    certificate::{Certificate, CertificateVersion},
    id::{AgentId, CertificateId, JobId, TargetId},
    job::{Job, JobStatus},
    key::KeySpec,
    name::SubjectAltName,
    profile::{ExtendedKeyUsage, Profile},
    secret::Secret,
    target::{Target, TargetType},
    validation::{InvalidField, check_object, optional_text},
};
use certctl_pki::{cert::random_serial, csr::Csr};
use certctl_repository::{
    Conn, agents, certificates,
    intents::{self, Intent},
    jobs::{self, JobChange, agent},
    profiles, targets, transaction, versions,
};
use certctl_telemetry::ErrorChain;
use serde_json::{Value, json};

use crate::{
    Error, Services,
    access::own_agent_only,
    config::VerifyDefaults,
    engine::{WAKE_CHANNEL, request},
    error::Expect as _,
    secrets,
    services::{authorise, event, record},
};

/// Jobs that one poll hands out at the most: as many as an agent can be expected to be done with before their leases run out.
const POLL_LIMIT: i64 = 20;

/// The largest report of how a deployment went, in bytes.
const MAX_DEPLOY_REPORT: usize = 16_384;
/// How deep it may be nested.
const MAX_DEPLOY_DEPTH: usize = 16;

/// One thing for an agent to do.
#[derive(Debug, Clone)]
pub struct WorkItem {
    /// The job.
    pub job: Job,
    /// Its certificate's common name.
    pub common_name: String,
    /// Its certificate's further names.
    pub sans: Vec<String>,
    /// The kind of key to make.
    pub key: KeySpec,
    /// The usages it will have.
    pub ekus: Vec<ExtendedKeyUsage>,
    /// Whether to ask for must-staple.
    pub must_staple: bool,
    /// Where to bring it, for a deployment: kind and the whole configuration.
    pub target: Option<(TargetType, Value)>,
    /// How to look at it afterwards.
    pub verify: VerifyDefaults,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CsrOutcome {
    /// It is recorded and will be signed.
    Accepted,
}

/// What an agent reports of a job.
#[derive(Debug, Clone, Default)]
pub struct JobReport {
    /// `Running`, `Completed` or `Failed`.
    pub status: String,
    /// Why it failed.
    pub error: Option<String>,
    /// How the deployment went, for the metrics; an object of at most 16 KiB.
    pub deploy: Option<Value>,
}

/// A certificate for its agent.
#[derive(Debug, Clone)]
pub struct AgentCertificate {
    /// Leaf and chain.
    pub certificate_pem: String,
    /// The private key, only where the server made it and only for an agent that is at work on a deployment of it.
    pub private_key_pem: Option<Secret>,
}

impl Services {
    /// Refuses an actor that may not speak for the agent, and an agent that does not exist or is retired.
    async fn live_agent(
        &self,
        conn: &mut Conn,
        actor: &Actor,
        id: &AgentId,
    ) -> Result<Agent, Error> {
        own_agent_only(actor, id)?;
        let agent = agents::find(conn, id).await.or_not_found("agent", id)?;
        if agent.retired_at.is_some() {
            Err(Error::AgentRetired(id.to_string()))
        } else {
            Ok(agent)
        }
    }

    /// What an agent is to do: deployments, each handed out once, and renewals that wait for its request, handed out until one
    /// comes.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `agent.job.poll`, [`Error::NotYours`], [`Error::NotFound`], [`Error::AgentRetired`].
    pub async fn poll_work(&self, actor: &Actor, id: &AgentId) -> Result<Vec<WorkItem>, Error> {
        authorise(actor, Permission::AgentJobPoll)?;
        let now = self.now();
        let mut conn = self.read().await?;
        self.live_agent(&mut conn, actor, id).await?;
        let mut found = agent::awaiting_csr(&mut conn, id, POLL_LIMIT).await?;
        // An idle poll reads only: the claim, which writes, is made when there is something to claim.
        let waiting = agent::has_deployments(&mut conn, id, now).await?;
        drop(conn);
        if waiting {
            let claimed = transaction!(self.db, "claim deployments", conn => {
                Ok::<_, Error>(agent::claim_deployments(conn, id, POLL_LIMIT, now).await?)
            })?;
            found.splice(0..0, claimed);
        }
        if found.is_empty() {
            return Ok(Vec::new());
        }
        self.describe(found).await
    }

    /// Adds to jobs what the agent needs to do them; one query for each kind of thing.
    async fn describe(&self, found: Vec<Job>) -> Result<Vec<WorkItem>, Error> {
        let mut conn = self.read().await?;
        let certificate_ids: Vec<CertificateId> = found
            .iter()
            .filter_map(|job| job.certificate_id.clone())
            .collect();
        let target_ids: Vec<TargetId> = found
            .iter()
            .filter_map(|job| job.target_id.clone())
            .collect();
        let certificates: HashMap<CertificateId, Certificate> =
            certificates::find_many(&mut conn, &certificate_ids)
                .await?
                .into_iter()
                .map(|one| (one.id.clone(), one))
                .collect();
        let targets: HashMap<TargetId, Target> = targets::find_many(&mut conn, &target_ids)
            .await?
            .into_iter()
            .map(|one| (one.id.clone(), one))
            .collect();
        let mut profiles = HashMap::new();
        for id in certificates
            .values()
            .filter_map(|one| one.profile_id.as_ref())
        {
            if !profiles.contains_key(id) {
                profiles.insert(id.clone(), profiles::find(&mut conn, id).await?);
            }
        }
        let mut items = Vec::with_capacity(found.len());
        let mut unreadable = Vec::new();
        for job in found {
            let Some(certificate) = job
                .certificate_id
                .as_ref()
                .and_then(|id| certificates.get(id))
            else {
                continue;
            };
            let profile = certificate
                .profile_id
                .as_ref()
                .and_then(|id| profiles.get(id));
            let target = match job.target_id.as_ref().and_then(|id| targets.get(id)) {
                Some(target) => {
                    let config = secrets::full(target, self.sealer.as_deref());
                    match config {
                        Ok(config) => Some((target.target_type, config)),
                        Err(error) => {
                            tracing::error!(job.id = %job.id, target.id = %target.id, error = %ErrorChain(&error),
                                "the configuration of a target cannot be opened");
                            unreadable.push(job);
                            continue;
                        }
                    }
                }
                None => None,
            };
            items.push(self.item(job, certificate, profile, target));
        }
        drop(conn);
        self.fail_unreadable(&unreadable).await?;
        Ok(items)
    }

    /// Fails deployments whose target's configuration cannot be opened, so that the others are handed out; they are tried again,
    /// since the right key may be configured by then.
    async fn fail_unreadable(&self, unreadable: &[Job]) -> Result<(), Error> {
        const PROBLEM: &str = "the configuration of the target cannot be opened with the encryption key of this server";
        if unreadable.is_empty() {
            return Ok(());
        }
        let now = self.now();
        transaction!(self.db, "fail unreadable deployments", conn => {
            for job in unreadable {
                let again = report::next_try(conn, job, job.attempts, now).await?;
                let change = JobChange { id: &job.id, from: JobStatus::Running, to: JobStatus::Failed, error: Some(PROBLEM), next_attempt_at: again, now };
                if jobs::change(conn, &change).await? {
                    let details = json!({"status": JobStatus::Failed.as_str(), "error": PROBLEM});
                    record(conn, event(&Actor::system(), EventCategory::CertLifecycle, "deployment_job_failed", ("job", job.id.as_str()), details, now)).await?;
                }
            }
            Ok::<_, Error>(())
        })
    }

    fn item(
        &self,
        job: Job,
        certificate: &Certificate,
        profile: Option<&Profile>,
        target: Option<(TargetType, Value)>,
    ) -> WorkItem {
        WorkItem {
            job,
            common_name: certificate.common_name.to_string(),
            sans: certificate.sans.clone(),
            key: profile.map_or(KeySpec::EcdsaP256, Profile::key_spec),
            ekus: profile
                .map(|profile| profile.allowed_ekus.clone())
                .unwrap_or_default(),
            must_staple: profile.is_some_and(|profile| profile.must_staple),
            target,
            verify: self.config.verify,
        }
    }

    /// Takes an agent's request for a renewal that waits for one. What is to be signed is recorded with it, so that a crash
    /// between now and the signature asks for the same certificate again.
    ///
    /// For a certificate that is mapped to no agent's target an operator with `cert.issue` may hand one in, by any agent.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `agent.job.poll`, [`Error::NotYours`], [`Error::NotFound`], [`Error::AgentRetired`],
    /// [`Error::Invalid`] for something that is no request, [`Error::Conflict`] when nothing waits for one,
    /// [`Error::Unprocessable`] when it violates the profile or names something else.
    pub async fn submit_csr(
        &self,
        actor: &Actor,
        id: &AgentId,
        csr_pem: &str,
        certificate: Option<&str>,
        job: Option<&str>,
    ) -> Result<CsrOutcome, Error> {
        authorise(actor, Permission::AgentJobPoll)?;
        // A retired agent is told so whatever it sends.
        self.live_agent(&mut self.read().await?, actor, id).await?;
        let csr = Csr::parse_pem(csr_pem).map_err(|error| csr_refusal(&error))?;
        let now = self.now();
        let serial = random_serial()?;
        transaction!(self.db, "submit csr", conn => {
            self.live_agent(conn, actor, id).await?;
            let job = find_waiting(conn, id, certificate, job).await?;
            let certificate_id = job.certificate_id.clone().ok_or_else(|| Error::internal("a renewal without a certificate"))?;
            let certificate = certificates::find(conn, &certificate_id).await?;
            if !certificates::is_mapped_to_agent(conn, &certificate_id, id).await? && !may_stand_in(conn, actor, &certificate_id).await? {
                return Err(Error::NotYours("the certificate is mapped to no target of this agent".to_owned()));
            }
            let profile = match &certificate.profile_id {
                Some(id) => Some(profiles::find(conn, id).await?),
                None => None,
            };
            request::check_csr(&csr, &certificate, profile.as_ref())?;
            let intent = Intent {
                job_id: job.id.clone(),
                issuer_id: certificate.issuer_id.clone(),
                serial_number: serial.clone(),
                not_before: now.truncated_to_seconds(),
                spki: csr.spki_der().to_vec(),
                request: request::Wanted::of(&certificate, profile.as_ref())?.to_json(),
                csr_pem: csr.to_pem(),
                sealed_key: None,
                created_at: now,
            };
            if !agent::accept_csr(conn, &job.id, now).await? {
                return Err(Error::Conflict("another request for this renewal came first".to_owned()));
            }
            intents::insert_all(conn, &[intent]).await.or_conflict(|| "another request for this renewal came first".to_owned())?;
            certctl_repository::notify(conn, WAKE_CHANNEL).await?;
            let details = json!({"job_id": job.id.as_str(), "agent_id": id.as_str(), "key_algorithm": csr.key_algorithm().as_str(), "key_size": csr.key_bits()});
            record(conn, event(actor, EventCategory::CertLifecycle, "csr_submitted", ("certificate", certificate_id.as_str()), details, now)).await?;
            Ok::<_, Error>(())
        })?;
        self.wake.ring();
        Ok(CsrOutcome::Accepted)
    }

    /// The latest version of a certificate, for an agent that deploys it; with the key that the server made only while one of its
    /// deployments runs.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `cert.read`, [`Error::NotYours`] when the certificate is mapped to no target of the agent,
    /// [`Error::NotFound`] when there is none or nothing is issued, [`Error::AgentRetired`].
    pub async fn agent_certificate(
        &self,
        actor: &Actor,
        id: &AgentId,
        certificate: &CertificateId,
    ) -> Result<AgentCertificate, Error> {
        authorise(actor, Permission::CertRead)?;
        let mut conn = self.read().await?;
        self.live_agent(&mut conn, actor, id).await?;
        certificates::find(&mut conn, certificate)
            .await
            .or_not_found("certificate", certificate)?;
        if !certificates::is_mapped_to_agent(&mut conn, certificate, id).await? {
            return Err(Error::NotYours(
                "the certificate is mapped to no target of this agent".to_owned(),
            ));
        }
        let version = versions::latest(&mut conn, certificate)
            .await?
            .ok_or_else(|| Error::not_found("issued version of certificate", certificate))?;
        // Whoever may read certificates reads this one; its key goes only to who speaks for the agent.
        // Who speaks for it needs the key for a deployment, and at no other time.
        let sealed = if actor.may(Permission::AgentJobPoll, &Scope::Global)
            && agent::is_deploying(&mut conn, certificate, id).await?
        {
            versions::sealed_key(&mut conn, &version.id).await?
        } else {
            None
        };
        drop(conn);
        let private_key_pem = match sealed {
            Some(sealed) => self.hand_out_key(actor, id, &version, &sealed).await?,
            None => None,
        };
        Ok(AgentCertificate {
            certificate_pem: version.pem_chain,
            private_key_pem,
        })
    }

    /// Opens a key that the server made; nobody gets one without a trace.
    async fn hand_out_key(
        &self,
        actor: &Actor,
        agent: &AgentId,
        version: &CertificateVersion,
        sealed: &[u8],
    ) -> Result<Option<Secret>, Error> {
        let Some(sealer) = &self.sealer else {
            return Ok(None);
        };
        let plain = sealer.open(&crate::engine::key_place(&version.serial_number), sealed)?;
        let key = Secret::new(std::str::from_utf8(&plain).map_err(Error::internal)?);
        let now = self.now();
        transaction!(self.db, "hand out private key", conn => {
            let details = json!({"agent_id": agent.as_str(), "serial_number": version.serial_number.as_str()});
            record(conn, event(actor, EventCategory::CertLifecycle, "private_key_delivered", ("certificate", version.certificate_id.as_str()), details, now)).await?;
            Ok::<_, Error>(())
        })?;
        Ok(Some(key))
    }

    /// Takes an agent's word of how a job goes. Reporting the same end twice is answered like the first time, since an agent
    /// repeats what it got no answer to.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `agent.job.complete`, [`Error::NotYours`], [`Error::NotFound`] when there is no such job or it
    /// is another agent's, [`Error::AgentRetired`], [`Error::Invalid`], [`Error::Conflict`] when it has ended otherwise.
    pub async fn report_job(
        &self,
        actor: &Actor,
        id: &AgentId,
        job: &JobId,
        report: &JobReport,
    ) -> Result<(), Error> {
        authorise(actor, Permission::AgentJobComplete)?;
        let Ok(status @ (JobStatus::Running | JobStatus::Completed | JobStatus::Failed)) =
            JobStatus::parse(&report.status)
        else {
            return Err(InvalidField::new("status", "must be Running, Completed or Failed").into());
        };
        let problem = optional_text("error", report.error.as_deref().unwrap_or_default(), 4096)?;
        if let Some(deploy) = &report.deploy {
            check_object("deploy", deploy, MAX_DEPLOY_REPORT, MAX_DEPLOY_DEPTH)?;
        }
        let said = report::Said {
            status,
            problem: &problem,
            deploy: report.deploy.as_ref(),
        };
        let now = self.now();
        let (reported, target_type) = transaction!(self.db, "report job", conn => {
            self.live_agent(conn, actor, id).await?;
            // Locked, so that of several agents that give a renewal up the last one is known to be the last.
            let found = jobs::find_for_update(conn, job).await.or_not_found("job", job)?;
            let target_type = self.check_ownership(conn, id, &found).await?;
            let ended = report::apply(conn, actor, id, &found, &said, now).await?;
            Ok::<_, Error>((ended.map(|end| (end, found)), target_type))
        })?;
        if let (Some((end, job)), Some(kind)) = (reported, target_type) {
            crate::metrics::count_deployment(kind, status, report.deploy.as_ref());
            crate::metrics::observe_run(job.job_type.as_str(), job.started_at, end, now);
        }
        Ok(())
    }

    /// A job is an agent's when it is assigned to it, goes to one of its targets, or is a renewal of a certificate of them.
    async fn check_ownership(
        &self,
        conn: &mut Conn,
        id: &AgentId,
        job: &Job,
    ) -> Result<Option<TargetType>, Error> {
        let not_yours = || Error::not_found("job", &job.id);
        match (&job.target_id, &job.agent_id, &job.certificate_id) {
            (Some(target), assigned, _) => {
                let target = targets::find(conn, target).await?;
                let own = assigned.as_ref().unwrap_or(&target.agent_id) == id;
                if own {
                    Ok(Some(target.target_type))
                } else {
                    Err(not_yours())
                }
            }
            (None, Some(assigned), _) if assigned == id => Ok(None),
            (None, None, Some(certificate))
                if certificates::is_mapped_to_agent(conn, certificate, id).await? =>
            {
                Ok(None)
            }
            _ => Err(not_yours()),
        }
    }
}

/// Whether somebody may hand in a request for a certificate of which no agent is asked for one: an operator, who might have it
/// issued all the same, and never an agent, whose key works for its own targets only.
async fn may_stand_in(
    conn: &mut Conn,
    actor: &Actor,
    certificate: &CertificateId,
) -> Result<bool, Error> {
    Ok(actor.actor_type() != ActorType::Agent
        && actor.may(Permission::CertIssue, &Scope::Global)
        && agent::is_unoffered(conn, certificate).await?)
}

/// The renewal a request is for: the one that is named, the newest of the certificate that is named, or the only one that waits.
async fn find_waiting(
    conn: &mut Conn,
    agent: &AgentId,
    certificate: Option<&str>,
    job: Option<&str>,
) -> Result<Job, Error> {
    let nothing = || Error::Conflict("no renewal waits for a request".to_owned());
    if let Some(job) = job.filter(|job| !job.is_empty()) {
        let id =
            JobId::parse(job).map_err(|error| InvalidField::new("job_id", error.to_string()))?;
        let job = jobs::find(conn, &id).await.or_not_found("job", &id)?;
        return if job.status == JobStatus::AwaitingCsr {
            Ok(job)
        } else {
            Err(nothing())
        };
    }
    if let Some(certificate) = certificate.filter(|certificate| !certificate.is_empty()) {
        let id = CertificateId::parse(certificate)
            .map_err(|error| InvalidField::new("certificate_id", error.to_string()))?;
        certificates::find(conn, &id)
            .await
            .or_not_found("certificate", &id)?;
        return agent::awaiting_csr_of(conn, &id).await?.ok_or_else(nothing);
    }
    let mut waiting = agent::awaiting_csr(conn, agent, 2).await?;
    match waiting.len() {
        0 => Err(nothing()),
        1 => Ok(waiting.swap_remove(0)),
        _ => Err(InvalidField::new(
            "certificate_id",
            "is required while several renewals wait for a request",
        )
        .into()),
    }
}

/// A request that cannot be taken: what is no request is bad input, what is one but not acceptable is refused as such.
fn csr_refusal(error: &certctl_pki::Error) -> Error {
    use certctl_pki::Error as E;
    match error {
        E::NotPem { .. } | E::TooLarge { .. } | E::Malformed { .. } => {
            InvalidField::new("csr_pem", error.to_string()).into()
        }
        _ => Error::Unprocessable(format!("csr_pem: {error}")),
    }
}

/// The names of a certificate as they are signed: the common name where it is one, then the further names, each once.
pub(crate) fn all_names(certificate: &Certificate) -> Result<Vec<SubjectAltName>, InvalidField> {
    let mut names = Vec::with_capacity(certificate.sans.len() + 1);
    if let Ok(name) = SubjectAltName::parse(certificate.common_name.as_str()) {
        names.push(name);
    }
    for text in &certificate.sans {
        let name = SubjectAltName::parse(text)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}
