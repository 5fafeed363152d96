//! The envelope of lists (api §8).

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use certctl_domain::page::{Page, PageRequest};
use schemars::JsonSchema;
use serde::Serialize;

/// One page of a list on the wire.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub struct Paged<T> {
    /// The rows; past the end of the list there are none.
    pub data: Vec<T>,
    /// How many rows match in all.
    pub total: i64,
    /// The number of this page, from 1.
    pub page: u32,
    /// Rows on a page.
    pub per_page: u32,
}

impl<T> Paged<T> {
    /// Puts a page of something into the envelope.
    pub fn new<U>(page: Page<U>, request: PageRequest, each: impl FnMut(U) -> T) -> Self {
        Self {
            total: page.total,
            data: page.rows.into_iter().map(each).collect(),
            page: request.page(),
            per_page: request.per_page(),
        }
    }
}

impl<T: Serialize> IntoResponse for Paged<T> {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}
