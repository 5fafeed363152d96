//! Statistics for dashboards (api §28.1).

use axum::{Json, extract::State};
use certctl_domain::{access::Permission, time::Timestamp};
use certctl_service::stats::{Day, Days};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ApiError, AppState, Caller, Rfc3339, extract::QueryPairs, routes::Route};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/stats/summary", "get_stats_summary")
            .permission(Permission::StatsRead)
            .summary("Counts everything there is; at most a second old")
            .returns::<SummaryView>()
            .handler(get_stats_summary),
        Route::get("/api/v1/stats/certificates-by-status", "get_certificates_by_status")
            .permission(Permission::StatsRead)
            .summary("Counts certificates by state; states that none is in are left out")
            .returns::<Vec<StatusView>>()
            .handler(get_certificates_by_status),
        Route::get("/api/v1/stats/expiration-timeline", "get_expiration_timeline")
            .permission(Permission::StatsRead)
            .summary("Counts the certificates that end on each of the next days, today (UTC) first; revoked and archived ones are left out")
            .query::<DaysQuery>()
            .returns::<Vec<ExpirationView>>()
            .handler(get_expiration_timeline),
        Route::get("/api/v1/stats/job-trends", "get_job_trends")
            .permission(Permission::StatsRead)
            .summary("Counts the jobs that ended on each of the last days, today (UTC) last")
            .query::<DaysQuery>()
            .returns::<Vec<JobTrendView>>()
            .handler(get_job_trends),
        Route::get("/api/v1/stats/issuance-rate", "get_issuance_rate")
            .permission(Permission::StatsRead)
            .summary("Counts the versions that were issued on each of the last days, today (UTC) last")
            .query::<DaysQuery>()
            .returns::<Vec<IssuanceView>>()
            .handler(get_issuance_rate),
    ]
}

/// The parameter, for the description of the API; it is read leniently.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "described here, read by itself")]
struct DaysQuery {
    /// How many days, 1 to 365; 30 where it is absent or anything else.
    days: Option<String>,
}

fn days(query: &QueryPairs) -> Days {
    Days::lenient(query.get("days"))
}

async fn get_stats_summary(
    State(state): State<AppState>,
    Caller(actor): Caller,
) -> Result<Json<SummaryView>, ApiError> {
    let counts = state.services.stats_summary(&actor).await?;
    Ok(Json(SummaryView {
        total_certificates: counts.certificates,
        expiring_certificates: counts.expiring_soon,
        expired_certificates: counts.expired,
        revoked_certificates: counts.revoked,
        active_agents: counts.agents_online,
        offline_agents: counts.agents - counts.agents_online,
        total_agents: counts.agents,
        pending_jobs: counts.jobs_pending,
        failed_jobs: counts.jobs_failed,
        complete_jobs: counts.jobs_completed,
        notifications_dead: counts.notifications_dead,
        completed_at: state.clock.now().into(),
    }))
}

async fn get_certificates_by_status(
    State(state): State<AppState>,
    Caller(actor): Caller,
) -> Result<Json<Vec<StatusView>>, ApiError> {
    let counts = state.services.certificates_by_status(&actor).await?;
    let views = counts.into_iter().map(|one| StatusView {
        status: one.status,
        count: one.count,
    });
    Ok(Json(views.collect()))
}

async fn get_expiration_timeline(
    State(state): State<AppState>,
    Caller(actor): Caller,
    query: QueryPairs,
) -> Result<Json<Vec<ExpirationView>>, ApiError> {
    let series = state.services.expiration_timeline(&actor, days(&query));
    Ok(Json(views(series.await?, |date, count| ExpirationView {
        date,
        count,
    })))
}

async fn get_job_trends(
    State(state): State<AppState>,
    Caller(actor): Caller,
    query: QueryPairs,
) -> Result<Json<Vec<JobTrendView>>, ApiError> {
    let series = state.services.job_trends(&actor, days(&query)).await?;
    Ok(Json(views(series, |date, outcomes| JobTrendView {
        date,
        completed_count: outcomes.completed,
        failed_count: outcomes.failed,
        success_rate: outcomes.success_rate(),
    })))
}

async fn get_issuance_rate(
    State(state): State<AppState>,
    Caller(actor): Caller,
    query: QueryPairs,
) -> Result<Json<Vec<IssuanceView>>, ApiError> {
    let series = state.services.issuance_rate(&actor, days(&query)).await?;
    Ok(Json(views(series, |date, issued_count| IssuanceView {
        date,
        issued_count,
    })))
}

fn views<T, V>(series: Vec<Day<T>>, view: impl Fn(String, T) -> V) -> Vec<V> {
    series
        .into_iter()
        .map(|day| view(date(day.start), day.value))
        .collect()
}

/// The date of an instant, UTC.
fn date(time: Timestamp) -> String {
    // A year beyond 9999 is not told here: a series is of days around today.
    time.to_rfc3339().chars().take(10).collect()
}

/// What there is.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "StatsSummary")]
struct SummaryView {
    /// Those that are not archived.
    total_certificates: i64,
    /// Ending within 30 days, neither expired nor revoked.
    expiring_certificates: i64,
    expired_certificates: i64,
    revoked_certificates: i64,
    /// Heard of within five minutes.
    active_agents: i64,
    offline_agents: i64,
    /// Those that are not retired.
    total_agents: i64,
    /// Those that are not finished.
    pending_jobs: i64,
    failed_jobs: i64,
    complete_jobs: i64,
    notifications_dead: i64,
    /// When this was answered.
    completed_at: Rfc3339,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CertificateStatusCount")]
struct StatusView {
    status: String,
    count: i64,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ExpirationDay")]
struct ExpirationView {
    /// UTC.
    #[schemars(extend("format" = "date"))]
    date: String,
    count: i64,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "JobTrendDay")]
struct JobTrendView {
    /// UTC.
    #[schemars(extend("format" = "date"))]
    date: String,
    completed_count: i64,
    failed_count: i64,
    /// Percent of those that ended; 0 where none did.
    #[schemars(range(min = 0, max = 100))]
    success_rate: f64,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "IssuanceDay")]
struct IssuanceView {
    /// UTC.
    #[schemars(extend("format" = "date"))]
    date: String,
    issued_count: i64,
}
