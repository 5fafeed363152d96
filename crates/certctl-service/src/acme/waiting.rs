//! Requests that wait for their certificate, and how the jobs engine tells them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use certctl_domain::{
    access::Actor,
    acme::{AcmeOrderId, Order, OrderStatus, Problem, ProblemType},
    audit::{AuditEvent, EventCategory},
    certificate::{Certificate, CertificateSource},
    id::CertificateId,
    time::Timestamp,
};
use certctl_repository::{
    Conn,
    acme::{
        issuing::{self, Ended},
        orders,
    },
    audit_events,
};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{Acme, Refusal};
use crate::{Error, Services, services::event};

/// How often the database is asked whether another replica has issued.
const POLL: Duration = Duration::from_millis(250);

/// A bell for each order that somebody waits for.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<HashMap<AcmeOrderId, Bell>>);

/// What those who wait for an order are told by: whether it is valid, once it has ended. It stays told, for whoever was handed the
/// order before and comes to wait after.
type Bell = watch::Sender<Option<bool>>;

/// One who waits; the bell goes with the last of them.
pub(super) struct Waiter<'a> {
    waiting: &'a Waiting,
    order: AcmeOrderId,
    /// Until it is dropped.
    ended: Option<watch::Receiver<Option<bool>>>,
}

impl Waiting {
    /// To be called before the order is handed to the engine, which may be quick.
    pub(super) fn for_order(&self, id: &AcmeOrderId) -> Waiter<'_> {
        let mut bells = self.lock();
        let bell = bells.entry(id.clone()).or_default();
        Waiter {
            waiting: self,
            order: id.clone(),
            ended: Some(bell.subscribe()),
        }
    }

    fn ring(&self, ended: &[Ended]) {
        let bells = self.lock();
        for one in ended {
            if let Some(bell) = bells.get(&one.order_id) {
                bell.send_replace(Some(one.is_valid));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AcmeOrderId, Bell>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter<'_> {
    /// Whether nobody else is finalising the order here.
    pub(super) fn is_alone(&self) -> bool {
        self.waiting
            .lock()
            .get(&self.order)
            .is_none_or(|bell| bell.receiver_count() <= 1)
    }

    /// Waits until the order has ended; whether it is valid, if anybody is left to say so.
    async fn rung(&mut self) -> Option<bool> {
        let ended = self.ended.as_mut()?;
        let ended = ended.wait_for(Option::is_some).await.ok()?;
        *ended
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let waiting = self.waiting;
        let mut bells = waiting.lock();
        // Under the lock, or of two who leave at the same time each would take the other for one who stays.
        drop(self.ended.take());
        let is_last = bells
            .get(&self.order)
            .is_some_and(|bell| bell.receiver_count() == 0);
        if is_last {
            bells.remove(&self.order);
        }
    }
}

impl Acme {
    /// Waits for an order that is being issued, at most until then.
    pub(super) async fn wait_for(
        &self,
        order: Order,
        mut waiter: Waiter<'_>,
        deadline: Instant,
    ) -> Result<Order, Refusal> {
        let mut order = order;
        while order.status == OrderStatus::Processing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let patience = if self.is_shared() {
                left.min(POLL)
            } else {
                left
            };
            // Whether the bell rang or the time is over, the database knows; only what is valid needs no look.
            let ended = timeout(patience, waiter.rung()).await;
            if matches!(ended, Ok(Some(true))) {
                order.status = OrderStatus::Valid;
                break;
            }
            let found = orders::find(&mut self.services.read().await?, &order.id).await?;
            order = found.unwrap_or(order);
        }
        Ok(order)
    }
}

/// Makes the orders valid whose certificates are stored in this transaction. Costs nothing where none came by ACME.
pub(crate) async fn orders_succeeded(
    conn: &mut Conn,
    issued: &[&Certificate],
    now: Timestamp,
) -> Result<(Vec<Ended>, Vec<AuditEvent>), Error> {
    let ids = of_acme(issued);
    let ended = issuing::succeed(conn, &ids, now).await?;
    let events = ended.iter().map(|one| ended_event(one, now)).collect();
    Ok((ended, events))
}

/// Makes the orders invalid whose certificates this transaction gives up.
pub(crate) async fn orders_failed(
    conn: &mut Conn,
    given_up: &[&Certificate],
    now: Timestamp,
) -> Result<(Vec<Ended>, Vec<AuditEvent>), Error> {
    let ids = of_acme(given_up);
    let ended = issuing::fail(conn, &ids, &not_issued(), now).await?;
    let events = ended.iter().map(|one| ended_event(one, now)).collect();
    Ok((ended, events))
}

/// Makes the orders invalid whose jobs this transaction ends outside of the engine, with their audit rows.
pub(crate) async fn orders_given_up(
    conn: &mut Conn,
    certificates: &[CertificateId],
    now: Timestamp,
) -> Result<Vec<Ended>, Error> {
    let ended = issuing::fail(conn, certificates, &not_issued(), now).await?;
    let events: Vec<AuditEvent> = ended.iter().map(|one| ended_event(one, now)).collect();
    audit_events::insert_all(conn, &events).await?;
    Ok(ended)
}

/// What a client is told; what went wrong with an issuer is for the operators.
pub(super) fn not_issued() -> Problem {
    Problem::new(
        ProblemType::ServerInternal,
        "the certificate could not be issued",
    )
}

fn of_acme(certificates: &[&Certificate]) -> Vec<CertificateId> {
    certificates
        .iter()
        .filter(|one| one.source == CertificateSource::Acme)
        .map(|one| one.id.clone())
        .collect()
}

pub(super) fn ended_event(ended: &Ended, now: Timestamp) -> AuditEvent {
    let action = if ended.is_valid {
        "acme_order_finalized"
    } else {
        "acme_order_failed"
    };
    let details = json!({"certificate_id": ended.certificate_id.as_str(), "account_id": ended.account_id.as_str()});
    event(
        &Actor::system(),
        EventCategory::CertLifecycle,
        action,
        ("acme_order", ended.order_id.as_str()),
        details,
        now,
    )
}

impl Services {
    /// Tells whoever waits for these orders, after the commit.
    pub(crate) fn orders_ended(&self, ended: &[Ended]) {
        if let Some(state) = &self.acme
            && !ended.is_empty()
        {
            state.waiting.ring(ended);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bell_stays_told_and_goes_with_the_last_who_waits() {
        let waiting = Waiting::default();
        let id = AcmeOrderId::from_random([7; 10]);
        let (mut first, mut second) = (waiting.for_order(&id), waiting.for_order(&id));
        assert!(!first.is_alone());
        waiting.ring(&[Ended {
            order_id: id.clone(),
            account_id: certctl_domain::acme::AcmeAccountId::from_stored("a".into()),
            certificate_id: CertificateId::from_stored("c".into()),
            is_valid: true,
        }]);
        // Both began to wait after it rang.
        assert_eq!(first.rung().await, Some(true));
        assert_eq!(second.rung().await, Some(true));
        drop(first);
        assert!(second.is_alone() && waiting.lock().len() == 1);
        drop(second);
        assert!(waiting.lock().is_empty());
    }
}
