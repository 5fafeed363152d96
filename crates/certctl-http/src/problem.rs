//! The one place where errors become statuses and bodies (api §2).
//!
//! A handler's error travels as an [`ApiError`] in the extensions of an empty response, and the outermost middleware turns it
//! into bytes, because only there the request id is known. Faults are logged there too, once, with their chain of causes.

use std::{error::Error as StdError, sync::Arc};

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use certctl_domain::agent::AgentDependencies;
use certctl_service::Error as ServiceError;
use certctl_telemetry::ErrorChain;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::{api::acme, extract::InvalidBody, middleware::context::RequestId};

/// Why a request was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The use case refused or failed.
    #[error("the use case failed")]
    Service(#[from] ServiceError),
    /// The body is not what the route takes.
    #[error(transparent)]
    Body(#[from] InvalidBody),
    /// The query is not what the route takes.
    #[error("the query is not valid: {0}")]
    Query(String),
    /// The id in the path is none, so nothing has it.
    #[error("no such id")]
    NoSuchId,
    /// No route has this path.
    #[error("no such path")]
    NoSuchPath,
    /// The path has routes, but none for this method.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// No credential was sent.
    #[error("no credential")]
    CredentialMissing,
    /// The `Authorization` header is not a bearer key.
    #[error("malformed credential")]
    CredentialMalformed,
    /// Nobody has this key.
    #[error("unknown key")]
    UnknownKey,
    /// Who asks is not known behind the authentication.
    #[error("no identity")]
    NoIdentity,
    /// The actor lacks the permission of the route.
    #[error("permission denied")]
    PermissionDenied,
    /// The body is of a type that the route does not take.
    #[error("the body must be {0}")]
    UnsupportedMediaType(&'static str),
    /// The bucket is empty.
    #[error("rate limit exceeded")]
    RateLimited,
    /// Whose key it is cannot be found out.
    #[error("authentication is unavailable")]
    AuthenticationUnavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// A handler panicked.
    #[error("a handler panicked: {0}")]
    Panicked(String),
    /// The request took too long.
    #[error("the deadline passed")]
    DeadlineExceeded,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        let reply = Reply::of(&self);
        *response.status_mut() = reply.status;
        response.extensions_mut().insert(Unrendered(Arc::new(self)));
        response
    }
}

impl From<certctl_domain::validation::InvalidField> for ApiError {
    fn from(field: certctl_domain::validation::InvalidField) -> Self {
        Self::Service(field.into())
    }
}

/// An error on its way out.
#[derive(Debug, Clone)]
struct Unrendered(Arc<ApiError>);

/// Gives an answer that carries an error its body, and logs the error where it is a fault of ours.
pub(crate) fn render(mut response: Response, id: RequestId) -> Response {
    let Some(Unrendered(error)) = response.extensions_mut().remove::<Unrendered>() else {
        return response;
    };
    let reply = Reply::of(&error);
    let status = reply.status.as_u16();
    match reply.status {
        // What certctl does not do or an operator switched off, and a third party that failed, are no faults of ours that somebody
        // has to look into; callers may ask for the first two as often as they like.
        StatusCode::NOT_IMPLEMENTED => {}
        _ if matches!(&*error, ApiError::Service(ServiceError::Disabled(_))) => {}
        StatusCode::BAD_GATEWAY => {
            tracing::warn!(status, error = %ErrorChain(&*error), "a third party failed");
        }
        fault if fault.is_server_error() => {
            tracing::error!(status, error = %ErrorChain(&*error), "request failed");
        }
        _ => {}
    }
    let mut rendered = (reply.status, reply.shape.into_body(reply.status, id)).into_response();
    // What inner layers put on the answer (`Allow`, `Vary`) stays; the type and length are those of the new body.
    for (name, value) in response.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            rendered.headers_mut().append(name, value.clone());
        }
    }
    for (name, value) in reply.headers {
        rendered.headers_mut().insert(name, value);
    }
    rendered
}

/// The same for the ACME server, whose errors are problem documents.
pub(crate) fn render_for_acme(mut response: Response) -> Response {
    let Some(Unrendered(error)) = response.extensions_mut().remove::<Unrendered>() else {
        return response;
    };
    let mut rendered = acme::refused(&error).into_response();
    for (name, value) in response.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            rendered.headers_mut().append(name, value.clone());
        }
    }
    rendered
}

/// What an error is on the wire.
struct Reply {
    status: StatusCode,
    shape: Shape,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The bodies errors have (api §2.1).
enum Shape {
    /// `{"error","message","request_id"}`.
    Main(String),
    /// `{"error"}`.
    Gate(String),
    /// What stands in the way of retiring an agent.
    Blocked(AgentDependencies),
    /// No export for as many seconds.
    ExportLimit(u64),
}

const BEARER: HeaderValue = HeaderValue::from_static(r#"Bearer realm="certctl""#);
const INTERNAL: &str =
    "an internal error occurred; the request id leads to its cause in the log of the server";

impl Reply {
    fn of(error: &ApiError) -> Self {
        match error {
            ApiError::Service(error) => Self::of_service(error),
            ApiError::Body(error) => Self::main(error.status(), error.to_string()),
            ApiError::Query(_) => Self::main(StatusCode::BAD_REQUEST, error.to_string()),
            ApiError::NoSuchId => {
                Self::main(StatusCode::NOT_FOUND, "there is nothing with this id")
            }
            ApiError::NoSuchPath => Self::main(StatusCode::NOT_FOUND, "there is no such path"),
            ApiError::MethodNotAllowed => Self::main(
                StatusCode::METHOD_NOT_ALLOWED,
                "the path does not serve this method; the Allow header says which",
            ),
            ApiError::CredentialMissing => Self::unauthorized("Authorization header required"),
            ApiError::CredentialMalformed => {
                Self::unauthorized("Invalid Authorization header format, expected: Bearer <token>")
            }
            ApiError::UnknownKey => Self::unauthorized("Invalid API key"),
            ApiError::NoIdentity => Self::unauthorized("Authentication required"),
            ApiError::PermissionDenied => {
                Self::gate(StatusCode::FORBIDDEN, "Insufficient permissions")
            }
            ApiError::UnsupportedMediaType(_) => {
                Self::main(StatusCode::UNSUPPORTED_MEDIA_TYPE, error.to_string())
            }
            ApiError::RateLimited => {
                Self::gate(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded").again_in_a_second()
            }
            ApiError::AuthenticationUnavailable(_) => Self::gate(
                StatusCode::SERVICE_UNAVAILABLE,
                "Authentication is unavailable",
            )
            .again_in_a_second(),
            ApiError::Panicked(_) => {
                Self::gate(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
            }
            ApiError::DeadlineExceeded => Self::main(
                StatusCode::SERVICE_UNAVAILABLE,
                "the request took too long; what it began may still be finished",
            ),
        }
    }

    fn of_service(error: &ServiceError) -> Self {
        match error {
            ServiceError::Invalid(field) => Self::main(StatusCode::BAD_REQUEST, field.to_string()),
            ServiceError::BadRequest(text) => Self::main(StatusCode::BAD_REQUEST, text),
            ServiceError::NotFound { .. } => Self::main(StatusCode::NOT_FOUND, error.to_string()),
            ServiceError::Conflict(text) => Self::main(StatusCode::CONFLICT, text),
            ServiceError::Forbidden(_) => {
                Self::gate(StatusCode::FORBIDDEN, "Insufficient permissions")
            }
            ServiceError::NotYours(text) => Self::gate(StatusCode::FORBIDDEN, text),
            // The main shape: its only uses are the refusals of enrolment and bootstrap tokens (api §10.1, §16.2).
            ServiceError::Unauthenticated(text) => Self {
                headers: vec![(header::WWW_AUTHENTICATE, BEARER)],
                ..Self::main(StatusCode::UNAUTHORIZED, text)
            },
            ServiceError::Gone(text) => Self::main(StatusCode::GONE, text),
            ServiceError::Disabled(text) => Self::main(StatusCode::SERVICE_UNAVAILABLE, text),
            ServiceError::AgentRetired(_) => Self::main(StatusCode::GONE, error.to_string()),
            ServiceError::AgentBlocked(dependencies) => Self {
                status: StatusCode::CONFLICT,
                shape: Shape::Blocked(*dependencies),
                headers: Vec::new(),
            },
            ServiceError::Unprocessable(text) => Self::main(StatusCode::UNPROCESSABLE_ENTITY, text),
            ServiceError::TooManyExports { retry_after } => Self {
                status: StatusCode::TOO_MANY_REQUESTS,
                shape: Shape::ExportLimit(*retry_after),
                headers: vec![(header::RETRY_AFTER, (*retry_after).into())],
            },
            ServiceError::NotSupported(text) => Self::main(StatusCode::NOT_IMPLEMENTED, text),
            ServiceError::BadGateway(text) => Self::main(StatusCode::BAD_GATEWAY, text),
            ServiceError::Unavailable(_) => Self::main(
                StatusCode::SERVICE_UNAVAILABLE,
                "the database is unavailable; try again",
            )
            .again_in_a_second(),
            ServiceError::Internal(_) => Self::main(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL),
        }
    }

    fn main(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            shape: Shape::Main(message.into()),
            headers: Vec::new(),
        }
    }

    fn gate(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            shape: Shape::Gate(error.into()),
            headers: Vec::new(),
        }
    }

    fn unauthorized(error: &str) -> Self {
        // RFC 9110 §11.6.1: a 401 names the scheme that would help.
        Self {
            headers: vec![(header::WWW_AUTHENTICATE, BEARER)],
            ..Self::gate(StatusCode::UNAUTHORIZED, error)
        }
    }

    fn again_in_a_second(mut self) -> Self {
        self.headers
            .push((header::RETRY_AFTER, HeaderValue::from_static("1")));
        self
    }
}

impl Shape {
    fn into_body(self, status: StatusCode, id: RequestId) -> Response {
        match self {
            Self::Main(message) => Json(ErrorBody {
                error: status.canonical_reason().unwrap_or("Error").to_owned(),
                message,
                request_id: id.to_string(),
            })
            .into_response(),
            Self::Gate(error) => Json(GateErrorBody { error }).into_response(),
            Self::ExportLimit(retry_after_seconds) => Json(ExportLimitBody {
                error: "rate_limit_exceeded",
                retry_after_seconds,
            })
            .into_response(),
            Self::Blocked(counts) => Json(BlockedBody {
                error: "blocked_by_dependencies",
                message: "the agent still has targets, certificates or jobs; retire it with force to cascade",
                counts: BlockedCounts {
                    active_targets: counts.active_targets,
                    active_certificates: counts.active_certificates,
                    pending_jobs: counts.pending_jobs,
                },
            })
            .into_response(),
        }
    }
}

/// What most refusals look like.
#[derive(Debug, Serialize, schemars::JsonSchema)]
#[schemars(rename = "Error")]
pub(crate) struct ErrorBody {
    /// The reason phrase of the status.
    error: String,
    /// What is wrong, in words.
    message: String,
    /// The id that the log of the server has too.
    request_id: String,
}

/// What refusals before the handler look like.
#[derive(Debug, Serialize, schemars::JsonSchema)]
#[schemars(rename = "GateError")]
pub(crate) struct GateErrorBody {
    /// What is wrong, in words.
    error: String,
}

/// Why an agent is not retired.
#[derive(Debug, Serialize, schemars::JsonSchema)]
#[schemars(rename = "BlockedError")]
pub(crate) struct BlockedBody {
    #[schemars(extend("enum" = ["blocked_by_dependencies"]))]
    error: &'static str,
    message: &'static str,
    counts: BlockedCounts,
}

/// When to export again.
#[derive(Debug, Serialize, schemars::JsonSchema)]
#[schemars(rename = "ExportLimitError")]
pub(crate) struct ExportLimitBody {
    #[schemars(extend("enum" = ["rate_limit_exceeded"]))]
    error: &'static str,
    retry_after_seconds: u64,
}

/// What depends on an agent.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct BlockedCounts {
    active_targets: i64,
    active_certificates: i64,
    pending_jobs: i64,
}
