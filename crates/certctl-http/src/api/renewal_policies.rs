//! Renewal policies (api §20).

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use certctl_domain::{access::Permission, id::RenewalPolicyId, renewal_policy::RenewalPolicy};
use certctl_service::renewal_policies::RenewalPolicyInput;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ApiError, ApiJson, AppState, Caller, Paged, Paging, PathId, Rfc3339,
    routes::Route,
    wire::{WORDS, creation},
};

pub(crate) fn routes() -> Vec<Route> {
    const COLLECTION: &str = "/api/v1/renewal-policies";
    const ITEM: &str = "/api/v1/renewal-policies/{id}";
    vec![
        Route::get(COLLECTION, "list_renewal_policies")
            .permission(Permission::PolicyRead)
            .lists::<RenewalPolicyView>()
            .handler(list_renewal_policies),
        Route::post(COLLECTION, "create_renewal_policy")
            .permission(Permission::PolicyEdit)
            .summary("Create renewal policy; its id is made from its name")
            .accepts::<NewRenewalPolicy>()
            .refuses(&[StatusCode::CONFLICT])
            .returns_with::<RenewalPolicyView>(StatusCode::CREATED)
            .handler(create_renewal_policy),
        Route::get(ITEM, "get_renewal_policy")
            .permission(Permission::PolicyRead)
            .returns::<RenewalPolicyView>()
            .handler(get_renewal_policy),
        Route::put(ITEM, "update_renewal_policy")
            .permission(Permission::PolicyEdit)
            .summary("Update renewal policy; absent fields stay as they are")
            .accepts::<RenewalPolicyRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns::<RenewalPolicyView>()
            .handler(update_renewal_policy),
        Route::delete(ITEM, "delete_renewal_policy")
            .permission(Permission::PolicyDelete)
            .refuses(&[StatusCode::CONFLICT])
            .returns_nothing()
            .handler(delete_renewal_policy),
    ]
}

async fn list_renewal_policies(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Paging(page): Paging,
) -> Result<Paged<RenewalPolicyView>, ApiError> {
    let policies = state.services.list_renewal_policies(&actor, page).await?;
    Ok(Paged::new(policies, page, Into::into))
}

async fn create_renewal_policy(
    State(state): State<AppState>,
    Caller(actor): Caller,
    ApiJson(body): ApiJson<RenewalPolicyRequest>,
) -> Result<Response, ApiError> {
    let services = &state.services;
    let policy = services.create_renewal_policy(&actor, body.into()).await?;
    Ok((StatusCode::CREATED, Json(RenewalPolicyView::from(policy))).into_response())
}

async fn get_renewal_policy(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<RenewalPolicyId>,
) -> Result<Json<RenewalPolicyView>, ApiError> {
    let policy = state.services.get_renewal_policy(&actor, &id).await?;
    Ok(Json(policy.into()))
}

async fn update_renewal_policy(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<RenewalPolicyId>,
    ApiJson(body): ApiJson<RenewalPolicyRequest>,
) -> Result<Json<RenewalPolicyView>, ApiError> {
    let services = &state.services;
    let policy = services
        .update_renewal_policy(&actor, &id, body.into())
        .await?;
    Ok(Json(policy.into()))
}

async fn delete_renewal_policy(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<RenewalPolicyId>,
) -> Result<StatusCode, ApiError> {
    state.services.delete_renewal_policy(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How and when certificates are renewed.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RenewalPolicy")]
struct RenewalPolicyView {
    /// `rp-` and a slug of the name.
    id: String,
    /// Unique.
    name: String,
    /// Days before expiry at which renewal begins.
    renewal_window_days: u32,
    /// Whether renewal happens by itself.
    auto_renew: bool,
    /// Attempts of a job beyond which it stays failed.
    max_retries: u32,
    /// Seconds before the first retry.
    retry_interval_seconds: u32,
    /// Days before expiry at which alerts go out.
    alert_thresholds_days: Vec<u32>,
    /// Tier to channels; absent means e-mail for every tier.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    alert_channels: BTreeMap<String, Vec<String>>,
    /// Threshold to tier; absent means the defaults.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    alert_severity_map: BTreeMap<String, String>,
    created_at: Rfc3339,
    updated_at: Rfc3339,
}

impl From<RenewalPolicy> for RenewalPolicyView {
    fn from(policy: RenewalPolicy) -> Self {
        Self {
            id: policy.id.into_string(),
            name: policy.name,
            renewal_window_days: policy.renewal_window_days,
            auto_renew: policy.auto_renew,
            max_retries: policy.max_retries,
            retry_interval_seconds: policy.retry_interval_seconds,
            alert_thresholds_days: policy.alert_thresholds_days,
            alert_channels: policy.alert_channels,
            alert_severity_map: policy.alert_severity_map,
            created_at: policy.created_at.into(),
            updated_at: policy.updated_at.into(),
        }
    }
}

/// What is said of a renewal policy. On creation absent fields take their defaults, on an update they stay as they are.
#[derive(Debug, Deserialize, JsonSchema)]
struct RenewalPolicyRequest {
    /// Unique; required on creation.
    #[schemars(length(min = 1, max = 255), regex(pattern = WORDS))]
    name: Option<String>,
    /// 30 when absent on creation.
    #[schemars(range(min = 1, max = 365))]
    renewal_window_days: Option<u32>,
    /// True when absent.
    auto_renew: Option<bool>,
    /// 3 when absent on creation.
    #[schemars(range(min = 0, max = 10))]
    max_retries: Option<u32>,
    /// 3600 when absent on creation.
    #[schemars(range(min = 60, max = 86_400))]
    retry_interval_seconds: Option<u32>,
    /// Each 0 to 365; 30, 14, 7, 0 when absent on creation.
    #[schemars(length(max = 32), inner(range(min = 0, max = 365)))]
    alert_thresholds_days: Option<Vec<u32>>,
    /// Tier (`informational`, `warning`, `critical`) to channels.
    alert_channels: Option<BTreeMap<String, Vec<String>>>,
    /// Threshold (days, as text) to tier.
    alert_severity_map: Option<BTreeMap<String, String>>,
}

creation!(NewRenewalPolicy: RenewalPolicyRequest, "name");

impl From<RenewalPolicyRequest> for RenewalPolicyInput {
    fn from(body: RenewalPolicyRequest) -> Self {
        Self {
            name: body.name,
            renewal_window_days: body.renewal_window_days,
            auto_renew: body.auto_renew,
            max_retries: body.max_retries,
            retry_interval_seconds: body.retry_interval_seconds,
            alert_thresholds_days: body.alert_thresholds_days,
            alert_channels: body.alert_channels,
            alert_severity_map: body.alert_severity_map,
        }
    }
}
