//! What administrators look at (api §30).

use axum::{Json, extract::State};
use certctl_domain::access::Permission;
use certctl_service::crls::{CrlOverview, GenerationEvent};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{ApiError, AppState, Caller, Rfc3339, routes::Route};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/admin/crl/cache", "get_crl_cache")
            .permission(Permission::CrlAdmin)
            .summary("The revocation lists there are, and how the latest were made")
            .tag("admin")
            .returns::<CrlCacheView>()
            .handler(get_crl_cache),
    ]
}

async fn get_crl_cache(
    State(state): State<AppState>,
    Caller(actor): Caller,
) -> Result<Json<CrlCacheView>, ApiError> {
    let rows = state.services.crl_overview(&actor).await?;
    let cache_rows: Vec<CrlRow> = rows.into_iter().map(CrlRow::from).collect();
    Ok(Json(CrlCacheView {
        row_count: cache_rows.len(),
        cache_rows,
        generated_at: state.clock.now().into(),
    }))
}

/// The revocation lists there are.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CrlCache")]
struct CrlCacheView {
    cache_rows: Vec<CrlRow>,
    row_count: usize,
    generated_at: Rfc3339,
}

/// The revocation list of an issuer that certctl signs lists for.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CrlCacheRow")]
struct CrlRow {
    issuer_id: String,
    /// Whether there is one.
    cache_present: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    crl_number: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    this_update: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_update: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generated_at: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation_duration_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_count: Option<i64>,
    /// Whether a newer one is due.
    is_stale: bool,
    /// The latest attempts, newest first.
    recent_events: Vec<CrlEvent>,
}

/// An attempt to make the lists of an issuer.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CrlGenerationEvent")]
struct CrlEvent {
    started_at: Rfc3339,
    duration_ms: u64,
    succeeded: bool,
    crl_number: i64,
    revoked_count: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<CrlOverview> for CrlRow {
    fn from(overview: CrlOverview) -> Self {
        let crl = overview.cached.as_ref();
        Self {
            issuer_id: overview.issuer_id.into_string(),
            cache_present: crl.is_some(),
            crl_number: crl.map(|crl| crl.number),
            this_update: crl.map(|crl| crl.this_update.into()),
            next_update: crl.map(|crl| crl.next_update.into()),
            generated_at: crl.map(|crl| crl.generated_at.into()),
            generation_duration_ms: crl.map(|crl| crl.duration_ms),
            revoked_count: crl.map(|crl| crl.revoked_count),
            is_stale: overview.is_stale,
            recent_events: overview
                .recent_events
                .into_iter()
                .map(CrlEvent::from)
                .collect(),
        }
    }
}

impl From<GenerationEvent> for CrlEvent {
    fn from(event: GenerationEvent) -> Self {
        Self {
            started_at: event.started_at.into(),
            duration_ms: u64::try_from(event.took.as_millis()).unwrap_or(u64::MAX),
            succeeded: event.error.is_none(),
            crl_number: event.crl_number,
            revoked_count: event.revoked_count,
            // What went wrong inside is for the log (design §7).
            error: event
                .error
                .map(|_| "the list could not be made; the log of the server says why".to_owned()),
        }
    }
}
