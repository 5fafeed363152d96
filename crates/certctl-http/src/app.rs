//! The router, built from the table.

use std::sync::Arc;

use axum::Router;
use tokio_util::task::TaskTracker;

use crate::{
    middleware::{self, Shared},
    problem::ApiError,
    routes::{self, Route, Table},
    state::AppState,
};

/// The API, ready to be served.
#[derive(Clone)]
pub struct App {
    router: Router,
    detached: TaskTracker,
}

impl App {
    /// Builds the API of certctl.
    #[must_use]
    pub fn new(state: AppState) -> Self {
        let routes = routes::all().into_iter().chain(routes::acme());
        Self::with_routes(state, routes.collect())
    }

    /// The routes of certctl, to be served together with others.
    #[must_use]
    pub fn routes() -> Vec<Route> {
        routes::all()
    }

    /// The routes of the ACME server alone, for services that have no use for the API.
    pub fn acme_routes() -> Vec<Route> {
        routes::acme()
    }

    /// Builds an API of these routes; for embedding services that add their own, and for tests.
    #[must_use]
    pub fn with_routes(state: AppState, routes: Vec<Route>) -> Self {
        let detached = TaskTracker::new();
        let shared = Arc::new(Shared::new(
            state.clone(),
            Table::new(&routes),
            detached.clone(),
        ));
        let router = routes
            .into_iter()
            .fold(Router::new(), |router, route| {
                router.route(route.info.path, route.handler)
            })
            .fallback(async || ApiError::NoSuchPath)
            .method_not_allowed_fallback(async || ApiError::MethodNotAllowed);
        Self {
            router: middleware::around(router, &shared).with_state(state),
            detached,
        }
    }

    /// The router, to be called in process.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// The requests that go on although their client may have hung up; a drain waits for them.
    #[must_use]
    pub fn detached(&self) -> &TaskTracker {
        &self.detached
    }
}
