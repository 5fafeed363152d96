//! Bodies over the limit of their route are refused: at once where the length is declared, while reading where it is not.

use std::sync::Arc;

use axum::{
    body::{Body, HttpBody},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::Limited;

use super::{Shared, context::Context};
use crate::{extract::InvalidBody, problem::ApiError};

pub(super) async fn apply(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let route = Context::of(&request).route;
    let limit = route
        .and_then(|route| route.body_limit)
        .unwrap_or(shared.state.settings.max_body_bytes);
    // The lower bound is the declared length on a connection, and the true length of a body that is in memory.
    if request.body().size_hint().lower() > limit as u64 {
        return ApiError::Body(InvalidBody::TooLarge).into_response();
    }
    next.run(request.map(|body| Body::new(Limited::new(body, limit))))
        .await
}
