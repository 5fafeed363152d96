//! What the sweeps of the ACME server do (acme-server §11): bounded steps, each in a transaction of its own, one failing not keeping
//! the others from running.

use std::future::Future;

use certctl_domain::{
    access::{Actor, ActorType},
    acme::{Problem, ProblemType},
    audit::EventCategory,
};
use certctl_repository::{
    acme::{failing_names, issuing, nonces, sweeps},
    audit_events, transaction,
};
use certctl_telemetry::{ErrorChain, metrics_names as names};
use serde_json::json;

use super::{
    Acme, metrics,
    waiting::{ended_event, not_issued},
};
use crate::{
    Error,
    services::{event, record},
};

/// Rows that one step changes at the most.
const STEP: i64 = 1000;
/// Steps of one sweep in one run, so that a run ends in time; the next goes on.
const STEPS: usize = 50;

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GcSummary {
    /// Used nonces forgotten.
    pub nonces: usize,
    /// Authorisations that were not proved in time.
    pub authorizations: usize,
    /// Orders that were not finalised in time.
    pub orders: usize,
    /// Orders whose jobs had ended without them.
    pub reconciled: usize,
    /// Orders deleted.
    pub deleted: usize,
    /// Authorisations deleted of orders that are kept.
    pub spent: usize,
    /// Failing names forgotten.
    pub names: usize,
    /// Challenges that nobody looked at, taken up.
    pub challenges: usize,
    /// Sweeps that failed.
    pub failures: usize,
}

impl Acme {
    /// Runs all sweeps once.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when nothing could be swept at all.
    pub async fn gc(&self) -> Result<GcSummary, Error> {
        metrics::add(&names::ACME_GC_RUNS_TOTAL, 1);
        let mut done = GcSummary::default();
        let mut failed = None;
        let mut note = |swept: Result<usize, Error>, place: &mut usize| match swept {
            Ok(count) => *place = count,
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "a sweep of the ACME server failed");
                metrics::add(&names::ACME_GC_RUN_FAILURES_TOTAL, 1);
                failed = Some(error);
            }
        };
        let mut failures = 0;
        let (mut cascaded, mut spent) = (0, 0);
        let all = [
            self.sweep_nonces().await,
            self.expire_authorizations(&mut cascaded).await,
            self.expire_orders().await,
            self.reconcile().await,
            self.delete_orders(&mut spent).await,
            self.forget_names().await,
            self.recover_challenges().await,
        ];
        let places = [
            &mut done.nonces,
            &mut done.authorizations,
            &mut done.orders,
            &mut done.reconciled,
            &mut done.deleted,
            &mut done.names,
            &mut done.challenges,
        ];
        for (swept, place) in all.into_iter().zip(places) {
            failures += usize::from(swept.is_err());
            note(swept, place);
        }
        done.failures = failures;
        done.orders += cascaded;
        done.spent = spent;
        metrics::add(&names::ACME_GC_ORDERS_DELETED_TOTAL, done.deleted);
        metrics::add(&names::ACME_GC_AUTHZS_DELETED_TOTAL, done.spent);
        metrics::add(&names::ACME_GC_NONCES_REAPED_TOTAL, done.nonces);
        metrics::add(&names::ACME_GC_AUTHZS_EXPIRED_TOTAL, done.authorizations);
        metrics::add(
            &names::ACME_GC_ORDERS_INVALIDATED_TOTAL,
            done.orders + done.reconciled,
        );
        if let (7, Some(error)) = (failures, failed) {
            return Err(error);
        }
        self.summarise(&done).await?;
        Ok(done)
    }

    /// One row for a run that changed what clients see; used nonces are nobody's business.
    async fn summarise(&self, done: &GcSummary) -> Result<(), Error> {
        let changed =
            done.authorizations + done.orders + done.reconciled + done.deleted + done.spent;
        if changed == 0 {
            return Ok(());
        }
        let now = self.services.now();
        let actor = Actor::new(
            "acme-system:gc",
            ActorType::System,
            false,
            Vec::new(),
            Vec::new(),
        );
        let details = json!({"authorizations_expired": done.authorizations, "orders_invalidated": done.orders,
            "orders_reconciled": done.reconciled, "orders_deleted": done.deleted,
            "authorizations_deleted": done.spent});
        transaction!(self.services.db, "summarise ACME sweeps", conn => {
            let resource = ("acme", "gc");
            record(conn, event(&actor, EventCategory::CertLifecycle, "acme_gc_summary", resource, details.clone(), now)).await
        })
    }

    async fn sweep_nonces(&self) -> Result<usize, Error> {
        repeat(|| async {
            let now = self.services.now();
            transaction!(self.services.db, "sweep ACME nonces", conn => {
                Ok::<_, Error>(nonces::sweep(conn, STEP, now).await?)
            })
        })
        .await
    }

    /// Also counts the orders that end with them.
    async fn expire_authorizations(&self, orders: &mut usize) -> Result<usize, Error> {
        let error = expired();
        let mut total = 0;
        for _ in 0..STEPS {
            let now = self.services.now();
            let step = transaction!(self.services.db, "expire ACME authorisations", conn => {
                Ok::<_, Error>(sweeps::expire_authorizations(conn, &error, STEP, now).await?)
            })?;
            total += step.authorizations;
            *orders += step.orders;
            if is_last(step.authorizations) {
                break;
            }
        }
        Ok(total)
    }

    async fn expire_orders(&self) -> Result<usize, Error> {
        let error = expired();
        repeat(|| async {
            let now = self.services.now();
            transaction!(self.services.db, "expire ACME orders", conn => {
                Ok::<_, Error>(sweeps::expire_orders(conn, &error, STEP, now).await?)
            })
        })
        .await
    }

    async fn reconcile(&self) -> Result<usize, Error> {
        let error = not_issued();
        repeat(|| async {
            let now = self.services.now();
            let ended = transaction!(self.services.db, "reconcile ACME orders", conn => {
                let ended = issuing::reconcile(conn, &error, STEP, now).await?;
                let events: Vec<_> = ended.iter().map(|one| ended_event(one, now)).collect();
                audit_events::insert_all(conn, &events).await?;
                Ok::<_, Error>(ended)
            })?;
            self.services.orders_ended(&ended);
            Ok(ended.len())
        })
        .await
    }

    /// Also counts the authorisations of orders that are kept.
    async fn delete_orders(&self, authorizations: &mut usize) -> Result<usize, Error> {
        let mut total = 0;
        for _ in 0..STEPS {
            let now = self.services.now();
            let before = now - self.state.config.retention;
            let step = transaction!(self.services.db, "delete ACME orders", conn => {
                Ok::<_, Error>(sweeps::delete_ended(conn, before, STEP, now).await?)
            })?;
            total += step.orders;
            *authorizations += step.authorizations;
            if is_last(step.total()) {
                break;
            }
        }
        Ok(total)
    }

    async fn forget_names(&self) -> Result<usize, Error> {
        repeat(|| async {
            let before = self.services.now() - self.state.config.retention;
            transaction!(self.services.db, "forget failing ACME names", conn => {
                Ok::<_, Error>(failing_names::sweep(conn, before, STEP).await?)
            })
        })
        .await
    }
}

/// What ends with its time.
fn expired() -> Problem {
    Problem::new(ProblemType::ServerInternal, "order expired before issuance")
}

/// Whether a step found less than it may change.
fn is_last(count: usize) -> bool {
    i64::try_from(count).unwrap_or(i64::MAX) < STEP
}

/// Steps until one finds less than it may change.
async fn repeat<F: Future<Output = Result<usize, Error>>>(
    step: impl Fn() -> F,
) -> Result<usize, Error> {
    let mut total = 0;
    for _ in 0..STEPS {
        let count = step().await?;
        total += count;
        if is_last(count) {
            break;
        }
    }
    Ok(total)
}
