//! Which pages of other origins may call (api §5).

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{Shared, context::Context};
use crate::{routes::Access, settings::CorsOrigins};

const METHODS: &str = "GET, POST, PUT, DELETE, PATCH, OPTIONS";
const HEADERS: &str = "Content-Type, Authorization, X-Request-ID, X-CSRF-Token";
/// A day, in seconds.
const MAX_AGE: &str = "86400";

pub(super) async fn apply(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let context = Context::of(&request);
    let origin = request.headers().get(header::ORIGIN).cloned();
    let permitted = permitted(&context, &shared.state.settings.cors, origin);
    let preflight = *request.method() == Method::OPTIONS;
    let mut response = if preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    permitted.write(response.headers_mut(), preflight);
    response
}

/// What a response says of origins.
enum Permitted {
    /// Nothing: CORS is off here.
    Unsaid,
    /// Any page may read it.
    Any,
    /// This page may read it.
    Origin(HeaderValue),
    /// This page may not, another might.
    Other,
}

fn permitted(context: &Context, origins: &CorsOrigins, origin: Option<HeaderValue>) -> Permitted {
    if context.path.as_ref().is_some_and(|path| path.any_origin()) {
        return Permitted::Any;
    }
    if context
        .route
        .as_ref()
        .is_some_and(|route| route.access == Access::Public)
    {
        return Permitted::Unsaid;
    }
    match origins {
        CorsOrigins::Any => Permitted::Any,
        CorsOrigins::Listed(listed) if listed.is_empty() => Permitted::Unsaid,
        CorsOrigins::Listed(listed) => match origin {
            Some(origin)
                if listed
                    .iter()
                    .any(|entry| entry.as_bytes() == origin.as_bytes()) =>
            {
                Permitted::Origin(origin)
            }
            _ => Permitted::Other,
        },
    }
}

impl Permitted {
    fn write(self, headers: &mut HeaderMap, preflight: bool) {
        let allowed = match self {
            Self::Unsaid => return,
            Self::Any => HeaderValue::from_static("*"),
            Self::Origin(origin) => {
                headers.append(header::VARY, HeaderValue::from_static("Origin"));
                origin
            }
            // Said even when the origin is refused, or a cache would serve the refusal to an origin that is listed.
            Self::Other => {
                headers.append(header::VARY, HeaderValue::from_static("Origin"));
                return;
            }
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if preflight {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static(METHODS),
            );
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static(HEADERS),
            );
            headers.insert(
                header::ACCESS_CONTROL_MAX_AGE,
                HeaderValue::from_static(MAX_AGE),
            );
        }
    }
}
