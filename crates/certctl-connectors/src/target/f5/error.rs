//! What can go wrong between an agent and an appliance.

use std::{io, path::PathBuf};

/// Why an appliance did not do what was asked. What is live on it is as it was, unless the failure is part of one that says
/// otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The roots to know the appliance by cannot be read.
    #[error("the CA bundle {} cannot be used", path.display())]
    CaBundle {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is nothing to check the appliance's certificate against.
    #[error(
        "there are no roots to check the appliance's certificate against; name a ca_bundle_path"
    )]
    NoRoots,
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
    /// The appliance could not be reached, did not answer in time, or is not the one that is meant.
    #[error("{call} did not reach the appliance")]
    Unreachable {
        /// What was called, in words.
        call: &'static str,
        /// Why not.
        source: reqwest::Error,
    },
    /// The appliance refused a call.
    #[error("{call} was refused with {status}: {message}")]
    Refused {
        /// What was called, in words.
        call: &'static str,
        /// The HTTP status.
        status: u16,
        /// What the appliance said, shortened and without credentials.
        message: String,
    },
    /// The answer is not what iControl REST says.
    #[error("{call} was answered with something unexpected: {problem}")]
    BadAnswer {
        /// What was called, in words.
        call: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The profile does not show what was put into it.
    #[error("the profile names {found} where it was given {expected}")]
    NotShown {
        /// The object that was meant.
        expected: String,
        /// The object that is there.
        found: String,
    },
    /// The program is stopping.
    #[error("the work was cut short by the end of the program")]
    Interrupted,
}

impl Error {
    /// The status of a refusal.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the appliance has said no, so that the call surely had no effect. When an answer is lost, or a proxy in front
    /// gives up, nobody knows.
    pub(super) fn is_refusal(&self) -> bool {
        self.status()
            .is_some_and(|status| (400..500).contains(&status))
    }
}
