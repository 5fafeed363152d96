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
use certctl_service::limits::{Buckets, Limits};
use certctl_telemetry::metrics_names::RATE_LIMIT_TOTAL;
use metrics::counter;

use super::{Shared, context::Context};
use crate::{
    problem::ApiError,
    routes::RateClass,
    settings::{HttpSettings, Rate, RateLimits},
};

/// Most keys of one set of buckets (operations §4).
const MAX_KEYS: usize = 100_000;

/// The buckets, unless they are turned off.
pub(super) struct Limiters(Option<Sets>);

struct Sets {
    clients: Arc<Buckets>,
    scrapers: Arc<Buckets>,
    users: Arc<Buckets>,
}

impl Limiters {
    pub(super) fn new(rates: Option<RateLimits>, limits: &Limits) -> Self {
        Self(rates.map(
            |RateLimits {
                 client,
                 user,
                 idle_ttl,
             }| Sets {
                clients: limits.token_buckets("client", client, idle_ttl, MAX_KEYS),
                scrapers: limits.token_buckets("scrape", client, idle_ttl, MAX_KEYS),
                users: limits.token_buckets("user", user, idle_ttl, MAX_KEYS),
            },
        ))
    }
}

/// The buckets of requests to the ACME server that nobody signed.
pub(super) fn acme_unsigned(settings: &HttpSettings, limits: &Limits) -> Option<Arc<Buckets>> {
    let per_second = settings.acme.unsigned_per_second;
    let rate = Rate {
        per_second: f64::from(per_second),
        burst: f64::from(per_second),
    };
    let idle = settings.rate_limits.unwrap_or_default().idle_ttl;
    (per_second > 0).then(|| limits.token_buckets("acme_unsigned", rate, idle, MAX_KEYS))
}

pub(super) async fn per_client(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let context = Context::of(&request);
    let set = shared
        .limiters
        .0
        .as_ref()
        .and_then(|sets| match class(&context) {
            RateClass::Probe => None,
            RateClass::Scrape => Some(&sets.scrapers),
            RateClass::Api => Some(&sets.clients),
        });
    let allowed = match set {
        Some(set) => {
            let key = network_of(context.client).to_string();
            set.take(key, shared.state.clock.now()).await
        }
        None => true,
    };
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
        (Some(sets), Some(actor), RateClass::Api) => {
            let key = format!("{}:{}", actor.actor_type(), actor.id());
            sets.users.take(key, shared.state.clock.now()).await
        }
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
pub(super) fn network_of(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}
