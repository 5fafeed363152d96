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

/// Replaces the values of credential and personal keys at any depth and lists the keys that were hit (model §8.2).
#[must_use]
pub fn redact(details: serde_json::Value) -> serde_json::Value {
    let mut hits = Vec::new();
    let mut redacted = redact_value(details, &mut hits);
    if !hits.is_empty()
        && let serde_json::Value::Object(map) = &mut redacted
    {
        hits.sort();
        hits.dedup();
        map.insert("redacted_keys".to_owned(), hits.into());
    }
    if redacted.is_null() {
        serde_json::Value::Object(serde_json::Map::new())
    } else {
        redacted
    }
}

fn redact_value(value: serde_json::Value, hits: &mut Vec<String>) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
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
        other => other,
    }
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
mod tests {
    use serde_json::json;

    use super::redact;

    #[test]
    fn secrets_and_personal_data_are_replaced_at_any_depth() {
        let redacted = redact(
            json!({"a": [{"Password": "hunter2"}], "email": "x@example.com", "serial": "1f"}),
        );
        assert_eq!(
            redacted,
            json!({"a": [{"Password": "[REDACTED:CREDENTIAL]"}], "email": "[REDACTED:PII]", "serial": "1f",
                   "redacted_keys": ["Password", "email"]})
        );
        assert_eq!(redact(json!(null)), json!({}));
    }
}
