//! Policy rules and what violates them (api §19).

use axum::{Json, extract::State};
use certctl_domain::{
    access::Permission,
    id::PolicyRuleId,
    policy_rule::{PolicyRule, PolicySeverity, PolicyType, PolicyViolation},
};
use certctl_service::policies::PolicyRuleInput;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    ApiError, ApiJson, AppState, Caller, Paged, Paging, PathId, Rfc3339,
    routes::Route,
    wire::{ChosenId, WORDS, spellings},
};

pub(crate) fn routes() -> Vec<Route> {
    const COLLECTION: &str = "/api/v1/policies";
    const ITEM: &str = "/api/v1/policies/{id}";
    vec![
        Route::get(COLLECTION, "list_policies")
            .permission(Permission::PolicyRead)
            .lists::<PolicyView>()
            .handler(list_policies),
        Route::post(COLLECTION, "create_policy")
            .permission(Permission::PolicyEdit)
            .accepts::<PolicyRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns_with::<PolicyView>(StatusCode::CREATED)
            .handler(create_policy),
        Route::get(ITEM, "get_policy")
            .permission(Permission::PolicyRead)
            .returns::<PolicyView>()
            .handler(get_policy),
        Route::put(ITEM, "update_policy")
            .permission(Permission::PolicyEdit)
            .accepts::<PolicyRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns::<PolicyView>()
            .handler(update_policy),
        Route::delete(ITEM, "delete_policy")
            .permission(Permission::PolicyDelete)
            .returns_nothing()
            .handler(delete_policy),
        Route::get("/api/v1/policies/{id}/violations", "list_policy_violations")
            .permission(Permission::PolicyRead)
            .summary("Lists what violates the rule, or did, newest first")
            .lists::<ViolationView>()
            .handler(list_violations),
    ]
}

async fn list_policies(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Paging(page): Paging,
) -> Result<Paged<PolicyView>, ApiError> {
    let rules = state.services.list_policies(&actor, page).await?;
    Ok(Paged::new(rules, page, Into::into))
}

async fn create_policy(
    State(state): State<AppState>,
    Caller(actor): Caller,
    ApiJson(body): ApiJson<PolicyRequest>,
) -> Result<(StatusCode, Json<PolicyView>), ApiError> {
    let rule = state.services.create_policy(&actor, body.into()).await?;
    Ok((StatusCode::CREATED, Json(rule.into())))
}

async fn get_policy(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<PolicyRuleId>,
) -> Result<Json<PolicyView>, ApiError> {
    Ok(Json(state.services.get_policy(&actor, &id).await?.into()))
}

async fn update_policy(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<PolicyRuleId>,
    ApiJson(body): ApiJson<PolicyRequest>,
) -> Result<Json<PolicyView>, ApiError> {
    let changed = state
        .services
        .update_policy(&actor, &id, body.into())
        .await?;
    Ok(Json(changed.into()))
}

async fn delete_policy(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<PolicyRuleId>,
) -> Result<StatusCode, ApiError> {
    state.services.delete_policy(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_violations(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<PolicyRuleId>,
    Paging(page): Paging,
) -> Result<Paged<ViolationView>, ApiError> {
    let violations = state.services.list_violations(&actor, &id, page).await?;
    Ok(Paged::new(violations, page, Into::into))
}

/// A policy rule (model §3.4).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PolicyRule")]
struct PolicyView {
    id: String,
    /// Unique.
    name: String,
    /// `AllowedIssuers`, `AllowedDomains`, `RequiredMetadata`, `AllowedEnvironments`, `RenewalLeadTime` or `CertificateLifetime`.
    r#type: &'static str,
    /// By type: `allowed_issuer_ids`, `allowed_domains`, `required_keys`, `allowed`, `lead_time_days` or `max_days`.
    config: Value,
    enabled: bool,
    /// `Warning`, `Error` or `Critical`.
    severity: &'static str,
    created_at: Rfc3339,
    updated_at: Rfc3339,
}

impl From<PolicyRule> for PolicyView {
    fn from(rule: PolicyRule) -> Self {
        Self {
            id: rule.id.into_string(),
            name: rule.name,
            r#type: rule.rule_type.as_str(),
            config: rule.config,
            enabled: rule.enabled,
            severity: rule.severity.as_str(),
            created_at: rule.created_at.into(),
            updated_at: rule.updated_at.into(),
        }
    }
}

/// What is said of a rule; an update replaces all of it but a severity that is not said.
#[derive(Debug, Deserialize, JsonSchema)]
struct PolicyRequest {
    /// Made when absent; not read on an update.
    id: Option<ChosenId>,
    /// Unique.
    #[schemars(length(min = 1, max = 255), regex(pattern = WORDS))]
    name: String,
    /// In any capitalisation.
    #[schemars(extend("enum" = spellings!(PolicyType)))]
    r#type: String,
    /// What the type asks for; lists have 1 to 200 entries, days are 1 to 36500.
    config: Map<String, Value>,
    /// True when absent.
    enabled: Option<bool>,
    /// `Warning` when absent; on an update what it was.
    #[schemars(extend("enum" = spellings!(PolicySeverity, or none)))]
    severity: Option<String>,
}

impl From<PolicyRequest> for PolicyRuleInput {
    fn from(body: PolicyRequest) -> Self {
        Self {
            id: body.id.map(ChosenId::into_string),
            name: body.name,
            rule_type: body.r#type,
            config: Value::Object(body.config),
            enabled: body.enabled,
            severity: body.severity,
        }
    }
}

/// What violates a rule, or did.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PolicyViolation")]
struct ViolationView {
    id: String,
    certificate_id: String,
    rule_id: String,
    message: String,
    /// The severity that the rule had when it was found.
    severity: &'static str,
    created_at: Rfc3339,
    /// When it was found to stand no more; absent while it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_at: Option<Rfc3339>,
}

impl From<PolicyViolation> for ViolationView {
    fn from(violation: PolicyViolation) -> Self {
        Self {
            id: violation.id.into_string(),
            certificate_id: violation.certificate_id.into_string(),
            rule_id: violation.rule_id.into_string(),
            message: violation.message,
            severity: violation.severity.as_str(),
            created_at: violation.created_at.into(),
            resolved_at: violation.resolved_at.map(Into::into),
        }
    }
}
