//! Issuing what the desk has just made: signed as soon as it is committed, and stored with whatever the desk writes next.

use std::sync::Arc;

use certctl_domain::time::Timestamp;
use certctl_telemetry::ErrorChain;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Acme,
    desk::{Done, Work},
};
use crate::engine::held::Held;

impl Acme {
    /// Issues in the background. Whoever dies meanwhile leaves jobs with leases that run out, as with every other job.
    pub(super) fn issue(&self, held: Vec<Held>, lane: OwnedSemaphorePermit, now: Timestamp) {
        let acme = self.clone();
        tokio::spawn(async move {
            let _lane = lane;
            let (results, _kept) = acme.services.sign_held(held, now).await;
            let results = Arc::new(results);
            let work = Work::Store(Arc::clone(&results));
            if let Ok(Done::Stored(stored)) = acme.submit_own(work).await {
                results.settle(&acme.services, *stored);
                return;
            }
            // The desk said why. By itself it may go better: what is a duplicate fails alone, and what was written after all is
            // found written.
            let Some(results) = Arc::into_inner(results) else {
                return;
            };
            if let Err(error) = acme.services.store_held(results).await {
                tracing::error!(error = %ErrorChain(&error), "certificates that were signed could not be stored; they will be asked for again");
            }
        });
    }
}
