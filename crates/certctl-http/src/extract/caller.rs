//! Who asks.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use certctl_domain::{access::Actor, secret::Secret};
use http::{header, request::Parts};

use crate::problem::ApiError;

/// The actor that authentication found. Handlers of public routes cannot have one.
#[derive(Debug, Clone)]
pub struct Caller(pub Actor);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts
            .extensions
            .get::<Actor>()
            .cloned()
            .map(Self)
            .ok_or(ApiError::NoIdentity)
    }
}

/// The actor, where the route recognises one without asking for it.
#[derive(Debug, Clone)]
pub struct MaybeCaller(pub Option<Actor>);

impl<S: Sync> FromRequestParts<S> for MaybeCaller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<Actor>().cloned()))
    }
}

/// The bearer credential as it was sent, for routes that compare it themselves (enrolment).
pub struct Bearer(pub Option<Secret>);

impl<S: Sync> FromRequestParts<S> for Bearer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let token = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| bearer_token(value.to_str().ok()?));
        Ok(Self(token.map(|token| Secret::from(token.to_owned()))))
    }
}

/// The token of `Bearer <token>`; the scheme is matched without regard to case (RFC 9110 §11.1).
pub(crate) fn bearer_token(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' '))
        .then_some(token)
}

#[cfg(test)]
mod tests {
    use super::bearer_token;

    #[test]
    fn only_a_scheme_and_one_token_are_a_bearer_credential() {
        for (header, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            ("BEARER  abc ", Some("abc")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearer a b", None),
            ("Basic abc", None),
            ("abc", None),
        ] {
            assert_eq!(bearer_token(header), token, "{header:?}");
        }
    }
}
