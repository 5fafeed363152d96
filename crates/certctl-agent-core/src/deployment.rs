//! Brings a certificate to a target (agent §6).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use certctl_connectors::{
    deploy::Rollback,
    target::{self, DeploymentRequest, DeploymentResult},
};
use certctl_domain::{
    id::{CertificateId, JobId},
    secret::Secret,
};
use certctl_pki::{cert::ParsedCertificate, key::PrivateKey};
use certctl_telemetry::ErrorChain;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    Error,
    agent::Inner,
    verify::{self, Rule, Seen},
    wire::body::{CertificateReply, DeployReport, JobReport, Verification},
    work::DeploymentWork,
};

/// How often the certificate is asked for: the job is ours already, and giving up costs a whole round.
const FETCHES: u32 = 3;
const BETWEEN_FETCHES: Duration = Duration::from_secs(1);

/// A deployment that did not come about: what the report says of it.
struct Failure {
    kind: String,
    message: String,
    rollback: Rollback,
}

/// A certificate with its key, ready to be deployed.
pub(crate) struct Ready {
    pub(crate) request: DeploymentRequest,
    pub(crate) leaf: ParsedCertificate,
}

impl Inner {
    /// Carries out one deployment and leaves its result in the outbox.
    pub(crate) async fn deploy(self: &Arc<Self>, work: &DeploymentWork) {
        let started = Instant::now();
        if let Err(failure) = self
            .client
            .report(&work.job, &json!({"status": "Running"}))
            .await
        {
            self.note(&failure);
            tracing::debug!(problem = %ErrorChain(&failure), "the start of the job was not taken note of");
        }
        let done = self.carry_out(work).await;
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match done {
            Ok((ready, result)) => self.succeeded(work, &ready, result, duration_ms).await,
            Err(failure) => {
                let message = self.safe(&format!("{}: {}", failure.kind, failure.message));
                tracing::error!(problem = message, rollback = %failure.rollback, "the deployment failed");
                let report = JobReport {
                    status: "Failed",
                    error: Some(message),
                    deploy: Some(DeployReport {
                        outcome: failure.kind,
                        rollback: failure.rollback.as_str(),
                        verify: "skipped",
                        duration_ms,
                        ..DeployReport::default()
                    }),
                };
                self.outbox.report(&work.job, &report).await;
            }
        }
    }

    async fn carry_out(
        self: &Arc<Self>,
        work: &DeploymentWork,
    ) -> Result<(Ready, DeploymentResult), Failure> {
        let reply = self.fetch(work).await?;
        let ready = self.make_ready(work, reply).await?;
        let connector = self.registry.connector(work.target_type)?;
        connector
            .validate_config(&ready.request.target_config)
            .await?;
        let result = connector.deploy(&ready.request).await?;
        tracing::info!(idempotent = result.idempotent, "{}", result.message);
        Ok((ready, result))
    }

    async fn fetch(self: &Arc<Self>, work: &DeploymentWork) -> Result<CertificateReply, Failure> {
        let mut fetches = 1;
        loop {
            match self.client.certificate(&work.certificate).await {
                Ok(reply) => return Ok(reply),
                Err(failure) if failure.is_transient() && fetches < FETCHES => {
                    fetches += 1;
                    sleep(BETWEEN_FETCHES).await;
                }
                Err(failure) => {
                    self.note(&failure);
                    return Err(Failure::of("certificate_unavailable", &failure));
                }
            }
        }
    }

    /// Reads the certificate and finds its key, which takes the place of the one in use.
    async fn make_ready(
        self: &Arc<Self>,
        work: &DeploymentWork,
        reply: CertificateReply,
    ) -> Result<Ready, Failure> {
        let chain = ParsedCertificate::chain_from_pem(&reply.certificate_pem)
            .map_err(|problem| Failure::of("certificate_invalid", &problem))?;
        let (leaf, issuers) = chain.split_first().ok_or_else(Failure::empty)?;
        let key = {
            let (inner, leaf) = (Arc::clone(self), leaf.clone());
            let (id, job) = (work.certificate.clone(), work.job.clone());
            let delivered = reply.private_key_pem;
            self.blocking(move || {
                inner.keep_delivered(&id, &job, &leaf, delivered.as_ref())?;
                inner.keys.claim(&id, &leaf)
            })
            .await
        };
        let key = key.map_err(|failure| match failure {
            Error::KeyMismatch(_) => Failure::of("key_mismatch", &failure),
            failure => Failure::of("key_unavailable", &failure),
        })?;
        Ok(Ready {
            request: self.request_for(work, leaf, issuers, key),
            leaf: leaf.clone(),
        })
    }

    /// Keeps a key that the server made, before anything else happens: it comes once. One that is not the certificate's
    /// must not take the place of one that is.
    pub(crate) fn keep_delivered(
        &self,
        id: &CertificateId,
        job: &JobId,
        leaf: &ParsedCertificate,
        delivered: Option<&Secret>,
    ) -> Result<(), Error> {
        let Some(pem) = delivered else {
            return Ok(());
        };
        let belongs = PrivateKey::from_pem(pem.expose()).is_ok_and(|key| leaf.matches_key(&key));
        if belongs && self.keys.find(id, leaf).is_err() {
            self.keys.stage(id, job, pem)?;
        }
        Ok(())
    }

    pub(crate) fn request_for(
        &self,
        work: &DeploymentWork,
        leaf: &ParsedCertificate,
        issuers: &[ParsedCertificate],
        key: Secret,
    ) -> DeploymentRequest {
        DeploymentRequest {
            cert_pem: leaf.to_pem(),
            key_pem: Some(key),
            chain_pem: issuers.iter().map(ParsedCertificate::to_pem).collect(),
            target_config: self.with_retention(&work.config),
            metadata: BTreeMap::from([
                ("certificate_id".to_owned(), work.certificate.to_string()),
                ("job_id".to_owned(), work.job.to_string()),
            ]),
        }
    }

    /// The agent's setting holds where the target says nothing.
    fn with_retention(&self, config: &Value) -> Value {
        let mut config = config.clone();
        if let (Some(fields), Some(kept)) = (
            config.as_object_mut(),
            self.config.overrides.backup_retention,
        ) {
            fields
                .entry("backup_retention")
                .or_insert_with(|| kept.into());
        }
        config
    }

    async fn succeeded(
        self: &Arc<Self>,
        work: &DeploymentWork,
        ready: &Ready,
        result: DeploymentResult,
        duration_ms: u64,
    ) {
        let expected = ready.leaf.fingerprint_sha256();
        let seen = self.look(work, &ready.leaf, &expected).await;
        let verify = match &seen {
            None => "skipped",
            Some(Seen { problem: None, .. }) => "success",
            Some(_) => "failed",
        };
        // The key before this one is only needed as long as somebody may have to go back to it.
        if verify != "failed" {
            let (inner, id, leaf) = (
                Arc::clone(self),
                work.certificate.clone(),
                ready.leaf.clone(),
            );
            let settled = self.blocking(move || inner.keys.settle(&id, &leaf));
            if let Err(problem) = settled.await {
                tracing::warn!(problem = %ErrorChain(&problem), "the previous key stays");
            }
        }
        if let Some(seen) = seen {
            let verification = Verification {
                target_id: work.target.clone(),
                expected_fingerprint: expected,
                actual_fingerprint: seen.actual,
                verified: seen.problem.is_none(),
                error: seen.problem.map(|problem| self.safe(&problem)),
            };
            tracing::info!(
                verified = verification.verified,
                problem = verification.error,
                "looked at what is served"
            );
            self.outbox.verification(&work.job, verification);
        }
        let report = JobReport {
            status: "Completed",
            error: None,
            deploy: Some(DeployReport {
                outcome: "success".to_owned(),
                rollback: Rollback::None.as_str(),
                idempotent: result.idempotent,
                verify,
                duration_ms,
                metadata: result.metadata,
            }),
        };
        self.outbox.report(&work.job, &report).await;
    }

    /// Nothing when there is nowhere to look or nobody wants it.
    async fn look(
        &self,
        work: &DeploymentWork,
        leaf: &ParsedCertificate,
        expected: &str,
    ) -> Option<Seen> {
        let rule = Rule::settle(&self.config.overrides, work.verify);
        if !rule.enabled {
            return None;
        }
        let name = work.common_name.as_deref().or(leaf.common_name());
        match verify::endpoint(work.target_type, &work.config, name) {
            Ok(None) => None,
            Ok(Some(at)) => Some(verify::look(&self.prober, &at, rule, expected, &self.stop).await),
            Err(problem) => Some(Seen {
                actual: String::new(),
                problem: Some(problem),
            }),
        }
    }
}

impl Failure {
    fn of(kind: &str, failure: &dyn std::error::Error) -> Self {
        Self {
            kind: kind.to_owned(),
            message: ErrorChain(failure).to_string(),
            rollback: Rollback::None,
        }
    }

    fn empty() -> Self {
        Self {
            kind: "certificate_invalid".to_owned(),
            message: "the server sent no certificate".to_owned(),
            rollback: Rollback::None,
        }
    }
}

impl From<target::Error> for Failure {
    fn from(failure: target::Error) -> Self {
        Self {
            rollback: failure.rollback(),
            ..Self::of(failure.kind(), &failure)
        }
    }
}
