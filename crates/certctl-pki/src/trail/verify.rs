//! Checking a trail batch by batch, in bounded memory, and naming the first row that is not as it was sealed.

use std::{collections::HashMap, fmt};

use certctl_domain::{audit::AuditEvent, time::Timestamp};

use super::{GENESIS, Hash, SignedHead, key_id, leaf_of, merkle};
use crate::{
    Error,
    key::{PublicKey, SignatureAlgorithm},
    pem,
};

/// The keys that heads may be signed with, by their ids.
#[derive(Debug, Clone, Default)]
pub struct Keys(HashMap<String, PublicKey>);

impl Keys {
    /// Adds a key.
    pub fn add(&mut self, key: PublicKey) {
        self.0.insert(key_id(&key), key);
    }

    /// Adds every `PUBLIC KEY` of a PEM text; how many there were.
    ///
    /// # Errors
    /// [`Error::NotPem`] when there is none, [`Error::Malformed`], [`Error::UnsupportedKey`].
    pub fn add_pem(&mut self, text: &str) -> Result<usize, Error> {
        let mut count = 0;
        for block in pem::decode_all(text)? {
            if block.label == "PUBLIC KEY" {
                self.add(PublicKey::from_spki_der(&block.der)?);
                count += 1;
            }
        }
        if count == 0 {
            return Err(Error::NotPem {
                expected: "PUBLIC KEY",
            });
        }
        Ok(count)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a message was signed by the key of this id.
    #[must_use]
    pub fn verifies(&self, key_id: &str, message: &[u8], signature: &[u8]) -> bool {
        self.0.get(key_id).is_some_and(|key| {
            key.verify(SignatureAlgorithm::Ed25519, message, signature)
                .is_ok()
        })
    }
}

/// A row as it is found at its position.
#[derive(Debug, Clone)]
pub struct SealedRow {
    /// Its position.
    pub seq: i64,
    /// The id that the position names; empty when it is not known.
    pub id: String,
    /// The leaf that was stored when it was sealed.
    pub leaf: Hash,
    /// The row itself.
    pub content: Content,
}

/// What is there of a row.
#[derive(Debug, Clone)]
pub enum Content {
    /// The row.
    Event(Box<AuditEvent>),
    /// A row that holds what certctl never writes.
    Unreadable,
    /// Nothing: it was removed.
    Missing,
    /// It is there and was not handed over; only its leaf is checked.
    Withheld,
}

/// What is wrong with the first bad row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// It is not what was sealed.
    Edited,
    /// It is gone.
    Deleted,
    /// It was never sealed and is not waiting to be, or stands where nothing was sealed.
    Inserted,
    /// Rows of the batch stand in another order.
    Reordered,
    /// The batch does not have the root that was signed, and which of its rows is to blame cannot be told.
    Root,
    /// Batches are missing before this row.
    BatchMissing,
    /// The head of the batch does not continue the one before.
    Unchained,
    /// The head of the batch is not signed by a known key.
    Signature,
    /// The trail ends before a head that is known to have been signed.
    Truncated,
    /// The head that is expected has another hash.
    OtherHistory,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Edited => "the row is not what was sealed",
            Self::Deleted => "the row was deleted",
            Self::Inserted => "the row was inserted past the sealing",
            Self::Reordered => "the rows of the batch were reordered",
            Self::Root => "the batch that begins here does not have the root that was signed",
            Self::BatchMissing => "batches are missing before this row",
            Self::Unchained => "the head of the batch does not continue the one before",
            Self::Signature => "the head of the batch is not signed by a known key",
            Self::Truncated => "the trail ends before a head that is known to have been signed",
            Self::OtherHistory => "the trail has another head than the one that is known",
        })
    }
}

/// The first bad row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// Its id, or `position-<n>` when nothing is left of it.
    pub id: String,
    /// Its position from 0; for a row that was never sealed, the position after the last.
    pub position: i64,
    /// What is wrong.
    pub problem: Problem,
}

impl Break {
    fn at(position: i64, id: Option<&str>, problem: Problem) -> Self {
        Self {
            id: match id {
                Some(id) if !id.is_empty() => id.to_owned(),
                _ => format!("position-{position}"),
            },
            position,
            problem,
        }
    }
}

/// A row that is in the database and was neither sealed nor is waiting for it.
#[must_use]
pub fn orphan(id: &str, position: i64) -> Break {
    Break::at(position, Some(id), Problem::Inserted)
}

/// A place in the trail up to which it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The last batch.
    pub batch: i64,
    /// The hash of its head.
    pub hash: Hash,
    /// The position after its last row.
    pub end_seq: i64,
}

impl Anchor {
    /// Before everything.
    pub const START: Self = Self {
        batch: 0,
        hash: GENESIS,
        end_seq: 0,
    };

    /// Up to a head.
    #[must_use]
    pub fn of(head: &super::Head) -> Self {
        Self {
            batch: head.batch,
            hash: head.hash(),
            end_seq: head.end_seq(),
        }
    }
}

/// Checks batches one after another.
#[derive(Debug)]
pub struct Verifier {
    keys: Keys,
    reached: Anchor,
    rows: u64,
}

impl Verifier {
    /// Goes on from a place that is known.
    #[must_use]
    pub const fn after(keys: Keys, anchor: Anchor) -> Self {
        Self {
            keys,
            reached: anchor,
            rows: 0,
        }
    }

    /// How far it got.
    #[must_use]
    pub const fn reached(&self) -> Anchor {
        self.reached
    }

    /// Rows that were checked.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Checks the next batch; `rows` are those found at its positions, in the order of these.
    ///
    /// # Errors
    /// The first [`Break`] in it.
    pub fn check(&mut self, signed: &SignedHead, rows: &[SealedRow]) -> Result<(), Break> {
        let head = &signed.head;
        let first = rows.first().map(|row| row.id.as_str());
        let at_start = |problem| Break::at(self.reached.end_seq, first, problem);
        let next = self.reached.batch + 1;
        if head.batch != next || head.first_seq != self.reached.end_seq {
            return Err(at_start(if head.batch > next {
                Problem::BatchMissing
            } else {
                Problem::Unchained
            }));
        }
        let message = head.message();
        if !self
            .keys
            .verifies(&head.key_id, message.as_bytes(), &signed.signature)
        {
            return Err(at_start(Problem::Signature));
        }
        if head.previous != self.reached.hash {
            return Err(at_start(Problem::Unchained));
        }
        check_rows(head, rows)?;
        self.rows += rows.len() as u64;
        self.reached = Anchor::of(head);
        Ok(())
    }

    /// Whether a head that is known to have been signed is in the trail that was checked. Call it when all was checked.
    ///
    /// # Errors
    /// [`Problem::Truncated`] or [`Problem::OtherHistory`], at the first row that is not there.
    pub fn must_reach(&self, known: Anchor) -> Result<(), Break> {
        if known.batch > self.reached.batch {
            return Err(Break::at(self.reached.end_seq, None, Problem::Truncated));
        }
        if known.batch == self.reached.batch && known.hash != self.reached.hash {
            return Err(Break::at(
                self.reached.end_seq - 1,
                None,
                Problem::OtherHistory,
            ));
        }
        Ok(())
    }
}

/// The rows of one batch against its signed head.
fn check_rows(head: &super::Head, rows: &[SealedRow]) -> Result<(), Break> {
    let (sound, gap) = check_positions(head, rows);
    // A row before the gap may be bad as well, and then it is the first.
    check_contents(&rows[..sound])?;
    if let Some(gap) = gap {
        return Err(gap);
    }
    let leaves: Vec<Hash> = rows.iter().map(|row| row.leaf).collect();
    if merkle::root(&leaves) == head.root {
        return Ok(());
    }
    Err(reordered(rows, &leaves, &head.root).unwrap_or_else(|| {
        Break::at(
            head.first_seq,
            rows.first().map(|row| row.id.as_str()),
            Problem::Root,
        )
    }))
}

/// How many rows stand where they must, and what comes then.
fn check_positions(head: &super::Head, rows: &[SealedRow]) -> (usize, Option<Break>) {
    for (at, (position, row)) in (head.first_seq..).zip(rows).enumerate() {
        if position >= head.end_seq() {
            let extra = Break::at(position, Some(&row.id), Problem::Inserted);
            return (at, Some(extra));
        }
        if row.seq != position {
            return (at, Some(Break::at(position, None, Problem::Deleted)));
        }
    }
    let found = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let position = head.first_seq.saturating_add(found);
    let missing = (found < head.row_count).then(|| Break::at(position, None, Problem::Deleted));
    (rows.len(), missing)
}

/// Each row against the leaf that was stored with it.
fn check_contents(rows: &[SealedRow]) -> Result<(), Break> {
    let computed: Vec<Option<Hash>> = rows
        .iter()
        .map(|row| match &row.content {
            Content::Event(event) => Some(leaf_of(event)),
            Content::Withheld => Some(row.leaf),
            Content::Unreadable | Content::Missing => None,
        })
        .collect();
    let bad = rows
        .iter()
        .zip(&computed)
        .find(|(row, leaf)| **leaf != Some(row.leaf));
    let Some((row, _)) = bad else { return Ok(()) };
    let problem = if matches!(row.content, Content::Missing) {
        Problem::Deleted
    } else if is_permutation(rows, &computed) {
        Problem::Reordered
    } else {
        Problem::Edited
    };
    Err(Break::at(row.seq, Some(&row.id), problem))
}

/// Whether the rows are those that were sealed, only elsewhere.
fn is_permutation(rows: &[SealedRow], computed: &[Option<Hash>]) -> bool {
    let mut stored: Vec<Option<Hash>> = rows.iter().map(|row| Some(row.leaf)).collect();
    let mut computed = computed.to_vec();
    stored.sort_unstable();
    computed.sort_unstable();
    stored == computed
}

/// A batch is sealed in the order of time and id. When that order has the root that was signed and the order found has not,
/// the rows were moved together with their leaves; the first that is out of its place is the first bad one.
fn reordered(rows: &[SealedRow], leaves: &[Hash], root: &Hash) -> Option<Break> {
    let mut sorted: Vec<(Timestamp, &str, Hash)> = rows
        .iter()
        .map(|row| match &row.content {
            Content::Event(event) => Some((event.timestamp, event.id.as_str(), row.leaf)),
            _ => None,
        })
        .collect::<Option<_>>()?;
    sorted.sort_unstable();
    let sorted: Vec<Hash> = sorted.into_iter().map(|(_, _, leaf)| leaf).collect();
    if merkle::root(&sorted) != *root {
        return None;
    }
    let moved = sorted.iter().zip(leaves).position(|(a, b)| a != b)?;
    Some(Break::at(
        rows[moved].seq,
        Some(&rows[moved].id),
        Problem::Reordered,
    ))
}
