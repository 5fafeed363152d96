//! Answers of the ACME server.

use axum::{body::Body, response::Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::problem::{link, value};

/// An answer under way.
pub(super) struct Reply(Response);

impl Reply {
    /// JSON.
    pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(body).expect("resources have text keys only");
        Self::of(status, "application/json", bytes)
    }

    /// Something of another type.
    pub(super) fn of(status: StatusCode, media: &'static str, body: impl Into<Body>) -> Self {
        let mut response = Response::new(body.into());
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        Self(response)
    }

    /// Nothing.
    pub(super) fn empty(status: StatusCode) -> Self {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        Self(response)
    }

    /// Where what was made is.
    pub(super) fn at(mut self, url: &str) -> Self {
        if let Some(url) = value(url) {
            self.0.headers_mut().insert(header::LOCATION, url);
        }
        self
    }

    /// When to ask again, if ever.
    pub(super) fn again_in(mut self, seconds: Option<u64>) -> Self {
        if let Some(seconds) = seconds {
            self.0
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        self
    }

    /// With a link.
    pub(super) fn link(mut self, url: &str, relation: &str) -> Self {
        link(&mut self.0, url, relation);
        self
    }

    /// With a header.
    pub(super) fn header(mut self, name: http::HeaderName, text: &str) -> Self {
        if let Some(text) = value(text) {
            self.0.headers_mut().insert(name, text);
        }
        self
    }

    pub(super) fn done(self) -> Response {
        self.0
    }
}
