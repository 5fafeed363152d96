//! What this replica has just written for a client that is about to ask for it again: the order it finalises next, the certificate
//! it downloads next. Each is handed out once, and whoever finds nothing here asks the database.
//!
//! What is remembered may be old: an order is looked at again in the transaction that finalises it, and a chain does not change.

use std::sync::{Mutex, MutexGuard, PoisonError};

use certctl_domain::{
    acme::{AcmeAccountId, AcmeAuthorizationId, AcmeOrderId, Order, OrderStatus},
    id::{CertificateId, IssuerId},
};

use super::generations::Generations;

/// Orders and certificates in each of two generations: some megabytes when both are full, some tens where each has a hundred names.
const CAPACITY: usize = 1000;

/// An order with its authorisations.
pub(super) type Whole = (Order, Vec<AcmeAuthorizationId>);
/// Whose a certificate is, who signed it, and its chain.
pub(super) type Chain = (AcmeAccountId, IssuerId, String);

pub(super) struct Recent {
    orders: Mutex<Generations<AcmeOrderId, Whole>>,
    chains: Mutex<Generations<CertificateId, Chain>>,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self {
            orders: Mutex::new(Generations::of(CAPACITY)),
            chains: Mutex::new(Generations::of(CAPACITY)),
        }
    }

    /// Remembers an order that can be finalised.
    pub(super) fn keep_order(&self, order: &Order, authorizations: &[AcmeAuthorizationId]) {
        if order.status == OrderStatus::Ready {
            let whole = (order.clone(), authorizations.to_vec());
            lock(&self.orders).keep(order.id.clone(), whole);
        }
    }

    pub(super) fn take_order(&self, id: &AcmeOrderId) -> Option<Whole> {
        lock(&self.orders).take(id)
    }

    pub(super) fn keep_chain(&self, id: CertificateId, chain: Chain) {
        lock(&self.chains).keep(id, chain);
    }

    pub(super) fn take_chain(&self, id: &CertificateId) -> Option<Chain> {
        lock(&self.chains).take(id)
    }
}

fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whatever was being written when a thread panicked is a whole entry or none.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
