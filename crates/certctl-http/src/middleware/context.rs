//! The identity of a request: its id, where it came from, which route it hits.

use std::{
    convert::Infallible,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderName, HeaderValue, request::Parts};
use tracing::Instrument;
use uuid::Uuid;

use super::{Shared, client};
use crate::{
    api::acme::{Asked, Told},
    problem,
    routes::{PathEntry, RouteInfo},
};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The address of the TCP peer; whoever serves the router puts it into the extensions of the request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// The id of a request: made here, whatever the client sent; also in the log and in errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(Uuid);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The address of the client, for handlers that count by it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client(pub(crate) IpAddr);

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let context = parts.extensions.get::<Context>();
        Ok(Self(
            context
                .expect("`open` is the layer outside all that ask")
                .client,
        ))
    }
}

/// What the other layers need to know of a request.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) client: IpAddr,
    pub(crate) path: Option<Arc<PathEntry>>,
    pub(crate) route: Option<Arc<RouteInfo>>,
}

impl Context {
    /// The context that [`open`] put into the request.
    pub(crate) fn of(request: &Request) -> Self {
        request
            .extensions()
            .get::<Self>()
            .cloned()
            .expect("`open` is the layer outside all that ask")
    }

    /// The template of the path, for labels.
    pub(crate) fn template(&self) -> &'static str {
        self.route.as_ref().map_or("unmatched", |route| route.path)
    }
}

/// Opens the context and the span of a request, and gives errors on their way out their bodies.
pub(crate) async fn open(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = RequestId(Uuid::new_v4());
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .and_then(|path| shared.table.path(path.as_str()));
    let route = path.as_ref().and_then(|path| path.route(request.method()));
    let peer = request
        .extensions()
        .get::<Peer>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    let client = client::address(
        peer,
        request.headers(),
        &shared.state.settings.trusted_proxies,
    );
    let context = Context {
        client,
        path,
        route,
    };
    let span = tracing::info_span!(
        "request",
        request_id = %id,
        method = %request.method(),
        route = context.template(),
        actor.id = tracing::field::Empty,
    );
    request.extensions_mut().insert(id);
    request.extensions_mut().insert(context);
    let asked = Asked::of(&request, &shared.state.settings);
    let mut response = async {
        let response = next.run(request).await;
        match asked {
            None => problem::render(response, id),
            Some(asked) => {
                let response = problem::render_for_acme(response);
                Told::on(&asked, &shared.state, response).await
            }
        }
    }
    .instrument(span)
    .await;
    let value = HeaderValue::from_str(&id.to_string()).expect("a UUID is hex digits and dashes");
    response.headers_mut().insert(X_REQUEST_ID, value);
    response
}
