//! Refusals of input that name the field that is wrong.

/// A field of a request does not hold what it must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidField {
    /// The field as the wire names it.
    pub field: &'static str,
    /// What is wrong with it, in words for the one who sent it.
    pub problem: String,
}

impl InvalidField {
    /// A refusal of `field`.
    #[must_use]
    pub fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self {
            field,
            problem: problem.into(),
        }
    }

    /// A required field that is absent or blank.
    #[must_use]
    pub fn required(field: &'static str) -> Self {
        Self::new(field, "is required")
    }
}

/// Checks a text that must be there and may not be longer than `max` characters; trims nothing.
///
/// # Errors
/// [`InvalidField`] when it is blank, too long or holds a control character.
pub fn required_text(field: &'static str, text: &str, max: usize) -> Result<String, InvalidField> {
    if text.trim().is_empty() {
        return Err(InvalidField::required(field));
    }
    optional_text(field, text, max)
}

/// Checks a text that may be empty but not longer than `max` characters.
///
/// # Errors
/// [`InvalidField`] when it is too long or holds a control character.
pub fn optional_text(field: &'static str, text: &str, max: usize) -> Result<String, InvalidField> {
    if text.chars().count() > max {
        return Err(InvalidField::new(
            field,
            format!("is longer than {max} characters"),
        ));
    }
    // Control characters end up in logs and terminals, and NUL cannot be stored by PostgreSQL.
    if text
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\t'))
    {
        return Err(InvalidField::new(field, "holds a control character"));
    }
    Ok(text.to_owned())
}

/// Checks a JSON object that is stored as it came: PostgreSQL can hold no NUL in a text, and whoever sent it chose its size.
///
/// # Errors
/// [`InvalidField`] when it is no object, larger than `max_bytes` as text, nested deeper than `max_depth` or holds a NUL.
pub fn check_object(
    field: &'static str,
    value: &serde_json::Value,
    max_bytes: usize,
    max_depth: usize,
) -> Result<(), InvalidField> {
    if !value.is_object() {
        return Err(InvalidField::new(field, "is not an object"));
    }
    check_json(field, value, max_depth)?;
    if value.to_string().len() > max_bytes {
        return Err(InvalidField::new(
            field,
            format!("is larger than {max_bytes} bytes"),
        ));
    }
    Ok(())
}

fn check_json(
    field: &'static str,
    value: &serde_json::Value,
    depth_left: usize,
) -> Result<(), InvalidField> {
    use serde_json::Value;
    let text = |text: &str| {
        if text.contains('\0') {
            Err(InvalidField::new(field, "holds a NUL character"))
        } else {
            Ok(())
        }
    };
    let inner = || {
        depth_left
            .checked_sub(1)
            .ok_or_else(|| InvalidField::new(field, "is nested too deep"))
    };
    match value {
        Value::String(string) => text(string),
        Value::Array(items) => {
            let left = inner()?;
            items
                .iter()
                .try_for_each(|item| check_json(field, item, left))
        }
        Value::Object(fields) => {
            let left = inner()?;
            fields.iter().try_for_each(|(key, value)| {
                text(key)?;
                check_json(field, value, left)
            })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// Longest name of an issuer, target, profile, team, owner or policy, in characters (api §2.4).
pub const MAX_NAME: usize = 255;
/// Longest agent name, in characters (api §2.4).
pub const MAX_AGENT_NAME: usize = 128;
/// Longest common name, in characters (api §2.4).
pub const MAX_COMMON_NAME: usize = 253;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::check_object;

    #[test]
    fn objects_that_cannot_be_stored_are_refused() {
        let nested = |depth: usize| (1..depth).fold(json!({}), |inner, _| json!({ "a": inner }));
        for (value, problem) in [
            (json!({"a": ["b", {"c": 1}]}), None),
            (json!([]), Some("is not an object")),
            (Value::Null, Some("is not an object")),
            (json!({"a": "x\0"}), Some("holds a NUL character")),
            (json!({"a": [{"x\0": 1}]}), Some("holds a NUL character")),
            (
                json!({"a": "x".repeat(60)}),
                Some("is larger than 64 bytes"),
            ),
            (nested(4), None),
            (nested(5), Some("is nested too deep")),
            (json!({"a": [[[[]]]]}), Some("is nested too deep")),
        ] {
            let found = check_object("deploy", &value, 64, 4).err();
            assert_eq!(
                found.map(|error| error.problem).as_deref(),
                problem,
                "{value}"
            );
        }
    }
}
