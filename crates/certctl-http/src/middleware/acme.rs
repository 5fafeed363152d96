//! Who may use the ACME server at all, and how often without a signature (acme-server §1, §2, §9).

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::Method;

use super::{Shared, context::Context, rate_limit::network_of};
use crate::{
    api::acme::{forbidden, is_ours, switched_off},
    problem::ApiError,
};

/// Stands before the router, so that a path without a route is no way to find out whether there is a server.
pub(super) async fn check(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    if !is_ours(request.uri().path()) {
        return next.run(request).await;
    }
    if shared.state.services.acme().is_none() {
        return switched_off().into_response();
    }
    let client = Context::of(&request).client;
    let allowed = &shared.state.settings.acme.allowed;
    if !allowed.is_empty() && !allowed.iter().any(|network| network.contains(client)) {
        return forbidden().into_response();
    }
    if let Some(buckets) = &shared.acme_unsigned
        && request.method() != Method::POST
        && !buckets
            .take(network_of(client).to_string(), shared.state.clock.now())
            .await
    {
        return ApiError::RateLimited.into_response();
    }
    next.run(request).await
}
