//! Totals of filtered lists: counted, and where that is a long walk, kept for a moment (docs/decisions/0004-totals.md).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use certctl_domain::time::Timestamp;
use certctl_repository::{
    Conn,
    approvals::{self, ApprovalFilter},
    audit_events::{self, AuditFilter},
    certificates::{self, CertificateFilter},
    jobs::{self, JobFilter},
    notifications::{self, NotificationFilter},
};

use crate::{Error, Services};

/// Totals below this are counted every time: it takes less than a few milliseconds, and small fleets see what they just did.
const WORTH_KEEPING: i64 = 10_000;
/// Totals that are remembered at the most; what is too old is forgotten first.
const CAPACITY: usize = 1000;

/// What is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Asked {
    /// Certificates.
    Certificates(CertificateFilter),
    /// Jobs.
    Jobs(JobFilter),
    /// Audit events.
    AuditEvents(AuditFilter),
    /// Notifications.
    Notifications(NotificationFilter),
    /// Requests for approval.
    Approvals(ApprovalFilter),
}

impl Asked {
    /// Whether the database keeps this total, so that it is read and not counted.
    fn is_held(&self) -> bool {
        match self {
            Self::Certificates(filter) => filter.is_everything(),
            Self::Jobs(filter) => filter.is_everything(),
            Self::AuditEvents(filter) => filter.is_everything(),
            Self::Notifications(filter) => filter.is_everything(),
            Self::Approvals(_) => false,
        }
    }

    async fn count(&self, conn: &mut Conn) -> Result<i64, certctl_repository::Error> {
        match self {
            Self::Certificates(filter) => certificates::count(conn, filter).await,
            Self::Jobs(filter) => jobs::count(conn, *filter).await,
            Self::AuditEvents(filter) => audit_events::count(conn, filter).await,
            Self::Notifications(filter) => notifications::count(conn, *filter).await,
            Self::Approvals(filter) => approvals::count(conn, filter).await,
        }
    }
}

/// A total, and when its counting began. Whoever holds the lock counts, the others wait for what it finds.
type Flight = Arc<tokio::sync::Mutex<Option<(Timestamp, i64)>>>;

/// Totals of the last moments by what was asked.
#[derive(Default)]
pub(crate) struct TotalsCache(Mutex<HashMap<Asked, Flight>>);

impl TotalsCache {
    fn flight(&self, asked: &Asked) -> Option<Flight> {
        let flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flights.get(asked).cloned()
    }

    /// Remembers that something is worth keeping.
    fn remember(&self, asked: &Asked, counted: (Timestamp, i64)) {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.len() >= CAPACITY {
            flights.retain(|_, flight| {
                let kept = flight.try_lock().ok().and_then(|kept| *kept);
                kept.is_none_or(|kept| is_fresh(kept, counted.0))
            });
        }
        if flights.len() < CAPACITY {
            flights
                .entry(asked.clone())
                .or_insert_with(|| Arc::new(tokio::sync::Mutex::new(Some(counted))));
        }
    }

    fn forget(&self, asked: &Asked) {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flights.remove(asked);
    }
}

/// How old a total may be: a second for each 100,000 matches, and one at least, so that counting costs a bounded part of a core
/// however many there are.
fn kept_for(total: i64) -> Duration {
    Duration::from_micros(total.max(0).unsigned_abs().saturating_mul(10))
        .max(Duration::from_secs(1))
}

/// A clock that was set back makes nothing fresh for longer than it is kept.
fn is_fresh((at, total): (Timestamp, i64), now: Timestamp) -> bool {
    at <= now && now.since(at) < kept_for(total)
}

impl Services {
    /// How many there are: exactly, as of this moment or, where there are many and not all, of a moment that is a second old at
    /// the most for each 100,000. Of callers who ask for the same at the same time one counts.
    ///
    /// Not to be called with a connection in hand: whoever waits for a count must not keep others from counting.
    pub(crate) async fn count(&self, asked: &Asked) -> Result<i64, Error> {
        if asked.is_held() {
            return Ok(asked.count(&mut self.read().await?).await?);
        }
        let Some(flight) = self.totals.flight(asked) else {
            let began = self.now();
            let total = asked.count(&mut self.read().await?).await?;
            if total >= WORTH_KEEPING {
                self.totals.remember(asked, (began, total));
            }
            return Ok(total);
        };
        let mut kept = flight.lock().await;
        let now = self.now();
        if let Some((_, total)) = kept.filter(|kept| is_fresh(*kept, now)) {
            return Ok(total);
        }
        let total = asked.count(&mut self.read().await?).await?;
        *kept = Some((now, total));
        if total < WORTH_KEEPING {
            self.totals.forget(asked);
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::kept_for;

    #[test]
    fn what_takes_longer_to_count_is_kept_longer() {
        for (total, seconds) in [(-1, 1), (10_000, 1), (100_000, 1), (1_000_000, 10)] {
            assert_eq!(kept_for(total), Duration::from_secs(seconds), "{total}");
        }
        assert!(kept_for(i64::MAX) > Duration::from_secs(86_400));
    }
}
