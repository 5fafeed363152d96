//! The sealer: puts committed rows in order and closes them into signed batches (design §4).

use std::sync::PoisonError;

use certctl_domain::{access::Actor, audit::AuditEvent, secret::Secret, time::Timestamp};
use certctl_pki::trail::{Anchor, Hash, Head, SignedHead, TrailKey, leaf_of, merkle};
use certctl_repository::{
    Conn,
    audit_keys::{self, Mark},
    audit_seals::{self, AuditBatch},
    leases, transaction,
};
use certctl_telemetry::{ErrorChain, metrics_names as names};

use crate::{Error, Services, services::authorise};

/// Rows in one batch at the most: what a verification, an export and a proof hold in memory at a time.
pub(super) const MAX_BATCH: i64 = 8192;
/// The lease of the sealer.
const LOOP: &str = "auditSealer";
/// The mark that holds the newest head beside the batches.
pub(super) const NEWEST: &str = "newest";
/// The entry of the vault that holds the newest head outside of the database.
pub(super) const VAULT_HEAD: &str = "audit-newest-head.json";
/// How often the newest head is written to the log, in seconds.
const TELL_EVERY: u64 = 3600;

/// What one pass sealed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SealPass {
    /// Batches; each was one commit.
    pub batches: u32,
    /// Rows in them.
    pub rows: u64,
}

impl Services {
    /// Seals what is committed and waits, a batch a commit; nothing is written when nothing waits or another replica leads.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; what waits is sealed by the next pass.
    pub async fn seal_audit_log(&self) -> Result<SealPass, Error> {
        let mut pass = SealPass::default();
        while self.may_seal().await? {
            let key = self.trail_key().await?;
            let Some(head) = self.seal_batch(&key).await? else {
                break;
            };
            pass.batches += 1;
            pass.rows += head.head.row_count.unsigned_abs();
            self.note_head(&head).await?;
            if head.head.row_count < MAX_BATCH {
                break;
            }
        }
        Ok(pass)
    }

    /// Gives the sealing up, so that another replica goes on at once.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; the lease then runs out.
    pub async fn stop_sealing(&self) -> Result<(), Error> {
        let holder = self.config.instance.clone();
        let now = self.now();
        transaction!(self.db, "stop sealing", conn => {
            leases::release(conn, LOOP, &holder, now).await?;
            Ok::<_, Error>(())
        })
    }

    /// A look that costs no commit.
    async fn may_seal(&self) -> Result<bool, Error> {
        let mut conn = self.read().await?;
        Ok(audit_seals::has_unsealed(&mut conn).await?
            && !leases::is_held_by_other(&mut conn, LOOP, &self.config.instance, self.now())
                .await?)
    }

    /// Closes one batch. The row of the lease is locked from its renewal to the commit, so the epoch that was checked is the one
    /// that commits, and two replicas cannot seal at a time however their clocks go.
    async fn seal_batch(
        &self,
        key: &std::sync::Arc<TrailKey>,
    ) -> Result<Option<SignedHead>, Error> {
        let (now, ttl) = (self.now(), self.config.audit.lease_ttl);
        transaction!(self.db, "seal audit batch", conn => {
            if leases::acquire(conn, LOOP, &self.config.instance, ttl, now).await?.is_none() {
                return Ok(None);
            }
            let found = audit_seals::unsealed(conn, MAX_BATCH).await?;
            for id in &found.unreadable {
                tracing::error!(%id, "an audit row holds what certctl never writes; it is not sealed");
            }
            if found.events.is_empty() {
                return Ok(None);
            }
            let previous = audit_seals::newest(conn).await?;
            let (events, leaves) = hashed(found.events).await?;
            let head = next_head(previous.as_ref(), &leaves, key, now)?;
            audit_seals::seal(conn, &batch_of(&head), &events, &leaves).await?;
            set_newest(conn, &head, key, now).await?;
            Ok::<_, Error>(Some(head))
        })
    }

    /// Remembers a head where no database can take it away: in memory and in the vault. One that does not continue what is
    /// remembered is an alarm, and what is remembered stays, as the evidence.
    pub(super) async fn note_head(&self, signed: &SignedHead) -> Result<(), Error> {
        let anchor = Anchor::of(&signed.head);
        let known = self.known_head().await?;
        let continues = match known {
            None => true,
            Some(known) if known.batch + 1 == anchor.batch => signed.head.previous == known.hash,
            Some(known) if known.batch < anchor.batch => {
                let found = audit_seals::find(&mut self.read().await?, known.batch).await;
                found.is_ok_and(|batch| {
                    signed_head(&batch).is_some_and(|head| head.head.hash() == known.hash)
                })
            }
            Some(known) => known == anchor,
        };
        if !continues {
            metrics::counter!(names::AUDIT_CHAIN_BREAK_DETECTED_TOTAL.name).increment(1);
            tracing::error!(
                batch = anchor.batch,
                known_batch = known.map_or(0, |known| known.batch),
                "the audit trail does not continue from the newest head that was known; rows were cut off"
            );
            return Ok(());
        }
        *self
            .audit
            .newest
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(anchor);
        let text = Secret::new(signed.to_json().to_string());
        if let Err(error) = self.vault.replace(VAULT_HEAD, text).await {
            tracing::warn!(error = %ErrorChain(&error), "the newest head of the audit trail could not be kept outside of the database");
        }
        self.tell(&anchor);
        Ok(())
    }

    /// The newest head this machine knows of.
    pub(super) async fn known_head(&self) -> Result<Option<Anchor>, Error> {
        let remembered = *self
            .audit
            .newest
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if remembered.is_some() {
            return Ok(remembered);
        }
        let kept = self.vault.read(VAULT_HEAD).await.map_err(Error::internal)?;
        Ok(kept
            .and_then(|text| serde_json::from_str(text.expose()).ok())
            .and_then(|value| SignedHead::from_json(&value))
            .map(|signed| Anchor::of(&signed.head)))
    }

    /// The log is another place that no writer of the database reaches.
    fn tell(&self, anchor: &Anchor) {
        let mut told = self
            .audit
            .told_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        if told.is_none_or(|at| now.since(at).as_secs() >= TELL_EVERY) {
            *told = Some(now);
            tracing::info!(
                batch = anchor.batch,
                rows = anchor.end_seq,
                hash = hex::encode(anchor.hash),
                "newest head of the audit trail"
            );
        }
    }

    /// Lists the heads of batches, newest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `audit.read`.
    pub async fn list_audit_heads(
        &self,
        actor: &Actor,
        page: certctl_domain::page::PageRequest,
    ) -> Result<certctl_domain::page::Page<SignedHead>, Error> {
        authorise(actor, certctl_domain::access::Permission::AuditRead)?;
        let found = audit_seals::list(&mut self.read().await?, page).await?;
        let rows = found.rows.iter().map(|batch| {
            signed_head(batch)
                .ok_or_else(|| Error::internal("a head of the audit trail cannot be read"))
        });
        Ok(certctl_domain::page::Page {
            rows: rows.collect::<Result<_, _>>()?,
            total: found.total,
        })
    }
}

/// Hashing thousands of rows is no work for a thread that others wait for.
async fn hashed(events: Vec<AuditEvent>) -> Result<(Vec<AuditEvent>, Vec<Hash>), Error> {
    tokio::task::spawn_blocking(move || {
        // A batch stands in the order of time and id, which lets a verification say which rows were moved.
        let mut events = events;
        events.sort_by(|a, b| (a.timestamp, a.id.as_str()).cmp(&(b.timestamp, b.id.as_str())));
        let leaves = events.iter().map(leaf_of).collect();
        (events, leaves)
    })
    .await
    .map_err(Error::internal)
}

fn next_head(
    previous: Option<&AuditBatch>,
    leaves: &[Hash],
    key: &TrailKey,
    now: Timestamp,
) -> Result<SignedHead, Error> {
    let at = match previous {
        None => Anchor::START,
        Some(batch) => {
            let head = signed_head(batch).ok_or_else(|| {
                Error::internal("the newest head of the audit trail cannot be read")
            })?;
            Anchor::of(&head.head)
        }
    };
    let head = Head {
        batch: at.batch + 1,
        first_seq: at.end_seq,
        row_count: i64::try_from(leaves.len()).unwrap_or(i64::MAX),
        root: merkle::root(leaves),
        previous: at.hash,
        // Never before the one before, whatever clock is set back: exports go by it.
        sealed_at: previous.map_or(now, |batch| now.max(batch.sealed_at)),
        key_id: key.id().to_owned(),
    };
    Ok(key.sign_head(head)?)
}

async fn set_newest(
    conn: &mut Conn,
    signed: &SignedHead,
    key: &TrailKey,
    now: Timestamp,
) -> Result<(), Error> {
    let document = signed.to_json().to_string();
    let signature = key.sign(document.as_bytes())?;
    let mark = Mark {
        document,
        signature,
    };
    Ok(audit_keys::set_mark(conn, NEWEST, &mark, now).await?)
}

fn batch_of(signed: &SignedHead) -> AuditBatch {
    let head = &signed.head;
    AuditBatch {
        batch: head.batch,
        first_seq: head.first_seq,
        row_count: head.row_count,
        root: head.root.to_vec(),
        previous: head.previous.to_vec(),
        sealed_at: head.sealed_at,
        key_id: head.key_id.clone(),
        signature: signed.signature.clone(),
    }
}

/// A head as it was stored; nothing when a hash of it is none.
pub(super) fn signed_head(batch: &AuditBatch) -> Option<SignedHead> {
    Some(SignedHead {
        head: Head {
            batch: batch.batch,
            first_seq: batch.first_seq,
            row_count: batch.row_count,
            root: batch.root.as_slice().try_into().ok()?,
            previous: batch.previous.as_slice().try_into().ok()?,
            sealed_at: batch.sealed_at,
            key_id: batch.key_id.clone(),
        },
        signature: batch.signature.clone(),
    })
}
