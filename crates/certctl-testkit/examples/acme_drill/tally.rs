//! What clients saw.

use std::time::Duration;

use serde_json::{Value, json};

/// Counts of one client, or of all.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) orders: usize,
    pub(crate) abandoned: usize,
    pub(crate) requests: usize,
    /// Answers that did not come because a connection broke or could not be made; each was asked for again.
    pub(crate) lost: usize,
    /// Answers `503`, after which the same was asked again.
    pub(crate) unavailable: usize,
    /// Refusals of a nonce.
    pub(crate) refused_nonces: usize,
    /// How often in a row a nonce was refused that came with the refusal before; at most 1 where a retry cures it.
    pub(crate) refused_in_a_row: usize,
    /// From asking for an order to its chain.
    pub(crate) longest_order: Duration,
    /// From asking to finalise to its being valid.
    pub(crate) longest_finalizing: Duration,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.orders += other.orders;
        self.abandoned += other.abandoned;
        self.requests += other.requests;
        self.lost += other.lost;
        self.unavailable += other.unavailable;
        self.refused_nonces += other.refused_nonces;
        self.refused_in_a_row = self.refused_in_a_row.max(other.refused_in_a_row);
        self.longest_order = self.longest_order.max(other.longest_order);
        self.longest_finalizing = self.longest_finalizing.max(other.longest_finalizing);
    }

    pub(crate) fn said(&self) -> Value {
        json!({
            "orders": self.orders, "abandoned": self.abandoned, "requests": self.requests, "lost": self.lost,
            "unavailable": self.unavailable, "refused_nonces": self.refused_nonces, "refused_in_a_row": self.refused_in_a_row,
            "longest_order_seconds": self.longest_order.as_secs_f64(),
            "longest_finalizing_seconds": self.longest_finalizing.as_secs_f64(),
        })
    }
}
