//! Jobs that this process claimed as it made them: who made them knows all about them, so nothing is read, and nothing is recorded
//! again before it is signed.

use std::{collections::HashMap, sync::Arc};

use certctl_domain::{certificate::Certificate, renewal_policy::RenewalPolicy, time::Timestamp};
use certctl_repository::{
    intents::Intent,
    jobs::{NewJob, held},
};
use certctl_telemetry::ErrorChain;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::batch::Context;
use crate::Services;

/// Batches of them that may be under way at a time. Where issuers are slow, what comes beyond is left to the processor.
const LANES: usize = 8;

/// Who may have a batch under way.
pub(crate) struct Lanes(Arc<Semaphore>);

impl Default for Lanes {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LANES)))
    }
}

impl Lanes {
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
    /// Works off what this process made and holds, once that is committed. Returns at once.
    pub(crate) fn issue_held(&self, held: Vec<Held>, lane: OwnedSemaphorePermit, now: Timestamp) {
        let services = self.clone();
        tokio::spawn(async move {
            let _lane = lane;
            let batch: Vec<_> = held
                .iter()
                .map(|one| held::claimed(&one.job, now))
                .collect();
            crate::metrics::observe_claim(&batch, now);
            if let Err(error) = services.work_off(batch, Some(context(held))).await {
                tracing::error!(error = %ErrorChain(&error), "a batch of jobs could not be ended; its lease will run out");
            }
        });
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
