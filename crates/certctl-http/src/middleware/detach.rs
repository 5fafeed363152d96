//! A client that hangs up cannot cancel half a use case: what changes something runs in a task of its own.

use std::{panic::resume_unwind, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::Instrument;

use super::Shared;
use crate::problem::ApiError;

pub(super) async fn run(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
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
