//! The one table of routes.
//!
//! A [`Route`] declares everything the outside can know of an operation: method, path, who may call it, limits, what it
//! takes and answers. The router, the permission gate, the labels of the metrics, the 405s and the OpenAPI document are all
//! read from this table, so that a route which is undocumented or unguarded cannot be written.

mod builder;
mod table;

use axum::routing::MethodRouter;
use certctl_domain::access::Permission;
use http::{Method, StatusCode};
use schemars::{Schema, SchemaGenerator};

pub(crate) use builder::NeedsHandler;
pub use builder::RouteBuilder;
pub(crate) use table::{PathEntry, Table};

use crate::{api, state::AppState};

/// All routes, in the order of the contract.
pub(crate) fn all() -> Vec<Route> {
    [
        api::agents::routes(),
        api::approvals::routes(),
        api::audit::routes(),
        api::certificates::routes(),
        api::jobs::routes(),
        api::teams::routes(),
        api::owners::routes(),
        api::policies::routes(),
        api::agent_groups::routes(),
        api::renewal_policies::routes(),
        api::profiles::routes(),
        api::issuers::routes(),
        api::targets::routes(),
        api::auth::routes(),
        api::admin::routes(),
        api::pki::routes(),
        api::meta::routes(),
        api::notifications::routes(),
        api::stats::routes(),
        api::metrics::routes(),
        api::acme_operators::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The routes of the ACME server, which are no part of the API.
pub(crate) fn acme() -> Vec<Route> {
    api::acme::routes()
}

/// What is declared of the routes of the ACME server, for tests that walk them.
#[must_use]
pub fn acme_matrix() -> Vec<RouteInfo> {
    acme().into_iter().map(|route| route.info).collect()
}

/// What the table declares of every route, for tests that walk it.
#[must_use]
pub fn matrix() -> Vec<RouteInfo> {
    all().into_iter().map(|route| route.info).collect()
}

/// A row of the table: what is declared, and the handler.
pub struct Route {
    pub(crate) info: RouteInfo,
    pub(crate) handler: MethodRouter<AppState>,
}

/// What the table declares of one route.
#[derive(Debug, Clone)]
pub struct RouteInfo {
    /// The method; a `GET` is served for `HEAD` too, unless it is detached.
    pub method: Method,
    /// The path with its parameters in braces; also the label of metrics.
    pub path: &'static str,
    /// The name of the operation: the handler's.
    pub operation_id: &'static str,
    /// One line for the reader of the API's description.
    pub summary: String,
    /// The noun the operation belongs to.
    pub tag: String,
    /// Who may call it.
    pub access: Access,
    /// Most bytes of the body where that is not the setting.
    pub body_limit: Option<usize>,
    /// Which buckets it takes from.
    pub rate_class: RateClass,
    /// Whether answers carry an `ETag` (api §7).
    pub etag: bool,
    /// Whether pages of any origin may read it.
    pub any_origin: bool,
    /// Whether it is carried out to its end although its client hangs up: whatever changes something, and a `GET` that was
    /// declared so. Such a `GET` is not served for `HEAD`, which promises to change nothing (RFC 9110 §9.2.1).
    pub detached: bool,
    pub(crate) wire: Wire,
}

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone; nobody is asked who they are.
    Public,
    /// Anyone, but a key that is known is recognised; the use case decides (enrolment).
    Optional,
    /// Whoever has a key.
    Authenticated,
    /// Whoever holds the permission for everything.
    Permission(Permission),
    /// Whoever holds the permission for everything or for the issuer that the path names as `{id}`.
    PermissionAtIssuer(Permission),
    /// Whoever holds the permission for everything or for the profile that the path names as `{id}`.
    PermissionAtProfile(Permission),
}

impl Access {
    /// The permission it takes.
    #[must_use]
    pub const fn permission(self) -> Option<Permission> {
        match self {
            Self::Public | Self::Optional | Self::Authenticated => None,
            Self::Permission(permission)
            | Self::PermissionAtIssuer(permission)
            | Self::PermissionAtProfile(permission) => Some(permission),
        }
    }

    /// Whether a caller without a key is refused.
    #[must_use]
    pub const fn needs_identity(self) -> bool {
        !matches!(self, Self::Public | Self::Optional)
    }
}

/// Which token buckets a route takes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateClass {
    /// Those of the client address and of the actor.
    Api,
    /// None: probes, which must answer when a neighbour behind the same address floods the server.
    Probe,
    /// One of its own for the client address: scrapers are not starved by the API traffic beside them, and the route is
    /// no way around the limits for guessing keys either.
    Scrape,
}

/// What a route takes and answers, for the API's description.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) request: Option<RequestBody>,
    pub(crate) query: Vec<SchemaOf>,
    pub(crate) paged: bool,
    pub(crate) answers: Vec<Answer>,
    pub(crate) refusals: Vec<StatusCode>,
    /// Bodies that refusals of a status may have beside that of the status everywhere.
    pub(crate) refusal_shapes: Vec<(StatusCode, SchemaOf)>,
}

/// Makes the schema of a type, naming it among the components.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a route takes.
#[derive(Debug, Clone)]
pub(crate) struct RequestBody {
    pub(crate) required: bool,
    pub(crate) content_type: &'static str,
    pub(crate) schema: Option<SchemaOf>,
}

/// What a route answers when it did what was asked.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content: Option<(&'static str, Option<SchemaOf>)>,
}
