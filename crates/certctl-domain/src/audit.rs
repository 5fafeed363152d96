//! Audit events: who did what to which thing, when.

use crate::{access::ActorType, id::AuditEventId, text_enum, time::Timestamp};

text_enum! {
    /// The part of the program an event belongs to.
    pub enum EventCategory ("event category") {
        /// Certificates, jobs, agents and what they touch.
        CertLifecycle = "cert_lifecycle",
        /// Keys, roles, grants.
        Auth = "auth",
        /// Issuers, targets, profiles, policies.
        Config = "config",
    }
}

/// One event. Rows are only ever added.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent {
    /// The id.
    pub id: AuditEventId,
    /// Who.
    pub actor: String,
    /// What kind of actor.
    pub actor_type: ActorType,
    /// What was done, from the action catalogue (model §8.4).
    pub action: String,
    /// The kind of thing it was done to.
    pub resource_type: String,
    /// Which thing.
    pub resource_id: String,
    /// More, redacted.
    pub details: serde_json::Value,
    /// When.
    pub timestamp: Timestamp,
    /// The part of the program.
    pub category: EventCategory,
}

/// Replaces the values of credential and personal keys at any depth and lists the keys that were hit (model §8.2). What is no
/// object becomes one, and values that not every reader of JSON keeps as they are become text.
#[must_use]
pub fn redact(details: serde_json::Value) -> serde_json::Value {
    use serde_json::{Map, Value};
    let mut hits = Vec::new();
    let mut redacted = match redact_value(details, &mut hits) {
        Value::Object(map) => map,
        Value::Null => Map::new(),
        other => Map::from_iter([("value".to_owned(), other)]),
    };
    if !hits.is_empty() {
        hits.sort();
        hits.dedup();
        redacted.insert("redacted_keys".to_owned(), hits.into());
    }
    Value::Object(redacted)
}

fn redact_value(value: serde_json::Value, hits: &mut Vec<String>) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| (without_nul(key), value))
                .map(|(key, value)| match replacement(&key) {
                    Some(text) => {
                        hits.push(key.clone());
                        (key, Value::from(text))
                    }
                    None => (key, redact_value(value, hits)),
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(
            items
                .into_iter()
                .map(|item| redact_value(item, hits))
                .collect(),
        ),
        Value::String(text) => Value::String(without_nul(text)),
        Value::Number(number) if is_rounded_by_others(&number) => number.to_string().into(),
        other => other,
    }
}

/// PostgreSQL's `jsonb` has no NUL and would refuse the row.
fn without_nul(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    }
}

/// Integers beyond 2^53, which readers that know doubles only would round (RFC 7493 §2.2), so that hashes of a row would differ.
fn is_rounded_by_others(number: &serde_json::Number) -> bool {
    const SAFE: u64 = (1 << 53) - 1;
    let magnitude = number
        .as_i64()
        .map(i64::unsigned_abs)
        .or_else(|| number.as_u64());
    magnitude.is_some_and(|magnitude| magnitude > SAFE)
}

fn replacement(key: &str) -> Option<&'static str> {
    let is = |list: &[&str]| list.iter().any(|entry| entry.eq_ignore_ascii_case(key));
    if is(CREDENTIAL_KEYS) {
        Some("[REDACTED:CREDENTIAL]")
    } else if is(PERSONAL_KEYS) {
        Some("[REDACTED:PII]")
    } else {
        None
    }
}

const CREDENTIAL_KEYS: &[&str] = &[
    "api_key",
    "apikey",
    "password",
    "passphrase",
    "secret",
    "client_secret",
    "token",
    "access_token",
    "refresh_token",
    "bootstrap_token",
    "credential",
    "credentials",
    "private_key",
    "privatekey",
    "private_key_pem",
    "key_pem",
    "cert_pem",
    "chain_pem",
    "full_pem",
    "eab_secret",
    "eab_kid",
    "acme_account_key",
    "hmac",
    "hmac_key",
    "signature",
    "auth",
    "authorization",
    "bearer",
];
const PERSONAL_KEYS: &[&str] = &[
    "email",
    "email_address",
    "phone",
    "phone_number",
    "telephone",
    "ssn",
    "social_security",
    "dob",
    "date_of_birth",
    "name",
    "full_name",
    "first_name",
    "last_name",
    "surname",
    "address",
    "street",
    "street_address",
    "city",
    "postal_code",
    "zip",
    "zipcode",
    "ip",
    "ip_address",
];

#[cfg(test)]
mod tests;
