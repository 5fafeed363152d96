//! Tries every pending deployment without changing anything on this host.

use certctl_domain::id::{JobId, TargetId};
use certctl_pki::cert::ParsedCertificate;
use certctl_telemetry::ErrorChain;

use crate::{
    Error,
    agent::Agent,
    work::{self, DeploymentWork, Work},
};

/// What one deployment would have come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The job, when it could be read.
    pub job: Option<JobId>,
    /// The target, when it could be read.
    pub target: Option<TargetId>,
    /// Why it would fail.
    pub problem: Option<String>,
}

impl Agent {
    /// Asks for work once and tries each deployment.
    ///
    /// Asking hands the jobs to this agent; as nothing is reported, the server takes them back when their leases end.
    ///
    /// # Errors
    /// What the poll met.
    pub async fn dry_run(&self) -> Result<Vec<Trial>, Error> {
        let mut trials = Vec::new();
        for item in self.inner.client.work().await? {
            match work::read(&item) {
                Ok(Some(Work::Deployment(work))) => {
                    let tried = self.try_out(&work).await;
                    trials.push(Trial {
                        job: Some(work.job.clone()),
                        target: Some(work.target.clone()),
                        problem: tried.err().map(|said| self.inner.safe(&said)),
                    });
                }
                Ok(_) => {}
                Err(bad) => trials.push(Trial {
                    job: bad.job,
                    target: None,
                    problem: Some(self.inner.safe(&bad.problem)),
                }),
            }
        }
        Ok(trials)
    }

    async fn try_out(&self, work: &DeploymentWork) -> Result<(), String> {
        let inner = &self.inner;
        let said = |failure: &dyn std::error::Error| ErrorChain(failure).to_string();
        let reply = inner.client.certificate(&work.certificate).await;
        let reply = reply.map_err(|failure| said(&failure))?;
        let chain = ParsedCertificate::chain_from_pem(&reply.certificate_pem)
            .map_err(|failure| said(&failure))?;
        let (leaf, issuers) = chain
            .split_first()
            .ok_or("the server sent no certificate")?;
        let key = {
            let (inner, leaf) = (inner.clone(), leaf.clone());
            let (id, job) = (work.certificate.clone(), work.job.clone());
            let found = self.inner.blocking(move || {
                // A key that the server made comes once; not keeping it would lose it for the real deployment.
                inner.keep_delivered(&id, &job, &leaf, reply.private_key_pem.as_ref())?;
                inner.keys.find(&id, &leaf)
            });
            found.await.map_err(|failure| said(&failure))?.1
        };
        let connector = inner.registry.connector(work.target_type);
        let connector = connector.map_err(|failure| said(&failure))?;
        let request = inner.request_for(work, leaf, issuers, key);
        let tried = connector.validate_only(&request).await;
        tried.map_err(|failure| said(&failure))
    }
}
