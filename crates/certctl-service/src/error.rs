//! What can go wrong in a use case, by what the caller can do about it.

use certctl_domain::{access::Permission, agent::AgentDependencies, validation::InvalidField};
use certctl_repository::RetryHint;

/// Why a use case was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field does not hold what it must.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// The request makes no sense in the present state, in words for the caller.
    #[error("{0}")]
    BadRequest(String),
    /// There is no such thing.
    #[error("{what} {id} does not exist")]
    NotFound {
        /// The noun of the contract, such as `certificate`.
        what: &'static str,
        /// The id that was asked for.
        id: String,
    },
    /// Something is in the way: a name that is taken, a state that does not admit this, a row that is referred to.
    #[error("{0}")]
    Conflict(String),
    /// The actor lacks a permission.
    #[error("the permission {0} is required")]
    Forbidden(Permission),
    /// The actor may do this, but not to this thing.
    #[error("{0}")]
    NotYours(String),
    /// The credential itself is not accepted.
    #[error("{0}")]
    Unauthenticated(String),
    /// It could be done once, and cannot any more.
    #[error("{0}")]
    Gone(String),
    /// The server as it is configured does not do this.
    #[error("{0}")]
    Disabled(String),
    /// The agent is retired.
    #[error("agent {0} is retired")]
    AgentRetired(String),
    /// The agent cannot be retired while others depend on it.
    #[error("the agent still has dependencies")]
    AgentBlocked(AgentDependencies),
    /// The content was understood and is not acceptable, such as a CSR that violates its profile.
    #[error("{0}")]
    Unprocessable(String),
    /// The actor has exported as much as it may within an hour.
    #[error("too many exports within an hour")]
    TooManyExports {
        /// Seconds until it may export again; at least one.
        retry_after: u64,
    },
    /// This is not done for such a thing, in words for the caller.
    #[error("{0}")]
    NotSupported(String),
    /// A third party failed.
    #[error("{0}")]
    BadGateway(String),
    /// The database cannot be reached, or is too busy.
    #[error("the database is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A fault of certctl; the cause is for the log only.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// There is no `what` with this id.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "called with ids, references to them and texts"
    )]
    pub fn not_found(what: &'static str, id: impl ToString) -> Self {
        Self::NotFound {
            what,
            id: id.to_string(),
        }
    }

    /// Whether a row was to be stored whose key is taken.
    pub(crate) fn is_duplicate(&self) -> bool {
        matches!(self, Self::Internal(cause)
            if matches!(cause.downcast_ref(), Some(certctl_repository::Error::AlreadyExists)))
    }

    /// A fault of certctl.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }
}

impl From<certctl_repository::Error> for Error {
    /// What a query says that its caller did not expect; expected refusals are mapped where they are expected.
    fn from(error: certctl_repository::Error) -> Self {
        use certctl_repository::Error as E;
        match error {
            E::Contention(_) | E::Unavailable(_) => Self::Unavailable(Box::new(error)),
            E::NotFound | E::AlreadyExists | E::Reference | E::Corrupt { .. } | E::Database(_) => {
                Self::Internal(Box::new(error))
            }
        }
    }
}

impl From<certctl_pki::Error> for Error {
    fn from(error: certctl_pki::Error) -> Self {
        Self::Internal(Box::new(error))
    }
}

impl RetryHint for Error {
    fn is_contention(&self) -> bool {
        match self {
            Self::Unavailable(cause) => cause
                .downcast_ref::<certctl_repository::Error>()
                .is_some_and(certctl_repository::Error::is_contention),
            _ => false,
        }
    }

    fn spoils_connection(&self) -> bool {
        match self {
            Self::Unavailable(cause) => cause
                .downcast_ref::<certctl_repository::Error>()
                .is_some_and(certctl_repository::Error::spoils_connection),
            _ => false,
        }
    }
}

/// Gives the refusals of a query that a use case expects their meaning.
pub(crate) trait Expect<T>: Sized {
    /// An absent row means that there is no `what` with this id.
    fn or_not_found(self, what: &'static str, id: impl ToString) -> Result<T, Error>;
    /// A taken key means this.
    fn or_conflict(self, message: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Expect<T> for Result<T, certctl_repository::Error> {
    fn or_not_found(self, what: &'static str, id: impl ToString) -> Result<T, Error> {
        self.map_err(|error| match error {
            certctl_repository::Error::NotFound => Error::not_found(what, id),
            other => other.into(),
        })
    }

    fn or_conflict(self, message: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| match error {
            certctl_repository::Error::AlreadyExists | certctl_repository::Error::Reference => {
                Error::Conflict(message())
            }
            other => other.into(),
        })
    }
}
