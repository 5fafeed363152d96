//! The fields of an event or a span.

use std::{borrow::Cow, error::Error as StdError, fmt};

use serde_json::Value;
use tracing::field::{Field, Visit};

use crate::error_chain::ErrorChain;

/// Fields in the order in which they were recorded; a name comes once.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(Vec<(Cow<'static, str>, Value)>);

/// Names whose values are not logged, whatever their type. The types of secrets do not print; this is for the one that
/// somebody forgot to wrap.
const SENSITIVE: &[&str] = &[
    "authorization",
    "cookie",
    "set_cookie",
    "password",
    "passphrase",
    "secret",
    "api_key",
    "private_key",
    "bootstrap_token",
];

/// Names that a line has of itself.
const RESERVED: &[&str] = &["time", "level", "msg", "target"];

impl Fields {
    /// Sets a field, in the place of one with the same name if there is one.
    pub(super) fn set(&mut self, name: &'static str, value: Value) {
        // `r#type` is how a field gets a name that is a keyword.
        let name = name.strip_prefix("r#").unwrap_or(name);
        let value = if SENSITIVE.contains(&name) {
            Value::from("<redacted>")
        } else {
            value
        };
        let name = if RESERVED.contains(&name) {
            Cow::from(format!("{name}_"))
        } else {
            Cow::from(name)
        };
        self.put(name, value);
    }

    /// Sets all fields of `inner`, which win.
    pub(super) fn extend(&mut self, inner: &Self) {
        for (name, value) in &inner.0 {
            self.put(name.clone(), value.clone());
        }
    }

    /// The fields without the message.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0
            .iter()
            .filter(|(name, _)| name != MESSAGE)
            .map(|(name, value)| (name.as_ref(), value))
    }

    /// The message; empty when there is none.
    pub(super) fn message(&self) -> &str {
        self.0
            .iter()
            .find(|(name, _)| name == MESSAGE)
            .and_then(|(_, value)| value.as_str())
            .unwrap_or_default()
    }

    /// Drops the message. The message of a span is not that of the events in it.
    pub(super) fn without_message(mut self) -> Self {
        self.0.retain(|(name, _)| name != MESSAGE);
        self
    }

    fn put(&mut self, name: Cow<'static, str>, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }
}

/// The field that `tracing` gives the message in.
const MESSAGE: &str = "message";

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity and no NaN.
        let value = serde_json::Number::from_f64(value)
            .map_or_else(|| Value::from(value.to_string()), Value::Number);
        self.set(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), stripped(value.to_owned()).into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn StdError + 'static)) {
        self.set(field.name(), stripped(ErrorChain(value).to_string()).into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), stripped(format!("{value:?}")).into());
    }
}

/// Removes CR, LF and NUL, with which a caller could make one line look like two (operations contract §6).
fn stripped(mut text: String) -> String {
    if text.contains(['\r', '\n', '\0']) {
        text.retain(|c| !matches!(c, '\r' | '\n' | '\0'));
    }
    text
}
