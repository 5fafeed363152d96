//! The ACME server (RFC 8555, RFC 9773, acme-server §1): carries the use cases of `certctl_service::acme`, and decides nothing.
//!
//! Its routes are declared like all others, so that they pass the same middleware, but they are no part of the API: who asks is
//! told by the signature on each request, errors are problem documents, and the OpenAPI document leaves them out. Each route is
//! there twice, below `/acme/` and below `/acme/profile/{profile_id}/`; a client is answered with URLs of the family it uses.

mod answer;
mod problem;
mod request;
mod signed;
mod unsigned;

use http::StatusCode;

pub(crate) use self::{
    problem::{Told, forbidden, refused, switched_off},
    request::Asked,
};
use crate::routes::{Route, RouteBuilder};

/// The media type of signed requests (RFC 8555 §6.2).
const JOSE: &str = "application/jose+json";
/// The greatest signed request, in bytes (acme-server §1).
const MAX_BODY: usize = 64 * 1024;

/// A path in both families.
macro_rules! both {
    ($suffix:literal) => {
        [
            concat!("/acme/", $suffix),
            concat!("/acme/profile/{profile_id}/", $suffix),
        ]
    };
}

/// All routes of both families.
pub(crate) fn routes() -> Vec<Route> {
    let mut routes = Vec::new();
    for path in both!("directory") {
        routes.push(get(path, "acme_directory").handler(unsigned::directory));
    }
    for path in both!("new-nonce") {
        routes.push(get(path, "acme_new_nonce").handler(unsigned::new_nonce));
    }
    for path in both!("renewal-info/{cert_id}") {
        routes.push(get(path, "acme_renewal_info").handler(unsigned::renewal_info));
    }
    for path in both!("new-account") {
        routes.push(post(path, "acme_new_account").handler(signed::new_account));
    }
    for path in both!("account/{id}") {
        routes.push(post(path, "acme_account").handler(signed::account));
    }
    for path in both!("account/{id}/orders") {
        routes.push(post(path, "acme_orders").handler(signed::orders));
    }
    for path in both!("new-order") {
        routes.push(post(path, "acme_new_order").handler(signed::new_order));
    }
    for path in both!("order/{id}") {
        routes.push(post(path, "acme_order").handler(signed::order));
    }
    for path in both!("order/{id}/finalize") {
        routes.push(post(path, "acme_finalize").handler(signed::finalize));
    }
    for path in both!("authz/{id}") {
        routes.push(post(path, "acme_authorization").handler(signed::authorization));
    }
    for path in both!("challenge/{id}") {
        routes.push(post(path, "acme_challenge").handler(signed::challenge));
    }
    for path in both!("cert/{id}") {
        routes.push(post(path, "acme_certificate").handler(signed::certificate));
    }
    for path in both!("key-change") {
        routes.push(post(path, "acme_key_change").handler(signed::key_change));
    }
    for path in both!("revoke-cert") {
        routes.push(post(path, "acme_revoke").handler(signed::revoke));
    }
    routes
}

fn get(path: &'static str, name: &'static str) -> RouteBuilder<crate::routes::NeedsHandler> {
    Route::get(path, name)
        .public()
        .tag("acme")
        .returns_media("application/json")
}

/// A signed request. It is carried out although its client hangs up, since its nonce is used up.
fn post(path: &'static str, name: &'static str) -> RouteBuilder<crate::routes::NeedsHandler> {
    Route::post(path, name)
        .public()
        .tag("acme")
        .body_limit(MAX_BODY)
        .accepts_media(JOSE)
        .refuses(&[StatusCode::UNSUPPORTED_MEDIA_TYPE])
        .returns_media("application/json")
}

/// Whether a path is one of ours, be there a route for it or not.
pub(crate) fn is_ours(path: &str) -> bool {
    path == "/acme" || path.starts_with("/acme/")
}

#[cfg(test)]
mod tests;
