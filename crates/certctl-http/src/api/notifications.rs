//! Notifications (api §24).

use axum::{Json, extract::State};
use certctl_domain::{
    access::Permission,
    id::{CertificateId, NotificationId},
    notification::{Notification, NotificationChannel, NotificationStatus, NotificationType},
    page::Page,
};
use certctl_service::NotificationFilter;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ApiError, AppState, Caller, Paged, PathId, Rfc3339, extract::QueryPairs, routes::Route,
};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/notifications", "list_notifications")
            .permission(Permission::NotificationRead)
            .summary("Lists notifications: last sent first, and what is not sent at the end")
            .query::<NotificationQuery>()
            .lists::<NotificationView>()
            .handler(list_notifications),
        Route::get("/api/v1/notifications/{id}", "get_notification")
            .permission(Permission::NotificationRead)
            .returns::<NotificationView>()
            .handler(get_notification),
        Route::post("/api/v1/notifications/{id}/read", "read_notification")
            .permission(Permission::NotificationRead)
            .summary(
                "Notes that an operator has seen it; one that still waits is not sent any more",
            )
            .returns::<DoneView>()
            .handler(read_notification),
        Route::post("/api/v1/notifications/{id}/requeue", "requeue_notification")
            .permission(Permission::NotificationEdit)
            .summary("Has it sent again; refused once it was sent or read")
            .refuses(&[StatusCode::CONFLICT])
            .returns::<DoneView>()
            .handler(requeue_notification),
    ]
}

/// The parameters, for the description of the API; what is none of the values matches nothing.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "described here, read one by one")]
struct NotificationQuery {
    /// Only in this state: `pending`, `sent`, `failed`, `dead` or `read`.
    status: Option<String>,
    /// Only of this type, such as `RenewalFailure`.
    r#type: Option<String>,
    /// Only by this channel, such as `Email`.
    channel: Option<String>,
}

async fn list_notifications(
    State(state): State<AppState>,
    Caller(actor): Caller,
    query: QueryPairs,
) -> Result<Paged<NotificationView>, ApiError> {
    let page = query.page();
    let Some(filter) = filter(&query) else {
        let nothing = Page {
            rows: Vec::<Notification>::new(),
            total: 0,
        };
        return Ok(Paged::new(nothing, page, Into::into));
    };
    let notifications = state
        .services
        .list_notifications(&actor, filter, page)
        .await?;
    Ok(Paged::new(notifications, page, Into::into))
}

/// What to list; none for a value that there is not, which nothing matches.
fn filter(query: &QueryPairs) -> Option<NotificationFilter> {
    let given = |name: &str| query.get(name).filter(|text| !text.is_empty());
    Some(NotificationFilter {
        status: given("status")
            .map(NotificationStatus::parse)
            .transpose()
            .ok()?,
        kind: given("type")
            .map(NotificationType::parse)
            .transpose()
            .ok()?,
        channel: given("channel")
            .map(NotificationChannel::parse)
            .transpose()
            .ok()?,
    })
}

async fn get_notification(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<NotificationId>,
) -> Result<Json<NotificationView>, ApiError> {
    Ok(Json(
        state.services.get_notification(&actor, &id).await?.into(),
    ))
}

async fn read_notification(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<NotificationId>,
) -> Result<Json<DoneView>, ApiError> {
    state.services.read_notification(&actor, &id).await?;
    Ok(Json(DoneView {
        status: "marked_as_read",
    }))
}

async fn requeue_notification(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<NotificationId>,
) -> Result<Json<DoneView>, ApiError> {
    state.services.requeue_notification(&actor, &id).await?;
    Ok(Json(DoneView { status: "requeued" }))
}

/// A notification (model §3.10).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Notification")]
struct NotificationView {
    id: String,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_id: Option<String>,
    channel: &'static str,
    /// The owner's e-mail address, or the owner's id where there is none.
    recipient: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_at: Option<Rfc3339>,
    status: &'static str,
    /// Why it was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    retry_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_retry_at: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    created_at: Rfc3339,
}

impl From<Notification> for NotificationView {
    fn from(one: Notification) -> Self {
        Self {
            id: one.id.into_string(),
            r#type: one.kind.as_str(),
            certificate_id: one.certificate_id.map(CertificateId::into_string),
            channel: one.channel.as_str(),
            recipient: one.recipient,
            message: one.message,
            sent_at: one.sent_at.map(Into::into),
            status: one.status.as_str(),
            error: one.error,
            retry_count: one.retry_count,
            next_retry_at: one.next_retry_at.map(Into::into),
            last_error: one.last_error,
            created_at: one.created_at.into(),
        }
    }
}

/// What was done: `marked_as_read` or `requeued`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NotificationDone")]
struct DoneView {
    status: &'static str,
}
