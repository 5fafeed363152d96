//! Nonces (RFC 8555 §6.5): made without a trace, remembered when they are used.
//!
//! On SQLite there is one process, so its memory is all there is to ask; its key is its own, and a nonce of the process before it is
//! none. On PostgreSQL the key is the same at all replicas, and what was used stands in a table, where one of two redemptions finds
//! the other.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use certctl_acme::nonce::{NonceMint, RANDOM_BYTES, SealedNonce};
use certctl_domain::{
    acme::{Problem, ProblemType},
    secret::Secret,
    time::Timestamp,
};
use certctl_repository::{installation, transaction};
use ring::{
    hkdf,
    rand::{SecureRandom as _, SystemRandom},
};
use tokio::sync::OnceCell;

use super::{Acme, AcmeConfig, Refusal, metrics};
use crate::{Error, Services};

/// The fact that is the secret of nonces, where the configuration has none.
const SECRET: &str = "acme_nonce_secret";
/// What the key is for.
const PURPOSE: &[u8] = b"certctl acme nonces";
/// How much longer than it may be used a nonce is remembered: the clocks of replicas differ.
const SKEW: Duration = Duration::from_secs(60);

pub(super) struct Nonces {
    is_alone: bool,
    secret: Option<Secret>,
    lifetime: Duration,
    mint: OnceCell<NonceMint>,
    used: Mutex<Used>,
}

type Id = [u8; RANDOM_BYTES];

/// Two generations, so that forgetting costs nothing and memory is bounded by what is used in two lifetimes.
struct Used {
    young: HashSet<Id>,
    old: HashSet<Id>,
    begun: Timestamp,
}

impl Nonces {
    pub(super) fn new(config: &AcmeConfig, is_alone: bool) -> Self {
        Self {
            is_alone,
            secret: config.nonce_secret.clone(),
            lifetime: config.nonce_ttl,
            mint: OnceCell::new(),
            used: Mutex::new(Used {
                young: HashSet::new(),
                old: HashSet::new(),
                begun: Timestamp::UNIX_EPOCH,
            }),
        }
    }

    /// Remembers a nonce as used; false when it was.
    fn remember(&self, id: Id, now: Timestamp) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if now.since(used.begun) >= self.lifetime + SKEW {
            used.old = std::mem::take(&mut used.young);
            used.begun = now;
        }
        !used.old.contains(&id) && used.young.insert(id)
    }
}

impl Acme {
    /// A fresh nonce. Nothing is read or written for it, but for the secret, once in the life of a process that was not given one.
    ///
    /// # Errors
    /// `serverInternal` when the secret cannot be read, or the machine has no randomness.
    pub async fn nonce(&self) -> Result<String, Refusal> {
        let minted = self.mint_nonce().await;
        Ok(minted?)
    }

    /// As [`Acme::nonce`], for a request for nothing but a nonce.
    ///
    /// # Errors
    /// As [`Acme::nonce`]; `rateLimited` never: that is for whoever knows the address.
    pub async fn new_nonce(&self) -> Result<String, Refusal> {
        let minted = self.nonce().await;
        metrics::count(metrics::NEW_NONCE, &minted);
        minted
    }

    async fn mint_nonce(&self) -> Result<String, Error> {
        let mint = self.mint().await?;
        let mut random = [0; RANDOM_BYTES];
        fill(&mut random)?;
        Ok(mint.mint(self.services.now(), random))
    }

    async fn mint(&self) -> Result<&NonceMint, Error> {
        let nonces = &self.state.nonces;
        nonces
            .mint
            .get_or_try_init(|| async {
                let key = key(&self.services, nonces).await?;
                Ok(NonceMint::new(&key, nonces.lifetime))
            })
            .await
    }

    /// Opens a nonce and remembers it as used by this process.
    ///
    /// # Errors
    /// `badNonce`.
    pub(super) async fn redeem_here(&self, text: &str) -> Result<SealedNonce, Refusal> {
        let now = self.services.now();
        let mint = self.mint().await?;
        let nonce = mint.open(text, now).map_err(|_| bad_nonce())?;
        if self.state.nonces.remember(nonce.id, now) {
            Ok(nonce)
        } else {
            Err(bad_nonce())
        }
    }
}

/// RFC 8555 §6.5: whatever is wrong with a nonce, the client is to try again with the one that comes with this.
pub(super) fn bad_nonce() -> Refusal {
    Problem::new(
        ProblemType::BadNonce,
        "the nonce is unknown, too old or used; try again with the one of this answer",
    )
    .into()
}

fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| Error::internal("the machine has no randomness"))
}

async fn key(services: &Services, nonces: &Nonces) -> Result<[u8; 32], Error> {
    let mut key = [0; 32];
    if nonces.is_alone {
        fill(&mut key)?;
        return Ok(key);
    }
    let secret = match &nonces.secret {
        Some(secret) => secret.clone(),
        None => kept_secret(services).await?,
    };
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"certctl");
    salt.extract(secret.expose().as_bytes())
        .expand(&[PURPOSE], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key))
        .map_err(|_| Error::internal("a key of 32 octets is not too long to derive"))?;
    Ok(key)
}

/// The secret that is kept for all replicas; made by the first that asks. It guards that requests are fresh and nothing else, so it
/// lies beside what it guards.
async fn kept_secret(services: &Services) -> Result<Secret, Error> {
    let mut fresh = [0; 32];
    fill(&mut fresh)?;
    let (fresh, now) = (hex::encode(fresh), services.now());
    transaction!(services.db, "keep ACME nonce secret", conn => {
        installation::claim(conn, SECRET, &fresh, now).await?;
        let kept = installation::get(conn, SECRET).await?;
        let kept = kept.ok_or_else(|| Error::internal("a fact that was just entered is gone"))?;
        Ok::<_, Error>(Secret::new(kept))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_remembered_for_as_long_as_it_may_be_used() {
        let nonces = Nonces::new(&AcmeConfig::default(), true);
        let start = Timestamp::from_seconds(1_700_000_000);
        let id = |n: u8| [n; RANDOM_BYTES];
        assert!(nonces.remember(id(1), start));
        assert!(!nonces.remember(id(1), start));
        let life = AcmeConfig::default().nonce_ttl;
        for (minutes, other) in [(1, 2), (3, 3), (5, 4)] {
            let later = start + Duration::from_secs(60) * minutes;
            assert!(!nonces.remember(id(1), later), "{minutes}");
            assert!(nonces.remember(id(other), later));
        }
        let late = start + (life + SKEW) * 2;
        assert!(nonces.remember(id(9), late));
        assert!(nonces.remember(id(9 + 1), late + (life + SKEW)));
        let kept = nonces.used.lock().unwrap();
        assert!(
            kept.young.len() + kept.old.len() <= 3,
            "old ones are forgotten"
        );
    }
}
