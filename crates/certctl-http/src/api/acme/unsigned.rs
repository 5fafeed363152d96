//! Requests without a signature: directory, nonces, when to renew.

use axum::{extract::RawPathParams, response::Response};
use http::{Method, StatusCode, header};

use super::{
    answer::Reply,
    problem::{REPLAY_NONCE, Refused},
    request::Unsigned,
};

pub(super) async fn directory(asked: Unsigned) -> Result<Response, Refused> {
    let body = asked.acme.directory(&asked.urls, &asked.profile).await?;
    Ok(Reply::json(StatusCode::OK, &body)
        .header(header::CACHE_CONTROL, "public, max-age=0, no-cache")
        .done())
}

/// 200 to a HEAD, 204 to a GET (RFC 8555 §7.2).
pub(super) async fn new_nonce(method: Method, asked: Unsigned) -> Result<Response, Refused> {
    let nonce = asked.acme.new_nonce().await?;
    let status = if method == Method::HEAD {
        StatusCode::OK
    } else {
        StatusCode::NO_CONTENT
    };
    Ok(Reply::empty(status).header(REPLAY_NONCE, &nonce).done())
}

pub(super) async fn renewal_info(
    params: RawPathParams,
    asked: Unsigned,
) -> Result<Response, Refused> {
    let id = params.iter().find(|(name, _)| *name == "cert_id");
    let id = id.map_or("", |(_, value)| value);
    let answer = asked
        .acme
        .renewal_info(&asked.urls, &asked.profile, id)
        .await?;
    Ok(Reply::json(StatusCode::OK, &answer.body)
        .again_in(Some(answer.retry_after))
        .done())
}
