//! Signed requests. A handler hands the request on and dresses the answer.

use axum::{
    extract::{FromRequestParts, Query},
    http::{HeaderMap, request::Parts},
    response::Response,
};
use certctl_acme::resource::CHAIN_MEDIA_TYPE;
use certctl_domain::acme::{Problem, ProblemType};
use certctl_service::acme::OrderAnswer;
use http::{StatusCode, header};
use serde::Deserialize;

use super::{answer::Reply, problem::Refused, request::Signed};

pub(super) async fn new_account(signed: Signed) -> Result<Response, Refused> {
    let Signed {
        acme,
        urls,
        request,
        ..
    } = signed;
    let answer = acme.new_account(request).await.map_err(|refusal| {
        let terms = acme.config().terms_url.clone();
        match terms.filter(|_| refusal.link_terms) {
            Some(terms) => Refused::Terms(Box::new(refusal), terms),
            None => refusal.into(),
        }
    })?;
    let status = if answer.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(Reply::json(status, &answer.account)
        .at(&urls.account(&answer.id))
        .done())
}

pub(super) async fn account(signed: Signed) -> Result<Response, Refused> {
    let answer = signed.acme.account(signed.request, &signed.id).await?;
    Ok(Reply::json(StatusCode::OK, &answer.account).done())
}

/// Where a page of orders begins.
#[derive(Debug, Deserialize)]
pub(super) struct From {
    cursor: Option<String>,
}

/// The query of the list of orders. One that cannot be read is a cursor that nobody gave out.
pub(super) struct Cursor(Option<String>);

impl<S: Sync> FromRequestParts<S> for Cursor {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        Query::<From>::try_from_uri(&parts.uri)
            .map(|query| Self(query.0.cursor))
            .map_err(|_| Problem::new(ProblemType::Malformed, "the query cannot be read").into())
    }
}

pub(super) async fn orders(Cursor(cursor): Cursor, signed: Signed) -> Result<Response, Refused> {
    let Signed {
        acme,
        urls,
        request,
        id,
        ..
    } = signed;
    let answer = acme.orders(request, &id, cursor.as_deref()).await?;
    let reply = Reply::json(StatusCode::OK, &answer.orders);
    Ok(match answer.next_cursor {
        // Cursors are of the alphabet of base64url, which needs no escapes in a query.
        Some(next) => reply.link(
            &format!("{}?cursor={next}", urls.at(&format!("account/{id}/orders"))),
            "next",
        ),
        None => reply,
    }
    .done())
}

pub(super) async fn new_order(signed: Signed) -> Result<Response, Refused> {
    let urls = signed.urls;
    let answer = signed.acme.new_order(signed.request).await?;
    Ok(order_reply(StatusCode::CREATED, &answer)
        .at(&urls.order(&answer.id))
        .done())
}

pub(super) async fn order(signed: Signed) -> Result<Response, Refused> {
    let answer = signed.acme.order(signed.request, &signed.id).await?;
    Ok(order_reply(StatusCode::OK, &answer).done())
}

pub(super) async fn finalize(signed: Signed) -> Result<Response, Refused> {
    let urls = signed.urls;
    let answer = signed.acme.finalize(signed.request, &signed.id).await?;
    Ok(order_reply(StatusCode::OK, &answer)
        .at(&urls.order(&answer.id))
        .done())
}

fn order_reply(status: StatusCode, answer: &OrderAnswer) -> Reply {
    Reply::json(status, &answer.order).again_in(answer.retry_after)
}

pub(super) async fn authorization(signed: Signed) -> Result<Response, Refused> {
    let body = signed
        .acme
        .authorization(signed.request, &signed.id)
        .await?;
    Ok(Reply::json(StatusCode::OK, &body).done())
}

pub(super) async fn challenge(signed: Signed) -> Result<Response, Refused> {
    let urls = signed.urls;
    let answer = signed.acme.challenge(signed.request, &signed.id).await?;
    Ok(Reply::json(StatusCode::OK, &answer.challenge)
        .link(&urls.authorization(&answer.authorization), "up")
        .again_in(answer.retry_after)
        .done())
}

pub(super) async fn certificate(headers: HeaderMap, signed: Signed) -> Result<Response, Refused> {
    takes_chains(&headers)?;
    // No issuer has several chains for one certificate, so there is none to link to (RFC 8555 §7.4.2).
    let download = signed.acme.certificate(signed.request, &signed.id).await?;
    Ok(Reply::of(StatusCode::OK, CHAIN_MEDIA_TYPE, download.chain_pem).done())
}

/// Refuses a client that would not read what there is (RFC 9110 §12.5.1).
fn takes_chains(headers: &HeaderMap) -> Result<(), Refused> {
    let mut accepted = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .peekable();
    let takes = |range: &str| {
        ["*/*", "application/*", CHAIN_MEDIA_TYPE]
            .iter()
            .any(|one| range.eq_ignore_ascii_case(one))
    };
    if accepted.peek().is_none() || accepted.any(takes) {
        return Ok(());
    }
    let problem = Problem::new(
        ProblemType::Malformed,
        "the certificate is there as application/pem-certificate-chain only",
    );
    Err(problem.with_status(406).into())
}

pub(super) async fn key_change(signed: Signed) -> Result<Response, Refused> {
    let answer = signed.acme.key_change(signed.request).await?;
    Ok(Reply::json(StatusCode::OK, &answer.account).done())
}

pub(super) async fn revoke(signed: Signed) -> Result<Response, Refused> {
    signed.acme.revoke(signed.request).await?;
    Ok(Reply::empty(StatusCode::OK).done())
}
