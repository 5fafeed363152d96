//! What a request for the ACME server is: which family it is of, where its URLs begin, and for signed ones the body.

use std::net::IpAddr;

use axum::{
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
    http::{StatusCode, Uri, header, request::Parts, uri::Authority},
};
use certctl_acme::urls::{Family, Urls};
use certctl_domain::{
    acme::{Problem, ProblemType},
    id::ProfileId,
};
use certctl_service::acme::{Acme, SignedRequest};

use super::{
    JOSE,
    problem::{Refused, switched_off},
};
use crate::{
    ApiError, AppState, HttpSettings,
    extract::{InvalidBody, RawBody},
    middleware::context::Context,
};

/// What the path and the `Host` of a request say, for its answer.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The URLs of its family; none when it does not say which host it asks.
    pub(crate) urls: Option<Urls>,
    pub(crate) is_signed: bool,
    pub(crate) is_directory: bool,
}

impl Asked {
    /// None when the path is not one of the ACME server.
    pub(crate) fn of(request: &Request, settings: &HttpSettings) -> Option<Self> {
        let path = request.uri().path();
        if !super::is_ours(path) {
            return None;
        }
        let family = family(path);
        let origin = origin(request.uri(), request.headers(), settings);
        Some(Self {
            urls: family
                .zip(origin)
                .map(|(family, origin)| Urls::new(&origin, family)),
            is_signed: request.method() == http::Method::POST,
            is_directory: path.ends_with("/directory"),
        })
    }
}

/// The family that a path is of; none when the profile in it cannot be one.
fn family(path: &str) -> Option<Family> {
    let Some(rest) = path.strip_prefix("/acme/profile/") else {
        return Some(Family::Shorthand);
    };
    let id = rest.split('/').next().unwrap_or_default();
    ProfileId::parse(id).ok().map(Family::Profile)
}

/// Where URLs begin: as configured, else `https` and the host that was asked. What proxies say is not believed: it could be
/// anybody's word, and the client signs what it asked for.
fn origin(uri: &Uri, headers: &http::HeaderMap, settings: &HttpSettings) -> Option<String> {
    if let Some(base) = &settings.acme.base_url {
        return Some(base.clone());
    }
    // HTTP/2 has the host in the URI (RFC 9113 §8.3.1), HTTP/1.1 in a header.
    let of_header = || {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next()?.to_str().ok()?;
        if hosts.next().is_some() {
            return None;
        }
        host.parse::<Authority>().ok()
    };
    let authority = uri.authority().cloned().or_else(of_header)?;
    let host = authority.as_str();
    (!host.contains('@') && !authority.host().is_empty()).then(|| format!("https://{host}"))
}

/// A request whose family and profile are known.
pub(super) struct Unsigned {
    pub(super) acme: Acme,
    pub(super) urls: Urls,
    pub(super) profile: ProfileId,
    /// The whole URL.
    url: String,
    client: Option<IpAddr>,
}

impl FromRequestParts<AppState> for Unsigned {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Refused> {
        let acme = state.services.acme().ok_or_else(switched_off)?;
        let path = parts.uri.path();
        let family = family(path).ok_or_else(|| {
            Problem::new(ProblemType::UserActionRequired, "there is no such profile")
                .with_status(404)
        })?;
        let origin = origin(&parts.uri, &parts.headers, &state.settings).ok_or_else(|| {
            Problem::new(
                ProblemType::Malformed,
                "the request must name the host it asks, once",
            )
        })?;
        // Before the nonce is looked at (acme-server §1).
        let profile = acme.resolve(&family).await?;
        let asked = parts
            .uri
            .path_and_query()
            .map_or(path, |whole| whole.as_str());
        Ok(Self {
            acme,
            url: format!("{origin}{asked}"),
            urls: Urls::new(&origin, family),
            profile,
            client: parts
                .extensions
                .get::<Context>()
                .map(|context| context.client),
        })
    }
}

/// A signed request, not yet looked into.
pub(super) struct Signed {
    pub(super) acme: Acme,
    pub(super) urls: Urls,
    pub(super) request: SignedRequest,
    /// The parameter `id` of the path, as it stands there; empty where the route has none.
    pub(super) id: String,
}

impl FromRequest<AppState> for Signed {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Refused> {
        let (mut parts, body) = request.into_parts();
        let Unsigned {
            acme,
            urls,
            profile,
            url,
            client,
        } = Unsigned::from_request_parts(&mut parts, state).await?;
        if !is_jose(&parts.headers) {
            return Err(Refused::Blank(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body must be application/jose+json",
            ));
        }
        let params = RawPathParams::from_request_parts(&mut parts, state).await;
        let parameter = |wanted: &str| {
            let params = params.as_ref().ok()?;
            let found = params.iter().find(|(name, _)| *name == wanted)?;
            Some(found.1.to_owned())
        };
        let id = parameter("id").unwrap_or_default();
        let body = RawBody::from_request(Request::from_parts(parts, body), state)
            .await
            .map_err(body_refused)?;
        Ok(Self {
            acme,
            request: SignedRequest {
                urls: urls.clone(),
                profile,
                url,
                body: body.0.into(),
                client,
            },
            urls,
            id,
        })
    }
}

/// The media type in any case, with or without parameters (RFC 9110 §8.3.1).
fn is_jose(headers: &http::HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|media| media.trim().eq_ignore_ascii_case(JOSE))
}

fn body_refused(error: ApiError) -> Refused {
    Refused::Api(match error {
        ApiError::Body(error) => ApiError::Body(error),
        _ => ApiError::Body(InvalidBody::Unreadable),
    })
}
