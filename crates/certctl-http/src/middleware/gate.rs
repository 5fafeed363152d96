//! Refuses early what the actor may not do. The service refuses it again: it is the authority, the gate saves the work.

use axum::{
    extract::{RawPathParams, Request},
    middleware::Next,
    response::{IntoResponse, Response},
};
use certctl_domain::access::{Actor, Scope};

use super::context::Context;
use crate::{problem::ApiError, routes::Access};

pub(super) async fn check(
    params: Result<RawPathParams, axum::extract::rejection::RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Response {
    let Some(route) = Context::of(&request).route else {
        return next.run(request).await;
    };
    let id = || {
        let params = params.as_ref().ok()?;
        params
            .iter()
            .find(|(name, _)| *name == "id")
            .map(|(_, value)| value.to_owned())
    };
    match verdict(route.access, request.extensions().get::<Actor>(), id) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn verdict(
    access: Access,
    actor: Option<&Actor>,
    id: impl FnOnce() -> Option<String>,
) -> Result<(), ApiError> {
    let (permission, scope) = match access {
        Access::Public | Access::Optional => return Ok(()),
        Access::Authenticated => return actor.map(|_| ()).ok_or(ApiError::NoIdentity),
        Access::Permission(permission) => (permission, Scope::Global),
        Access::PermissionAtIssuer(permission) => {
            (permission, id().map_or(Scope::Global, Scope::Issuer))
        }
        Access::PermissionAtProfile(permission) => {
            (permission, id().map_or(Scope::Global, Scope::Profile))
        }
    };
    let actor = actor.ok_or(ApiError::NoIdentity)?;
    if actor.may(permission, &scope) {
        Ok(())
    } else {
        Err(ApiError::PermissionDenied)
    }
}
