//! One row in the audit trail for each call by somebody known (operations §7).

use std::sync::Arc;

use axum::{
    body::{Body, HttpBody},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use certctl_domain::access::Actor;
use certctl_service::{Services, audit::ApiCall};
use http::StatusCode;
use http_body_util::BodyExt;
use ring::digest::{SHA256, digest};
use tokio::time::{Instant, timeout};

use super::{Shared, context::Context};
use crate::{extract::InvalidBody, problem::ApiError, routes::Access};

/// What stands for the status where nobody was there to be answered: the client hung up, or the deadline had passed.
const NOBODY_ANSWERED: u16 = 499;
/// What is asked so often, and says so little, that it is left out.
const LEFT_OUT: [&str; 3] = ["/health", "/ready", "/api/v1/version"];

pub(super) async fn record(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(route) = Context::of(&request).route else {
        return next.run(request).await;
    };
    let actor = request.extensions().get::<Actor>().cloned();
    let path = request.uri().path().to_owned();
    // An enrolment proves itself to the use case; whether it did is seen by the answer.
    let by_token = actor.is_none() && route.access == Access::Optional;
    if (actor.is_none() && !by_token) || LEFT_OUT.iter().any(|left| path.starts_with(left)) {
        return next.run(request).await;
    }
    let mut entry = Entry {
        services: shared.state.services.clone(),
        begun: Instant::now(),
        by_token,
        status: NOBODY_ANSWERED,
        call: Some(ApiCall {
            actor,
            method: request.method().to_string(),
            heartbeat_of: heartbeat_of(&path),
            path,
            body_hash: String::new(),
            status: NOBODY_ANSWERED,
            latency_ms: 0,
        }),
    };
    let within = shared.state.settings.body_read_timeout;
    let response = match timeout(within, hashed(request)).await {
        Ok((hash, request)) => {
            entry.read(hash);
            next.run(request).await
        }
        Err(_) => ApiError::Body(InvalidBody::TooSlow).into_response(),
    };
    entry.finish(response.status()).await;
    response
}

/// A call under way. Whoever drops it, be it a client that hangs up or a panic, enters it all the same.
struct Entry {
    services: Services,
    begun: Instant,
    by_token: bool,
    /// What is answered, as far as it is known.
    status: u16,
    /// Taken when it is entered.
    call: Option<ApiCall>,
}

impl Entry {
    fn read(&mut self, body_hash: String) {
        if let Some(call) = &mut self.call {
            call.body_hash = body_hash;
        }
    }

    /// The call as it is to be entered; nothing when it was, or when nobody proved who they are.
    fn ended(&self, status: u16) -> Option<ApiCall> {
        let took = self.begun.elapsed();
        let is_proved = !self.by_token || (200..300).contains(&status);
        let call = self.call.clone().filter(|_| is_proved)?;
        Some(ApiCall {
            status,
            latency_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            ..call
        })
    }

    /// Enters the call; waits while the queue is full, which is meant to slow down whoever fills it. A client that hangs up
    /// meanwhile was answered nothing, but what it asked for was done, and the status says so.
    async fn finish(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        if let Some(call) = self.ended(self.status) {
            self.services.record_api_call(&call).await;
        }
        self.call = None;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let status = if std::thread::panicking() {
            StatusCode::INTERNAL_SERVER_ERROR.as_u16()
        } else {
            self.status
        };
        if let Some(call) = self.ended(status) {
            self.services.record_abandoned_api_call(&call);
        }
    }
}

/// Reads the body to its end, since the hash is of all of it, whatever the handler would read. What cannot be read to its end is
/// handed on as it came, the fault included; the hash is then of what came before it.
async fn hashed(request: Request) -> (String, Request) {
    let (parts, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    let mut fault = None;
    while !body.is_end_stream() {
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    bytes.extend_from_slice(data);
                }
            }
            Some(Err(error)) => {
                fault = Some(error);
                break;
            }
            None => break,
        }
    }
    let hash = hex::encode(digest(&SHA256, &bytes));
    let body = match fault {
        None => Body::from(bytes),
        Some(error) => Body::from_stream(futures_util::stream::iter([
            Ok(axum::body::Bytes::from(bytes)),
            Err(error),
        ])),
    };
    (hash, Request::from_parts(parts, body))
}

/// The agent whose sign of life a path takes.
fn heartbeat_of(path: &str) -> Option<String> {
    let id = path
        .strip_prefix("/api/v1/agents/")?
        .strip_suffix("/heartbeat")?;
    Some(id.to_owned())
}
