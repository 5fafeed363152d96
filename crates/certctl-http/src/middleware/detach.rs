//! A client that hangs up cannot cancel half a use case: what changes something runs in a task of its own.

use std::{panic::resume_unwind, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method, header};
use tracing::Instrument;

use super::{Shared, context::Context};
use crate::problem::ApiError;

pub(super) async fn run(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let context = Context::of(&request);
    let detached = match &context.route {
        Some(route) => route.detached,
        None => !request.method().is_safe(),
    };
    if !detached {
        return next.run(request).await;
    }
    if request.method() == Method::HEAD {
        return refuse_head(&context);
    }
    let use_case = async move { next.run(request).await }.in_current_span();
    match shared.detached.spawn(use_case).await {
        Ok(response) => response,
        // The panic goes on in the request, where the guard answers it.
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        // Only the end of the runtime cancels the task.
        Err(error) => ApiError::from(certctl_service::Error::internal(error)).into_response(),
    }
}

/// What would change something is not done for a `HEAD`, which caches and link checkers send without asking anybody.
fn refuse_head(context: &Context) -> Response {
    let mut response = ApiError::MethodNotAllowed.into_response();
    let allow = context.path.as_ref().map(|path| path.allow());
    if let Some(allow) = allow.and_then(|methods| HeaderValue::try_from(methods).ok()) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
