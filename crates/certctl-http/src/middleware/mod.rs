//! What every request passes, in one order.

mod access_log;
mod acme;
mod audit;
mod authentication;
mod body_limit;
mod client;
pub(crate) mod context;
mod cors;
mod deadline;
mod detach;
mod etag;
mod gate;
mod panic_guard;
mod rate_limit;
mod security_headers;

use std::sync::Arc;

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
};
use certctl_service::limits::Buckets;
use tokio_util::task::TaskTracker;
use tower::ServiceBuilder;

use self::rate_limit::Limiters;
use crate::{routes::Table, state::AppState};

/// What the layers work with.
pub(crate) struct Shared {
    state: AppState,
    table: Table,
    limiters: Limiters,
    detached: TaskTracker,
    /// Requests to the ACME server without a signature, by address; none for no limit.
    acme_unsigned: Option<Arc<Buckets>>,
}

impl Shared {
    pub(crate) fn new(state: AppState, table: Table, detached: TaskTracker) -> Self {
        let acme_unsigned = rate_limit::acme_unsigned(&state.settings, state.services.limits());
        let limiters = Limiters::new(state.settings.rate_limits, state.services.limits());
        Self {
            state,
            table,
            limiters,
            detached,
            acme_unsigned,
        }
    }
}

/// Puts the layers around the routes, outermost first: the order of the contract (api §1).
pub(crate) fn around(router: Router<AppState>, shared: &Arc<Shared>) -> Router<AppState> {
    router.layer(
        ServiceBuilder::new()
            // Outside all that can answer: the contract wants these headers on every response, 413 and 500 included.
            .layer(from_fn(security_headers::add))
            // Gives the request its id, and errors their bodies, which hold the id.
            .layer(from_fn_with_state(shared.clone(), context::open))
            // Inside the id, which it logs; outside all that refuses, so that refusals are logged and counted.
            .layer(from_fn(access_log::record))
            // Outside all that could panic but for the log, which must see the 500.
            .layer(from_fn(panic_guard::catch))
            // Outside authentication, which waits for the database too.
            .layer(from_fn_with_state(shared.clone(), deadline::keep))
            // Before anything reads the body.
            .layer(from_fn_with_state(shared.clone(), body_limit::apply))
            // Before authentication, so that guessing keys is limited.
            .layer(from_fn_with_state(shared.clone(), rate_limit::per_client))
            // Outside the router, so that what it refuses tells nothing of the routes; inside the limits of all requests.
            .layer(from_fn_with_state(shared.clone(), acme::check))
            // Before authentication: a page must be able to read that its key is not accepted.
            .layer(from_fn_with_state(shared.clone(), cors::apply))
            // Before all that asks for the actor.
            .layer(from_fn_with_state(shared.clone(), authentication::check))
            // Inside authentication, whose actor it counts by.
            .layer(from_fn_with_state(shared.clone(), rate_limit::per_user))
            // Here belongs CSRF, with session cookies.
            // Inside authentication, whose actor it names; outside the gate, whose refusals are in the trail too.
            .layer(from_fn_with_state(shared.clone(), audit::record))
            .layer(from_fn(gate::check))
            // Around the handler; a refusal of the gate has no tag on either side of it.
            .layer(from_fn(etag::apply))
            // Innermost, so that what outlives its client is the use case alone; the deadline is outside it.
            .layer(from_fn_with_state(shared.clone(), detach::run)),
    )
}
