//! The sealed audit trail as a format: how rows are hashed, closed into batches, chained, signed and checked.
//!
//! A row's leaf is the hash of its RFC 8785 form, which is the form the API shows it in. The leaves of a batch make a Merkle
//! tree (RFC 9162 §2.1), whose root stands in the head of the batch; each head holds the hash of the one before and is
//! signed. So whoever knows one head knows all rows before it, and one row is proved by some thirty hashes.
//!
//! Nothing here reads a database or a file: the server and a program that holds nothing but an export check by the same code.

mod export;
mod head;
pub mod jcs;
pub mod merkle;
mod verify;

use certctl_domain::{
    access::ActorType,
    audit::{AuditEvent, EventCategory},
    id::AuditEventId,
};
use serde_json::{Value, json};

pub use self::{
    export::{ExportError, Line, OfflineOptions, OfflineReport, verify_export},
    head::{Head, SignedHead, TrailKey, key_id},
    verify::{Anchor, Break, Content, Keys, Problem, SealedRow, Verifier, orphan},
};

/// A SHA-256.
pub type Hash = [u8; 32];

/// What stands for the head before the first.
pub const GENESIS: Hash = [0; 32];

/// An event as the API shows it; what is hashed is the canonical form of this.
#[must_use]
pub fn event_json(event: &AuditEvent) -> Value {
    json!({
        "id": event.id.as_str(),
        "actor": event.actor,
        "actor_type": event.actor_type.as_str(),
        "action": event.action,
        "resource_type": event.resource_type,
        "resource_id": event.resource_id,
        "details": event.details,
        "timestamp": event.timestamp.to_string(),
        "event_category": event.category.as_str(),
    })
}

/// Reads what [`event_json`] wrote; nothing when a field is missing or holds what certctl never writes.
#[must_use]
pub fn event_from_json(value: &Value) -> Option<AuditEvent> {
    let text = |name: &str| value.get(name)?.as_str();
    Some(AuditEvent {
        id: AuditEventId::from_stored(text("id")?.to_owned()),
        actor: text("actor")?.to_owned(),
        actor_type: ActorType::parse(text("actor_type")?).ok()?,
        action: text("action")?.to_owned(),
        resource_type: text("resource_type")?.to_owned(),
        resource_id: text("resource_id")?.to_owned(),
        details: value.get("details")?.clone(),
        timestamp: text("timestamp")?.parse().ok()?,
        category: EventCategory::parse(text("event_category")?).ok()?,
    })
}

/// The leaf of an event: RFC 9162 §2.1.1 over its canonical form.
#[must_use]
pub fn leaf_of(event: &AuditEvent) -> Hash {
    merkle::leaf(jcs::canonical(&event_json(event)).as_bytes())
}

/// Reads a hash in hex.
#[must_use]
pub fn hash_from_hex(text: &str) -> Option<Hash> {
    hex::decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests;
