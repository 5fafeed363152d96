//! Making lists.

use std::{sync::Arc, time::Duration};

use certctl_domain::{id::IssuerId, revocation::Shard, time::Timestamp};
use certctl_pki::crl::{CrlBuilder, CrlSpec};
use certctl_repository::{
    crls::{self, Claim, Claimed, GenerationEvent, NewCrl},
    transaction,
};
use certctl_telemetry::ErrorChain;

use crate::{Error, Services, error::Expect as _, status::Authority};

/// How long a list is valid (protocols §3).
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// How long a claim holds; it is only waited for when its holder died. Whoever takes longer than this makes a list that another
/// makes too, under another number, of which the greater stays.
const CLAIM: Duration = Duration::from_secs(60);
/// Rows read at a time.
const PAGE: i64 = 10_000;
/// How much earlier than the list before a certificate must have ended, and been revoked, to be left out: clocks of replicas
/// differ, and what was revoked just before that list was made may have been committed just after.
const MARGIN: Duration = Duration::from_secs(300);

/// What became of an attempt.
pub(crate) enum Made {
    /// So many lists were made.
    Lists(usize),
    /// Another replica makes them now.
    Elsewhere,
    /// They are as they should be.
    NotDue,
}

impl Services {
    /// The CA of an issuer, if it may sign lists.
    pub(super) async fn list_authority(&self, id: &IssuerId) -> Result<Arc<Authority>, Error> {
        let authority = self.authority(id).await?;
        // RFC 5280 §6.3.3 (f): verifiers refuse a list whose signer's key usage lacks cRLSign.
        if authority.signer.may_sign_crls() {
            Ok(authority)
        } else {
            Err(Error::NotSupported(format!(
                "the key usage of issuer {id} admits no revocation lists"
            )))
        }
    }

    /// Makes the lists of an issuer if they are due.
    pub(super) async fn make_lists(
        &self,
        id: &IssuerId,
        authority: &Arc<Authority>,
        older_than: Timestamp,
    ) -> Result<Made, Error> {
        let started_at = self.now();
        let shards = authority.signer.crl_shards();
        let claimed = transaction!(self.db, "claim crl", conn => {
            let until = started_at + CLAIM;
            crls::claim(conn, id, shards, older_than, until, started_at).await.or_conflict(|| format!("issuer {id} was deleted"))
        })?;
        let claim = match claimed {
            Claimed::NotDue => return Ok(Made::NotDue),
            Claimed::Busy => return Ok(Made::Elsewhere),
            Claimed::Yours(claim) => claim,
        };
        let made = self.sign_and_store(id, authority, &claim, started_at).await;
        let event = GenerationEvent {
            crl_number: claim.number,
            started_at,
            took: self.now().since(started_at),
            revoked_count: made.as_ref().map_or(0, |(_, revoked)| *revoked),
            error: made
                .as_ref()
                .err()
                .map(|error| ErrorChain(error).to_string()),
        };
        let ended: Result<(), Error> = transaction!(self.db, "end crl claim", conn => {
            Ok::<_, Error>(crls::end_claim(conn, id, &claim, &event).await?)
        });
        // Read anew, so that the next reader sees the new number.
        self.status.crls.forget(id);
        self.status.feed.tell();
        let (count, revoked) = made?;
        ended?;
        tracing::info!(issuer.id = %id, crl.number = claim.number, revoked, lists = count, "revocation list made");
        Ok(Made::Lists(count))
    }

    /// Writes, signs and stores all lists of a claim; how many lists, and how many entries the whole one has.
    async fn sign_and_store(
        &self,
        id: &IssuerId,
        authority: &Arc<Authority>,
        claim: &Claim,
        this_update: Timestamp,
    ) -> Result<(usize, i64), Error> {
        let mut lists = begin(authority, claim, this_update)?;
        self.fill(id, claim, &mut lists).await?;
        let (count, revoked) = (lists.len(), lists[0].revoked);
        // The whole list last: by its number replicas know that there are new ones. Each is dropped when it is stored.
        while let Some(list) = lists.pop() {
            let signer = Arc::clone(authority);
            let crl = tokio::task::spawn_blocking(move || list.sign(&signer))
                .await
                .map_err(Error::internal)??;
            let now = self.now();
            let made = crls::Made {
                this_update,
                next_update: this_update + LIFE,
                took: now.since(this_update),
                at: now,
            };
            transaction!(self.db, "store crl", conn => {
                Ok::<_, Error>(crls::store(conn, id, claim.number, &crl, made).await?)
            })?;
        }
        Ok((count, revoked))
    }

    /// Puts every entry on the whole list and on the one part it belongs to, for each way in which there are parts.
    async fn fill(&self, id: &IssuerId, claim: &Claim, lists: &mut [List]) -> Result<(), Error> {
        let ended_before = claim.previous.map(|previous| previous - MARGIN);
        let mut conn = self.read().await?;
        let mut after = crls::Position::start(ended_before);
        loop {
            let page = crls::entries(&mut conn, id, &after, PAGE).await?;
            for entry in &page {
                let mut first = 1;
                lists[0].push(entry)?;
                for of in &claim.shard_counts {
                    if let Some(shard) = Shard::of_serial(&entry.serial, *of) {
                        lists[first + shard.index()].push(entry)?;
                    }
                    first += Shard::all(*of).count();
                }
            }
            match page.last() {
                Some(last) => after = crls::Position::behind(last),
                None => return Ok(()),
            }
        }
    }
}

/// A list being written.
struct List {
    shard: Option<Shard>,
    builder: CrlBuilder,
    revoked: i64,
}

/// The whole list, then the parts of each way to part it.
fn begin(authority: &Authority, claim: &Claim, this_update: Timestamp) -> Result<Vec<List>, Error> {
    let parts = claim
        .shard_counts
        .iter()
        .flat_map(|of| Shard::all(*of))
        .map(Some);
    // Some more than last time, so that the buffer need not grow, which would hold the list twice.
    let expected = usize::try_from(claim.expected + claim.expected / 16 + 1024).unwrap_or(0);
    let urls = authority.signer.crl_urls();
    let key_id = match authority.certificate.subject_key_id() {
        Some(id) => id.to_vec(),
        None => authority.certificate.public_key()?.key_id().to_vec(),
    };
    std::iter::once(None)
        .chain(parts)
        .map(|shard: Option<Shard>| {
            // Verifiers compare this with the distribution point of the certificate (RFC 5280 §6.3.3 (b)(2)(i)).
            let points: Vec<String> = shard.map_or_else(Vec::new, |shard| {
                urls.iter().map(|url| shard.url(url)).collect()
            });
            let spec = CrlSpec {
                issuer_der: authority.certificate.subject_der(),
                authority_key_id: &key_id,
                algorithm: authority.algorithm,
                number: claim.number.unsigned_abs(),
                this_update,
                next_update: this_update + LIFE,
                distribution_point: &points,
            };
            let expected = shard.map_or(expected, |shard| expected / usize::from(shard.parts()));
            Ok(List {
                shard,
                builder: CrlBuilder::new(&spec, expected)?,
                revoked: 0,
            })
        })
        .collect()
}

impl List {
    fn push(&mut self, entry: &crls::ListEntry) -> Result<(), Error> {
        self.builder
            .push(&entry.serial, entry.revoked_at, entry.reason)?;
        self.revoked += 1;
        Ok(())
    }

    /// Takes as long as hashing the list takes, some tenths of a second for a million entries.
    fn sign(self, authority: &Authority) -> Result<NewCrl, Error> {
        let unsigned = self.builder.finish()?;
        let signature = authority
            .signer
            .sign(unsigned.tbs())
            .map_err(Error::internal)?;
        Ok(NewCrl {
            shard: self.shard,
            der: unsigned.signed(&signature)?,
            revoked_count: self.revoked,
        })
    }
}
