//! The audit trail (api §23): events, their export, and what proves that nobody altered them.

mod export;
mod seals;

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
    ApiError, AppState, Caller, Paged, PathId, Rfc3339,
    extract::QueryPairs,
    routes::Route,
    wire::{spellings, time_or_empty},
};

pub(crate) fn routes() -> Vec<Route> {
    let mut routes = vec![
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
    ];
    routes.extend(export::routes());
    routes.extend(seals::routes());
    routes
}

/// The parameters, for the description of the API; an empty value says as much as none.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "described here, read one by one")]
struct AuditQuery {
    /// Only this part of the program: certificates with what they touch, keys and roles, or issuers, targets and policies.
    #[schemars(extend("enum" = spellings!(EventCategory, or none)))]
    category: Option<String>,
    /// Not before.
    #[serde(default)]
    #[schemars(schema_with = "time_or_empty")]
    since: Option<String>,
    /// Not after.
    #[serde(default)]
    #[schemars(schema_with = "time_or_empty")]
    until: Option<String>,
}

async fn list_audit_events(
    State(state): State<AppState>,
    Caller(actor): Caller,
    query: QueryPairs,
) -> Result<Json<Paged<AuditEventView>>, ApiError> {
    let page = query.page();
    let filter = AuditFilter {
        category: category(&query)?,
        since: time(&query, "since")?,
        until: time(&query, "until")?,
    };
    let events = state
        .services
        .list_audit_events(&actor, &filter, page)
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

/// A parameter that is there and says something.
fn given<'a>(query: &'a QueryPairs, name: &str) -> Option<&'a str> {
    query.get(name).filter(|text| !text.is_empty())
}

fn time(query: &QueryPairs, name: &str) -> Result<Option<Timestamp>, ApiError> {
    given(query, name)
        .map(|text| {
            // A range may begin before there were events and end after there can be any.
            Timestamp::parse_bound(text)
                .map_err(|error| ApiError::Query(format!("{name}: {error}")))
        })
        .transpose()
}

fn category(query: &QueryPairs) -> Result<Option<EventCategory>, ApiError> {
    given(query, "category")
        .map(EventCategory::parse)
        .transpose()
        .map_err(|error| ApiError::Query(format!("category: {error}")))
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
