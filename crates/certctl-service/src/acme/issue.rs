//! Issuing what the desk has just made: signed as soon as it is committed, and stored with whatever the desk writes next.

use std::sync::Arc;

use certctl_domain::{ports::BoxFuture, time::Timestamp};
use certctl_telemetry::ErrorChain;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Acme,
    desk::{Done, Work},
};
use crate::engine::held::Held;

impl Acme {
    /// Issues, to be done in the background. Whoever dies meanwhile leaves jobs with leases that run out, as with every other job.
    ///
    /// In a box, because the desk sets it off and it hands a ticket in at the desk.
    pub(super) fn issue(
        self,
        held: Vec<Held>,
        lane: OwnedSemaphorePermit,
        now: Timestamp,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let _lane = lane;
            self.sign_and_store(held, now).await;
        })
    }

    async fn sign_and_store(self, held: Vec<Held>, now: Timestamp) {
        let (results, _kept) = self.services.sign_held(held, now).await;
        let results = Arc::new(results);
        let work = Work::Store(Arc::clone(&results));
        if let Ok(Done::Stored(stored)) = self.submit_own(work).await {
            results.settle(&self.services, &stored);
            return;
        }
        // The desk said why. By itself it may go better: what is a duplicate fails alone, and what was written after all is found
        // written.
        let Some(results) = Arc::into_inner(results) else {
            return;
        };
        if let Err(error) = self.services.store_held(results).await {
            tracing::error!(error = %ErrorChain(&error), "certificates that were signed could not be stored; they will be asked for again");
        }
    }
}
