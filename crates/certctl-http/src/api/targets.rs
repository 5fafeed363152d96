//! Deployment targets (api §15).

use axum::{Json, extract::State};
use certctl_domain::{
    access::Permission,
    id::TargetId,
    issuer::{ConfigSource, TestStatus},
    target::{Target, TargetType},
};
use certctl_service::targets::{TargetInput, TargetTest};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ApiError, ApiJson, AppState, Caller, Paged, Paging, PathId, Rfc3339,
    routes::Route,
    wire::{ChosenId, WORDS, spellings},
};

pub(crate) fn routes() -> Vec<Route> {
    const COLLECTION: &str = "/api/v1/targets";
    const ITEM: &str = "/api/v1/targets/{id}";
    vec![
        Route::get(COLLECTION, "list_targets")
            .permission(Permission::TargetRead)
            .lists::<TargetView>()
            .handler(list_targets),
        Route::post(COLLECTION, "create_target")
            .permission(Permission::TargetEdit)
            .accepts::<TargetRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns_with::<TargetView>(StatusCode::CREATED)
            .handler(create_target),
        Route::get(ITEM, "get_target")
            .permission(Permission::TargetRead)
            .returns::<TargetView>()
            .handler(get_target),
        Route::put(ITEM, "update_target")
            .permission(Permission::TargetEdit)
            .summary("Replace a target; masked values stay as they are")
            .accepts::<TargetRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns::<TargetView>()
            .handler(update_target),
        Route::delete(ITEM, "delete_target")
            .permission(Permission::TargetDelete)
            .refuses(&[StatusCode::CONFLICT])
            .returns_nothing()
            .handler(delete_target),
        Route::post("/api/v1/targets/{id}/test", "test_target")
            .permission(Permission::TargetEdit)
            .summary("Whether the agent of a target could deploy now")
            .returns::<TargetTestView>()
            .handler(test_target),
    ]
}

crud_handlers!(TargetId, TargetRequest => TargetView: list_targets, create_target, get_target, update_target, delete_target);

async fn test_target(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<TargetId>,
) -> Result<Json<TargetTestView>, ApiError> {
    let test = state.services.test_target(&actor, &id).await?;
    Ok(Json(test.into()))
}

/// Where a certificate is served.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Target")]
pub(crate) struct TargetView {
    id: String,
    /// Unique for the agent.
    name: String,
    #[schemars(extend("enum" = spellings!(TargetType)))]
    r#type: &'static str,
    agent_id: String,
    /// Secrets are shown as `********`.
    #[schemars(extend("type" = "object"))]
    config: Value,
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_tested_at: Option<Rfc3339>,
    /// What the last test of the present configuration said.
    #[schemars(extend("enum" = spellings!(TestStatus)))]
    test_status: &'static str,
    /// Whether it was made over the API or from the environment.
    #[schemars(extend("enum" = spellings!(ConfigSource)))]
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retired_at: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retired_reason: Option<String>,
    created_at: Rfc3339,
    updated_at: Rfc3339,
}

impl From<Target> for TargetView {
    fn from(target: Target) -> Self {
        Self {
            id: target.id.into_string(),
            name: target.name,
            r#type: target.target_type.as_str(),
            agent_id: target.agent_id.into_string(),
            config: target.config,
            enabled: target.enabled,
            last_tested_at: target.last_tested_at.map(Into::into),
            test_status: target.test_status.as_str(),
            source: target.source.as_str(),
            retired_at: target.retired_at.map(Into::into),
            retired_reason: target.retired_reason.filter(|reason| !reason.is_empty()),
            created_at: target.created_at.into(),
            updated_at: target.updated_at.into(),
        }
    }
}

/// What is said of a target; an update replaces all of it. It holds secrets, so it does not print.
#[derive(Deserialize, JsonSchema)]
struct TargetRequest {
    /// Made when absent; not read on an update.
    id: Option<ChosenId>,
    /// Unique for the agent.
    #[schemars(length(min = 1, max = 255), regex(pattern = WORDS), example = &"web-1 nginx")]
    name: String,
    /// In any capitalisation.
    #[schemars(extend("enum" = spellings!(TargetType)), example = &"NGINX")]
    r#type: String,
    /// An agent that is not retired.
    #[schemars(regex(pattern = "^[A-Za-z0-9._-]{1,128}$"), example = &"ag-web")]
    agent_id: String,
    /// What it takes depends on the kind; a value of `********` keeps what is stored.
    #[schemars(extend("type" = ["object", "null"]))]
    config: Option<Value>,
    /// True when absent.
    enabled: Option<bool>,
}

impl From<TargetRequest> for TargetInput {
    fn from(body: TargetRequest) -> Self {
        Self {
            id: body.id.map(ChosenId::into_string),
            name: body.name,
            target_type: body.r#type,
            agent_id: body.agent_id,
            config: body.config,
            enabled: body.enabled,
        }
    }
}

/// What a test of a target said.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TargetTest")]
struct TargetTestView {
    #[schemars(extend("enum" = ["success", "failed"]))]
    status: &'static str,
    message: String,
}

impl From<TargetTest> for TargetTestView {
    fn from(test: TargetTest) -> Self {
        Self {
            status: if test.success { "success" } else { "failed" },
            message: test.message,
        }
    }
}
