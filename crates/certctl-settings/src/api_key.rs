//! API keys that are given by configuration: `name:key[:admin],…`.

use certctl_domain::secret::Secret;

use crate::form::{Fault, Form, split_list};

/// An API key given by configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKey {
    /// The actor it stands for: letters, digits, `_` and `-`.
    pub name: String,
    /// What the caller sends.
    pub key: Secret,
    /// Whether it holds the administrator's role.
    pub admin: bool,
}

/// The form of `API_KEYS_NAMED`.
///
/// A name may come twice with different keys, which is how a key is rotated without an outage; then both must carry the
/// same role, or a rotation would silently change what the name may do.
#[derive(Debug)]
pub(crate) struct NamedKeys;

impl Form for NamedKeys {
    type Value = Vec<NamedKey>;

    const SECRET: bool = true;

    fn expected(&self) -> String {
        "a comma separated list of name:key or name:key:admin".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Vec<NamedKey>, Fault> {
        let mut keys: Vec<NamedKey> = Vec::new();
        for (index, item) in split_list(text).enumerate() {
            let wrong = |why| Fault::Entry {
                position: index + 1,
                why,
            };
            let key = parse_one(item).map_err(wrong)?;
            if keys.iter().any(|other| other.key == key.key) {
                return Err(wrong("has the key of an entry before it"));
            }
            if keys
                .iter()
                .any(|other| other.name == key.name && other.admin != key.admin)
            {
                return Err(wrong("has the name of an entry before it but another role"));
            }
            keys.push(key);
        }
        Ok(keys)
    }
}

fn parse_one(item: &str) -> Result<NamedKey, &'static str> {
    let (name, rest) = item.split_once(':').ok_or("has no colon")?;
    let name_is_good = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !name_is_good {
        return Err("has a name that is not made of letters, digits, _ and -");
    }
    let (key, admin) = match rest.split_once(':') {
        Some((key, "admin")) => (key, true),
        // Taking an unknown word for a part of the key would turn a typing error into a key without its role.
        Some(_) => return Err("has a third part that is not admin"),
        None => (rest, false),
    };
    if key.is_empty() {
        return Err("has no key");
    }
    Ok(NamedKey {
        name: name.to_owned(),
        key: Secret::new(key),
        admin,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::NamedKeys;
    use crate::form::Form;

    #[test]
    fn reads_names_keys_and_roles() {
        let keys = NamedKeys.parse("ci:abc, ops:def:admin,,ci:ghi").unwrap();
        let seen: Vec<_> = keys
            .iter()
            .map(|key| (key.name.as_str(), key.key.expose(), key.admin))
            .collect();
        assert_eq!(
            seen,
            [
                ("ci", "abc", false),
                ("ops", "def", true),
                ("ci", "ghi", false)
            ]
        );
        assert!(NamedKeys.parse("").unwrap().is_empty());
    }

    #[test]
    fn refusals_name_the_entry_and_not_the_key() {
        let cases = [
            ("canary", "has a wrong entry 1: has no colon"),
            (
                "a:b,c d:canary",
                "has a wrong entry 2: has a name that is not made of letters, digits, _ and -",
            ),
            (
                ":canary",
                "has a wrong entry 1: has a name that is not made of letters, digits, _ and -",
            ),
            ("a:", "has a wrong entry 1: has no key"),
            ("a::admin", "has a wrong entry 1: has no key"),
            (
                "a:canary:amdin",
                "has a wrong entry 1: has a third part that is not admin",
            ),
            (
                "a:canary,b:canary",
                "has a wrong entry 2: has the key of an entry before it",
            ),
            (
                "a:canary,a:other:admin",
                "has a wrong entry 2: has the name of an entry before it but another role",
            ),
        ];
        for (text, refusal) in cases {
            assert_eq!(NamedKeys.parse(text).unwrap_err().to_string(), refusal);
        }
    }

    proptest! {
        #[test]
        fn every_well_formed_list_is_read(names in prop::collection::vec("[A-Za-z0-9_-]{1,8}", 0..6), admin: bool) {
            // The position in the list makes keys distinct.
            let role = if admin { ":admin" } else { "" };
            let text = names.iter().enumerate().map(|(i, name)| format!("{name}:k{i}{role}")).collect::<Vec<_>>().join(" ,");
            let keys = NamedKeys.parse(&text).unwrap();
            prop_assert_eq!(keys.iter().map(|key| key.name.clone()).collect::<Vec<_>>(), names);
            prop_assert!(keys.iter().all(|key| key.admin == admin));
        }

        #[test]
        fn no_text_panics(text in "[a-z:, ]{0,32}") {
            drop(NamedKeys.parse(&text));
        }
    }
}
