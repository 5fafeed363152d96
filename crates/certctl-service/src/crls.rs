//! Revocation lists: what is served, and when the next is made.

mod generate;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use certctl_domain::{
    access::{Actor, Permission},
    id::IssuerId,
    issuer::IssuerType,
    revocation::Shard,
    time::Timestamp,
};
use certctl_pki::pem::fingerprint;
use certctl_repository::crls::{self, StoredCrl};
pub use certctl_repository::crls::{CachedCrl, GenerationEvent};

use crate::{Error, Services, services::authorise};
use generate::Made;

/// How often a replica looks for lists that are due, beside being told. A revocation is on the list within a minute even when
/// whoever entered it died at once (protocols §3).
const LOOK: Duration = Duration::from_secs(10);
/// What is revoked one after the other is put on one list.
const GATHER: Duration = Duration::from_secs(1);
/// How old a list is that a reader has made anew: about to end. A part that does not exist is no reason to make any.
const OUTDATED: Duration = Duration::from_secs(23 * 3600);
/// How long a reader waits for the first list while another replica makes it.
const WAIT: Duration = Duration::from_millis(100);
const WAITS: u32 = 100;

/// Bytes that are shared by all who send them.
#[derive(Debug, Clone)]
pub struct Der(Arc<Vec<u8>>);

impl AsRef<[u8]> for Der {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Der {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(bytes))
    }
}

/// A list as it is served.
#[derive(Debug, Clone)]
pub struct Crl {
    /// The list.
    pub der: Der,
    /// Its number.
    pub number: i64,
    /// When it was made.
    pub this_update: Timestamp,
    /// When there will be a newer one.
    pub next_update: Timestamp,
    /// The first 16 octets of its SHA-256, in hex.
    pub digest: String,
}

impl From<StoredCrl> for Crl {
    fn from(stored: StoredCrl) -> Self {
        let mut digest = fingerprint(&stored.der);
        digest.truncate(32);
        Self {
            der: stored.der.into(),
            number: stored.number,
            this_update: stored.this_update,
            next_update: stored.next_update,
            digest,
        }
    }
}

/// The lists that were served last.
#[derive(Default)]
pub(crate) struct CrlMemory(Mutex<HashMap<(IssuerId, Option<Shard>), Crl>>);

impl CrlMemory {
    fn get(&self, id: &IssuerId, shard: Option<Shard>) -> Option<Crl> {
        let lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lists.get(&(id.clone(), shard)).cloned()
    }

    fn put(&self, id: &IssuerId, shard: Option<Shard>, crl: Crl) {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lists.insert((id.clone(), shard), crl);
    }

    /// What was remembered before a newer list was stored.
    fn forget(&self, id: &IssuerId) {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lists.retain(|(of, _), _| of != id);
    }
}

/// What is known of the list of an issuer, for administrators.
#[derive(Debug, Clone)]
pub struct CrlOverview {
    /// The issuer.
    pub issuer_id: IssuerId,
    /// Its whole list; none when none was made yet.
    pub cached: Option<CachedCrl>,
    /// Whether a newer one is due.
    pub is_stale: bool,
    /// The latest attempts, newest first, at most five.
    pub recent_events: Vec<GenerationEvent>,
}

impl Services {
    /// The revocation list of an issuer: of everything, or of a part. It is made when there is none that is in date. Anyone may ask.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown issuer or a number of parts that no certificate points at, [`Error::NotSupported`] when
    /// certctl does not sign lists for it.
    pub async fn crl(&self, id: &IssuerId, shard: Option<Shard>) -> Result<Crl, Error> {
        let authority = self.list_authority(id).await?;
        for _ in 0..WAITS {
            let status = self.issuer_status(id).await?;
            if status.version > status.listed_version {
                self.status.bell.notify_one();
            }
            let now = self.now();
            let is_current =
                |crl: &Crl| now < crl.next_update && Some(crl.number) >= status.crl_number;
            if let Some(crl) = self.status.crls.get(id, shard).filter(is_current) {
                return Ok(crl);
            }
            let stored = crls::find(&mut self.read().await?, id, shard).await?;
            if let Some(crl) = stored.map(Crl::from).filter(|crl| now < crl.next_update) {
                self.status.crls.put(id, shard, crl.clone());
                return Ok(crl);
            }
            match self.make_lists(id, &authority, now - OUTDATED).await? {
                Made::Lists(_) => {}
                // It is made elsewhere; what is there then is as good.
                Made::Elsewhere => tokio::time::sleep(WAIT).await,
                Made::NotDue => break,
            }
        }
        match shard {
            Some(shard) => Err(Error::not_found("CRL shard", shard)),
            None => Err(Error::Unavailable(
                "the list is being made elsewhere".into(),
            )),
        }
    }

    /// Makes the lists that are due, and replaces responders that end soon. Returns how many lists were made.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; what is wrong with a single issuer is logged, and the others go on.
    pub async fn generate_crls(&self) -> Result<usize, Error> {
        let mut made = 0;
        // Replicas look at different times; a little earlier than the interval, so that a list is not made by each of them.
        let older_than = self.now() - self.config.status.crl_interval.mul_f64(0.9);
        for id in self.status_issuers().await? {
            let outcome = async {
                let authority = self.list_authority(&id).await?;
                let outcome = self.make_lists(&id, &authority, older_than).await?;
                self.keep_responder(&id, &authority).await?;
                Ok::<_, Error>(outcome)
            };
            match outcome.await {
                Ok(Made::Lists(count)) => made += count,
                Ok(Made::Elsewhere | Made::NotDue) | Err(Error::NotSupported(_)) => {}
                Err(error) => {
                    tracing::error!(issuer.id = %id, error = %certctl_telemetry::ErrorChain(&error),
                    "the revocation list of an issuer could not be made");
                }
            }
        }
        Ok(made)
    }

    /// Waits until a list may be due before its time.
    pub async fn crl_wanted(&self) {
        tokio::select! {
            () = self.status.bell.notified() => tokio::time::sleep(GATHER).await,
            () = self.behind() => {}
        }
    }

    async fn behind(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if matches!(self.lists_are_behind().await, Ok(true)) {
                return;
            }
        }
    }

    /// What is known of the lists of all issuers that certctl signs lists for.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `crl.admin`.
    pub async fn crl_overview(&self, actor: &Actor) -> Result<Vec<CrlOverview>, Error> {
        const EVENTS: i64 = 5;
        authorise(actor, Permission::CrlAdmin)?;
        let ids = self.status_issuers().await?;
        let now = self.now();
        let mut conn = self.read().await?;
        let statuses = crls::statuses(&mut conn).await?;
        let mut overview = Vec::with_capacity(ids.len());
        for id in ids {
            let cached = crls::cached(&mut conn, &id).await?;
            let is_behind = statuses
                .iter()
                .any(|one| one.issuer_id == id && one.version > one.listed_version);
            overview.push(CrlOverview {
                is_stale: is_behind || cached.as_ref().is_none_or(|crl| crl.next_update <= now),
                recent_events: crls::recent_events(&mut conn, &id, EVENTS).await?,
                cached,
                issuer_id: id,
            });
        }
        Ok(overview)
    }

    /// The issuers of the kind whose keys certctl holds.
    async fn status_issuers(&self) -> Result<Vec<IssuerId>, Error> {
        Ok(crls::issuers_of(&mut self.read().await?, IssuerType::GenericCa).await?)
    }
}

impl Services {
    /// The certificate of the CA that signs for an issuer, as DER; no secret.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown issuer, [`Error::NotSupported`] when certctl does not hold its key.
    pub async fn issuer_ca_certificate(&self, id: &IssuerId) -> Result<Vec<u8>, Error> {
        Ok(self.authority(id).await?.certificate.der().to_vec())
    }
}
