//! The one error of this crate.

use std::{io, path::PathBuf};

/// Why the agent could not start, or one of its calls was not answered as it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server's URL is not `https://host[:port]`.
    #[error("{0:?} is not an https URL of a server")]
    ServerUrl(String),
    /// The CA bundle cannot be read or holds no certificate.
    #[error("the CA bundle {} cannot be used", path.display())]
    CaBundle {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system has no roots to check the server against.
    #[error("the system has no root certificates; name a CA bundle")]
    NoRoots,
    /// The HTTP client cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
    /// A file of the agent cannot be read, written or made.
    #[error("cannot {action} {}", path.display())]
    File {
        /// The verb, as in "write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason of the system.
        source: io::Error,
    },
    /// A key could not be made, read or used.
    #[error("the private key cannot be used")]
    Key(#[source] certctl_pki::Error),
    /// No key on this host belongs to the certificate.
    #[error("key mismatch: no private key on this host belongs to the certificate of {0}")]
    KeyMismatch(String),
    /// The server has retired this agent; it must end.
    #[error("the server has retired this agent")]
    Retired,
    /// The server refused a call.
    #[error("{call} was refused with {status}: {message}")]
    Refused {
        /// What was called, in words.
        call: &'static str,
        /// The HTTP status.
        status: u16,
        /// What the server said, shortened and without control characters.
        message: String,
    },
    /// The server could not be reached, or the connection broke.
    #[error("{call} did not reach the server")]
    Unreachable {
        /// What was called, in words.
        call: &'static str,
        /// Why not.
        source: reqwest::Error,
    },
    /// The answer is not what the contract says.
    #[error("{call} was answered with something unexpected: {problem}")]
    BadAnswer {
        /// What was called, in words.
        call: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The file with the agent's identity does not hold one.
    #[error("{} does not hold an agent's id and key", .0.display())]
    Identity(PathBuf),
    /// A loop of the agent came down.
    #[error("the loop {0} came down")]
    Panicked(&'static str),
}

impl Error {
    /// For `map_err`: a file operation and what it failed on.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    /// Whether the same call may be answered well later: the server is away, overloaded, broken, or does not know the key
    /// yet (agent §4: 401 and 403 are no reason to give up).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::BadAnswer { .. } => true,
            Self::Refused { status, .. } => {
                matches!(status, 401 | 403 | 408 | 425 | 429) || *status >= 500
            }
            _ => false,
        }
    }

    /// The status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}
