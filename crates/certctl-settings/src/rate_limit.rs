//! How much a caller may ask.

use std::time::Duration;

use crate::{
    database_url::DatabaseUrl,
    form::{Bool, Choice, Count, Integer},
    problem::Problem,
    reader::Reader,
    setting::{
        DefaultValue::{Derived, Text},
        settings,
    },
    span::Span,
};

settings!(RATE_LIMIT, "Rate limits" {
    RATE_LIMIT_ENABLED: Bool = Bool, Text("true"), SERVER,
        "Whether requests are limited by address and by user. The limits of single routes stay in force either way.";
    RATE_LIMIT_RPS: Count = Count { min: 1, max: 1_000_000 }, Text("50"), SERVER,
        "Requests for each second and address that a bucket is refilled with.";
    RATE_LIMIT_BURST: Count = Count { min: 1, max: 1_000_000 }, Text("100"), SERVER, "Requests that a full bucket holds.";
    RATE_LIMIT_PER_USER_RPS: Count = Count { min: 0, max: 1_000_000 }, Text("0"), SERVER,
        "The same for each user after authentication; 0 takes the value for addresses.";
    RATE_LIMIT_PER_USER_BURST: Count = Count { min: 0, max: 1_000_000 }, Text("0"), SERVER,
        "The same for each user after authentication; 0 takes the value for addresses.";
    RATE_LIMIT_BUCKET_TTL: Span = Span::at_least_seconds(60), Text("1h"), SERVER,
        "How long an idle bucket is remembered.";
    RATE_LIMIT_BACKEND: Choice<RateLimitBackend> = Choice(BACKENDS), Derived("`postgres` on PostgreSQL, else `memory`"), SERVER,
        "Where limits are counted. `memory` counts in each replica by itself; `postgres` for all replicas together.";
    RATE_LIMIT_JANITOR_INTERVAL: Span = Span::at_least_seconds(60), Text("5m"), SERVER,
        "How often counts that are out of date are removed from the database.";
    CERT_EXPORT_RATE_LIMIT_PER_ACTOR_HR: Integer = Integer { min: i64::MIN, max: 1_000_000 }, Text("50"), SERVER,
        "Exports of certificates for each actor and hour; zero or less means no limit.";
});

const BACKENDS: &[(&str, RateLimitBackend)] = &[
    ("memory", RateLimitBackend::Memory),
    ("postgres", RateLimitBackend::Postgres),
];

/// Where limits are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimitBackend {
    /// In each replica by itself.
    Memory,
    /// In the database, for all replicas together.
    Postgres,
}

/// The rate of a token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come in each second; at least 1.
    pub per_second: u32,
    /// Tokens that a full bucket holds; at least 1.
    pub burst: u32,
}

/// How much a caller may ask.
#[derive(Debug, Clone)]
pub struct RateLimitSettings {
    /// Whether the buckets below are in force.
    pub enabled: bool,
    /// The bucket of an address.
    pub per_address: Rate,
    /// The bucket of a user.
    pub per_user: Rate,
    /// How long an idle bucket is remembered; at least a minute.
    pub bucket_ttl: Duration,
    /// Where limits are counted.
    pub backend: RateLimitBackend,
    /// How often old counts are removed from the database; at least a minute.
    pub janitor_interval: Duration,
    /// Exports of certificates for each actor and hour; `None` means no limit.
    pub exports_per_actor_hour: Option<u32>,
}

impl RateLimitSettings {
    pub(crate) fn read(reader: &mut Reader<'_>, database: &DatabaseUrl) -> Self {
        let per_address = Rate {
            per_second: reader.get(&RATE_LIMIT_RPS),
            burst: reader.get(&RATE_LIMIT_BURST),
        };
        let user = (
            reader.get(&RATE_LIMIT_PER_USER_RPS),
            reader.get(&RATE_LIMIT_PER_USER_BURST),
        );
        let inherit = |own: u32, inherited: u32| if own == 0 { inherited } else { own };
        let embedded = database.is_embedded();
        let backend = reader.derive(&RATE_LIMIT_BACKEND, |_| {
            let (name, backend) = if embedded { BACKENDS[0] } else { BACKENDS[1] };
            (backend, name.to_owned())
        });
        if backend == RateLimitBackend::Postgres && embedded {
            reader.refuse(Problem::refused(
                "CERTCTL_RATE_LIMIT_BACKEND",
                "postgres needs CERTCTL_DATABASE_URL to name a PostgreSQL",
            ));
        }
        let exports = reader.get(&CERT_EXPORT_RATE_LIMIT_PER_ACTOR_HR);
        Self {
            enabled: reader.get(&RATE_LIMIT_ENABLED),
            per_address,
            per_user: Rate {
                per_second: inherit(user.0, per_address.per_second),
                burst: inherit(user.1, per_address.burst),
            },
            bucket_ttl: reader.get(&RATE_LIMIT_BUCKET_TTL),
            backend,
            janitor_interval: reader.get(&RATE_LIMIT_JANITOR_INTERVAL),
            exports_per_actor_hour: u32::try_from(exports).ok().filter(|limit| *limit > 0),
        }
    }
}
