//! What is counted (api §28.2).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use certctl_domain::access::Permission;
use certctl_telemetry::{CONTENT_TYPE, Exposition, metrics_names as names};
use http::header;
use metrics::gauge;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    ApiError, AppState, Caller, Rfc3339,
    routes::{RateClass, Route},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/metrics", "get_metrics")
            .permission(Permission::MetricsRead)
            .returns::<MetricsView>()
            .handler(get_metrics),
        Route::get("/api/v1/metrics/prometheus", "get_prometheus_metrics")
            .permission(Permission::MetricsRead)
            .rate_class(RateClass::Scrape)
            .summary("Everything that is counted, as Prometheus reads it")
            .returns_media(CONTENT_TYPE)
            .handler(get_prometheus_metrics),
    ]
}

async fn get_metrics(
    State(state): State<AppState>,
    Caller(actor): Caller,
) -> Result<Json<MetricsView>, ApiError> {
    let counts = state.services.counts(&actor).await?;
    let now = state.clock.now();
    Ok(Json(MetricsView {
        gauge: Gauges {
            certificate_total: counts.certificates,
            certificate_active: counts.active,
            certificate_expiring_soon: counts.expiring_soon,
            certificate_expired: counts.expired,
            certificate_revoked: counts.revoked,
            agent_total: counts.agents,
            agent_online: counts.agents_online,
            job_pending: counts.jobs_pending,
        },
        counter: Counters {
            job_completed_total: counts.jobs_completed,
            job_failed_total: counts.jobs_failed,
            notifications_dead_total: counts.notifications_dead,
        },
        uptime: Uptime {
            uptime_seconds: now.since(state.started_at).as_secs(),
            server_started: state.started_at.into(),
            measured_at: now.into(),
        },
    }))
}

async fn get_prometheus_metrics(
    State(state): State<AppState>,
    Caller(actor): Caller,
) -> Result<Response, ApiError> {
    let counts = state.services.counts(&actor).await?;
    let (size, idle, waiting) = state.services.db().pool_status();
    gauge!(names::DB_POOL_SIZE.name).set(size as f64);
    gauge!(names::DB_POOL_IDLE.name).set(idle as f64);
    gauge!(names::DB_POOL_WAITING.name).set(waiting as f64);
    let mut scraped = Exposition::new();
    for (metric, value) in [
        (&names::CERTIFICATE_TOTAL, counts.certificates),
        (&names::CERTIFICATE_ACTIVE, counts.active),
        (&names::CERTIFICATE_EXPIRING_SOON, counts.expiring_soon),
        (&names::CERTIFICATE_EXPIRED, counts.expired),
        (&names::CERTIFICATE_REVOKED, counts.revoked),
        (&names::AGENT_TOTAL, counts.agents),
        (&names::AGENT_ONLINE, counts.agents_online),
        (&names::JOB_PENDING, counts.jobs_pending),
        (&names::JOB_COMPLETED_TOTAL, counts.jobs_completed),
        (&names::JOB_FAILED_TOTAL, counts.jobs_failed),
        (&names::NOTIFICATION_DEAD_TOTAL, counts.notifications_dead),
    ] {
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of rows are far below 2^53"
        )]
        scraped.value(metric, value as f64);
    }
    scraped.value(
        &names::UPTIME_SECONDS,
        state.clock.now().since(state.started_at).as_secs_f64(),
    );
    Ok((
        [(header::CONTENT_TYPE, CONTENT_TYPE)],
        state.metrics.render_with(&scraped),
    )
        .into_response())
}

/// What there is.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Metrics")]
struct MetricsView {
    gauge: Gauges,
    counter: Counters,
    uptime: Uptime,
}

#[derive(Serialize, JsonSchema)]
struct Gauges {
    certificate_total: i64,
    certificate_active: i64,
    certificate_expiring_soon: i64,
    certificate_expired: i64,
    certificate_revoked: i64,
    agent_total: i64,
    agent_online: i64,
    job_pending: i64,
}

#[derive(Serialize, JsonSchema)]
struct Counters {
    job_completed_total: i64,
    job_failed_total: i64,
    notifications_dead_total: i64,
}

#[derive(Serialize, JsonSchema)]
struct Uptime {
    uptime_seconds: u64,
    server_started: Rfc3339,
    measured_at: Rfc3339,
}
