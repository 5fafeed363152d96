//! Exports of certificates, limited per actor and hour: a chain is no secret, but a fleet's worth of them is a map.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use certctl_domain::{
    access::{Actor, Permission},
    audit::EventCategory,
    id::CertificateId,
    time::Timestamp,
};
use certctl_pki::pem;
use certctl_repository::{certificates, transaction, versions};
use serde_json::json;

use crate::{
    Error, Services,
    error::Expect as _,
    services::{authorise, event, record},
};

/// The window of the limit.
const WINDOW: Duration = Duration::from_secs(3600);
/// Actors remembered at the most; beyond it the one heard of longest ago is forgotten (operations §4).
const CAPACITY: usize = 50_000;

/// A sliding window of exports for each actor.
pub(crate) struct ExportLimiter {
    per_hour: usize,
    seen: Mutex<HashMap<String, VecDeque<Timestamp>>>,
}

impl ExportLimiter {
    pub(crate) fn new(per_hour: u32) -> Self {
        Self {
            per_hour: per_hour as usize,
            seen: Mutex::default(),
        }
    }

    fn admit(&self, actor: &str, now: Timestamp) -> bool {
        if self.per_hour == 0 {
            return true;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= CAPACITY && !seen.contains_key(actor) {
            let oldest = seen
                .iter()
                .min_by_key(|(_, hits)| hits.back().copied())
                .map(|(actor, _)| actor.clone());
            if let Some(oldest) = oldest {
                seen.remove(&oldest);
            }
        }
        let hits = seen.entry(actor.to_owned()).or_default();
        while hits.front().is_some_and(|hit| now.since(*hit) >= WINDOW) {
            hits.pop_front();
        }
        // A clock that was set back must not lock anybody out for longer than the window.
        hits.retain(|hit| *hit <= now);
        if hits.len() >= self.per_hour {
            return false;
        }
        hits.push_back(now);
        true
    }
}

/// A certificate as PEM, in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemExport {
    /// The leaf.
    pub cert_pem: String,
    /// The rest.
    pub chain_pem: String,
    /// All of it, leaf first.
    pub full_pem: String,
}

impl Services {
    /// Exports the latest version of a certificate.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `cert.read`, [`Error::NotFound`] when there is no certificate or nothing is issued,
    /// [`Error::TooManyExports`], [`Error::Unprocessable`] when what is stored is no chain.
    pub async fn export_pem(&self, actor: &Actor, id: &CertificateId) -> Result<PemExport, Error> {
        authorise(actor, Permission::CertRead)?;
        let now = self.now();
        let mut conn = self.read().await?;
        certificates::find(&mut conn, id)
            .await
            .or_not_found("certificate", id)?;
        let version = versions::latest(&mut conn, id)
            .await?
            .ok_or_else(|| Error::not_found("issued version of certificate", id))?;
        drop(conn);
        if !self.exports.admit(actor.id(), now) {
            return Err(Error::TooManyExports);
        }
        let export = split(&version.pem_chain)?;
        transaction!(self.db, "export certificate", conn => {
            let details = json!({"serial_number": version.serial_number.as_str()});
            record(conn, event(actor, EventCategory::CertLifecycle, "export_pem", ("certificate", id.as_str()), details, now)).await?;
            Ok::<_, Error>(())
        })?;
        Ok(export)
    }
}

fn split(full_pem: &str) -> Result<PemExport, Error> {
    let unreadable = || Error::Unprocessable("the stored chain cannot be read".to_owned());
    let certificates = pem::decode_certificates(full_pem).map_err(|_| unreadable())?;
    let (leaf, chain) = certificates.split_first().ok_or_else(unreadable)?;
    Ok(PemExport {
        cert_pem: pem::encode_chain(std::slice::from_ref(leaf)),
        chain_pem: pem::encode_chain(chain),
        full_pem: full_pem.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use certctl_domain::time::Timestamp;

    use super::ExportLimiter;

    #[test]
    fn the_window_slides_and_is_each_actors_own() {
        let limiter = ExportLimiter::new(2);
        let start = Timestamp::from_seconds(0);
        assert!(limiter.admit("a", start));
        assert!(limiter.admit("a", start + Duration::from_secs(10)));
        assert!(!limiter.admit("a", start + Duration::from_secs(3599)));
        assert!(limiter.admit("b", start + Duration::from_secs(3599)));
        assert!(limiter.admit("a", start + Duration::from_secs(3600)));
        assert!(!limiter.admit("a", start + Duration::from_secs(3601)));
        assert!(
            limiter.admit("a", start),
            "what a clock counted that was set back since does not count"
        );
    }
}
