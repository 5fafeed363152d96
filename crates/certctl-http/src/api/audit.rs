//! Audit events (api §23).

use axum::{Json, extract::State};
use certctl_domain::{
    access::Permission,
    audit::{AuditEvent, EventCategory},
    id::AuditEventId,
    time::Timestamp,
};
use certctl_service::AuditFilter;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ApiError, AppState, Caller, Paged, PathId, Rfc3339, extract::QueryPairs, routes::Route,
};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/audit", "list_audit_events")
            .permission(Permission::AuditRead)
            .etag()
            .query::<AuditQuery>()
            .refuses(&[StatusCode::BAD_REQUEST])
            .lists::<AuditEventView>()
            .handler(list_audit_events),
        Route::get("/api/v1/audit/{id}", "get_audit_event")
            .permission(Permission::AuditRead)
            .returns::<AuditEventView>()
            .handler(get_audit_event),
    ]
}

/// The parameters, for the description of the API.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "described here, read one by one")]
struct AuditQuery {
    /// `cert_lifecycle`, `auth` or `config`.
    category: Option<String>,
    /// Not before, RFC 3339.
    since: Option<String>,
    /// Not after, RFC 3339.
    until: Option<String>,
}

async fn list_audit_events(
    State(state): State<AppState>,
    Caller(actor): Caller,
    query: QueryPairs,
) -> Result<Json<Paged<AuditEventView>>, ApiError> {
    let page = query.page();
    let events = state
        .services
        .list_audit_events(&actor, &filter(&query)?, page)
        .await?;
    Ok(Json(Paged::new(events, page, Into::into)))
}

async fn get_audit_event(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<AuditEventId>,
) -> Result<Json<AuditEventView>, ApiError> {
    Ok(Json(
        state.services.get_audit_event(&actor, &id).await?.into(),
    ))
}

fn filter(query: &QueryPairs) -> Result<AuditFilter, ApiError> {
    let given = |name: &str| query.get(name).filter(|text| !text.is_empty());
    let time = |name: &str| {
        given(name)
            .map(|text| {
                text.parse::<Timestamp>()
                    .map_err(|error| ApiError::Query(format!("{name}: {error}")))
            })
            .transpose()
    };
    let category = given("category")
        .map(EventCategory::parse)
        .transpose()
        .map_err(|error| ApiError::Query(format!("category: {error}")))?;
    Ok(AuditFilter {
        category,
        since: time("since")?,
        until: time("until")?,
    })
}

/// An audit event (model §8.1).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditEvent")]
struct AuditEventView {
    id: String,
    actor: String,
    actor_type: &'static str,
    action: String,
    resource_type: String,
    resource_id: String,
    /// More, with credentials and personal data replaced.
    details: serde_json::Value,
    timestamp: Rfc3339,
    event_category: &'static str,
}

impl From<AuditEvent> for AuditEventView {
    fn from(event: AuditEvent) -> Self {
        Self {
            id: event.id.into_string(),
            actor: event.actor,
            actor_type: event.actor_type.as_str(),
            action: event.action,
            resource_type: event.resource_type,
            resource_id: event.resource_id,
            details: event.details,
            timestamp: event.timestamp.into(),
            event_category: event.category.as_str(),
        }
    }
}
