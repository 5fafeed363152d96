//! What can be wrong with a configuration, and what is only worth a word.

use std::{
    error::Error as StdError,
    fmt::{self, Write as _},
    path::PathBuf,
};

use crate::form::Fault;

/// A configuration was refused. Holds everything that is wrong with it, so that it is mended in one go.
#[derive(Debug)]
pub struct Error {
    problems: Vec<Problem>,
}

impl Error {
    pub(crate) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Everything that is wrong; never empty.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Error {
    /// One line for each problem with its causes: there is no single `source` that a caller could follow.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => f.write_str("the configuration is refused for 1 problem:")?,
            count => write!(f, "the configuration is refused for {count} problems:")?,
        }
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
            let mut source = problem.cause();
            while let Some(cause) = source {
                write!(f, ": {cause}")?;
                source = cause.source();
            }
        }
        Ok(())
    }
}

impl StdError for Error {}

/// One thing that is wrong. `variable` is the setting by its name in the environment, wherever the value came from.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A value was given that the setting does not take.
    #[error("{variable}: {shown} {fault}")]
    Value {
        /// The setting.
        variable: String,
        /// The value in quotes, or that it is redacted.
        shown: String,
        /// Why it is not taken.
        fault: Fault,
    },
    /// A value is needed and nobody gave one.
    #[error("{variable}: is required; {why}")]
    Missing {
        /// The setting.
        variable: String,
        /// What it is needed for.
        why: &'static str,
    },
    /// The value is well formed, but not together with the rest of the configuration.
    #[error("{variable}: {why}")]
    Refused {
        /// The setting.
        variable: String,
        /// What it clashes with and what to do.
        why: String,
    },
    /// A secret is given both as a value and as a file by one source.
    #[error("{variable}: is given both as a value and by {variable}_FILE")]
    GivenTwice {
        /// The setting.
        variable: String,
    },
    /// The file that holds a secret cannot be read.
    #[error("{variable}_FILE: {path} cannot be read", path = path.display())]
    SecretFile {
        /// The setting.
        variable: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A placeholder stands for a variable that is not set.
    #[error("{variable}: refers to $({placeholder}), which is not set")]
    Placeholder {
        /// The setting.
        variable: String,
        /// The variable it refers to.
        placeholder: &'static str,
    },
    /// The configuration file cannot be read.
    #[error("the configuration file {path} cannot be read", path = path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configuration file is no TOML. The text of the line is not repeated, for it may hold a secret.
    #[error("the configuration file {path} is not valid TOML at line {line}: {message}", path = path.display())]
    ConfigSyntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// A key of the configuration file has a value of a type that no setting has.
    #[error("the configuration file {path}: {key} is {found}; a setting is a text, a whole number, a truth value or a list of texts", path = path.display())]
    ConfigType {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What it holds.
        found: &'static str,
    },
    /// A program was given a flag that names no setting.
    #[error("--{flag}: there is no such setting")]
    UnknownFlag {
        /// The flag, without dashes in front.
        flag: String,
    },
}

impl Problem {
    /// What lies behind the problem and is not in its `Display`. A fault is: the sentence would break in two without it.
    fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Value { fault, .. } => fault.source(),
            other => other.source(),
        }
    }

    pub(crate) fn refused(variable: &str, why: impl Into<String>) -> Self {
        Self::Refused {
            variable: variable.to_owned(),
            why: why.into(),
        }
    }
}

/// Something that does not stop a start but should be seen. Log each at the level WARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// A variable or a key has our prefix, but names no setting.
    UnknownName {
        /// The name as it was found.
        name: String,
        /// Where it was found.
        place: String,
        /// The setting it is likely to mean.
        suggestion: Option<String>,
    },
    /// The connection to the database is neither encrypted nor local.
    DatabaseWithoutTls {
        /// Where it goes.
        host: String,
    },
    /// The agent accepts any server certificate.
    ServerNotVerified,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownName { name, place, suggestion } => {
                write!(f, "{name} in {place} is not a setting")?;
                suggestion.as_ref().map_or(Ok(()), |known| write!(f, "; did you mean {known}?"))
            }
            Self::DatabaseWithoutTls { host } => {
                write!(f, "CERTCTL_DATABASE_URL: sslmode=disable sends everything to {host} in the clear")
            }
            Self::ServerNotVerified => f.write_str(
                "CERTCTL_SERVER_TLS_INSECURE_SKIP_VERIFY: the server's certificate is not checked; anyone on the path can read the API key",
            ),
        }
    }
}

/// A value in quotes, without line breaks or other control characters, cut to a length that fits a line.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut quoted = String::from("\"");
    for c in text.chars().take(LONGEST) {
        // Writing to a `String` cannot fail.
        let _ = write!(quoted, "{}", c.escape_debug());
    }
    quoted.push_str(if text.chars().nth(LONGEST).is_some() {
        "…\""
    } else {
        "\""
    });
    quoted
}
