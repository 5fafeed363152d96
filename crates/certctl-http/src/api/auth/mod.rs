//! Who may do what: the caller, permissions, roles, keys, the first administrator (api §10.1, §10.2).

mod bootstrap;
mod keys;
mod roles;

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use certctl_domain::{
    access::{Actor, DEFAULT_TENANT, EffectivePermission, Permission},
    page::PageRequest,
};
use certctl_service::grants::ScopeInput;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ApiError, AppState, Caller, QueryPairs,
    routes::Route,
    wire::{lenient_page, lenient_rows},
};

pub(crate) fn routes() -> Vec<Route> {
    let own = vec![
        Route::get("/api/v1/auth/me", "get_me")
            .authenticated()
            .summary("Who the caller is and what they may do")
            .returns::<MeView>()
            .handler(get_me),
        Route::get("/api/v1/auth/permissions", "list_permissions")
            .authenticated()
            .summary("The catalogue of permissions")
            .returns::<PermissionsView>()
            .handler(list_permissions),
        Route::post("/api/v1/auth/demo-residual/cleanup", "remove_demo_grants")
            .permission(Permission::AuthRoleAssign)
            .summary("Remove the grants of the demo actor, for good")
            .refuses(&[StatusCode::SERVICE_UNAVAILABLE])
            .returns::<RemovedView>()
            .handler(remove_demo_grants),
        Route::get("/api/v1/auth/runtime-config", "get_runtime_config")
            .permission(Permission::AuthRoleAssign)
            .summary("What is configured about authentication; never a secret")
            .returns::<RuntimeConfigView>()
            .handler(get_runtime_config),
    ];
    [own, bootstrap::routes(), roles::routes(), keys::routes()]
        .into_iter()
        .flatten()
        .collect()
}

async fn get_me(Caller(actor): Caller) -> Json<MeView> {
    Json(MeView {
        actor_id: actor.id().to_owned(),
        actor_type: actor.actor_type().as_str(),
        tenant_id: DEFAULT_TENANT,
        admin: actor.has_admin_flag(),
        roles: actor.roles().iter().map(ToString::to_string).collect(),
        effective_permissions: EffectivePermissionView::of(&actor),
    })
}

async fn list_permissions(_: Caller) -> Json<PermissionsView> {
    let permissions = Permission::ALL.iter().map(|one| PermissionView {
        id: one.id(),
        name: one.as_str(),
        namespace: one.namespace(),
    });
    Json(PermissionsView {
        permissions: permissions.collect(),
    })
}

async fn remove_demo_grants(
    State(state): State<AppState>,
    Caller(actor): Caller,
) -> Result<Json<RemovedView>, ApiError> {
    let removed = state.services.remove_demo_grants(&actor).await?;
    Ok(Json(RemovedView { removed }))
}

async fn get_runtime_config(
    State(state): State<AppState>,
    Caller(actor): Caller,
) -> Result<Json<RuntimeConfigView>, ApiError> {
    let runtime_config = state.services.runtime_config(&actor).await?;
    Ok(Json(RuntimeConfigView { runtime_config }))
}

/// The page asked for. These lists had no pages when today's clients were written, so whoever asks for none gets as much as one
/// page can hold.
fn page(query: &QueryPairs) -> PageRequest {
    let most = PageRequest::MAX_PER_PAGE.to_string();
    let per_page = query
        .get("per_page")
        .or((!query.has("page")).then_some(&most));
    PageRequest::lenient(query.get("page"), per_page)
}

/// The pages of these lists.
#[derive(Deserialize, JsonSchema)]
#[expect(
    dead_code,
    reason = "its schema is what is used; `page` reads the parameters leniently"
)]
struct PageQuery {
    /// The number of the page, from 1; what is no such number is 1.
    #[serde(default)]
    #[schemars(schema_with = "lenient_page")]
    page: Option<String>,
    /// Rows on a page, 1 to 500; 500 when neither this nor `page` is given, and 50 when it is no such number.
    #[serde(default)]
    #[schemars(schema_with = "lenient_rows")]
    per_page: Option<String>,
}

/// What a grant or permission extends to, in a body; everything when neither is given.
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct ScopeBody {
    /// `global`, `profile` or `issuer`.
    #[schemars(extend("enum" = ["global", "profile", "issuer", null]))]
    scope_type: Option<String>,
    /// The profile or issuer.
    #[schemars(regex(pattern = "^[A-Za-z0-9._-]{1,128}$"))]
    scope_id: Option<String>,
}

/// The same in a query, where nothing is null.
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct ScopeQuery {
    /// `global`, `profile` or `issuer`.
    #[serde(default)]
    #[schemars(with = "String", extend("enum" = ["global", "profile", "issuer"]))]
    scope_type: Option<String>,
    /// The profile or issuer.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = "^[A-Za-z0-9._-]{1,128}$"))]
    scope_id: Option<String>,
}

impl From<ScopeBody> for ScopeInput {
    fn from(body: ScopeBody) -> Self {
        Self {
            scope_type: body.scope_type,
            scope_id: body.scope_id,
        }
    }
}

impl From<ScopeQuery> for ScopeInput {
    fn from(query: ScopeQuery) -> Self {
        Self {
            scope_type: query.scope_type,
            scope_id: query.scope_id,
        }
    }
}

/// Who the caller is.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Me")]
struct MeView {
    actor_id: String,
    actor_type: &'static str,
    tenant_id: &'static str,
    /// Whether the key was made for an administrator.
    admin: bool,
    roles: Vec<String>,
    effective_permissions: Vec<EffectivePermissionView>,
}

/// A permission and what it extends to.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EffectivePermission")]
pub(crate) struct EffectivePermissionView {
    permission: &'static str,
    /// `global`, `issuer` or `profile`.
    scope_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope_id: Option<String>,
}

impl EffectivePermissionView {
    /// Everything an actor may do.
    pub(crate) fn of(actor: &Actor) -> Vec<Self> {
        actor.permissions().iter().map(Into::into).collect()
    }
}

impl From<&EffectivePermission> for EffectivePermissionView {
    fn from(held: &EffectivePermission) -> Self {
        Self {
            permission: held.permission.as_str(),
            scope_type: held.scope.kind(),
            scope_id: held.scope.id().map(ToOwned::to_owned),
        }
    }
}

/// The catalogue.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Permissions")]
struct PermissionsView {
    permissions: Vec<PermissionView>,
}

/// A permission.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Permission")]
struct PermissionView {
    #[schemars(example = &"p-cert-read")]
    id: String,
    #[schemars(example = &"cert.read")]
    name: &'static str,
    #[schemars(example = &"cert")]
    namespace: &'static str,
}

/// How much was removed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Removed")]
struct RemovedView {
    removed: usize,
}

/// What is configured.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RuntimeConfig")]
struct RuntimeConfigView {
    /// The values by variable.
    runtime_config: BTreeMap<String, String>,
}
