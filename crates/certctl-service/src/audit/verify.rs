//! Verifying the trail: page by page, from the last place that was verified or from the start.

use std::time::Duration;

use certctl_domain::{
    access::{Actor, Permission},
    time::Timestamp,
};
use certctl_pki::trail::{
    Anchor, Break, Content, Hash, Keys, Problem, SealedRow, SignedHead, Verifier, hash_from_hex,
    orphan,
};
use certctl_repository::{
    audit_keys::{self, Mark},
    audit_seals::{self, AuditBatch, Positioned, Stray},
    leases, transaction,
};
use certctl_telemetry::metrics_names as names;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::seal::{MAX_BATCH, NEWEST, signed_head};
use crate::{Error, Services, services::authorise};

/// The mark that holds how far the trail was verified.
const CHECKPOINT: &str = "verified";
/// Heads read at a time.
const HEADS: i64 = 256;
/// How often everything is verified again, not only what is new.
const FULL_EVERY: Duration = Duration::from_secs(24 * 3600);
/// How far before the last verification a row may date that came in past the sealing, to be found before the next full pass.
const LOOK_BACK: Duration = Duration::from_secs(2 * 3600);
/// The lease of the loop: as long as a run may take.
const LEASE: Duration = Duration::from_secs(360);
const LOOP: &str = "auditChainVerify";
/// Before any row.
const ALL: Timestamp = Timestamp::from_micros(-62_135_596_800_000_000);

/// Where a verification begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyFrom {
    /// At the very first row.
    Start,
    /// Where the last verification ended.
    Checkpoint,
}

/// What a verification found.
#[derive(Debug, Clone)]
pub struct AuditVerification {
    /// The first bad row; nothing when the trail is intact.
    pub first_break: Option<Break>,
    /// Rows that were checked.
    pub row_count: u64,
    /// The position the check began at.
    pub from_seq: i64,
    /// Up to where the trail is as it was sealed.
    pub verified: Anchor,
    /// Rows that wait to be sealed and were not checked.
    pub unsealed: i64,
    /// Whether it reached the end; not when it was told to stop.
    pub complete: bool,
    /// When it was made.
    pub verified_at: Timestamp,
}

/// How far the trail was verified, as it is signed and stored.
#[derive(Debug, Clone, Copy)]
struct Checkpoint {
    anchor: Anchor,
    at: Timestamp,
    full_at: Timestamp,
}

impl Services {
    /// Verifies the trail and changes nothing.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `audit.read`; [`Error::Conflict`] while another verification is under way here.
    pub async fn verify_audit_log(
        &self,
        actor: &Actor,
        from: VerifyFrom,
        expect_head: Option<Hash>,
    ) -> Result<AuditVerification, Error> {
        authorise(actor, Permission::AuditRead)?;
        let _one = self.audit.verifying.try_acquire().map_err(|_| {
            Error::Conflict("a verification of the audit trail is under way; try again".to_owned())
        })?;
        let (found, _) = self
            .walk(from, expect_head, &CancellationToken::new())
            .await?;
        Ok(found)
    }

    /// The loop: verifies what is new, everything once a day, and notes how far it got. Nothing when another replica does.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn verify_audit_chain(
        &self,
        stop: &CancellationToken,
    ) -> Result<Option<AuditVerification>, Error> {
        let Ok(_one) = self.audit.verifying.try_acquire() else {
            return Ok(None);
        };
        let (holder, now) = (&self.config.instance, self.now());
        if leases::is_held_by_other(&mut self.read().await?, LOOP, holder, now).await? {
            return Ok(None);
        }
        let led = transaction!(self.db, "lead audit verification", conn => {
            Ok::<_, Error>(leases::acquire(conn, LOOP, holder, LEASE, now).await?)
        })?;
        if led.is_none() {
            return Ok(None);
        }
        let keys = self.trusted_keys().await?;
        let full_due = self
            .checkpoint(&keys)
            .await?
            .is_none_or(|checkpoint| now.since(checkpoint.full_at) >= FULL_EVERY);
        let from = if full_due {
            VerifyFrom::Start
        } else {
            VerifyFrom::Checkpoint
        };
        let (found, before) = self.walk(from, None, stop).await?;
        self.show(&found);
        if found.first_break.is_none() && found.verified != Anchor::START {
            self.keep_checkpoint(&found, before, from).await?;
        }
        Ok(Some(found))
    }

    fn show(&self, found: &AuditVerification) {
        if let Some(broken) = &found.first_break {
            metrics::counter!(names::AUDIT_CHAIN_BREAK_DETECTED_TOTAL.name).increment(1);
            tracing::error!(
                first_break_id = %broken.id,
                first_break_pos = broken.position,
                problem = %broken.problem,
                "the audit trail was altered"
            );
        }
        if found.complete {
            metrics::counter!(names::AUDIT_CHAIN_VERIFY_TOTAL.name).increment(1);
            #[expect(clippy::cast_precision_loss, reason = "a gauge holds doubles")]
            metrics::gauge!(names::AUDIT_CHAIN_ROWS.name).set(found.verified.end_seq as f64);
            #[expect(clippy::cast_precision_loss, reason = "a gauge holds doubles")]
            metrics::gauge!(names::AUDIT_CHAIN_LAST_VERIFIED_AT.name)
                .set(found.verified_at.as_seconds() as f64);
        }
    }

    async fn walk(
        &self,
        from: VerifyFrom,
        expect_head: Option<Hash>,
        stop: &CancellationToken,
    ) -> Result<(AuditVerification, Option<Checkpoint>), Error> {
        let keys = self.trusted_keys().await?;
        let now = self.now();
        // What is known is read before the end of the trail is, so that no batch can be known that the walk does not see.
        let mut known: Vec<Anchor> = self.known_head().await?.into_iter().collect();
        known.extend(self.newest_mark(&keys).await?);
        let checkpoint = self.checkpoint(&keys).await?;
        known.extend(checkpoint.map(|checkpoint| checkpoint.anchor));
        let start = match (from, checkpoint) {
            (VerifyFrom::Checkpoint, Some(checkpoint)) => checkpoint,
            _ => Checkpoint {
                anchor: Anchor::START,
                at: ALL,
                full_at: now,
            },
        };
        let mut walk = Walk {
            verifier: Verifier::after(keys, start.anchor),
            expect: expect_head,
            seen: expect_head.is_none(),
            broken: None,
        };
        let complete = self.walk_batches(&mut walk, stop).await?;
        if complete && walk.broken.is_none() {
            walk.broken = self.check_known(&mut walk, &known, start.anchor).await?;
        }
        if complete && walk.broken.is_none() {
            let since = if start.at == ALL {
                ALL
            } else {
                start.at - LOOK_BACK
            };
            walk.broken = self.check_strays(walk.verifier.reached(), since).await?;
        }
        let found = AuditVerification {
            first_break: walk.broken,
            row_count: walk.verifier.rows(),
            from_seq: start.anchor.end_seq,
            verified: walk.verifier.reached(),
            unsealed: audit_seals::waiting(&mut self.read().await?).await?,
            complete,
            verified_at: now,
        };
        Ok((found, checkpoint))
    }

    /// Walks to the end there was when it began; false when it was told to stop.
    async fn walk_batches(&self, walk: &mut Walk, stop: &CancellationToken) -> Result<bool, Error> {
        let end = audit_seals::newest(&mut self.read().await?)
            .await?
            .map_or(0, |batch| batch.batch);
        loop {
            let reached = walk.verifier.reached().batch;
            if reached >= end || walk.broken.is_some() {
                return Ok(true);
            }
            if stop.is_cancelled() {
                return Ok(false);
            }
            let mut conn = self.read().await?;
            let mut heads = audit_seals::after(&mut conn, reached, HEADS).await?;
            heads.retain(|head| head.batch <= end);
            let skipped = heads.first().is_none_or(|head| head.batch != reached + 1);
            let Some(page) = fitting(heads, walk.verifier.reached()) else {
                let position = walk.verifier.reached().end_seq;
                let here = audit_seals::rows(&mut conn, position, position + 1).await?;
                let mut broken = bad_head(walk.verifier.reached());
                if let Some(row) = here.into_iter().next() {
                    broken.id = row.event_id;
                }
                if skipped {
                    broken.problem = Problem::BatchMissing;
                }
                walk.broken = Some(broken);
                return Ok(true);
            };
            let first = page.first().map_or(0, |head| head.first_seq);
            let last = page
                .last()
                .map_or(0, |head| head.first_seq + head.row_count);
            let rows = audit_seals::rows(&mut conn, first, last).await?;
            drop(conn);
            walk.check(page, rows).await?;
        }
    }

    /// Every head that is known must be in the trail, at its place.
    async fn check_known(
        &self,
        walk: &mut Walk,
        known: &[Anchor],
        start: Anchor,
    ) -> Result<Option<Break>, Error> {
        let reached = walk.verifier.reached();
        for anchor in known {
            if anchor.batch >= reached.batch {
                if let Err(broken) = walk.verifier.must_reach(*anchor) {
                    return Ok(Some(broken));
                }
                continue;
            }
            let batch = audit_seals::find(&mut self.read().await?, anchor.batch).await;
            let hash = batch
                .as_ref()
                .ok()
                .and_then(signed_head)
                .map(|signed| signed.head.hash());
            if hash != Some(anchor.hash) {
                let position = batch.map_or(start.end_seq, |batch| batch.first_seq);
                return Ok(Some(Break {
                    id: format!("position-{position}"),
                    position,
                    problem: Problem::OtherHistory,
                }));
            }
        }
        // A head that is expected may lie before the place the walk began at.
        if !walk.seen && start.batch > 0 && walk.expect == Some(start.hash) {
            walk.seen = true;
        }
        Ok((!walk.seen).then(|| Break {
            id: format!("position-{}", reached.end_seq),
            position: reached.end_seq,
            problem: Problem::Truncated,
        }))
    }

    async fn check_strays(
        &self,
        reached: Anchor,
        since: Timestamp,
    ) -> Result<Option<Break>, Error> {
        let stray = audit_seals::stray(&mut self.read().await?, since).await?;
        Ok(stray.map(|stray| match stray {
            Stray::Position(position, id) => Break {
                id,
                position,
                problem: Problem::Inserted,
            },
            Stray::Row(id) => orphan(&id, reached.end_seq),
            Stray::Gone(id) => Break {
                id,
                position: reached.end_seq,
                problem: Problem::Deleted,
            },
        }))
    }

    /// The newest head as the database has it beside the batches.
    async fn newest_mark(&self, keys: &Keys) -> Result<Option<Anchor>, Error> {
        let Some(mark) = audit_keys::mark(&mut self.read().await?, NEWEST).await? else {
            return Ok(None);
        };
        Ok(believed(&mark, keys)
            .and_then(|value| SignedHead::from_json(&value))
            .map(|signed| Anchor::of(&signed.head)))
    }

    /// How far the trail was verified; nothing when that was never signed by a key of ours.
    async fn checkpoint(&self, keys: &Keys) -> Result<Option<Checkpoint>, Error> {
        let Some(mark) = audit_keys::mark(&mut self.read().await?, CHECKPOINT).await? else {
            return Ok(None);
        };
        let read = |value: &Value| {
            Some(Checkpoint {
                anchor: Anchor {
                    batch: value["batch"].as_i64()?,
                    hash: hash_from_hex(value["hash"].as_str()?)?,
                    end_seq: value["end_seq"].as_i64()?,
                },
                at: value["verified_at"].as_str()?.parse().ok()?,
                full_at: value["full_at"].as_str()?.parse().ok()?,
            })
        };
        Ok(believed(&mark, keys).and_then(|value| read(&value)))
    }

    async fn keep_checkpoint(
        &self,
        found: &AuditVerification,
        before: Option<Checkpoint>,
        from: VerifyFrom,
    ) -> Result<(), Error> {
        let full_at = match (from, before) {
            (VerifyFrom::Checkpoint, Some(before)) => before.full_at,
            // A full pass that was told to stop is made again.
            _ if !found.complete => Timestamp::UNIX_EPOCH,
            _ => found.verified_at,
        };
        let key = self.trail_key().await?;
        let document = json!({
            "batch": found.verified.batch,
            "hash": hex::encode(found.verified.hash),
            "end_seq": found.verified.end_seq,
            "verified_at": found.verified_at.to_string(),
            "full_at": full_at.to_string(),
            "key_id": key.id(),
        })
        .to_string();
        let mark = Mark {
            signature: key.sign(document.as_bytes())?,
            document,
        };
        transaction!(self.db, "note audit verification", conn => {
            audit_keys::set_mark(conn, CHECKPOINT, &mark, found.verified_at).await?;
            Ok::<_, Error>(())
        })
    }
}

/// A verification under way.
struct Walk {
    verifier: Verifier,
    expect: Option<Hash>,
    seen: bool,
    broken: Option<Break>,
}

impl Walk {
    /// Checks batches against their rows, off the threads that others wait for.
    async fn check(&mut self, page: Vec<AuditBatch>, rows: Vec<Positioned>) -> Result<(), Error> {
        let keys = Keys::default();
        let mut verifier =
            std::mem::replace(&mut self.verifier, Verifier::after(keys, Anchor::START));
        let expect = self.expect;
        let checked = tokio::task::spawn_blocking(move || {
            let mut rows: Vec<SealedRow> = rows.into_iter().map(row).collect();
            let (mut broken, mut seen) = (None, false);
            for batch in &page {
                let end = batch.first_seq + batch.row_count;
                let rest = rows.split_off(rows.partition_point(|row| row.seq < end));
                let own = std::mem::replace(&mut rows, rest);
                let outcome = match signed_head(batch) {
                    Some(head) => {
                        seen |= expect == Some(head.head.hash());
                        verifier.check(&head, &own)
                    }
                    None => Err(bad_head(verifier.reached())),
                };
                if let Err(found) = outcome {
                    broken = Some(found);
                    break;
                }
            }
            (verifier, broken, seen)
        });
        let (verifier, broken, seen) = checked.await.map_err(Error::internal)?;
        self.verifier = verifier;
        self.broken = broken;
        self.seen |= seen;
        Ok(())
    }
}

/// As many of these batches as may be held in memory. Nothing when the next one says it is greater than any that is sealed, or
/// is not where it must be: what a forged head asks for is not read.
fn fitting(heads: Vec<AuditBatch>, reached: Anchor) -> Option<Vec<AuditBatch>> {
    let mut rows = 0_i64;
    let mut page = Vec::new();
    let mut next = reached.end_seq;
    for head in heads {
        let sound = (1..=MAX_BATCH).contains(&head.row_count) && head.first_seq == next;
        rows += head.row_count.min(MAX_BATCH);
        if !sound || (rows > MAX_BATCH && !page.is_empty()) {
            break;
        }
        next += head.row_count;
        page.push(head);
    }
    (!page.is_empty()).then_some(page)
}

/// The head after this place is none that was ever sealed.
fn bad_head(reached: Anchor) -> Break {
    Break {
        id: format!("position-{}", reached.end_seq),
        position: reached.end_seq,
        problem: Problem::Unchained,
    }
}

/// What a mark says, when a trusted key signed it.
fn believed(mark: &Mark, keys: &Keys) -> Option<Value> {
    let value: Value = serde_json::from_str(&mark.document).ok()?;
    let key_id = value["key_id"].as_str()?;
    keys.verifies(key_id, mark.document.as_bytes(), &mark.signature)
        .then_some(value)
}

pub(super) fn row(found: Positioned) -> SealedRow {
    SealedRow {
        seq: found.seq,
        // A leaf that is none fits no row.
        leaf: found.leaf.as_slice().try_into().unwrap_or_default(),
        content: match found.event {
            Some(Ok(event)) => Content::Event(Box::new(event)),
            Some(Err(_)) => Content::Unreadable,
            None => Content::Missing,
        },
        id: found.event_id,
    }
}
