//! JSON bodies. A missing or different content type is tolerated, unknown fields are ignored (api §1).

use std::{error::Error as StdError, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
};
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::{problem::ApiError, state::AppState};

/// Longest text about a body that is wrong, in bytes: serde quotes the value, which may be as long as the body.
const MAX_DETAIL: usize = 300;

/// Why a body cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidBody {
    /// It is larger than the route takes.
    #[error("the body is larger than this route takes")]
    TooLarge,
    /// It did not arrive in time.
    #[error("the body took too long to arrive")]
    TooSlow,
    /// It ended before its end.
    #[error("the body could not be read")]
    Unreadable,
    /// There is none.
    #[error("the body is empty; a JSON object is expected")]
    Empty,
    /// It is not JSON.
    #[error("the body is not valid JSON: {0}")]
    NotJson(String),
    /// It is JSON of another shape; the text names the field.
    #[error("{0}")]
    WrongShape(String),
}

impl InvalidBody {
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Unreadable | Self::Empty | Self::NotJson(_) | Self::WrongShape(_) => {
                StatusCode::BAD_REQUEST
            }
        }
    }
}

/// A JSON body that must be there.
#[derive(Debug)]
pub struct ApiJson<T>(pub T);

impl<T: DeserializeOwned> FromRequest<AppState> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let bytes = read(request.into_body(), state.settings.body_read_timeout).await?;
        if bytes.trim_ascii().is_empty() {
            return Err(InvalidBody::Empty.into());
        }
        Ok(Self(parse(&bytes)?))
    }
}

/// A JSON body, or none.
#[derive(Debug)]
pub struct OptionalJson<T>(pub Option<T>);

impl<T: DeserializeOwned> FromRequest<AppState> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let bytes = read(request.into_body(), state.settings.body_read_timeout).await?;
        if bytes.trim_ascii().is_empty() {
            return Ok(Self(None));
        }
        Ok(Self(Some(parse(&bytes)?)))
    }
}

/// A JSON body whose faults are forgiven, for heartbeats: what cannot be read is the default. Size still counts.
#[derive(Debug)]
pub struct LenientJson<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequest<AppState> for LenientJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let bytes = read(request.into_body(), state.settings.body_read_timeout).await?;
        Ok(Self(parse(&bytes).unwrap_or_default()))
    }
}

/// A body of any type, as it came.
#[derive(Debug)]
pub(crate) struct RawBody(pub(crate) Bytes);

impl FromRequest<AppState> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        Ok(Self(
            read(request.into_body(), state.settings.body_read_timeout).await?,
        ))
    }
}

/// Reads a body to its end. How much that may be was decided by the middleware, which wrapped the body.
async fn read(body: Body, within: Duration) -> Result<Bytes, InvalidBody> {
    let collected = tokio::time::timeout(within, body.collect())
        .await
        .map_err(|_| InvalidBody::TooSlow)?;
    collected
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| {
            if caused_by_limit(&error) {
                InvalidBody::TooLarge
            } else {
                InvalidBody::Unreadable
            }
        })
}

fn caused_by_limit(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, InvalidBody> {
    // Every body is an object; derived types would read an array as the fields in their order.
    if bytes.trim_ascii_start().starts_with(b"[") {
        let problem = "invalid type: array, expected a JSON object";
        return Err(InvalidBody::WrongShape(problem.to_owned()));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        match cause.classify() {
            Category::Data if path == "." => InvalidBody::WrongShape(shortened(&cause.to_string())),
            Category::Data => InvalidBody::WrongShape(shortened(&format!("{path}: {cause}"))),
            Category::Io | Category::Syntax | Category::Eof => {
                InvalidBody::NotJson(shortened(&cause.to_string()))
            }
        }
    })?;
    deserializer
        .end()
        .map_err(|error| InvalidBody::NotJson(error.to_string()))?;
    Ok(value)
}

/// Cuts out the middle, so that both the field and the position stay.
fn shortened(text: &str) -> String {
    if text.len() <= MAX_DETAIL {
        return text.to_owned();
    }
    let head = text.floor_char_boundary(MAX_DETAIL * 2 / 3);
    let tail = text.ceil_char_boundary(text.len() - MAX_DETAIL / 3);
    format!("{} … {}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::{MAX_DETAIL, parse};

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only what is wrong with it is looked at")]
    struct Team {
        name: String,
        tags: Option<BTreeMap<String, String>>,
    }

    fn refusal(body: &str) -> String {
        parse::<Team>(body.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_refusal_names_the_field_or_the_position() {
        assert_eq!(
            refusal(r#"{"name":3}"#),
            "name: invalid type: integer `3`, expected a string at line 1 column 9"
        );
        assert!(refusal(r#"{"name":"a","tags":{"x":[]}}"#).starts_with("tags.x: invalid type"));
        assert!(refusal("{}").starts_with("missing field `name`"));
        assert!(
            refusal("{").starts_with("the body is not valid JSON: EOF"),
            "{}",
            refusal("{")
        );
        for array in ["[]", r#" ["a", null]"#] {
            assert_eq!(
                refusal(array),
                "invalid type: array, expected a JSON object"
            );
        }
        assert!(refusal(r#"{"name":"a"} x"#).contains("trailing characters at line 1 column 14"));
        let deep = parse::<serde_json::Value>(r#"{"a":"#.repeat(100_000).as_bytes())
            .unwrap_err()
            .to_string();
        assert!(
            deep.starts_with("the body is not valid JSON: recursion limit"),
            "{deep}"
        );
    }

    #[test]
    fn a_refusal_stays_short_however_long_the_value_is() {
        let long = refusal(&format!(
            r#"{{"name":"a","tags":"{}"}}"#,
            "é".repeat(100_000)
        ));
        assert!(
            long.len() < MAX_DETAIL + 40 && long.starts_with("tags:") && long.contains("line 1"),
            "{long}"
        );
    }

    #[test]
    fn unknown_fields_are_ignored() {
        assert!(parse::<Team>(br#"{"name":"a","color":"red"}"#).is_ok());
    }
}
