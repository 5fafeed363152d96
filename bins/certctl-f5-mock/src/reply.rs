//! Answers, in the shapes of iControl REST.

use hyper::StatusCode;
use serde_json::{Value, json};

/// A call, read whole.
pub(crate) struct Call {
    pub(crate) method: hyper::Method,
    pub(crate) path: String,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: hyper::body::Bytes,
}

impl Call {
    /// A header that is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON; an empty one is an empty object.
    pub(crate) fn json(&self) -> Result<Value, Refusal> {
        if self.body.is_empty() {
            return Ok(json!({}));
        }
        serde_json::from_slice(&self.body).map_err(|problem| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                format!("Found invalid JSON: {problem}"),
            )
        })
    }
}

/// What is answered.
pub(crate) enum Reply {
    /// Plain text.
    Text(&'static str),
    /// JSON with a status.
    Json(StatusCode, Value),
}

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

/// What a call came to.
pub(crate) type Answer = Result<Value, Refusal>;

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn unauthorised(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        match answer {
            Ok(body) => Self::Json(StatusCode::OK, body),
            Err(Refusal { status, message }) => Self::Json(
                status,
                // The device numbers its errors by the status for what it refuses itself.
                json!({"code": status.as_u16(), "message": message, "errorStack": [], "apiError": 3}),
            ),
        }
    }
}
