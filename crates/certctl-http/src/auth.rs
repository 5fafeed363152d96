//! Who asks: the port through which bearer keys become actors.

use std::error::Error as StdError;

use certctl_domain::{access::Actor, ports::BoxFuture};
use certctl_service::{Error, Services};

/// How callers prove who they are (api §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// `Authorization: Bearer <key>`.
    ApiKey,
    /// Not at all: the authenticator is asked with an empty key for every request and answers the demo actor.
    None,
}

impl AuthMode {
    /// The name the wire uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "api-key",
            Self::None => "none",
        }
    }
}

/// Turns a bearer key into the actor it belongs to. Called for every request, so it answers from memory.
pub trait Authenticator: Send + Sync + 'static {
    /// Finds the actor of a key.
    ///
    /// # Errors
    /// [`AuthenticationError::UnknownKey`] for a key that is unknown, expired or withdrawn; [`AuthenticationError::AgentRetired`]
    /// for the key of a retired agent, which no route serves;
    /// [`AuthenticationError::Unavailable`] when that cannot be found out.
    fn authenticate<'a>(
        &'a self,
        bearer: &'a str,
    ) -> BoxFuture<'a, Result<Actor, AuthenticationError>>;
}

/// Why a key gave no actor.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    /// Nobody has this key.
    #[error("unknown API key")]
    UnknownKey,
    /// It is the key of an agent that is retired.
    #[error("agent {0} is retired")]
    AgentRetired(String),
    /// The keys cannot be looked up.
    #[error("API keys cannot be looked up")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
}

impl Authenticator for Services {
    fn authenticate<'a>(
        &'a self,
        bearer: &'a str,
    ) -> BoxFuture<'a, Result<Actor, AuthenticationError>> {
        Box::pin(async move {
            if bearer.is_empty() {
                return self.demo_actor().ok_or(AuthenticationError::UnknownKey);
            }
            match Self::authenticate(self, bearer).await {
                Ok(Some(actor)) => Ok(actor),
                Ok(None) => Err(AuthenticationError::UnknownKey),
                Err(Error::AgentRetired(id)) => Err(AuthenticationError::AgentRetired(id)),
                Err(error) => Err(AuthenticationError::Unavailable(Box::new(error))),
            }
        })
    }
}
