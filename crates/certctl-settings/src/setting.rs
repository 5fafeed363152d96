//! One setting as data: what it is called, how its text is read, what it means.
//!
//! Everything this crate does walks over these rows: reading, `--check-config`, the reference page, the warning about
//! unknown names. A setting that is not a row cannot be read, and a row that nothing reads fails a test.

use crate::form::Form;

/// The prefix of every variable.
pub(crate) const PREFIX: &str = "CERTCTL_";

/// What a setting is when nobody gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultValue {
    /// There is no value.
    Unset,
    /// This text, read like a given one.
    Text(&'static str),
    /// Worked out from other settings, as the words say.
    Derived(&'static str),
}

/// The programs that read a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Programs(u8);

impl Programs {
    /// `certctl-server`.
    pub const SERVER: Self = Self(1);
    /// `certctl-agent`.
    pub const AGENT: Self = Self(2);
    /// `certctl-migrate`.
    pub const MIGRATE: Self = Self(4);
    /// Whatever opens the database.
    pub const DATABASE: Self = Self(1 | 4);
    /// The server and the agent.
    pub const BOTH_ENDS: Self = Self(1 | 2);
    /// All programs.
    pub const ALL: Self = Self(1 | 2 | 4);

    /// Whether every program of `other` is among these.
    #[must_use]
    pub const fn include(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names of the programs, without the prefix `certctl-`.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        [
            (Self::SERVER, "server"),
            (Self::AGENT, "agent"),
            (Self::MIGRATE, "migrate"),
        ]
        .into_iter()
        .filter(|(program, _)| self.include(*program))
        .map(|(_, name)| name)
        .collect()
    }
}

/// A row of the table of settings whose text is read by the form `F`.
#[derive(Debug)]
pub(crate) struct Setting<F> {
    pub(crate) name: &'static str,
    pub(crate) form: F,
    pub(crate) default: DefaultValue,
    pub(crate) programs: Programs,
    pub(crate) doc: &'static str,
}

/// A row of the table of settings, whatever its form.
pub trait Entry: Sync {
    /// The name without prefix, in capitals: `SERVER_PORT`.
    fn name(&self) -> &'static str;

    /// What it is when nobody gives it.
    fn default(&self) -> DefaultValue;

    /// Who reads it.
    fn programs(&self) -> Programs;

    /// What it means, in sentences.
    fn doc(&self) -> &'static str;

    /// What a text must be to be accepted: `a port (1 to 65535)`.
    fn expected(&self) -> String;

    /// Whether the text must not be printed, and may come from a file named by `<NAME>_FILE`.
    fn is_secret(&self) -> bool;

    /// The text as it may be printed.
    fn shown(&self, text: &str) -> String;

    /// The variable of the environment: `CERTCTL_SERVER_PORT`.
    fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name())
    }

    /// The key in a configuration file: `server_port`.
    fn key(&self) -> String {
        self.name().to_ascii_lowercase()
    }

    /// The name as a flag of a program, without dashes in front: `server-port`.
    fn flag(&self) -> String {
        self.name().to_ascii_lowercase().replace('_', "-")
    }
}

impl<F: Form> Entry for Setting<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn default(&self) -> DefaultValue {
        self.default
    }

    fn programs(&self) -> Programs {
        self.programs
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    fn expected(&self) -> String {
        self.form.expected()
    }

    fn is_secret(&self) -> bool {
        F::SECRET
    }

    fn shown(&self, text: &str) -> String {
        self.form.shown(text)
    }
}

/// The settings of one concern, in the order in which they are shown.
pub(crate) struct Group {
    /// The heading.
    pub title: &'static str,
    /// The rows.
    pub entries: &'static [&'static dyn Entry],
}

/// Declares the rows of one concern and the list that holds them all, so that none can be left out of it.
macro_rules! settings {
    ($group:ident, $title:literal { $($name:ident: $form:ty = $value:expr, $default:expr, $programs:ident, $doc:literal;)+ }) => {
        $(
            pub(crate) static $name: $crate::setting::Setting<$form> = $crate::setting::Setting {
                name: stringify!($name),
                form: $value,
                default: $default,
                programs: $crate::setting::Programs::$programs,
                doc: $doc,
            };
        )+
        /// The rows of this concern.
        pub(crate) static $group: $crate::setting::Group =
            $crate::setting::Group { title: $title, entries: &[$(&$name),+] };
    };
}

pub(crate) use settings;
