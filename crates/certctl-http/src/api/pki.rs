//! What verifiers ask, whoever they are: revocation lists and OCSP (api §31, protocols §3 and §4).
//!
//! Verifiers send no key, and most of them follow plain HTTP only, which this server does not speak: a proxy in front of it has to,
//! or the server that is verified staples the answer.

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use certctl_domain::{id::IssuerId, revocation::Shard, time::Timestamp};
use certctl_service::{
    crls::Crl,
    ocsp::{OcspAnswer, OcspQuestion},
};

use crate::{
    ApiError, AppState, PathId, PathIds,
    extract::RawBody,
    middleware::context::Client,
    routes::{RateClass, Route},
};

const CRL: &str = "application/pkix-crl";
const REQUEST: &str = "application/ocsp-request";
const RESPONSE: &str = "application/ocsp-response";
/// The greatest OCSP request, in bytes (protocols §4).
const MAX_REQUEST: usize = 64 * 1024;
/// How long caches may keep an answer at the most, in seconds.
const MAX_AGE: u64 = 3600;

pub(crate) fn routes() -> Vec<Route> {
    let unsupported = [StatusCode::NOT_IMPLEMENTED, StatusCode::SERVICE_UNAVAILABLE];
    vec![
        Route::get("/.well-known/pki/crl/{issuer_id}", "get_crl")
            .public()
            .tag("pki")
            .summary("The revocation list of an issuer")
            .refuses(&unsupported)
            .returns_media(CRL)
            .or_status(StatusCode::NOT_MODIFIED)
            .handler(get_crl),
        Route::get("/.well-known/pki/crl/{issuer_id}/{shard}", "get_crl_shard")
            .public()
            .tag("pki")
            .summary("A part of the revocation list of an issuer, named as 3-of-8")
            .refuses(&unsupported)
            .returns_media(CRL)
            .or_status(StatusCode::NOT_MODIFIED)
            .handler(get_crl_shard),
        // Questions have a limit of their own, which answers in the protocol.
        Route::get("/.well-known/pki/ocsp/{issuer_id}/{request}", "get_ocsp")
            .public()
            .tag("pki")
            .summary("Whether a certificate is revoked, by its serial in hex or by an OCSP request in base64")
            .rate_class(RateClass::Probe)
            .refuses(&unsupported)
            .refuses(&[StatusCode::BAD_REQUEST])
            .returns_media(RESPONSE)
            .handler(get_ocsp),
        Route::post("/.well-known/pki/ocsp/{issuer_id}", "post_ocsp")
            .public()
            .tag("pki")
            .summary("Whether certificates are revoked")
            .rate_class(RateClass::Probe)
            .body_limit(MAX_REQUEST)
            .accepts_media(REQUEST)
            .refuses(&unsupported)
            .refuses(&[StatusCode::UNSUPPORTED_MEDIA_TYPE])
            .returns_media(RESPONSE)
            .handler(post_ocsp),
    ]
}

async fn get_crl(
    State(state): State<AppState>,
    PathId(issuer): PathId<IssuerId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let crl = state.services.crl(&issuer, None).await?;
    Ok(served(crl, &headers, state.clock.now()))
}

async fn get_crl_shard(
    State(state): State<AppState>,
    PathIds(issuer, shard): PathIds<IssuerId, Shard>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let crl = state.services.crl(&issuer, Some(shard)).await?;
    Ok(served(crl, &headers, state.clock.now()))
}

/// Weak, because the same list may be signed twice.
fn served(crl: Crl, request: &HeaderMap, now: Timestamp) -> Response {
    let tag = format!("W/\"{}\"", crl.digest);
    let is_held = request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        // Weak comparison (RFC 9110 §8.8.3.2): only the opaque part counts.
        .any(|one| {
            let one = one.trim();
            one == "*" || one.trim_start_matches("W/") == tag.trim_start_matches("W/")
        });
    let mut headers = freshness(crl.this_update, crl.next_update, now, ", must-revalidate");
    headers.insert(header::ETAG, text(&tag));
    if is_held {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CRL));
    (headers, Body::from(Bytes::from_owner(crl.der))).into_response()
}

async fn get_ocsp(
    State(state): State<AppState>,
    PathIds(issuer, question): PathIds<IssuerId, String>,
    Client(client): Client,
) -> Result<Response, ApiError> {
    let question = OcspQuestion::Path(&question);
    let answer = state
        .services
        .answer_ocsp(client, &issuer, question)
        .await?;
    Ok(answered(answer, state.clock.now()))
}

async fn post_ocsp(
    State(state): State<AppState>,
    PathId(issuer): PathId<IssuerId>,
    Client(client): Client,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let is_request = headers.get(header::CONTENT_TYPE).is_none_or(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.is_empty() || value.contains("ocsp-request"))
    });
    if !is_request {
        return Err(ApiError::UnsupportedMediaType(REQUEST));
    }
    let question = OcspQuestion::Body(&body);
    let answer = state
        .services
        .answer_ocsp(client, &issuer, question)
        .await?;
    Ok(answered(answer, state.clock.now()))
}

fn answered(answer: OcspAnswer, now: Timestamp) -> Response {
    let mut headers = match answer.cacheable {
        Some((this_update, next_update)) => freshness(this_update, next_update, now, ""),
        None => {
            HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))])
        }
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(RESPONSE));
    if let Some(seconds) = answer.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    (headers, Body::from(Bytes::from_owner(answer.der))).into_response()
}

/// Caches may keep it until there is a newer one, and not longer than an hour (RFC 5019 §6.2).
fn freshness(
    this_update: Timestamp,
    next_update: Timestamp,
    now: Timestamp,
    more: &str,
) -> HeaderMap {
    let left = if next_update > now {
        next_update.since(now).as_secs()
    } else {
        0
    };
    HeaderMap::from_iter([
        (
            header::CACHE_CONTROL,
            text(&format!("public, max-age={}{more}", left.min(MAX_AGE))),
        ),
        (header::LAST_MODIFIED, text(&http_date(this_update))),
        (header::EXPIRES, text(&http_date(next_update))),
    ])
}

/// `IMF-fixdate` (RFC 9110 §5.6.7).
fn http_date(at: Timestamp) -> String {
    let since = std::time::Duration::from_secs(at.as_seconds().unsigned_abs());
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + since)
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("digits, letters and punctuation")
}
