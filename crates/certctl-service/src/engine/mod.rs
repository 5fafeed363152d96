//! The jobs engine: claims, signs and completes in batches.
//!
//! A batch costs three commits however many jobs are in it: one claims the jobs, one records what is about to be signed, one
//! stores what was signed together with everything that follows from it. In between no transaction is open and no lock is held.
//! Orders of ACME clients, who wait, are made claimed and recorded (`held`), and so cost the last one only.
//!
//! A worker that dies loses its lease and the jobs are taken up again by [`Services::recover_jobs`]. What was about to be signed
//! is found recorded then: the same serial number, the same key and the same validity are asked for again, so that for one job
//! there is at most one certificate, whenever the worker died. A worker that only seemed dead is refused by its old token.

pub(crate) mod ahead;
mod batch;
mod ended;
pub(crate) mod held;
mod prepare;
pub(crate) mod request;
mod sign;
pub(crate) mod store;
pub(crate) mod wake;

use std::{sync::PoisonError, time::Duration};

use certctl_domain::{id::JobId, serial::SerialNumber};
use certctl_repository::{
    access_version,
    jobs::claim::{self, ClaimedJob},
    revocations,
    sealed::SealedColumn,
    transaction,
};
use certctl_telemetry::ErrorChain;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument as _;

pub(crate) use self::ended::end_intents;
use crate::{
    Error, Services,
    metrics::{RunEnd, observe_run},
};

/// What one pass of the processor did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pass {
    /// Jobs claimed.
    pub claimed: usize,
    /// Jobs that ended well.
    pub completed: usize,
    /// Jobs that failed.
    pub failed: usize,
    /// Renewals handed to agents.
    pub awaiting_csr: usize,
}

impl std::ops::AddAssign for Pass {
    fn add_assign(&mut self, other: Self) {
        self.claimed += other.claimed;
        self.completed += other.completed;
        self.failed += other.failed;
        self.awaiting_csr += other.awaiting_csr;
    }
}

/// Batches that are under way at a time: one is signed while another waits for its commit. More would only wait for the same
/// two cores and the same disk.
const BATCHES_IN_FLIGHT: usize = 3;

/// How often jobs of dead workers are looked for at the most.
const RECOVER_EVERY: Duration = Duration::from_secs(1);

/// The channel on which replicas tell one another of new jobs.
pub(crate) const WAKE_CHANNEL: &str = "certctl_jobs";

/// Where a server-made key is sealed for; the serial is known before the version is.
pub(crate) fn key_place(serial: &SerialNumber) -> String {
    SealedColumn::VersionKeys.place(serial.as_str())
}

/// The span of a batch.
fn span_of(batch: &[ClaimedJob]) -> tracing::Span {
    tracing::info_span!(
        "jobs",
        jobs = batch.len(),
        job.first = batch.first().map(|one| one.job.id.as_str())
    )
}

/// How often a lease is prolonged: twice before it runs out, and not all the time.
fn keep_every(lease: Duration) -> Duration {
    (lease / 3).max(Duration::from_millis(100))
}

impl Services {
    /// Waits until there is something to do.
    pub async fn woken(&self) {
        self.wake.rung().await;
    }

    /// Tells the workers of this process that there is something to do.
    pub fn wake(&self) {
        self.wake.ring();
    }

    /// Hears what other replicas say: wakes the workers of this process when there is something to do, forgets what is remembered
    /// of keys when who may do what has changed, and has status services look again when something was revoked. Returns when the
    /// connection to the database ends.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database cannot be listened to.
    pub async fn hear_wakes(&self) -> Result<(), Error> {
        let channels = [WAKE_CHANNEL, access_version::CHANNEL, revocations::CHANNEL];
        let mut listener = self.db.listen(&channels).await?;
        // What was said before is lost.
        self.wake.ring();
        self.forget_keys();
        self.status.changed();
        while let Some(channel) = listener.recv().await? {
            match channel.as_str() {
                access_version::CHANNEL => self.forget_keys(),
                revocations::CHANNEL => self.status.changed(),
                _ => self.wake.ring(),
            }
        }
        Ok(())
    }

    /// Claims what is due and works it off, batch after batch, until nothing is due or the server stops. A stop lets the batches
    /// under way end.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database cannot be asked; what was claimed is taken up again when its lease runs out.
    pub async fn process_jobs(&self, stop: &CancellationToken) -> Result<Pass, Error> {
        if self.is_time_to_recover() {
            self.recover_jobs().await?;
        }
        let mut total = Pass::default();
        let mut running = FuturesUnordered::new();
        let lanes = BATCHES_IN_FLIGHT.min(self.config.concurrency.max(1) as usize);
        let mut dry = false;
        loop {
            while !dry && !stop.is_cancelled() && running.len() < lanes {
                let batch = self.claim_batch().await?;
                dry = batch.len() < self.batch_size();
                if !batch.is_empty() {
                    total.claimed += batch.len();
                    let services = self.clone();
                    // A task of its own: a pass that is dropped at its deadline does not cut a batch in half.
                    running.push(tokio::spawn(async move { services.work_off(batch).await }));
                }
            }
            match running.next().await {
                Some(Ok(Ok(pass))) => total += pass,
                Some(Ok(Err(error))) => {
                    tracing::error!(error = %ErrorChain(&error), "a batch of jobs could not be ended; its lease will run out");
                }
                Some(Err(panic)) => {
                    tracing::error!(error = %ErrorChain(&panic), "a batch of jobs panicked; its lease will run out");
                }
                None => break,
            }
        }
        Ok(total)
    }

    /// Whether a while has passed since it was last looked for jobs of dead workers. A lease lasts for minutes; looking at every ring
    /// of the bell would cost a transaction for every request that rings it.
    fn is_time_to_recover(&self) -> bool {
        let now = self.now();
        let mut last = self
            .recovered_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Also after a clock was set back.
        let is_time = last.is_none_or(|last| now < last || now.since(last) >= RECOVER_EVERY);
        if is_time {
            *last = Some(now);
        }
        is_time
    }

    fn batch_size(&self) -> usize {
        (self.config.batch.max(1) as usize).min(self.config.claim_limit.max(1) as usize)
    }

    async fn claim_batch(&self) -> Result<Vec<ClaimedJob>, Error> {
        let now = self.now();
        let limit = i64::try_from(self.batch_size()).unwrap_or(i64::MAX);
        let claimed = transaction!(self.db, "claim jobs", conn => {
            Ok::<_, Error>(claim::claim(conn, &self.config.instance, self.config.lease, limit, now).await?)
        })?;
        crate::metrics::observe_claim(&claimed, now);
        Ok(claimed)
    }

    /// Works a batch off while its leases are prolonged.
    async fn work_off(&self, batch: Vec<ClaimedJob>) -> Result<Pass, Error> {
        let _kept = self.keep(&batch);
        let span = span_of(&batch);
        batch::run(self, batch).instrument(span).await
    }

    /// Prolongs leases until what it returns is dropped, so that a slow CA does not lose a batch.
    fn keep(&self, batch: &[ClaimedJob]) -> AbortOnDropHandle<()> {
        let held: Vec<JobId> = batch.iter().map(|one| one.job.id.clone()).collect();
        AbortOnDropHandle::new(tokio::spawn(self.clone().keep_leases(held)))
    }

    async fn keep_leases(self, held: Vec<JobId>) {
        let every = keep_every(self.config.lease);
        loop {
            tokio::time::sleep(every).await;
            let now = self.now();
            let kept: Result<usize, Error> = transaction!(self.db, "extend leases", conn => {
                Ok::<_, Error>(claim::extend_leases(conn, &self.config.instance, &held, self.config.lease, now).await?)
            });
            if let Err(error) = kept {
                tracing::warn!(error = %ErrorChain(&error), "leases could not be prolonged");
            }
        }
    }

    /// Gives back what this process holds, without counting the attempt; the last thing before the database is closed.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; the leases then run out.
    pub async fn release_jobs(&self) -> Result<usize, Error> {
        let now = self.now();
        let released = transaction!(self.db, "release jobs", conn => {
            Ok::<_, Error>(claim::release(conn, &self.config.instance, now).await?)
        })?;
        for one in &released {
            observe_run(&one.kind, one.started_at, RunEnd::Released, now);
        }
        Ok(released.len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::keep_every;

    #[test]
    fn a_lease_is_prolonged_before_it_runs_out_however_short() {
        for lease in [300, 1000, 2000, 300_000].map(Duration::from_millis) {
            assert!(2 * keep_every(lease) < lease, "{lease:?}");
        }
        assert!(keep_every(Duration::ZERO) > Duration::ZERO);
    }
}
