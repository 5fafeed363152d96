//! No request takes forever.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::Shared;
use crate::problem::ApiError;

pub(super) async fn keep(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    tokio::time::timeout(shared.state.settings.deadline, next.run(request))
        .await
        .unwrap_or_else(|_| ApiError::DeadlineExceeded.into_response())
}
