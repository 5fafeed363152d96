#![doc = include_str!("../README.md")]

mod api;
mod app;
mod auth;
mod extract;
mod middleware;
mod openapi;
mod page;
mod problem;
mod routes;
mod settings;
mod state;
pub mod tls;
mod wire;

pub use app::App;
pub use auth::{AuthMode, AuthenticationError, Authenticator};
pub use certctl_domain::network::Network;
pub use extract::{
    ApiJson, ApiQuery, Bearer, Caller, InvalidBody, LenientJson, MaybeCaller, OptionalJson, Paging,
    PathId, PathIds, QueryPairs,
};
pub use middleware::context::{Peer, RequestId};
pub use openapi::{api_reference, openapi_document};
pub use page::Paged;
pub use problem::ApiError;
pub use routes::{Access, RateClass, Route, RouteBuilder, RouteInfo, acme_matrix, matrix};
pub use settings::{AcmeHttp, CorsOrigins, HttpSettings, Rate, RateLimits};
pub use state::{AppState, BuildInfo, Capabilities, Database, Readiness};
pub use wire::Rfc3339;
