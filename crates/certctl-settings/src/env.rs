//! The process environment behind a trait, so that no test has to touch the environment of its process.

use std::collections::BTreeMap;

/// Where variables come from.
pub trait Env {
    /// The value of the variable with this full name, when it is set.
    fn get(&self, name: &str) -> Option<String>;

    /// The full names of all variables that are set, in no particular order.
    fn names(&self) -> Vec<String>;
}

/// The environment of this process.
///
/// Bytes that are not UTF-8 are replaced by U+FFFD, so such a value is refused by what parses it instead of being taken
/// for unset.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnv;

impl Env for ProcessEnv {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os()
            .map(|(name, _)| name.to_string_lossy().into_owned())
            .collect()
    }
}

/// An environment given as a map; for tests and for programs that embed certctl.
#[derive(Clone, Default)]
pub struct MapEnv(BTreeMap<String, String>);

impl std::fmt::Debug for MapEnv {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for MapEnv {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl Env for MapEnv {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}
