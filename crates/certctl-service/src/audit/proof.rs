//! The proof that one row is in the trail.

use certctl_domain::{
    access::{Actor, Permission},
    audit::AuditEvent,
    id::AuditEventId,
};
use certctl_pki::trail::{Hash, SignedHead, leaf_of, merkle};
use certctl_repository::{audit_events, audit_seals};

use super::seal::signed_head;
use crate::{Error, Services, error::Expect as _, services::authorise};

/// What proves that a row is in the trail: RFC 9162 §2.1.3 within its batch, whose signed head is there too.
#[derive(Debug, Clone)]
pub struct InclusionProof {
    /// The row.
    pub event: AuditEvent,
    /// Its position in the trail, from 0.
    pub seq: i64,
    /// Its place in the batch, from 0.
    pub leaf_index: i64,
    /// How many rows the batch has.
    pub tree_size: i64,
    /// The hash of its canonical form, as it is now.
    pub leaf: Hash,
    /// The hashes on the way to the root, lowest first.
    pub path: Vec<Hash>,
    /// The head of the batch.
    pub head: SignedHead,
}

impl Services {
    /// Proves that a row is in the trail.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `audit.read`, [`Error::NotFound`], [`Error::Conflict`] when it is not sealed yet, which
    /// takes about a second, or when it is not what was sealed.
    pub async fn prove_audit_event(
        &self,
        actor: &Actor,
        id: &AuditEventId,
    ) -> Result<InclusionProof, Error> {
        authorise(actor, Permission::AuditRead)?;
        let mut conn = self.read().await?;
        let event = audit_events::find(&mut conn, id)
            .await
            .or_not_found("audit event", id)?;
        let Some((seq, batch)) = audit_seals::position(&mut conn, id.as_str()).await? else {
            return Err(Error::Conflict(format!(
                "audit event {id} is not sealed yet; that takes about a second"
            )));
        };
        let altered = || Error::Conflict(format!("audit event {id} is not what was sealed"));
        let batch = audit_seals::find(&mut conn, batch)
            .await
            .map_err(|_| altered())?;
        let head = signed_head(&batch).ok_or_else(altered)?;
        let leaves =
            audit_seals::leaves(&mut conn, head.head.first_seq, head.head.end_seq()).await?;
        let leaves: Vec<Hash> = leaves
            .into_iter()
            .map(|leaf| leaf.try_into().map_err(|_| altered()))
            .collect::<Result<_, _>>()?;
        let leaf_index = seq - head.head.first_seq;
        let index = usize::try_from(leaf_index).map_err(|_| altered())?;
        let leaf = leaf_of(&event);
        let path = merkle::path(&leaves, index).ok_or_else(altered)?;
        if merkle::root_by_path(leaf, index, leaves.len(), &path) != Some(head.head.root) {
            return Err(altered());
        }
        Ok(InclusionProof {
            event,
            seq,
            leaf_index,
            tree_size: head.head.row_count,
            leaf,
            path,
            head,
        })
    }
}
