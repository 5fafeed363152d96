//! Makes a key and asks for its certificate (agent §5).

use std::sync::Arc;

use certctl_domain::id::JobId;
use certctl_pki::{csr::CsrBuilder, key::PrivateKey};
use certctl_telemetry::ErrorChain;
use tokio::task::spawn_blocking;

use crate::{
    Error,
    agent::Inner,
    wire::body::{Csr, JobReport},
    work::RequestWork,
};

/// A signing request, and whether its key is from an earlier try.
struct Prepared {
    csr_pem: String,
    is_resubmission: bool,
}

impl Inner {
    /// Handles one certificate that waits for a signing request. Says whether the request was accepted.
    pub(crate) async fn request_certificate(self: &Arc<Self>, work: RequestWork) -> bool {
        let work = Arc::new(work);
        let prepared = match self.prepare(&work).await {
            Ok(prepared) => prepared,
            Err(failure) => {
                self.fail(&work.job, &failure).await;
                return false;
            }
        };
        let csr = Csr {
            csr_pem: &prepared.csr_pem,
            certificate_id: work.certificate.as_str(),
            job_id: work.job.as_str(),
        };
        match self.client.submit_csr(&csr).await {
            Ok(reply) => {
                tracing::info!(status = reply.status, "the signing request was accepted");
                true
            }
            Err(failure) => {
                self.refused(&work, prepared.is_resubmission, failure).await;
                false
            }
        }
    }

    /// Takes the key of an earlier try of the same job, or makes one. Making an RSA key takes seconds.
    async fn prepare(self: &Arc<Self>, work: &Arc<RequestWork>) -> Result<Prepared, Error> {
        let (inner, work) = (Arc::clone(self), Arc::clone(work));
        self.blocking(move || {
            let earlier = inner
                .keys
                .pending_for(&work.certificate, &work.job, work.spec)?;
            let is_resubmission = earlier.is_some();
            let key = match earlier {
                Some(key) => key,
                None => {
                    let key = PrivateKey::generate(work.spec).map_err(Error::Key)?;
                    inner
                        .keys
                        .stage(&work.certificate, &work.job, &key.to_pem())?;
                    key
                }
            };
            let csr_pem = CsrBuilder::new(work.common_name.as_str())
                .sans(work.sans.clone())
                .must_staple(work.must_staple)
                .sign_pem(&key)
                .map_err(Error::Key)?;
            Ok(Prepared {
                csr_pem,
                is_resubmission,
            })
        })
        .await
    }

    async fn refused(
        self: &Arc<Self>,
        work: &Arc<RequestWork>,
        is_resubmission: bool,
        failure: Error,
    ) {
        self.note(&failure);
        match failure.status() {
            // The request itself is no good, so there will be no certificate for its key.
            Some(400 | 422) => {
                self.fail(&work.job, &failure).await;
                self.drop_pending(work).await;
            }
            // Nothing waits any more. When this was the first try, somebody else's request won. When it was not, the
            // one that won may be our own whose answer got lost, and then its certificate is on its way to this key.
            Some(409) if is_resubmission => {
                tracing::info!(
                    "the request is no longer awaited; its key is kept for the certificate"
                );
            }
            Some(409) => {
                tracing::info!("the request is no longer awaited");
                self.drop_pending(work).await;
            }
            _ => {
                tracing::warn!(problem = %ErrorChain(&failure), "the signing request will be sent again");
            }
        }
    }

    async fn drop_pending(self: &Arc<Self>, work: &Arc<RequestWork>) {
        let (inner, work) = (Arc::clone(self), Arc::clone(work));
        let dropped = self.blocking(move || inner.keys.drop_pending(&work.certificate, &work.job));
        if let Err(problem) = dropped.await {
            tracing::warn!(problem = %ErrorChain(&problem), "the key of a refused request stays");
        }
    }

    /// Tells the server that a job came to nothing.
    pub(crate) async fn fail(&self, job: &JobId, failure: &Error) {
        let said = self.safe(&ErrorChain(failure).to_string());
        tracing::error!(problem = said, "the job failed");
        self.outbox.report(job, &JobReport::failed(said)).await;
    }

    /// Runs file and key work off the async threads.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match spawn_blocking(work).await {
            Ok(result) => result,
            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            Err(_) => Err(Error::Panicked("of file work")),
        }
    }
}
