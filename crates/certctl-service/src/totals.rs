//! Totals of filtered lists: counted, and where that is a long walk, kept for a moment (docs/decisions/0004-totals.md).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use certctl_domain::time::Timestamp;
use certctl_repository::certificates::{self, CertificateFilter};

use crate::{Error, Services};

/// How old a kept total may be.
const KEPT_FOR: Duration = Duration::from_secs(1);
/// Totals below this are counted every time: it takes less than a few milliseconds, and small fleets see what they just did.
const WORTH_KEEPING: i64 = 10_000;
/// Filters that are remembered at the most; what is too old is forgotten first.
const CAPACITY: usize = 1000;

/// A total, and when its counting began. Whoever holds the lock counts, the others wait for what it finds.
type Flight = Arc<tokio::sync::Mutex<Option<(Timestamp, i64)>>>;

/// Totals of the last second by filter.
#[derive(Default)]
pub(crate) struct TotalsCache(Mutex<HashMap<CertificateFilter, Flight>>);

impl TotalsCache {
    fn flight(&self, filter: &CertificateFilter) -> Option<Flight> {
        let flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flights.get(filter).cloned()
    }

    /// Remembers that a filter is worth keeping.
    fn remember(&self, filter: &CertificateFilter, counted: (Timestamp, i64)) {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.len() >= CAPACITY {
            flights.retain(|_, flight| {
                let kept = flight.try_lock().ok().and_then(|kept| *kept);
                kept.is_none_or(|kept| is_fresh(kept, counted.0))
            });
        }
        if flights.len() < CAPACITY {
            flights
                .entry(filter.clone())
                .or_insert_with(|| Arc::new(tokio::sync::Mutex::new(Some(counted))));
        }
    }

    fn forget(&self, filter: &CertificateFilter) {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flights.remove(filter);
    }
}

/// A clock that was set back makes nothing fresh for longer than it is kept.
fn is_fresh((at, _): (Timestamp, i64), now: Timestamp) -> bool {
    at <= now && now.since(at) < KEPT_FOR
}

impl Services {
    /// How many certificates match: exactly, as of this moment or, where there are many and not all, of a moment within the last
    /// second. Of callers who ask for the same at the same time one counts.
    pub(crate) async fn count_certificates(
        &self,
        filter: &CertificateFilter,
    ) -> Result<i64, Error> {
        let Some(flight) = self
            .totals
            .flight(filter)
            .filter(|_| !filter.is_everything())
        else {
            let began = self.now();
            let total = certificates::count(&mut self.read().await?, filter).await?;
            if total >= WORTH_KEEPING && !filter.is_everything() {
                self.totals.remember(filter, (began, total));
            }
            return Ok(total);
        };
        let mut kept = flight.lock().await;
        let now = self.now();
        if let Some((_, total)) = kept.filter(|kept| is_fresh(*kept, now)) {
            return Ok(total);
        }
        let total = certificates::count(&mut self.read().await?, filter).await?;
        *kept = Some((now, total));
        if total < WORTH_KEEPING {
            self.totals.forget(filter);
        }
        Ok(total)
    }
}
