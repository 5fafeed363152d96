//! Finds out who asks.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use certctl_domain::access::Actor;
use http::{HeaderMap, header};

use super::{Shared, context::Context};
use crate::{
    auth::{AuthMode, AuthenticationError},
    extract::bearer_token,
    problem::ApiError,
    routes::Access,
};

pub(super) async fn check(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Response {
    // What no route serves is refused by the router; there is nothing to protect.
    let Some(route) = Context::of(&request).route else {
        return next.run(request).await;
    };
    if route.access == Access::Public {
        return next.run(request).await;
    }
    match actor(&shared, request.headers()).await {
        Ok(actor) => {
            tracing::Span::current().record("actor.id", actor.id());
            request.extensions_mut().insert(actor);
        }
        // A retired agent has no business even where nobody is asked who they are.
        Err(error @ (ApiError::AuthenticationUnavailable(_) | ApiError::Service(_))) => {
            return error.into_response();
        }
        Err(_) if route.access == Access::Optional => {}
        Err(error) => return error.into_response(),
    }
    next.run(request).await
}

async fn actor(shared: &Shared, headers: &HeaderMap) -> Result<Actor, ApiError> {
    let bearer = match shared.state.settings.auth_mode {
        AuthMode::None => "",
        AuthMode::ApiKey => {
            let header = headers
                .get(header::AUTHORIZATION)
                .ok_or(ApiError::CredentialMissing)?;
            header
                .to_str()
                .ok()
                .and_then(bearer_token)
                .ok_or(ApiError::CredentialMalformed)?
        }
    };
    shared
        .state
        .authenticator
        .authenticate(bearer)
        .await
        .map_err(|error| match error {
            AuthenticationError::UnknownKey => ApiError::UnknownKey,
            AuthenticationError::AgentRetired(id) => {
                certctl_service::Error::AgentRetired(id).into()
            }
            AuthenticationError::Unavailable(cause) => ApiError::AuthenticationUnavailable(cause),
        })
}
