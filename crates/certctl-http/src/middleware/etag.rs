//! Strong entity tags of small answers (api §7, RFC 9110 §8.8.3 and §13.1.2).

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use ring::digest::{SHA256, digest};

use super::context::Context;
use crate::problem::ApiError;

/// Larger answers are not hashed.
const MAX_BYTES: u64 = 65_536;

pub(super) async fn apply(request: Request, next: Next) -> Response {
    let tagged = Context::of(&request)
        .route
        .is_some_and(|route| route.etag && route.method == Method::GET);
    if !tagged {
        return next.run(request).await;
    }
    let held: Vec<HeaderValue> = request
        .headers()
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .cloned()
        .collect();
    let response = next.run(request).await;
    let is_small = response
        .body()
        .size_hint()
        .upper()
        .is_some_and(|size| size <= MAX_BYTES);
    if !response.status().is_success() || !is_small {
        return response;
    }
    tag(response, &held).await
}

async fn tag(response: Response, held: &[HeaderValue]) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => {
            return ApiError::from(certctl_service::Error::internal(error)).into_response();
        }
    };
    let tag = format!("\"{}\"", hex::encode(digest(&SHA256, &bytes)));
    let matches = holds(held, &tag);
    let value = HeaderValue::from_str(&tag).expect("quotes and hex digits");
    parts.headers.insert(header::ETAG, value);
    if !matches {
        return Response::from_parts(parts, Body::from(bytes));
    }
    not_modified(parts.headers, bytes.len())
}

/// The length is that of the answer which is not sent, or none at all (RFC 9110 §8.6).
fn not_modified(mut headers: HeaderMap, length: usize) -> Response {
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    (StatusCode::NOT_MODIFIED, headers).into_response()
}

/// Whether the client holds what is tagged so; weak forms do not match.
fn holds(held: &[HeaderValue], tag: &str) -> bool {
    held.iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|entry| {
            let entry = entry.trim();
            entry == "*" || entry == tag
        })
}
