//! How a line looks.

use std::fmt::Write as _;

use certctl_domain::time::Timestamp;
use serde_json::Value;
use tracing::Level;

use super::fields::Fields;

/// What a line says.
pub(super) struct Line<'a> {
    pub(super) time: Timestamp,
    pub(super) level: Level,
    pub(super) target: &'a str,
    pub(super) fields: &'a Fields,
}

/// A JSON object and a line break. The fixed names come first, for those who read it with their eyes.
pub(super) fn json(line: &Line<'_>) -> String {
    let mut text = String::with_capacity(256);
    let fixed = [
        ("time", Value::from(time(line.time))),
        ("level", Value::from(line.level.as_str())),
        ("msg", Value::from(line.fields.message())),
        ("target", Value::from(line.target)),
    ];
    let members = fixed
        .iter()
        .map(|(name, value)| (*name, value))
        .chain(line.fields.iter());
    for (index, (name, value)) in members.enumerate() {
        // The `Display` of a JSON value is JSON. Writing to a `String` cannot fail.
        let _ = write!(
            text,
            "{}{}:{value}",
            if index == 0 { '{' } else { ',' },
            Value::from(name)
        );
    }
    text.push_str("}\n");
    text
}

/// `time LEVEL target: message name=value …` and a line break.
pub(super) fn text(line: &Line<'_>) -> String {
    let mut text = format!(
        "{} {:5} {}: ",
        time(line.time),
        line.level.as_str(),
        line.target
    );
    push_printable(&mut text, line.fields.message());
    for (name, value) in line.fields.iter() {
        let _ = write!(text, " {name}=");
        match value {
            Value::String(value) if is_plain(value) => text.push_str(value),
            // JSON quotes whatever is not plain, but leaves some control characters (U+007F to U+009F) as they are.
            value => push_printable(&mut text, &value.to_string()),
        }
    }
    text.push('\n');
    text
}

/// RFC 3339 in UTC, always with six digits of a second: lines then sort as text.
fn time(time: Timestamp) -> String {
    let micros = time.as_micros().rem_euclid(1_000_000);
    let mut text = time.truncated_to_seconds().to_rfc3339();
    text.pop();
    let _ = write!(text, ".{micros:06}Z");
    text
}

fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && value
            .chars()
            .all(|c| c.is_alphanumeric() || "-_./:@%+,*".contains(c))
}

/// Escapes control characters, with which a message could drive the terminal that it is read on.
fn push_printable(text: &mut String, message: &str) {
    for c in message.chars() {
        if c.is_control() {
            text.extend(c.escape_unicode());
        } else {
            text.push(c);
        }
    }
}
