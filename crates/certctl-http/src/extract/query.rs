//! Query parameters.

use std::{borrow::Cow, collections::HashSet};

use axum::extract::{FromRequestParts, Query};
use certctl_domain::page::PageRequest;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::problem::ApiError;

/// The query as a type; what does not fit is refused.
#[derive(Debug)]
pub struct ApiQuery<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(value)| Self(value))
            .map_err(|rejection| ApiError::Query(rejection.body_text()))
    }
}

/// The parameters as they came, for routes that ignore what they cannot read.
#[derive(Debug, Clone, Default)]
pub struct QueryPairs(Vec<(String, String)>);

impl QueryPairs {
    /// The first value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is there, be it empty.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A parameter that says yes: `true` or `1`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    /// The page asked for; what is no number becomes the default.
    #[must_use]
    pub fn page(&self) -> PageRequest {
        PageRequest::lenient(self.get("page"), self.get("per_page"))
    }
}

impl<S: Sync> FromRequestParts<S> for QueryPairs {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let pairs = Query::<Vec<(Cow<'_, str>, Cow<'_, str>)>>::try_from_uri(&parts.uri);
        let pairs = pairs.map(|Query(pairs)| pairs).unwrap_or_default();
        // PostgreSQL has no text with a NUL, and would refuse the statement.
        if let Some((name, _)) = pairs.iter().find(|(_, value)| value.contains('\0')) {
            let name = name.replace('\0', "");
            return Err(ApiError::Query(format!("{name}: contains a NUL character")));
        }
        // Which of two values counts is told differently by every proxy and framework on the way.
        let mut seen = HashSet::with_capacity(pairs.len());
        if let Some((name, _)) = pairs.iter().find(|(name, _)| !seen.insert(name.as_ref())) {
            let name = name.replace('\0', "");
            return Err(ApiError::Query(format!("{name}: is given more than once")));
        }
        Ok(Self(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into_owned(), value.into_owned()))
                .collect(),
        ))
    }
}

/// The page asked for (api §8); what is no number becomes the default.
#[derive(Debug, Clone, Copy)]
pub struct Paging(pub PageRequest);

impl<S: Sync> FromRequestParts<S> for Paging {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        QueryPairs::from_request_parts(parts, state)
            .await
            .map(|pairs| Self(pairs.page()))
    }
}
