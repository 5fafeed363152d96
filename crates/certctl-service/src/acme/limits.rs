//! How often accounts may ask: token buckets that hold what an hour gives (acme-server §9).

use std::{sync::Arc, time::Duration};

use certctl_domain::{
    acme::{Problem, ProblemType},
    time::Timestamp,
};

use super::{AcmeConfig, Refusal, metrics};
use crate::limits::{Buckets, Limits, Rate};

/// An hour, in which a bucket fills.
const HOUR: f64 = 3600.0;
/// Buckets of each kind that are remembered.
const MAX_KEYS: usize = 100_000;

/// What is limited.
pub(super) struct AcmeLimits {
    pub(super) new_order: Limit,
    pub(super) key_change: Limit,
    pub(super) challenge_respond: Limit,
    pub(super) new_account: Limit,
}

/// One action.
pub(super) struct Limit {
    action: &'static str,
    buckets: Option<Arc<Buckets>>,
}

impl AcmeLimits {
    pub(super) fn new(config: &AcmeConfig, limits: &Limits) -> Self {
        let limit = |action, name, per_hour: u32| Limit {
            action,
            buckets: (per_hour > 0).then(|| {
                let rate = Rate {
                    per_second: f64::from(per_hour) / HOUR,
                    burst: f64::from(per_hour),
                };
                // A bucket that nobody takes from for an hour is full, and a missing one is full too.
                limits.token_buckets(name, rate, Duration::from_secs(3600), MAX_KEYS)
            }),
        };
        Self {
            new_order: limit("new_order", "acme_new_order", config.orders_per_hour),
            key_change: limit("key_change", "acme_key_change", config.key_changes_per_hour),
            challenge_respond: limit(
                "challenge_respond",
                "acme_challenge_respond",
                config.challenge_responds_per_hour,
            ),
            new_account: limit(
                "new_account",
                "acme_new_account",
                config.new_accounts_per_hour,
            ),
        }
    }
}

impl Limit {
    /// Takes one from the bucket of a key.
    ///
    /// # Errors
    /// `rateLimited`, with the time until there is another.
    pub(super) async fn take(&self, key: &str, now: Timestamp) -> Result<(), Refusal> {
        let Some(buckets) = &self.buckets else {
            return Ok(());
        };
        if buckets.take(key.to_owned(), now).await {
            return Ok(());
        }
        let wait = buckets.wait(key, now);
        Err(limited(
            self.action,
            "too many requests of this kind within an hour",
            wait.as_millis().div_ceil(1000).max(1) as u64,
        ))
    }
}

/// That something is asked too often (RFC 8555 §6.6).
pub(super) fn limited(action: &'static str, detail: &str, retry_after: u64) -> Refusal {
    metrics::count_limited(action);
    Refusal {
        retry_after: Some(retry_after),
        ..Problem::new(ProblemType::RateLimited, detail).into()
    }
}
