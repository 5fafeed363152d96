//! What can go wrong with a deployment, in the words of the contract.

use std::{io, path::PathBuf};

use certctl_domain::text_enum;

text_enum! {
    /// The kind of a failed deployment, as the agent reports it (targets §2).
    pub enum Kind ("deployment failure") {
        /// The plan itself cannot be carried out; nothing was touched.
        PlanInvalid = "plan_invalid",
        /// A file could not be written; everything is as it was.
        WriteFailed = "write_failed",
        /// The service refuses the new files; the old ones are back.
        ValidateFailed = "validate_failed",
        /// The service did not take the new files over; the old ones are back and in use.
        ReloadFailed = "reload_failed",
        /// The service does not present the new certificate; the old one is back and in use.
        VerifyFailed = "verify_failed",
        /// Going back failed as well; a person has to look.
        RollbackFailed = "rollback_failed",
    }
}

text_enum! {
    /// What became of the files that were live before.
    pub enum Rollback ("rollback outcome") {
        /// They were never replaced, or the new ones stay.
        None = "none",
        /// They are back.
        Restored = "restored",
        /// They could not all be put back, or the service did not take them up again.
        AlsoFailed = "also_failed",
    }
}

/// A deployment that did not come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The plan cannot be carried out.
    #[error("{0}")]
    PlanInvalid(String),
    /// A file operation failed before or during the replacement.
    #[error("cannot {action} {}", path.display())]
    WriteFailed {
        /// The verb, as in "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason of the system.
        source: io::Error,
    },
    /// A check of the new files by the service failed.
    #[error("{0}")]
    ValidateFailed(String),
    /// The service could not be made to use the new files.
    #[error("{0}")]
    ReloadFailed(String),
    /// The service does not present the new certificate.
    #[error("{0}")]
    VerifyFailed(String),
    /// The old state could not be brought back.
    #[error("{problem}; before that: {cause}{}", backups_named(backups))]
    RollbackFailed {
        /// Why the deployment failed in the first place.
        cause: Box<Error>,
        /// Why going back failed.
        problem: String,
        /// The backups that hold the old files, for the one who repairs it.
        backups: Vec<PathBuf>,
    },
    /// The program is stopping and took the work away.
    #[error("the deployment was cut short by the end of the program")]
    Interrupted,
}

impl Error {
    /// For `map_err`: the file operation and the path it failed on.
    pub(crate) fn write(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::WriteFailed {
            action,
            path,
            source,
        }
    }

    /// The kind, as it is reported.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::PlanInvalid(_) => Kind::PlanInvalid,
            Self::WriteFailed { .. } => Kind::WriteFailed,
            Self::ValidateFailed(_) => Kind::ValidateFailed,
            Self::ReloadFailed(_) => Kind::ReloadFailed,
            Self::VerifyFailed(_) => Kind::VerifyFailed,
            // What was live is unknown, which is what this kind says.
            Self::RollbackFailed { .. } | Self::Interrupted => Kind::RollbackFailed,
        }
    }

    /// What became of the old files.
    #[must_use]
    pub fn rollback(&self) -> Rollback {
        match self.kind() {
            Kind::PlanInvalid | Kind::WriteFailed => Rollback::None,
            Kind::ValidateFailed | Kind::ReloadFailed | Kind::VerifyFailed => Rollback::Restored,
            Kind::RollbackFailed => Rollback::AlsoFailed,
        }
    }
}

fn backups_named(backups: &[PathBuf]) -> String {
    if backups.is_empty() {
        return String::new();
    }
    let names: Vec<String> = backups.iter().map(|b| b.display().to_string()).collect();
    format!("; backups: {}", names.join(", "))
}
