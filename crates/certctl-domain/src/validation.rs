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

/// Longest name of an issuer, target, profile, team, owner or policy, in characters (api §2.4).
pub const MAX_NAME: usize = 255;
/// Longest agent name, in characters (api §2.4).
pub const MAX_AGENT_NAME: usize = 128;
/// Longest common name, in characters (api §2.4).
pub const MAX_COMMON_NAME: usize = 253;
