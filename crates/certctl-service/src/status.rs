//! What CRLs and OCSP have in common: whose status is asked for, who signs, and whether what is cached still holds.
//!
//! Every transaction that revokes something raises the version of its issuer. What is cached carries the version it was made at; a
//! replica reads the versions of all issuers, a handful of small rows, when its knowledge of them is older than `FRESH` or when it
//! was told that there is news: by its own use cases at once, by other replicas over NOTIFY. So a cached answer costs no query of
//! its own, a revocation is seen everywhere within `FRESH` even when a word gets lost, and a replica that has lost the database
//! stops answering from what it remembers rather than vouching for it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use certctl_domain::{
    id::IssuerId,
    ports::issuer::{IssuerError, ResponderKeyFiles, StatusSigner},
    time::Timestamp,
};
use certctl_pki::{cert::ParsedCertificate, key::SignatureAlgorithm, ocsp::IssuerHashes};
use certctl_repository::crls::{self, IssuerStatus};
use tokio::sync::Notify;

use crate::{
    Error, Services, crls::CrlMemory, issuers::registry::ConnectError, ocsp::AnswerCache,
    responders::Responders,
};

/// How long a replica believes what it last read of the versions; half of the second within which a revocation is to be seen.
const FRESH: Duration = Duration::from_millis(500);

/// How status services behave. `Default` is the contract's.
#[derive(Debug, Clone, Copy)]
pub struct StatusConfig {
    /// Between two lists of an issuer of which nothing was revoked.
    pub crl_interval: Duration,
    /// How long the certificate of an OCSP responder lives.
    pub responder_validity: Duration,
    /// How long before its end it is replaced.
    pub responder_grace: Duration,
    /// Questions that an address may ask of the OCSP responder in a minute; 0 for no limit.
    pub ocsp_per_minute: u32,
}

impl Default for StatusConfig {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            crl_interval: HOUR,
            responder_validity: 720 * HOUR,
            responder_grace: 168 * HOUR,
            ocsp_per_minute: 1000,
        }
    }
}

/// What status services remember.
pub(crate) struct Status {
    pub(crate) feed: Feed,
    pub(crate) crls: CrlMemory,
    pub(crate) answers: AnswerCache,
    pub(crate) responders: Responders,
    /// Rings when a list may be due.
    pub(crate) bell: Notify,
    authorities: Mutex<HashMap<IssuerId, Arc<Authority>>>,
}

impl Status {
    pub(crate) fn new(key_files: Option<Arc<dyn ResponderKeyFiles>>) -> Self {
        Self {
            feed: Feed::default(),
            crls: CrlMemory::default(),
            answers: AnswerCache::default(),
            responders: Responders::new(key_files),
            bell: Notify::new(),
            authorities: Mutex::default(),
        }
    }

    /// Something was revoked, here or elsewhere.
    pub(crate) fn changed(&self) {
        self.feed.tell();
        self.bell.notify_one();
    }
}

/// A CA whose status certctl tells.
pub(crate) struct Authority {
    pub(crate) signer: Arc<dyn StatusSigner>,
    pub(crate) certificate: ParsedCertificate,
    pub(crate) algorithm: SignatureAlgorithm,
    pub(crate) hashes: IssuerHashes,
}

impl Authority {
    fn new(signer: Arc<dyn StatusSigner>) -> Result<Self, Error> {
        let certificate = ParsedCertificate::from_der(signer.certificate_der())?;
        Ok(Self {
            algorithm: SignatureAlgorithm::from_der(signer.algorithm_der())?,
            hashes: IssuerHashes::new(&certificate)?,
            certificate,
            signer,
        })
    }
}

impl Services {
    /// The CA of an issuer, as status services use it.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such issuer, [`Error::NotSupported`] when certctl does not hold its key.
    pub(crate) async fn authority(&self, id: &IssuerId) -> Result<Arc<Authority>, Error> {
        let unsupported = || {
            Error::NotSupported(format!(
                "the status of what issuer {id} signs is told by the CA's own service"
            ))
        };
        let connected = self
            .connected_issuer(id)
            .await
            .map_err(|error| match error {
                ConnectError::Row(error) => error,
                ConnectError::Issuer(IssuerError::NotSupported) => unsupported(),
                ConnectError::Issuer(error) => Error::internal(error),
            })?;
        let signer = connected.issuer.status_signer().ok_or_else(unsupported)?;
        let known = self
            .status
            .authorities
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned();
        if let Some(known) = known.filter(|known| Arc::ptr_eq(&known.signer, &signer)) {
            return Ok(known);
        }
        let authority = Arc::new(Authority::new(signer)?);
        let mut authorities = self
            .status
            .authorities
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        authorities.insert(id.clone(), Arc::clone(&authority));
        Ok(authority)
    }

    /// What is known of an issuer's revocations, at most [`FRESH`] old.
    pub(crate) async fn issuer_status(&self, id: &IssuerId) -> Result<IssuerStatus, Error> {
        let feed = &self.status.feed;
        if let Some(status) = feed.get(id, self.now()) {
            return Ok(status);
        }
        // One query for all who ask meanwhile.
        let _turn = feed.turn.lock().await;
        if let Some(status) = feed.get(id, self.now()) {
            return Ok(status);
        }
        // Before the query, so that what comes during it is asked for again.
        feed.told.store(false, Ordering::Release);
        let asked_at = self.now();
        let statuses = crls::statuses(&mut self.read().await?).await?;
        feed.put(statuses, asked_at);
        Ok(feed.get(id, asked_at).unwrap_or_else(|| nothing(id)))
    }

    /// Whether something was revoked that is on no list yet.
    pub(crate) async fn lists_are_behind(&self) -> Result<bool, Error> {
        let statuses = crls::statuses(&mut self.read().await?).await?;
        Ok(statuses.iter().any(|one| one.version > one.listed_version))
    }
}

fn nothing(id: &IssuerId) -> IssuerStatus {
    IssuerStatus {
        issuer_id: id.clone(),
        version: 0,
        listed_version: 0,
        crl_number: None,
    }
}

/// The versions of issuers, as they were last read.
#[derive(Default)]
pub(crate) struct Feed {
    state: Mutex<Known>,
    turn: tokio::sync::Mutex<()>,
    told: AtomicBool,
}

#[derive(Default)]
struct Known {
    at: Option<Timestamp>,
    issuers: HashMap<IssuerId, IssuerStatus>,
}

impl Feed {
    /// What is known is out of date.
    pub(crate) fn tell(&self) {
        self.told.store(true, Ordering::Release);
    }

    fn get(&self, id: &IssuerId, now: Timestamp) -> Option<IssuerStatus> {
        if self.told.load(Ordering::Acquire) {
            return None;
        }
        let known = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back makes what was read look as if it came from the future.
        let is_fresh = known
            .at
            .is_some_and(|at| at <= now && now.since(at) < FRESH);
        is_fresh.then(|| {
            known
                .issuers
                .get(id)
                .cloned()
                .unwrap_or_else(|| nothing(id))
        })
    }

    fn put(&self, statuses: Vec<IssuerStatus>, at: Timestamp) {
        let issuers = statuses
            .into_iter()
            .map(|one| (one.issuer_id.clone(), one))
            .collect();
        let mut known = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Known {
            at: Some(at),
            issuers,
        };
    }
}
