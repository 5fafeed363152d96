//! Problem documents (RFC 8555 §6.7, RFC 9457), and what every answer of the ACME server carries.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use certctl_acme::resource::{PROBLEM_MEDIA_TYPE, ProblemBody};
use certctl_domain::acme::{Problem, ProblemType};
use certctl_service::acme::Refusal;
use certctl_telemetry::ErrorChain;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

use super::request::Asked;
use crate::{ApiError, AppState, extract::InvalidBody};

pub(super) const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

/// Why a request was not carried out.
#[derive(Debug)]
pub(crate) enum Refused {
    /// By the use case, or in its words.
    Refusal(Box<Refusal>),
    /// By the terms of service, which are at this URL.
    Terms(Box<Refusal>, String),
    /// By HTTP alone, without a type of RFC 8555 (RFC 9457 §4.2.1).
    Blank(StatusCode, &'static str),
    /// By what all routes share.
    Api(ApiError),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(Box::new(refusal))
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Refusal::from(problem).into()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Refusal(refusal) => rendered(&refusal),
            Self::Terms(refusal, terms) => {
                let mut response = rendered(&refusal);
                link(&mut response, &terms, "terms-of-service");
                response
            }
            Self::Blank(status, detail) => {
                let body = json!({"type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail});
                document(status, body.to_string())
            }
            Self::Api(error) => error.into_response(),
        }
    }
}

fn rendered(refusal: &Refusal) -> Response {
    let status =
        StatusCode::from_u16(refusal.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_string(&ProblemBody::new(&refusal.problem))
        .expect("a problem has text keys only");
    let mut response = document(status, body);
    let headers = response.headers_mut();
    if let Some(seconds) = refusal.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if let Some(location) = refusal.location.as_deref().and_then(value) {
        headers.insert(header::LOCATION, location);
    }
    response
}

fn document(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let media = HeaderValue::from_static(PROBLEM_MEDIA_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

/// Adds a link (RFC 8288 §3).
pub(super) fn link(response: &mut Response, url: &str, relation: &str) {
    if let Some(value) = value(&format!("<{url}>;rel=\"{relation}\"")) {
        response.headers_mut().append(header::LINK, value);
    }
}

pub(super) fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

/// The ACME server is switched off, which is not told from there being none (acme-server §1).
pub(crate) fn switched_off() -> Refused {
    Problem::new(ProblemType::Malformed, "there is no ACME server here")
        .with_status(404)
        .into()
}

/// The client's address is not among those that may use it.
pub(crate) fn forbidden() -> Refused {
    Problem::new(
        ProblemType::Unauthorized,
        "certificates are not ordered from this address",
    )
    .with_status(403)
    .into()
}

/// What refuses before a handler, in the words of RFC 8555.
pub(crate) fn refused(error: &ApiError) -> Refused {
    of_api_error(error).into()
}

fn of_api_error(error: &ApiError) -> Refusal {
    let problem =
        |status, detail: &str| Problem::new(ProblemType::Malformed, detail).with_status(status);
    let problem = match error {
        ApiError::NoSuchPath | ApiError::NoSuchId => problem(404, "there is no such path"),
        ApiError::MethodNotAllowed => problem(
            405,
            "the path does not serve this method; the Allow header says which",
        ),
        ApiError::Body(InvalidBody::TooLarge) => problem(400, "the request is larger than 64 KiB"),
        ApiError::Body(InvalidBody::TooSlow) => problem(408, "the body took too long to arrive"),
        ApiError::Body(_) => problem(400, "the body could not be read"),
        ApiError::RateLimited => {
            let problem = Problem::new(ProblemType::RateLimited, "too many requests");
            return Refusal {
                retry_after: Some(1),
                ..problem.into()
            };
        }
        ApiError::DeadlineExceeded => Problem::new(
            ProblemType::ServerInternal,
            "the request took too long; what it began may still be finished",
        )
        .with_status(503),
        _ => {
            tracing::error!(error = %ErrorChain(error), "an ACME request failed");
            Problem::new(
                ProblemType::ServerInternal,
                "the server failed; try again later",
            )
        }
    };
    problem.into()
}

/// What every answer of the ACME server is told to carry.
pub(crate) struct Told;

impl Told {
    /// Gives an answer what RFC 8555 asks for: a nonce (§6.5), a link to the directory (§7.1), and no place in a cache.
    pub(crate) async fn on(asked: &Asked, state: &AppState, mut response: Response) -> Response {
        let acme = state.services.acme();
        let is_missing = !response.headers().contains_key(REPLAY_NONCE);
        if (asked.is_signed || asked.is_directory)
            && is_missing
            && let Some(acme) = &acme
            // The limits of the server itself are no reason to give no nonce; that it cannot be made was logged.
            && let Ok(nonce) = acme.nonce().await
            && let Some(nonce) = value(&nonce)
        {
            response.headers_mut().insert(REPLAY_NONCE, nonce);
        }
        if let Some(urls) = asked
            .urls
            .as_ref()
            .filter(|_| acme.is_some() && !asked.is_directory)
        {
            link(&mut response, &urls.directory(), "index");
        }
        response
            .headers_mut()
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
        response
    }
}
