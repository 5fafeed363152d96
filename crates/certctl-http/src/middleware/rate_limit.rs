//! The global token buckets: per client address before authentication, per actor after it (api §6).

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use certctl_domain::access::Actor;
use certctl_telemetry::metrics_names::RATE_LIMIT_TOTAL;
use metrics::counter;

use super::{Shared, buckets::Buckets, context::Context};
use crate::{problem::ApiError, routes::RateClass, settings::RateLimits};

/// Most keys of one set of buckets (operations §4).
const MAX_KEYS: usize = 100_000;

/// The buckets, unless they are turned off.
pub(super) struct Limiters(Option<Sets>);

struct Sets {
    clients: Buckets<IpAddr>,
    scrapers: Buckets<IpAddr>,
    users: Buckets<String>,
}

impl Limiters {
    pub(super) fn new(limits: Option<RateLimits>) -> Self {
        Self(limits.map(
            |RateLimits {
                 client,
                 user,
                 idle_ttl,
             }| Sets {
                clients: Buckets::new(client, idle_ttl, MAX_KEYS),
                scrapers: Buckets::new(client, idle_ttl, MAX_KEYS),
                users: Buckets::new(user, idle_ttl, MAX_KEYS),
            },
        ))
    }
}

pub(super) async fn per_client(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let context = Context::of(&request);
    let allowed = shared.limiters.0.as_ref().is_none_or(|sets| {
        let (key, now) = (network_of(context.client), shared.state.clock.now());
        match class(&context) {
            RateClass::Probe => true,
            RateClass::Scrape => sets.scrapers.take(key, now),
            RateClass::Api => sets.clients.take(key, now),
        }
    });
    admit("client", allowed, request, next).await
}

pub(super) async fn per_user(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let context = Context::of(&request);
    let actor = request.extensions().get::<Actor>();
    let allowed = match (shared.limiters.0.as_ref(), actor, class(&context)) {
        (Some(sets), Some(actor), RateClass::Api) => sets.users.take(
            format!("{}:{}", actor.actor_type(), actor.id()),
            shared.state.clock.now(),
        ),
        _ => true,
    };
    admit("user", allowed, request, next).await
}

async fn admit(site: &'static str, allowed: bool, request: Request, next: Next) -> Response {
    let result = if allowed { "allowed" } else { "limited" };
    counter!(RATE_LIMIT_TOTAL.name, "site" => site, "result" => result).increment(1);
    if allowed {
        next.run(request).await
    } else {
        ApiError::RateLimited.into_response()
    }
}

fn class(context: &Context) -> RateClass {
    match (&context.route, &context.path) {
        (Some(route), _) => route.rate_class,
        (None, Some(path)) if path.all_probes() => RateClass::Probe,
        (None, _) => RateClass::Api,
    }
}

/// One customer of IPv6 has at least a /64 (RFC 6177 §2), so that single addresses limit nobody.
fn network_of(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}
