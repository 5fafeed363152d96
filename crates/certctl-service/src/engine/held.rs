//! Jobs that this process claimed as it made them: who made them knows all about them, so nothing is read, and nothing is recorded
//! again before it is signed.

use std::{collections::HashMap, sync::Arc};

use certctl_domain::{certificate::Certificate, renewal_policy::RenewalPolicy, time::Timestamp};
use certctl_repository::{
    intents::Intent,
    jobs::{NewJob, claim::ClaimedJob, held},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::{
    batch::{Context, Outcome},
    prepare, sign, span_of,
    store::{Results, store},
};
use crate::{Error, Services};

/// Who may have a batch of them under way. Where issuers are slow, what comes beyond is left to the processor.
pub(crate) struct Lanes(Arc<Semaphore>);

impl Lanes {
    pub(crate) fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS))))
    }

    /// A place for a batch, if there is one.
    pub(crate) fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

/// A job with everything it is about.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) job: NewJob,
    pub(crate) certificate: Certificate,
    pub(crate) policy: RenewalPolicy,
    pub(crate) intent: Intent,
}

impl Services {
    /// Has signed what this process made and holds, once that is committed. The leases are prolonged until what comes second is
    /// dropped, which is to be after the first is stored.
    pub(crate) async fn sign_held(
        &self,
        held: Vec<Held>,
        now: Timestamp,
    ) -> (Results, AbortOnDropHandle<()>) {
        let batch = held.iter().map(|one| held::claimed(&one.job, now));
        let batch: Vec<ClaimedJob> = batch.collect();
        crate::metrics::observe_claim(&batch, now);
        let (kept, span) = (self.keep(&batch), span_of(&batch));
        let context = context(held);
        let mut outcome = Outcome::default();
        let prepared = prepare::recorded(&context, batch, &mut outcome);
        sign::sign(self, prepared, &mut outcome)
            .instrument(span)
            .await;
        (Results::of(Arc::new(context), outcome, self.now()), kept)
    }

    /// Stores in a transaction of its own what was signed.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; the leases then run out, and the same is signed again.
    pub(crate) async fn store_held(&self, results: Results) -> Result<(), Error> {
        store(self, results).await?;
        Ok(())
    }
}

fn context(held: Vec<Held>) -> Context {
    let mut context = Context {
        certificates: HashMap::with_capacity(held.len()),
        // Only asked for keys that the server is to make.
        profiles: HashMap::new(),
        policies: HashMap::new(),
        intents: HashMap::with_capacity(held.len()),
        // What was just made is mapped to no target.
        deployments: HashMap::new(),
    };
    for one in held {
        context.intents.insert(one.job.id, one.intent);
        context.policies.insert(one.policy.id.clone(), one.policy);
        context
            .certificates
            .insert(one.certificate.id.clone(), one.certificate);
    }
    context
}
