//! Declares routes. The type of the builder knows what has not been said yet, so that no route is without access rule,
//! answer and handler.

use std::marker::PhantomData;

use axum::{
    handler::Handler,
    routing::{MethodFilter, on},
};
use certctl_domain::access::Permission;
use http::{Method, StatusCode};
use schemars::JsonSchema;

use super::{Access, Answer, RateClass, RequestBody, Route, RouteInfo, SchemaOf, Wire};
use crate::{page::Paged, state::AppState};

const JSON: &str = "application/json";

/// A route whose access rule has not been declared.
#[derive(Debug)]
pub struct NeedsAccess;
/// A route whose answer has not been declared.
#[derive(Debug)]
pub struct NeedsAnswer;
/// A route that lacks only its handler.
#[derive(Debug)]
pub struct NeedsHandler;

/// A route being declared; say access, then limits and input, then the answer, then the handler.
#[derive(Debug)]
#[must_use]
pub struct RouteBuilder<S> {
    info: RouteInfo,
    missing: PhantomData<S>,
}

impl Route {
    /// A route for reading.
    pub fn get(path: &'static str, operation_id: &'static str) -> RouteBuilder<NeedsAccess> {
        RouteBuilder::new(Method::GET, path, operation_id)
    }

    /// A route for making or doing something.
    pub fn post(path: &'static str, operation_id: &'static str) -> RouteBuilder<NeedsAccess> {
        RouteBuilder::new(Method::POST, path, operation_id)
    }

    /// A route for changing something.
    pub fn put(path: &'static str, operation_id: &'static str) -> RouteBuilder<NeedsAccess> {
        RouteBuilder::new(Method::PUT, path, operation_id)
    }

    /// A route for removing something.
    pub fn delete(path: &'static str, operation_id: &'static str) -> RouteBuilder<NeedsAccess> {
        RouteBuilder::new(Method::DELETE, path, operation_id)
    }
}

impl RouteBuilder<NeedsAccess> {
    fn new(method: Method, path: &'static str, operation_id: &'static str) -> Self {
        let info = RouteInfo {
            path,
            operation_id,
            summary: sentence(operation_id),
            tag: noun(path).to_owned(),
            access: Access::Authenticated,
            body_limit: None,
            rate_class: RateClass::Api,
            etag: false,
            any_origin: false,
            detached: !method.is_safe(),
            method,
            wire: Wire {
                request: None,
                query: Vec::new(),
                paged: false,
                answers: Vec::new(),
                refusals: Vec::new(),
                refusal_shapes: Vec::new(),
            },
        };
        Self {
            info,
            missing: PhantomData,
        }
    }

    /// Anyone may call it.
    pub fn public(self) -> RouteBuilder<NeedsAnswer> {
        self.access(Access::Public)
    }

    /// Anyone may call it; a key that is known is recognised.
    pub fn optionally_authenticated(self) -> RouteBuilder<NeedsAnswer> {
        self.access(Access::Optional)
    }

    /// Whoever has a key may call it.
    pub fn authenticated(self) -> RouteBuilder<NeedsAnswer> {
        self.access(Access::Authenticated)
    }

    /// The permission is needed for everything.
    pub fn permission(self, permission: Permission) -> RouteBuilder<NeedsAnswer> {
        self.access(Access::Permission(permission))
    }

    /// The permission is needed, for the issuer `{id}` at least.
    pub fn permission_at_issuer(self, permission: Permission) -> RouteBuilder<NeedsAnswer> {
        self.access(Access::PermissionAtIssuer(permission))
    }

    /// The permission is needed, for the profile `{id}` at least.
    pub fn permission_at_profile(self, permission: Permission) -> RouteBuilder<NeedsAnswer> {
        self.access(Access::PermissionAtProfile(permission))
    }

    fn access(mut self, access: Access) -> RouteBuilder<NeedsAnswer> {
        self.info.access = access;
        self.now()
    }
}

impl<S> RouteBuilder<S> {
    /// What the operation does, in one line; the operation id in words where this is not said.
    pub fn summary(mut self, summary: &str) -> Self {
        summary.clone_into(&mut self.info.summary);
        self
    }

    /// The noun it belongs to; the first segment of the path where this is not said.
    pub fn tag(mut self, tag: &str) -> Self {
        tag.clone_into(&mut self.info.tag);
        self
    }

    /// Most bytes of the body.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.info.body_limit = Some(bytes);
        self
    }

    /// Which buckets it takes from.
    pub fn rate_class(mut self, class: RateClass) -> Self {
        self.info.rate_class = class;
        self
    }

    /// Its answers carry an `ETag`.
    pub fn etag(mut self) -> Self {
        self.info.etag = true;
        self
    }

    /// Pages of any origin may read it.
    pub fn any_origin(mut self) -> Self {
        self.info.any_origin = true;
        self
    }

    /// It changes something although it is a `GET`: it goes on when its client hangs up, and is not served for `HEAD`.
    pub fn detached(mut self) -> Self {
        self.info.detached = true;
        self
    }

    /// Takes JSON of this type.
    pub fn accepts<T: JsonSchema>(mut self) -> Self {
        self.info.wire.request = Some(RequestBody {
            required: true,
            content_type: JSON,
            schema: Some(schema::<T>),
        });
        self
    }

    /// Takes JSON of this type, or nothing.
    pub fn accepts_optional<T: JsonSchema>(mut self) -> Self {
        self.info.wire.request = Some(RequestBody {
            required: false,
            content_type: JSON,
            schema: Some(schema::<T>),
        });
        self
    }

    /// Takes something other than JSON.
    pub fn accepts_media(mut self, content_type: &'static str) -> Self {
        self.info.wire.request = Some(RequestBody {
            required: true,
            content_type,
            schema: None,
        });
        self
    }

    /// Takes parameters in the query: the properties of this type.
    pub fn query<T: JsonSchema>(mut self) -> Self {
        self.info.wire.query.push(schema::<T>);
        self
    }

    /// Statuses it may refuse with beyond those that follow from access, body and path.
    pub fn refuses(mut self, statuses: &[StatusCode]) -> Self {
        self.info.wire.refusals.extend_from_slice(statuses);
        self
    }

    /// A status it may refuse with, whose body may be of this type instead of the usual one.
    pub fn refuses_with<T: JsonSchema>(mut self, status: StatusCode) -> Self {
        self.info.wire.refusals.push(status);
        self.info.wire.refusal_shapes.push((status, schema::<T>));
        self
    }

    fn now<Next>(self) -> RouteBuilder<Next> {
        RouteBuilder {
            info: self.info,
            missing: PhantomData,
        }
    }

    fn answer<Next>(
        mut self,
        status: StatusCode,
        content: Option<(&'static str, Option<SchemaOf>)>,
    ) -> RouteBuilder<Next> {
        self.info.wire.answers.push(Answer { status, content });
        self.now()
    }
}

impl RouteBuilder<NeedsAnswer> {
    /// Answers 200 with JSON of this type.
    pub fn returns<T: JsonSchema>(self) -> RouteBuilder<NeedsHandler> {
        self.returns_with::<T>(StatusCode::OK)
    }

    /// Answers with JSON of this type and another status than 200.
    pub fn returns_with<T: JsonSchema>(self, status: StatusCode) -> RouteBuilder<NeedsHandler> {
        self.answer(status, Some((JSON, Some(schema::<T>))))
    }

    /// Answers 204 without a body.
    pub fn returns_nothing(self) -> RouteBuilder<NeedsHandler> {
        self.answer(StatusCode::NO_CONTENT, None)
    }

    /// Answers 200 with something other than JSON.
    pub fn returns_media(self, content_type: &'static str) -> RouteBuilder<NeedsHandler> {
        self.answer(StatusCode::OK, Some((content_type, None)))
    }

    /// Answers a page of these, and takes `page` and `per_page`.
    pub fn lists<T: JsonSchema>(mut self) -> RouteBuilder<NeedsHandler> {
        self.info.wire.paged = true;
        self.returns::<Paged<T>>()
    }
}

impl RouteBuilder<NeedsHandler> {
    /// Sometimes answers another status with JSON of this type.
    pub fn or_returns<T: JsonSchema>(self, status: StatusCode) -> Self {
        self.answer(status, Some((JSON, Some(schema::<T>))))
    }

    /// Sometimes answers something else than JSON with 200, such as a file.
    pub fn or_media(self, content_type: &'static str) -> Self {
        self.answer(StatusCode::OK, Some((content_type, None)))
    }

    /// Sometimes answers another status without a body.
    pub fn or_status(self, status: StatusCode) -> Self {
        self.answer(status, None)
    }

    /// The function that serves it.
    pub fn handler<H, T>(self, handler: H) -> Route
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(self.info.method.clone())
            .expect("only GET, POST, PUT and DELETE are ever declared");
        Route {
            info: self.info,
            handler: on(filter, handler),
        }
    }
}

fn schema<T: JsonSchema>(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<T>()
}

/// `list_teams` as `List teams`.
fn sentence(operation_id: &str) -> String {
    let words = operation_id.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// The first segment below `/api/v1`, or of the path.
fn noun(path: &str) -> &str {
    let rest = path.strip_prefix("/api/v1").unwrap_or(path);
    rest.split('/')
        .find(|segment| !segment.is_empty())
        .unwrap_or("root")
}
