//! Names of API keys. The name is the actor: grants are made to it, audit rows carry it.

use std::fmt;

use crate::validation::InvalidField;

/// The name of a key that somebody makes: 1 to 128 of `A-Z a-z 0-9 . _ -`, beginning with a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyName(String);

impl KeyName {
    /// Most characters; the name stands in paths, like every id.
    pub const MAX: usize = 128;

    /// Reads a name.
    ///
    /// # Errors
    /// [`InvalidField`] when it has another character, is too long, or is one that nobody may take.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, InvalidField> {
        let is_plain = (1..=Self::MAX).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if !is_plain {
            return Err(InvalidField::new(
                field,
                "is 1 to 128 characters of A-Z a-z 0-9 . _ - and begins with a letter or a digit",
            ));
        }
        if is_reserved_actor(text) || text.starts_with("ak-") {
            return Err(InvalidField::new(
                field,
                "begins with `actor-` or `ak-`, which are not for names of keys",
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// Reads the name of the first administrator, which is stricter (api §10.1): `^[a-z0-9][a-z0-9_-]{2,63}$`.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_first(field: &'static str, text: &str) -> Result<Self, InvalidField> {
        let is_plain = (3..=64).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
        if !is_plain {
            return Err(InvalidField::new(
                field,
                "is 3 to 64 characters of a-z 0-9 _ - and begins with a letter or a digit",
            ));
        }
        Self::parse(field, text)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether an actor is one of the program's own (model §4: names that begin with `actor-`).
#[must_use]
pub fn is_reserved_actor(id: &str) -> bool {
    id.starts_with("actor-")
}

#[cfg(test)]
mod tests {
    use super::KeyName;

    #[test]
    fn a_name_is_an_id_that_nobody_else_has_a_claim_to() {
        for name in ["ci", "CI.runner_2", "0", &"x".repeat(128)] {
            assert!(KeyName::parse("name", name).is_ok(), "{name}");
        }
        for name in [
            "",
            "-x",
            ".",
            "..",
            "a b",
            "a/b",
            "é",
            "actor-demo-anon",
            "ak-1",
            &"x".repeat(129),
        ] {
            assert!(KeyName::parse("name", name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_name_of_the_first_administrator_is_lower_case() {
        for name in ["ann", "0-9", "first_admin", &"x".repeat(64)] {
            assert!(KeyName::parse_first("actor_name", name).is_ok(), "{name}");
        }
        for name in [
            "an",
            "Ann",
            "_ann",
            "a.b",
            "actor-x",
            "ak-ann",
            &"x".repeat(65),
        ] {
            assert!(KeyName::parse_first("actor_name", name).is_err(), "{name}");
        }
    }
}
